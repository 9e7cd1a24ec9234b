import json
from datetime import timedelta
from pathlib import Path

import pytest
from tuf.api.exceptions import ExpiredMetadataError
from tuf.api.metadata import Metadata, Targets, Timestamp

from controller.trust.custody.keys import KeyName
from controller.trust.errors import SignedFilesError, SigningKeyError, TargetConflictError, TrustMissing
from controller.trust.images.image_roles import bin_of
from device_agent.protocol.errors import ProtocolError
from tests.support.image_client import ImageClient
from tests.support.image_repositories import NOW, Place
from tests.support.manifests import manifest_bytes

PATH_1 = "dev/digits/1/int8/manifest.json"
PATH_2 = "dev/digits/2/int8/manifest.json"
SOON = NOW + timedelta(minutes=1)


def files(place: Place) -> dict[str, bytes]:
    return {
        str(path.relative_to(place.directory)): path.read_bytes()
        for path in place.directory.rglob("*")
        if path.is_file()
    }


def test_a_device_refreshes_from_an_empty_repository_and_finds_nothing(device: ImageClient) -> None:
    assert device.download(PATH_1, NOW) is None


def test_installing_the_same_documents_again_changes_nothing(place: Place) -> None:
    before = files(place)
    root, targets = (place.metadata / "1.root.json").read_bytes(), (place.metadata / "1.targets.json").read_bytes()
    place.repository().install(root, targets, SOON)
    assert files(place) == before


def test_a_published_manifest_is_downloaded_as_it_was(place: Place, device: ImageClient) -> None:
    assert place.repository().publish([manifest_bytes(version=1)], SOON) == (PATH_1,)
    assert device.download(PATH_1, SOON) == manifest_bytes(version=1)
    assert device.download(PATH_2, SOON) is None


def test_a_device_learns_its_slot_and_release_from_the_signed_entry(place: Place, device: ImageClient) -> None:
    place.repository().publish([manifest_bytes(version=1)], SOON)
    target = device.refreshed(SOON).get_targetinfo(PATH_1)
    assert target is not None
    assert target.custom == {"slot": "digits", "release": 1}


def test_a_device_that_followed_one_release_follows_the_next(place: Place, device: ImageClient) -> None:
    for version in (1, 2, 3):
        place.repository().publish([manifest_bytes(version=version)], SOON)
        path = f"dev/digits/{version}/int8/manifest.json"
        assert device.download(path, SOON) == manifest_bytes(version=version)
    assert device.download(PATH_1, SOON) == manifest_bytes(version=1)


def test_many_manifests_are_published_in_one_commit(place: Place, device: ImageClient) -> None:
    contents = [manifest_bytes(version=version) for version in range(1, 31)]
    assert len(place.repository().publish(contents, SOON)) == 30
    assert len(list(place.metadata.glob("*.snapshot.json"))) == 2
    assert device.download("dev/digits/30/int8/manifest.json", SOON) == contents[-1]


def test_publishing_one_manifest_signs_its_bin_the_snapshot_and_the_timestamp_alone(place: Place) -> None:
    before = files(place)
    place.repository().publish([manifest_bytes(version=1)], SOON)
    version = int(SOON.timestamp())
    assert {name for name, content in files(place).items() if before.get(name) != content} == {
        f"metadata/{version}.{bin_of(PATH_1)}.json",
        f"metadata/{version}.snapshot.json",
        "metadata/timestamp.json",
        next(name for name in files(place) if name.endswith(".manifest.json")),
    }


def test_publishing_again_changes_nothing(place: Place) -> None:
    place.repository().publish([manifest_bytes(version=1)], SOON)
    before = files(place)
    assert place.repository().publish([manifest_bytes(version=1)] * 2, SOON + timedelta(hours=3)) == ()
    assert files(place) == before


def test_publishing_again_brings_back_a_lost_target_file(place: Place, device: ImageClient) -> None:
    place.repository().publish([manifest_bytes(version=1)], SOON)
    next(place.directory.rglob("*.manifest.json")).unlink()
    place.repository().publish([manifest_bytes(version=1)], SOON)
    assert device.download(PATH_1, SOON) == manifest_bytes(version=1)


def test_a_published_manifest_is_never_replaced(place: Place, device: ImageClient) -> None:
    place.repository().publish([manifest_bytes(version=1)], SOON)
    with pytest.raises(TargetConflictError, match=PATH_1):
        place.repository().publish([manifest_bytes(version=2), manifest_bytes(version=1, memory_bytes=1)], SOON)
    assert device.download(PATH_1, SOON) == manifest_bytes(version=1)
    assert device.download(PATH_2, SOON) is None


def test_bytes_that_are_no_manifest_publish_nothing(place: Place) -> None:
    before = files(place)
    with pytest.raises(ProtocolError):
        place.repository().publish([manifest_bytes(version=1), b"{}"], SOON)
    assert files(place) == before


def test_versions_grow_when_the_clock_goes_back(place: Place, device: ImageClient) -> None:
    place.repository().publish([manifest_bytes(version=1)], SOON)
    assert device.download(PATH_1, SOON) is not None
    yesterday = NOW - timedelta(days=1)
    place.repository().publish([manifest_bytes(version=2)], yesterday)
    assert device.download(PATH_2, SOON) == manifest_bytes(version=2)


def test_the_timestamp_carries_the_snapshots_hash_and_its_own_moment(place: Place) -> None:
    timestamp = Metadata[Timestamp].from_file(str(place.metadata / "timestamp.json")).signed
    assert timestamp.snapshot_meta.length
    assert set(timestamp.snapshot_meta.hashes or ()) == {"sha256"}
    assert timestamp.unrecognized_fields["x-issued"] == "2026-03-01T12:00:00Z"


def test_a_refresh_within_the_hour_signs_nothing(place: Place) -> None:
    before = files(place)
    assert place.repository().refresh(NOW + timedelta(minutes=59)) == ()
    assert files(place) == before


@pytest.mark.parametrize(
    ("age", "signed"),
    [
        (timedelta(hours=2), {"timestamp"}),
        (timedelta(days=2), {"snapshot", "timestamp"}),
        (timedelta(days=24), {"dev", "bin-00", "bin-ff", "snapshot", "timestamp"}),
        (timedelta(days=310), {"dev", "bin-00", "bin-ff", "snapshot", "timestamp"}),
    ],
)
def test_a_refresh_renews_what_is_due_and_devices_follow(
    place: Place, device: ImageClient, age: timedelta, signed: set[str]
) -> None:
    place.repository().publish([manifest_bytes(version=1)], NOW)
    assert device.download(PATH_1, NOW) is not None
    roles = place.repository().refresh(NOW + age)
    shown = {"root", "targets", "dev", "bin-00", "bin-ff", "snapshot", "timestamp"}
    assert set(roles) & shown == signed
    assert device.download(PATH_1, NOW + age) == manifest_bytes(version=1)


def test_without_a_refresh_devices_take_the_repository_for_frozen(place: Place, device: ImageClient) -> None:
    with pytest.raises(ExpiredMetadataError):
        device.refreshed(NOW + timedelta(days=7, seconds=1))


def altered(path: Path) -> None:
    document = json.loads(path.read_bytes())
    document["signed"]["x-altered"] = True
    path.write_text(json.dumps(document))


@pytest.mark.parametrize("role", ["timestamp", "*.snapshot", "*.targets", "*.dev", f"*.{bin_of(PATH_1)}", "1.root"])
def test_an_altered_file_never_gets_a_valid_signature(place: Place, role: str) -> None:
    altered(next(place.metadata.glob(f"{role}.json")))
    with pytest.raises(SignedFilesError):
        place.repository().publish([manifest_bytes(version=1)], SOON)
    assert not list(place.metadata.glob(f"{int(SOON.timestamp())}.*"))


def test_an_older_bin_under_a_newer_number_is_refused(place: Place) -> None:
    role = bin_of(PATH_1)
    older = next(place.metadata.glob(f"*.{role}.json")).read_bytes()
    place.repository().publish([manifest_bytes(version=1)], SOON)
    (place.metadata / f"{int(SOON.timestamp())}.{role}.json").write_bytes(older)
    with pytest.raises(SignedFilesError, match="the snapshot names"):
        place.repository().publish([manifest_bytes(version=1)], SOON)


def test_a_missing_file_is_named(place: Place) -> None:
    next(place.metadata.glob("*.dev.json")).unlink()
    with pytest.raises(SignedFilesError, match=r"dev\.json is missing"):
        place.repository().publish([manifest_bytes(version=1)], SOON)


def test_a_directory_without_a_repository_says_so(tmp_path: Path) -> None:
    with pytest.raises(TrustMissing, match="ceremony"):
        Place(tmp_path).repository().publish([manifest_bytes(version=1)], NOW)


@pytest.mark.parametrize("name", [KeyName.IMAGE_BINS, KeyName.IMAGE_SNAPSHOT, KeyName.IMAGE_TIMESTAMP])
def test_a_lost_key_that_was_made_anew_commits_nothing(place: Place, name: KeyName) -> None:
    (place.path / "signer" / "keys" / f"{name}.pem").unlink()
    before = (place.metadata / "timestamp.json").read_bytes()
    with pytest.raises(SigningKeyError, match=str(name)):
        place.repository().publish([manifest_bytes(version=1)], SOON)
    assert (place.metadata / "timestamp.json").read_bytes() == before


def test_the_role_above_the_bins_lists_no_manifest_itself(place: Place) -> None:
    place.repository().publish([manifest_bytes(version=1)], SOON)
    dev = Metadata[Targets].from_file(str(next(place.metadata.glob("*.dev.json"))))
    assert dev.signed.targets == {}
    assert place.signer().public_key(KeyName.IMAGE_DEV).keyid in dev.signatures
