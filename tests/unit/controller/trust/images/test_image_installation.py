"""Documents that offline keys signed, from the first ceremony on, read by a real client after each."""

from datetime import timedelta
from pathlib import Path

import pytest
from tuf.api.exceptions import ExpiredMetadataError

from controller.trust.custody.keys import KeyName
from controller.trust.errors import (
    DocumentRefused,
    LintCode,
    RefusalCode,
    SigningKeyError,
    TrustConflict,
    TrustLint,
    TrustMissing,
)
from controller.trust.images.image_repository import ImageRepository
from tests.support.image_client import ImageClient
from tests.support.image_repositories import NOW, Place, Roles, root_document, targets_document, write_atomically
from tests.support.manifests import manifest_bytes

SOON = NOW + timedelta(minutes=1)
PATH = "dev/digits/1/int8/manifest.json"
NEW_ROOT = Roles(root=("root-2", "root-3", "root-4"))
OF_BOTH = ("root-1", "root-2", "root-3", "root-4")


@pytest.fixture
def bare(tmp_path: Path) -> Place:
    return Place(tmp_path / "bare")


def documents(place: Place, roles: Roles | None = None, **signed_by: tuple[str, ...]) -> tuple[bytes, bytes]:
    offline, signer = place.offline, place.signer()
    return (
        root_document(offline, signer, NOW, roles, signed_by=signed_by.get("root")),
        targets_document(offline, signer, NOW, roles, signed_by=signed_by.get("targets")),
    )


def test_the_installed_documents_are_published_byte_for_byte(bare: Place) -> None:
    root, targets = documents(bare)
    bare.repository().install(root, targets, NOW)
    assert (bare.metadata / "1.root.json").read_bytes() == root
    assert (bare.metadata / "1.targets.json").read_bytes() == targets
    assert bare.repository().versions()["root"] == 1


@pytest.mark.parametrize("short", ["root", "targets"])
def test_documents_that_too_few_have_signed_install_nothing(bare: Place, short: str) -> None:
    signers = {"root": ("root-1",)} if short == "root" else {"targets": ("release-1",)}
    with pytest.raises(DocumentRefused) as refused:
        bare.repository().install(*documents(bare, **signers), NOW)
    assert refused.value.code == RefusalCode.SIGNATURE
    assert not bare.metadata.exists()


def test_documents_that_expired_before_they_came_back_install_nothing(bare: Place) -> None:
    with pytest.raises(DocumentRefused, match="make the ceremony anew") as refused:
        bare.repository().install(*documents(bare), NOW + timedelta(days=365))
    assert refused.value.code == "E_FREEZE_EXPIRED"


@pytest.mark.parametrize("role", ["snapshot", "timestamp"])
def test_a_root_that_names_other_online_keys_than_the_signers_installs_nothing(bare: Place, role: str) -> None:
    signer = bare.signer()
    own = signer.public_key(KeyName.IMAGE_SNAPSHOT if role == "snapshot" else KeyName.IMAGE_TIMESTAMP)
    for keys in ([bare.offline.key("thief")], [own, bare.offline.key("thief")], []):
        root = root_document(bare.offline, signer, NOW, online={role: keys})
        with pytest.raises(SigningKeyError, match=role):
            bare.repository().install(root, documents(bare)[1], NOW)
    assert not bare.metadata.exists()


def test_delegations_of_the_development_channel_to_a_stranger_install_nothing(bare: Place) -> None:
    targets = targets_document(bare.offline, bare.signer(), NOW, dev=bare.offline.key("thief"))
    with pytest.raises(SigningKeyError, match="image-dev"):
        bare.repository().install(documents(bare)[0], targets, NOW)


def test_a_root_that_one_theft_ends_is_installed_for_a_single_operator_only(bare: Place) -> None:
    weak = Roles(root=("root-1",), root_threshold=1)
    strict = ImageRepository(bare.directory, bare.signer(), write_atomically, single_operator=False)
    with pytest.raises(TrustLint) as refused:
        strict.install(*documents(bare, weak), NOW)
    assert refused.value.code == LintCode.THRESHOLD
    bare.repository().install(*documents(bare, weak), NOW)


def test_weak_delegations_install_nothing(bare: Place) -> None:
    roles = Roles(releases=(("digits", ("release-1",), 2),))
    with pytest.raises(TrustLint) as refused:
        bare.repository().install(*documents(bare, roles), NOW)
    assert refused.value.code == LintCode.THRESHOLD


def test_a_repository_that_is_installed_is_not_replaced_by_another(place: Place, tmp_path: Path) -> None:
    other = Roles(root=("x", "y", "z"), targets=("t",))
    root = root_document(place.offline, place.signer(), SOON, other)
    with pytest.raises(TrustConflict, match="version 2 is next"):
        place.repository().install(root, documents(place)[1], SOON)
    targets = targets_document(place.offline, place.signer(), SOON)
    with pytest.raises(TrustConflict, match="version 1 is published with other content"):
        place.repository().install((place.metadata / "1.root.json").read_bytes(), targets, SOON)


def test_nothing_follows_where_nothing_is_installed(bare: Place) -> None:
    root, targets = documents(bare)
    with pytest.raises(TrustMissing):
        bare.repository().install_root(root, NOW)
    with pytest.raises(TrustMissing):
        bare.repository().install_targets(targets, NOW)


def test_a_new_root_that_names_the_same_online_keys_is_the_only_file_that_is_written(
    place: Place, device: ImageClient
) -> None:
    before = {path.name for path in place.metadata.iterdir()}
    root = root_document(place.offline, place.signer(), SOON, NEW_ROOT, version=2, signed_by=OF_BOTH)
    place.repository().install_root(root, SOON)
    place.repository().install_root(root, SOON)
    assert {path.name for path in place.metadata.iterdir()} - before == {"2.root.json"}
    assert device.refreshed(SOON)._trusted_set.root.version == 2


@pytest.mark.parametrize("signed_by", [("root-1", "root-2"), ("root-3", "root-4")])
def test_a_new_root_needs_the_thresholds_of_both(place: Place, signed_by: tuple[str, ...]) -> None:
    roles = Roles(root=("root-3", "root-4", "root-5"))
    root = root_document(place.offline, place.signer(), SOON, roles, version=2, signed_by=signed_by)
    with pytest.raises(DocumentRefused) as refused:
        place.repository().install_root(root, SOON)
    assert refused.value.code == RefusalCode.SIGNATURE
    assert place.repository().versions()["root"] == 1


def test_online_keys_that_are_replaced_sign_from_then_on(place: Place, device: ImageClient) -> None:
    device.refreshed(NOW)
    names = (KeyName.IMAGE_SNAPSHOT, KeyName.IMAGE_TIMESTAMP)
    new = {name: place.online_keys.prepare_next(name) for name in names}
    online = {"snapshot": [new[KeyName.IMAGE_SNAPSHOT]], "timestamp": [new[KeyName.IMAGE_TIMESTAMP]]}
    place.repository().install_root(root_document(place.offline, place.signer(), SOON, version=2, online=online), SOON)
    device.refreshed(SOON)
    for name in names:
        place.online_keys.promote(name)
    place.repository().publish([manifest_bytes(version=1)], SOON)
    assert device.download(PATH, SOON) == manifest_bytes(version=1)


def test_a_device_that_has_read_the_old_root_accepts_what_both_keys_signed(place: Place, tmp_path: Path) -> None:
    new = place.online_keys.prepare_next(KeyName.IMAGE_TIMESTAMP)
    root = root_document(place.offline, place.signer(), SOON, version=2, online={"timestamp": [new]})
    place.repository().install_root(root, SOON)
    late = ImageClient(place.directory, tmp_path / "late")
    (place.metadata / "2.root.json").unlink()  # as for a device that asked for it just before it was written
    assert late.refreshed(SOON)._trusted_set.root.version == 1


def test_new_keys_of_targets_need_what_they_signed_in_the_same_call(place: Place, device: ImageClient) -> None:
    device.refreshed(NOW)
    roles = Roles(targets=("targets-2",))
    root = root_document(place.offline, place.signer(), SOON, roles, version=2)
    with pytest.raises(TrustConflict, match="install it together with a targets document"):
        place.repository().install_root(root, SOON)
    assert place.repository().versions()["root"] == 1

    targets = targets_document(place.offline, place.signer(), SOON, roles, version=2)
    place.repository().install_root(root, SOON, targets)
    assert device.refreshed(SOON)._trusted_set.root.version == 2
    assert place.repository().versions()["targets"] == 2


def test_both_documents_may_follow_in_one_installation(place: Place, device: ImageClient) -> None:
    root = root_document(place.offline, place.signer(), SOON, version=2)
    targets = targets_document(place.offline, place.signer(), SOON, version=7)
    for _ in range(2):
        place.repository().install(root, targets, SOON)
    trusted = device.refreshed(SOON)._trusted_set
    assert (trusted.root.version, trusted.targets.version) == (2, 7)


def test_delegations_are_renewed_without_touching_the_bins(place: Place, device: ImageClient) -> None:
    before = place.repository().versions()
    place.repository().install_targets(targets_document(place.offline, place.signer(), SOON, version=2), SOON)
    place.repository().install_targets((place.metadata / "2.targets.json").read_bytes(), SOON)
    after = place.repository().versions()
    assert {role for role in after if after[role] != before[role]} == {"targets", "snapshot", "timestamp"}
    assert device.refreshed(SOON)._trusted_set.targets.version == 2


def test_delegations_that_nobody_of_targets_signed_are_refused(place: Place) -> None:
    targets = targets_document(place.offline, place.signer(), SOON, version=2, signed_by=("release-1",))
    with pytest.raises(DocumentRefused) as refused:
        place.repository().install_targets(targets, SOON)
    assert refused.value.code == RefusalCode.SIGNATURE


def test_a_new_key_of_the_bins_comes_into_force_with_the_next_refresh(place: Place, device: ImageClient) -> None:
    place.repository().publish([manifest_bytes(version=1)], NOW)
    assert device.download(PATH, NOW) == manifest_bytes(version=1)
    place.online_keys.prepare_next(KeyName.IMAGE_BINS)
    assert "bin-00" in place.repository().refresh(SOON)
    place.online_keys.promote(KeyName.IMAGE_BINS)
    assert device.download(PATH, SOON) == manifest_bytes(version=1)
    assert place.repository().refresh(SOON) == ()


def test_documents_of_people_are_not_renewed_by_the_controller(place: Place, device: ImageClient) -> None:
    ends = NOW + timedelta(days=366)
    place.repository().refresh(ends)
    with pytest.raises(ExpiredMetadataError):
        device.refreshed(ends)
    root = root_document(place.offline, place.signer(), ends, version=2)
    place.repository().install(root, targets_document(place.offline, place.signer(), ends, version=2), ends)
    device.refreshed(ends)
