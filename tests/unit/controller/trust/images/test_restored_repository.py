"""An old folder that was put back, and what somebody with the online keys can do."""

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tuf.api.exceptions import BadVersionNumberError, LengthOrHashMismatchError, RepositoryError, UnsignedMetadataError
from tuf.api.metadata import Metadata, MetaFile, Snapshot, TargetFile, Targets, Timestamp

from controller.trust.custody.keys import KeyName
from controller.trust.images.image_roles import bin_of
from tests.support.image_client import ImageClient
from tests.support.image_repositories import NOW, Place
from tests.support.manifests import manifest_bytes

SOON = NOW + timedelta(minutes=1)
LATER = NOW + timedelta(minutes=2)
ONE, TWO = manifest_bytes(version=1), manifest_bytes(version=2)
DEV_1, DEV_2 = "dev/digits/1/int8/manifest.json", "dev/digits/2/int8/manifest.json"
PROD_1 = "prod/digits/1/int8/manifest.json"


@pytest.fixture
def restored(place: Place, device: ImageClient, tmp_path: Path) -> Place:
    """A folder from before a publication that a device has seen; the signer's journal is as it was."""
    backup = tmp_path / "backup"
    shutil.copytree(place.directory, backup)
    place.repository().publish([ONE, TWO], SOON)
    assert device.download(DEV_1, SOON) == ONE
    shutil.rmtree(place.directory)
    shutil.copytree(backup, place.directory)
    return place


def test_a_repository_that_is_up_to_date_is_not_behind(place: Place) -> None:
    place.repository().publish([ONE], SOON)
    assert place.repository().behind() == []


def test_a_restored_folder_is_behind_in_what_was_published_since(restored: Place) -> None:
    assert set(restored.repository().behind()) == {bin_of(DEV_1), bin_of(DEV_2), "snapshot", "timestamp"}


def test_a_device_that_saw_more_refuses_a_restored_folder(restored: Place, device: ImageClient) -> None:
    with pytest.raises(BadVersionNumberError):
        device.refreshed(LATER)


def test_a_device_that_saw_more_refuses_a_restored_folder_that_goes_on_as_if_nothing_was(
    restored: Place, device: ImageClient
) -> None:
    restored.repository().refresh(NOW + timedelta(days=2))
    with pytest.raises(BadVersionNumberError, match="bin-"):
        device.refreshed(NOW + timedelta(days=2))
    assert set(restored.repository().behind()) == {bin_of(DEV_1), bin_of(DEV_2)}


def test_after_everything_was_issued_again_a_device_that_saw_more_goes_on(restored: Place, device: ImageClient) -> None:
    roles = restored.repository().reissue(LATER)
    assert {"dev", "bin-00", "bin-ff", "snapshot", "timestamp"} <= set(roles)
    assert restored.repository().behind() == []
    assert device.download(DEV_1, LATER) is None
    restored.repository().publish([ONE], LATER)
    assert device.download(DEV_1, LATER) == ONE


def test_issuing_again_passes_the_signer_also_when_the_clock_went_back_with_the_folder(
    restored: Place, device: ImageClient
) -> None:
    yesterday = NOW - timedelta(days=1)
    restored.repository().reissue(yesterday)
    assert restored.repository().behind() == []
    device.refreshed(yesterday)


def test_a_publication_whose_number_the_signer_used_takes_a_higher_one(restored: Place, tmp_path: Path) -> None:
    used = restored.signer().newest_versions()["snapshot"]
    restored.repository().publish([manifest_bytes(version=3)], SOON - timedelta(seconds=5))
    assert restored.repository().versions()["snapshot"] > used
    ImageClient(restored.directory, tmp_path / "new").refreshed(SOON)


def test_a_release_that_a_restored_folder_forgot_is_published_again_from_its_document(
    place: Place, device: ImageClient, tmp_path: Path
) -> None:
    backup = tmp_path / "backup"
    shutil.copytree(place.directory, backup)
    place.release([ONE], SOON)
    newest = place.release([TWO], SOON)
    assert device.download(PROD_1, SOON) == ONE
    shutil.rmtree(place.directory)
    shutil.copytree(backup, place.directory)
    place.repository().reissue(LATER)
    with pytest.raises(RepositoryError):
        device.refreshed(LATER)
    assert place.repository().publish_release(newest, [ONE, TWO], LATER)
    assert device.download(PROD_1, LATER) == ONE


def thief_publishes(place: Place, files: dict[str, bytes], dev_target: TargetFile | None = None) -> None:
    """Sign and write, with the online keys alone, a state in which these role files stand instead of the true ones.

    `files` maps a role to the bytes of its document. `dev_target` is put into the bin of its path, and into every bin
    that a `prod` path would fall into.
    """
    keys = place.online_keys
    timestamp = Metadata[Timestamp].from_bytes((place.metadata / "timestamp.json").read_bytes())
    snapshot_path = place.metadata / f"{timestamp.signed.snapshot_meta.version}.snapshot.json"
    snapshot = Metadata[Snapshot].from_bytes(snapshot_path.read_bytes())
    if dev_target is not None:
        role = bin_of(dev_target.path)
        path = place.metadata / f"{snapshot.signed.meta[f'{role}.json'].version}.{role}.json"
        forged = Metadata[Targets].from_bytes(path.read_bytes())
        forged.signed.targets[dev_target.path] = dev_target
        forged.signed.version += 1000
        forged.sign(keys.signer(KeyName.IMAGE_BINS))
        files = {**files, role: forged.to_bytes()}
    for role, raw in files.items():
        version = Metadata[Any].from_bytes(raw).signed.version
        (place.metadata / f"{version}.{role}.json").write_bytes(raw)
        snapshot.signed.meta[f"{role}.json"] = MetaFile.from_data(version, raw, ["sha256"])
    snapshot.signed.version += 1000
    snapshot.sign(keys.signer(KeyName.IMAGE_SNAPSHOT))
    raw = snapshot.to_bytes()
    (place.metadata / f"{snapshot.signed.version}.snapshot.json").write_bytes(raw)
    timestamp.signed.version += 1000
    timestamp.signed.snapshot_meta = MetaFile.from_data(snapshot.signed.version, raw, ["sha256"])
    timestamp.sign(keys.signer(KeyName.IMAGE_TIMESTAMP))
    (place.metadata / "timestamp.json").write_bytes(timestamp.to_bytes())


def write_target(place: Place, target: TargetFile, content: bytes) -> None:
    path = place.directory / "targets" / target.get_prefixed_paths()[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_a_released_path_in_a_bin_of_the_development_channel_is_not_found(place: Place, device: ImageClient) -> None:
    place.release([TWO], SOON)
    target = TargetFile.from_data(PROD_1, ONE, ["sha256"])
    write_target(place, target, ONE)
    thief_publishes(place, {}, dev_target=target)
    assert device.download(PROD_1, LATER) is None
    assert place.repository().read_targets(PROD_1) is None


@pytest.mark.parametrize("key", [KeyName.IMAGE_DEV, KeyName.IMAGE_BINS, KeyName.IMAGE_SNAPSHOT])
def test_stolen_online_keys_cannot_make_a_release(place: Place, device: ImageClient, key: KeyName) -> None:
    place.release([TWO], SOON)
    device.refreshed(SOON)
    target = TargetFile.from_data(PROD_1, ONE, ["sha256"])
    write_target(place, target, ONE)
    role = Metadata[Targets].from_bytes((place.metadata / "1.prod-digits.json").read_bytes())
    role.signed.targets[PROD_1] = target
    role.signed.version = 2
    role.sign(place.online_keys.signer(key))
    thief_publishes(place, {"prod-digits": role.to_bytes()})
    with pytest.raises(UnsignedMetadataError):
        device.download(PROD_1, LATER)
    assert place.repository().read_targets(PROD_1) is None
    assert place.repository().unsigned_releases() == ["prod-digits"]


def test_stolen_online_keys_and_one_release_key_of_two_cannot_make_a_release(place: Place, device: ImageClient) -> None:
    target = TargetFile.from_data(PROD_1, ONE, ["sha256"])
    write_target(place, target, ONE)
    role = Metadata[Any](Targets(version=1, expires=NOW + timedelta(days=9), targets={PROD_1: target}))
    role.sign(place.offline.signer("release-1"))
    role.sign(place.online_keys.signer(KeyName.IMAGE_DEV), append=True)
    thief_publishes(place, {"prod-digits": role.to_bytes()})
    with pytest.raises(UnsignedMetadataError, match="1/2"):
        device.download(PROD_1, LATER)


def test_stolen_online_keys_cannot_name_other_release_keys(place: Place, device: ImageClient) -> None:
    targets = Metadata[Targets].from_bytes((place.metadata / "1.targets.json").read_bytes())
    targets.signed.add_key(place.offline.key("thief"), "prod-digits")
    targets.signed.get_delegated_role("prod-digits").threshold = 1
    targets.signed.version = 2
    targets.sign(place.online_keys.signer(KeyName.IMAGE_DEV))
    thief_publishes(place, {"targets": targets.to_bytes()})
    with pytest.raises(UnsignedMetadataError):
        device.refreshed(LATER)


def test_stolen_online_keys_cannot_bring_back_a_withdrawn_release_to_a_device_that_saw_it_go(
    place: Place, device: ImageClient
) -> None:
    place.release([ONE], SOON)
    with_it = (place.metadata / "1.prod-digits.json").read_bytes()
    document = place.repository().draft_release("digits", (), 1, None, (), SOON)
    for name in ("release-1", "release-2"):
        document = place.repository().add_signature(document, place.offline.signature(document, name))
    place.repository().publish_release(document, [], SOON)
    device.refreshed(SOON)
    thief_publishes(place, {"prod-digits": with_it})
    with pytest.raises(BadVersionNumberError, match="prod-digits"):
        device.refreshed(LATER)


def test_other_content_under_the_same_version_is_caught_by_the_snapshots_hash(
    place: Place, device: ImageClient
) -> None:
    """A thief of all release keys and of the disk, without the snapshot key."""
    place.release([ONE], SOON)
    forged = Metadata[Targets].from_bytes((place.metadata / "1.prod-digits.json").read_bytes())
    forged.signed.targets[PROD_1].unrecognized_fields["custom"] = {"slot": "digits", "release": 9}
    forged.signatures.clear()
    for name in ("release-1", "release-2"):
        forged.sign(place.offline.signer(name), append=True)
    (place.metadata / "1.prod-digits.json").write_bytes(forged.to_bytes())
    with pytest.raises(LengthOrHashMismatchError):
        device.download(PROD_1, LATER)
