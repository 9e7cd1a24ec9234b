"""What the signer sees of the published files: exactly what a device would accept."""

from datetime import timedelta
from pathlib import Path

import pytest

from controller.trust.custody.keys import KeyName
from controller.trust.errors import SignedFilesError, TrustMissing
from controller.trust.images.published import PublishedTargets
from tests.support.image_repositories import NOW, Crash, Place, Roles, root_document, targets_document
from tests.support.manifests import manifest_bytes

SOON = NOW + timedelta(minutes=1)
ONE, TWO = manifest_bytes(version=1), manifest_bytes(version=2)
DEV, PROD = "dev/digits/1/int8/manifest.json", "prod/digits/1/int8/manifest.json"


def test_a_path_is_found_with_its_length_and_sha256_as_soon_as_it_is_signed(place: Place) -> None:
    published = PublishedTargets(place.directory)
    assert published.lookup(DEV) is None
    place.repository().publish([ONE], SOON)
    found = published.lookup(DEV)
    assert found is not None
    assert found[0] == len(ONE)
    assert len(found[1]) == 64
    assert published.lookup(PROD) is None
    place.release([ONE], SOON)
    assert published.lookup(PROD) == found


def test_what_was_read_is_read_again_only_when_the_timestamp_was_replaced(place: Place) -> None:
    place.release([ONE], SOON)
    published = PublishedTargets(place.directory)
    assert published.lookup(PROD)
    (place.metadata / "1.prod-digits.json").unlink()
    assert published.lookup(PROD)
    place.repository().publish([ONE], SOON)
    with pytest.raises(SignedFilesError, match=r"prod-digits\.json is missing"):
        published.lookup(PROD)


@pytest.mark.parametrize("path", ["", "prod/letters/1/int8/manifest.json", "prod/digits/1/../manifest.json", "x"])
def test_a_path_that_no_role_may_list_is_not_found(place: Place, path: str) -> None:
    place.release([ONE], SOON)
    assert PublishedTargets(place.directory).lookup(path) is None


def test_a_release_is_not_found_any_more_when_its_keys_were_revoked(place: Place) -> None:
    place.release([ONE], SOON)
    published = PublishedTargets(place.directory)
    assert published.lookup(PROD)
    roles = Roles(releases=(("digits", ("release-3", "release-4"), 2),))
    targets = targets_document(place.offline, place.signer(), SOON, roles, version=2)
    place.repository().install_targets(targets, SOON)
    assert published.lookup(PROD) is None


def test_a_release_is_not_found_any_more_when_its_delegation_is_gone(place: Place) -> None:
    place.release([ONE], SOON)
    targets = targets_document(place.offline, place.signer(), SOON, Roles(releases=()), version=2)
    place.repository().install_targets(targets, SOON)
    assert PublishedTargets(place.directory).lookup(PROD) is None


def test_nothing_is_found_while_a_root_waits_for_what_follows_it(place: Place) -> None:
    place.repository().publish([ONE], SOON)
    new = place.online_keys.prepare_next(KeyName.IMAGE_TIMESTAMP)
    root = root_document(place.offline, place.signer(), SOON, version=2, online={"timestamp": [new]})
    place.online_keys.promote(KeyName.IMAGE_TIMESTAMP)
    with pytest.raises(Crash):
        place.crashing(2).install_root(root, SOON)
    with pytest.raises(SignedFilesError, match="timestamp is not signed by the keys of the newest root"):
        PublishedTargets(place.directory).lookup(DEV)
    place.repository().refresh(SOON)
    assert PublishedTargets(place.directory).lookup(DEV)


def test_before_the_first_publication_nothing_can_be_looked_up(tmp_path: Path) -> None:
    with pytest.raises(TrustMissing):
        PublishedTargets(tmp_path).lookup(DEV)
