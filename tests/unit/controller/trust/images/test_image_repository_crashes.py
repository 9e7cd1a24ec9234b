"""Power failures at every write: devices see the old state or the new, and the same call completes the work."""

from collections.abc import Callable
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest
from tuf.api.exceptions import UnsignedMetadataError

from controller.trust.custody.keys import KeyName
from controller.trust.images.image_repository import ImageRepository
from controller.trust.images.image_roles import bin_of
from tests.support.image_client import ImageClient
from tests.support.image_repositories import NOW, Crash, Place, root_document, targets_document
from tests.support.manifests import manifest_bytes

SOON = NOW + timedelta(minutes=1)
PATH_1 = "dev/digits/1/int8/manifest.json"
RELEASED_1 = "prod/digits/1/int8/manifest.json"
WRITES_OF_ONE_PUBLISH = 4
"""Target, bin, snapshot, timestamp."""
WRITES_OF_INSTALL = 261
"""Targets, dev, 256 bins, snapshot, root, timestamp."""

Call = Callable[[ImageRepository], object]


def survives_crashes(place: Place, call: Call, writes: int, at: list[int], tmp_path: Path) -> None:
    """Crash a call at each of these writes: devices can always refresh, and the same call ends in one state."""
    for number in at:
        there = place.copy_to(tmp_path / f"crash-{number}")
        device = ImageClient(there.directory, tmp_path / f"device-{number}")
        device.refreshed(NOW)
        with pytest.raises(Crash):
            call(there.crashing(number))
        device.refreshed(NOW)
        ImageClient(there.directory, tmp_path / f"new-{number}").refreshed(NOW)

        call(there.repository())
        device.refreshed(NOW)
        ImageClient(there.directory, tmp_path / f"late-{number}").refreshed(NOW)
        assert not there.repository().unsigned_releases()
        again, counted = there.counting()
        again.publish([], NOW)
        assert counted.writes == 0
    whole = place.copy_to(tmp_path / "whole")
    repository, counted = whole.counting()
    call(repository)
    assert counted.writes == writes


@pytest.mark.parametrize("writes", range(WRITES_OF_ONE_PUBLISH))
def test_a_crash_while_publishing_leaves_the_old_state_and_is_repaired_by_publishing_again(
    place: Place, device: ImageClient, tmp_path: Path, writes: int
) -> None:
    with pytest.raises(Crash):
        place.crashing(writes).publish([manifest_bytes(version=1)], SOON)
    assert device.download(PATH_1, SOON) is None

    assert place.repository().publish([manifest_bytes(version=1)], SOON) == (PATH_1,)
    assert device.download(PATH_1, SOON) == manifest_bytes(version=1)
    assert ImageClient(place.directory, tmp_path / "new").download(PATH_1, SOON) == manifest_bytes(version=1)


def test_a_publish_that_may_write_all_its_files_is_committed(place: Place, device: ImageClient) -> None:
    place.crashing(WRITES_OF_ONE_PUBLISH).publish([manifest_bytes(version=1)], SOON)
    assert device.download(PATH_1, SOON) == manifest_bytes(version=1)


@pytest.mark.parametrize("writes", range(1, WRITES_OF_ONE_PUBLISH))
def test_a_number_that_a_crash_left_behind_is_never_used_for_other_content(place: Place, writes: int) -> None:
    with pytest.raises(Crash):
        place.crashing(writes).publish([manifest_bytes(version=1)], SOON)
    left_behind = {path: path.read_bytes() for path in place.metadata.glob("[0-9]*.json")}

    same_bin = next(
        version for version in count(2) if bin_of(PATH_1) == bin_of(f"dev/digits/{version}/int8/manifest.json")
    )
    place.repository().publish([manifest_bytes(version=same_bin)], SOON)
    assert {path: path.read_bytes() for path in left_behind} == left_behind


@pytest.mark.parametrize("writes", [0, 130, WRITES_OF_INSTALL - 3, WRITES_OF_INSTALL - 2, WRITES_OF_INSTALL - 1])
def test_a_crash_while_installing_is_repaired_by_installing_the_same_documents_again(
    tmp_path: Path, writes: int
) -> None:
    place = Place(tmp_path)
    root = root_document(place.offline, place.signer(), NOW)
    targets = targets_document(place.offline, place.signer(), NOW)
    with pytest.raises(Crash):
        place.crashing(writes).install(root, targets, NOW)
    assert not (place.metadata / "timestamp.json").exists()

    place.repository().install(root, targets, NOW)
    assert place.repository().roots.first_bytes() == root
    place.repository().publish([manifest_bytes(version=1)], SOON)
    assert ImageClient(place.directory, tmp_path / "new").download(PATH_1, SOON) == manifest_bytes(version=1)


def test_a_crash_before_the_first_root_allows_documents_that_are_made_anew(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with pytest.raises(Crash):
        place.crashing(100).install(
            root_document(place.offline, place.signer(), NOW), targets_document(place.offline, place.signer(), NOW), NOW
        )
    place.install(SOON)
    ImageClient(place.directory, tmp_path / "new").refreshed(SOON)


@pytest.mark.parametrize(("days", "writes"), [(0.1, 0), (2, 1), (24, 0), (24, 200), (24, 258)])
def test_a_crash_while_refreshing_leaves_the_old_state_and_is_repaired_by_refreshing_again(
    place: Place, device: ImageClient, days: float, writes: int
) -> None:
    place.repository().publish([manifest_bytes(version=1)], NOW)
    later = NOW + timedelta(days=days)
    with pytest.raises(Crash):
        place.crashing(writes).refresh(later)
    assert device.download(PATH_1, NOW) == manifest_bytes(version=1)

    assert "timestamp" in place.repository().refresh(later)
    assert device.download(PATH_1, later) == manifest_bytes(version=1)


def test_a_crash_at_any_write_of_a_release_leaves_the_old_state_and_the_same_call_completes_it(
    place: Place, tmp_path: Path
) -> None:
    content = manifest_bytes(version=1)
    document = place.repository().draft_release("digits", [content], None, None, (), SOON)
    for name in ("release-1", "release-2"):
        document = place.repository().add_signature(document, place.offline.signature(document, name))

    survives_crashes(
        place, lambda repository: repository.publish_release(document, [content], SOON), 4, [0, 1, 2, 3], tmp_path
    )
    for number in range(4):
        there = Place(tmp_path / f"crash-{number}")
        device = ImageClient(there.directory, tmp_path / f"reads-{number}")
        assert device.download(RELEASED_1, SOON) == content


def test_a_release_that_was_cut_off_takes_another_signature_and_keeps_its_bytes(place: Place) -> None:
    content = manifest_bytes(version=1)
    document = place.repository().draft_release("digits", [content], None, None, (), SOON)
    for name in ("release-1", "release-2"):
        document = place.repository().add_signature(document, place.offline.signature(document, name))
    with pytest.raises(Crash):
        place.crashing(2).publish_release(document, [content], SOON)
    left_behind = (place.metadata / "1.prod-digits.json").read_bytes()

    document = place.repository().add_signature(document, place.offline.signature(document, "release-3"))
    assert place.repository().publish_release(document, [content], SOON)
    assert (place.metadata / "1.prod-digits.json").read_bytes() == left_behind


def test_a_crash_while_a_root_is_installed_that_changes_no_online_key_leaves_the_old_root(
    place: Place, tmp_path: Path
) -> None:
    root = root_document(place.offline, place.signer(), SOON, version=2)
    survives_crashes(place, lambda repository: repository.install_root(root, SOON), 1, [0], tmp_path)


def test_a_crash_while_prepared_online_keys_come_into_force_is_never_seen_by_a_device(
    place: Place, tmp_path: Path
) -> None:
    root = rotated_root(place)
    survives_crashes(place, lambda repository: repository.install_root(root, SOON), 3, [0, 1, 2], tmp_path)
    whole = Place(tmp_path / "whole")
    for name in (KeyName.IMAGE_SNAPSHOT, KeyName.IMAGE_TIMESTAMP):
        whole.online_keys.promote(name)
    whole.repository().publish([manifest_bytes(version=1)], SOON)
    assert ImageClient(whole.directory, tmp_path / "after").download(PATH_1, SOON) == manifest_bytes(version=1)


@pytest.mark.parametrize("repair", ["the same call", "a refresh", "a publication"])
def test_where_the_old_online_keys_are_gone_a_device_waits_for_one_rename_and_any_call_completes_it(
    place: Place, device: ImageClient, tmp_path: Path, repair: str
) -> None:
    root = rotated_root(place)
    for name in (KeyName.IMAGE_SNAPSHOT, KeyName.IMAGE_TIMESTAMP):
        place.online_keys.promote(name)
    survives_crashes(place, lambda repository: repository.install_root(root, SOON), 3, [0, 1], tmp_path)

    device.refreshed(NOW)
    with pytest.raises(Crash):
        place.crashing(2).install_root(root, SOON)
    with pytest.raises(UnsignedMetadataError):
        device.refreshed(SOON)
    calls: dict[str, Call] = {
        "the same call": lambda repository: repository.install_root(root, SOON),
        "a refresh": lambda repository: repository.refresh(SOON),
        "a publication": lambda repository: repository.publish([manifest_bytes(version=1)], SOON),
    }
    calls[repair](place.repository())
    device.refreshed(SOON)


def rotated_root(place: Place) -> bytes:
    keys = [place.online_keys.prepare_next(name) for name in (KeyName.IMAGE_SNAPSHOT, KeyName.IMAGE_TIMESTAMP)]
    online = {"snapshot": [keys[0]], "timestamp": [keys[1]]}
    return root_document(place.offline, place.signer(), SOON, version=2, online=online)


def test_a_crash_while_delegations_are_installed_leaves_the_old_ones(place: Place, tmp_path: Path) -> None:
    targets = targets_document(place.offline, place.signer(), SOON, version=2)
    survives_crashes(place, lambda repository: repository.install_targets(targets, SOON), 3, [0, 1, 2], tmp_path)


def test_a_crash_while_the_keys_of_the_development_channel_are_replaced_leaves_the_old_ones(
    place: Place, tmp_path: Path
) -> None:
    place.repository().publish([manifest_bytes(version=1)], NOW)
    dev = place.online_keys.prepare_next(KeyName.IMAGE_DEV)
    place.online_keys.prepare_next(KeyName.IMAGE_BINS)
    targets = targets_document(place.offline, place.signer(), SOON, version=2, dev=dev)
    survives_crashes(place, lambda repository: repository.install_targets(targets, SOON), 260, [100, 259], tmp_path)
    whole = Place(tmp_path / "whole")
    for name in (KeyName.IMAGE_DEV, KeyName.IMAGE_BINS):
        whole.online_keys.promote(name)
    device = ImageClient(whole.directory, tmp_path / "after")
    assert device.download(PATH_1, SOON) == manifest_bytes(version=1)
    whole.repository().publish([manifest_bytes(version=2)], SOON)
    assert device.download("dev/digits/2/int8/manifest.json", SOON) == manifest_bytes(version=2)


def test_a_crash_while_everything_is_issued_again_leaves_the_old_state(place: Place, tmp_path: Path) -> None:
    survives_crashes(place, lambda repository: repository.reissue(SOON), 259, [257, 258], tmp_path)
