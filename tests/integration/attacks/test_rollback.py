"""Somebody wants a device to run what was good once."""

from tuf.api.metadata import MetaFile

from tests.support.attacked_device import AttackedDevice
from tests.support.attacks import Group, attack
from tests.support.device_api import DeviceApi
from tests.support.manifests import a_manifest
from tests.support.signed_repository import BINS, Release


def bin_of(release: Release) -> str:
    name: str = BINS.get_role_for_target(release.target)
    return name


@attack(Group.ROLLBACK, "an older timestamp is served", "E_ROLLBACK_OR_MIX[timestamp]")
def test_timestamp_back(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    old = api.images.files["metadata/timestamp.json"]
    api.images.sign_top()
    device.take(device.assignment(release.assigned()))
    api.images.files["metadata/timestamp.json"] = old
    return device.outcome(device.assignment(release.assigned()))


@attack(Group.ROLLBACK, "a new timestamp names an older snapshot", "E_ROLLBACK_OR_MIX[timestamp]")
def test_new_timestamp_with_an_old_snapshot(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    images = api.images
    old = MetaFile.from_data(images.version, images.files[f"metadata/{images.version}.snapshot.json"], ["sha256"])
    images.sign_top()
    device.take(device.assignment(release.assigned()))
    images.version += 1
    images.sign_timestamp(old)
    return device.outcome(device.assignment(release.assigned()))


@attack(
    Group.ROLLBACK, "a bin's version is lowered with stolen snapshot and timestamp keys", "E_ROLLBACK_OR_MIX[snapshot]"
)
def test_bin_lowered(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    device.take(device.assignment(release.assigned()))
    api.images.set_bin_version(bin_of(release), 1)
    api.images.sign_top()
    return device.outcome(device.assignment(release.assigned()))


@attack(Group.ROLLBACK, "a role is dropped from the snapshot", "E_METADATA[snapshot]")
def test_role_dropped(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    device.take(device.assignment(release.assigned()))
    api.images.drop_bin(bin_of(release))
    api.images.sign_top()
    return device.outcome(device.assignment(release.assigned()))


@attack(Group.ROLLBACK, "the second root is a copy of the first", "E_ROLLBACK_OR_MIX[root]")
def test_root_two_is_root_one(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    api.images.files["metadata/2.root.json"] = api.images.bootstrap
    return device.outcome(device.assignment(release.assigned()))


@attack(Group.ROLLBACK, "a power cut empties the cache, then an older repository is served", "E_ROLLBACK[cache-lost]")
def test_cache_lost(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    old = dict(api.images.files)
    api.images.sign_top()
    device.take(device.assignment(release.assigned()))
    device.lose_cache()
    api.images.files = old
    return device.outcome(device.assignment(release.assigned()))


@attack(Group.ROLLBACK, "an older assignment is replayed", "E_ROLLBACK[assignment]")
def test_assignment_replayed(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    old = device.assignment(release.assigned())
    device.take(device.assignment(api.images.publish(a_manifest(version=2)).assigned()))
    return device.outcome(old)


@attack(Group.ROLLBACK, "a stolen director assigns a release below the security floor", "E_ROLLBACK[release]")
def test_below_the_floor(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    raising = api.images.publish(a_manifest(version=5), floor=3)
    device.take(device.assignment(raising.assigned()))
    return device.outcome(device.assignment(release.assigned()))


@attack(Group.ROLLBACK, "a lawful way back to an older release above the floor", "accepted")
def test_lawful_rollback(api: DeviceApi, device: AttackedDevice) -> str:
    lower, higher = (api.images.publish(a_manifest(version=version), floor=2) for version in (3, 5))
    device.take(device.assignment(higher.assigned()))
    return device.outcome(device.assignment(lower.assigned()))


@attack(Group.ROLLBACK, "a stolen director counts to 2^53, then its key is rotated", "accepted")
def test_director_fast_forward(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    device.take(device.assignment(release.assigned(), counter=2**53))
    api.director.rotate()
    return device.outcome(device.assignment(release.assigned(), counter=7))


@attack(Group.ROLLBACK, "a stolen timestamp key counts to 2^40, then the keys are rotated", "accepted")
def test_timestamp_fast_forward(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    images = api.images
    honest, images.version = images.version, 2**40
    images.sign_top()
    device.take(device.assignment(release.assigned()))
    images.rotate("timestamp", "snapshot")
    images.version = honest
    images.sign_top()
    return device.outcome(device.assignment(release.assigned()))


@attack(Group.ROLLBACK, "a stolen bin key counts to 2^40, then snapshot and timestamp keys are rotated", "accepted")
def test_bin_fast_forward(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    images = api.images
    images.set_bin_version(bin_of(release), 2**40)
    images.sign_top()
    device.take(device.assignment(release.assigned()))
    images.rotate("timestamp", "snapshot")
    images.set_bin_version(bin_of(release), 3)
    images.sign_top()
    return device.outcome(device.assignment(release.assigned()))


@attack(Group.MIX, "an old bin is served under the new name", "E_ROLLBACK_OR_MIX[delegated]")
def test_old_bin_under_a_new_name(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    images, name = api.images, bin_of(release)
    device.take(device.assignment(release.assigned()))
    old = images.files[f"metadata/2.{name}.json"]
    images.set_bin_version(name, 3)
    images.sign_top()
    images.files[f"metadata/3.{name}.json"] = old
    return device.outcome(device.assignment(release.assigned()))


@attack(Group.MIX, "an old snapshot is served under the new name", "E_HASH_MISMATCH[snapshot]")
def test_old_snapshot_under_a_new_name(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    images = api.images
    device.take(device.assignment(release.assigned()))
    old = images.files[f"metadata/{images.version}.snapshot.json"]
    images.sign_top()
    images.files[f"metadata/{images.version}.snapshot.json"] = old
    return device.outcome(device.assignment(release.assigned()))


@attack(Group.MIX, "two assignments carry one counter", "E_EQUIVOCATION[assignment]")
def test_assignment_equivocation(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    device.take(device.assignment(release.assigned(), counter=500))
    other = api.images.publish(a_manifest(version=2))
    return device.outcome(device.assignment(other.assigned(), counter=500))


@attack(Group.MIX, "two timestamps carry one version", "E_EQUIVOCATION[timestamp]")
def test_timestamp_equivocation(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    device.take(device.assignment(release.assigned()))
    api.images.version -= 1
    api.images.publish(a_manifest(version=2))  # under the version that the device has seen
    return device.outcome(device.assignment(release.assigned()))
