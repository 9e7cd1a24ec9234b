"""Somebody wants a device to run bytes that nobody signed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import Metadata, MetaFile, Root, TargetFile, Targets

from device_agent.protocol.assignment import SlotAssignment
from device_agent.protocol.channels import Channel
from tests.support.attacked_device import AttackedDevice
from tests.support.attacks import Group, attack, label_of
from tests.support.device_api import DeviceApi
from tests.support.manifests import a_manifest
from tests.support.signed_repository import BINS, Release, key


def second_id(signer: CryptoSigner) -> SSlibKey:
    """Return the same public key under another id."""
    public = signer.public_key
    return SSlibKey("f" * 64, public.keytype, public.scheme, {"public": public.keyval["public"].upper()})


@attack(Group.SOFTWARE, "a manifest is swapped on the CDN, same length", "E_HASH_MISMATCH[target]")
def test_manifest_swapped(api: DeviceApi, device: AttackedDevice) -> str:
    swapped = api.images.publish(a_manifest(version=2), bad_bytes=True)
    return device.outcome(device.assignment(swapped.assigned()))


@attack(Group.SOFTWARE, "a bin is edited", "E_SIG_THRESHOLD[delegated]")
def test_bin_edited(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    name = BINS.get_role_for_target(release.target)
    path = f"metadata/2.{name}.json"
    api.images.files[path] = api.images.files[path].replace(release.sha256.encode(), b"0" * 64)
    return device.outcome(device.assignment(release.assigned()))


@attack(Group.SOFTWARE, "the delegations are signed by one of the two keys that they need", "E_SIG_THRESHOLD[targets]")
def test_targets_one_of_two(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    images = api.images
    images.root.add_key(key().public_key, "targets")
    images.root.roles["targets"].threshold = 2
    images.rotate()
    return device.outcome(device.assignment(release.assigned()))


@attack(Group.SOFTWARE, "one key signs the delegations twice", "E_MALFORMED[targets]")
def test_one_key_signs_twice(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    images = api.images
    document = json.loads(images.files["metadata/1.targets.json"])
    document["signatures"] *= 2
    images.files[f"metadata/{images.targets_version}.targets.json"] = json.dumps(document).encode()
    images.sign_top()
    return device.outcome(device.assignment(release.assigned()))


@attack(Group.SOFTWARE, "one private key under two ids is to meet a threshold of two", "E_KEY_REUSE[root]")
def test_one_key_under_two_ids(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    images = api.images
    images.root.add_key(second_id(images.keys["snapshot"]), "snapshot")
    images.rotate()
    return device.outcome(device.assignment(release.assigned()))


@attack(Group.SOFTWARE, "one key under two ids is to release a model alone", "E_KEY_REUSE[targets]")
def test_one_release_key_under_two_ids(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    images = api.images
    images.targets_version += 1
    signed = Targets.from_dict(json.loads(images.files["metadata/1.targets.json"])["signed"])
    signed.version = images.targets_version
    signed.add_key(second_id(images.keys["dev"]), "dev")
    images.files[f"metadata/{images.targets_version}.targets.json"] = images.signed(signed, "targets")
    images.sign_top()
    return device.outcome(device.assignment(release.assigned()))


@attack(Group.SOFTWARE, "the timestamp is signed by a strange key", "E_SIG_THRESHOLD[timestamp]")
def test_timestamp_by_unknown_key(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    api.images.version += 1
    api.images.sign_timestamp(MetaFile(api.images.version), signer=key())
    return device.outcome(device.assignment(release.assigned()))


@attack(Group.SOFTWARE, "the next root is signed by its own new keys alone", "E_SIG_THRESHOLD[root]")
def test_root_by_new_keys_only(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    images, thief = api.images, key()
    images.root.revoke_key(images.keys["root"].public_key.keyid, "root")
    images.root.add_key(thief.public_key, "root")
    images.root.version = 2
    images.sign_root(thief)
    return device.outcome(device.assignment(release.assigned()))


@attack(Group.SOFTWARE, "a root with a threshold of zero", "E_MALFORMED[root]")
def test_threshold_zero(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    images = api.images
    images.rotate()
    document = json.loads(images.files["metadata/2.root.json"])
    document["signed"]["roles"]["snapshot"]["threshold"] = 0
    images.files["metadata/2.root.json"] = json.dumps(document).encode()
    return device.outcome(device.assignment(release.assigned()))


@attack(Group.SOFTWARE, "a bin of the development channel lists a production path", "E_NOT_IN_IMAGE_REPO")
def test_prod_path_in_a_dev_bin(api: DeviceApi, device: AttackedDevice) -> str:
    images = api.images
    released = Release(a_manifest(), "prod/digits/1/int8/manifest.json", a_manifest().to_bytes())
    for name in BINS.get_roles():  # whichever bin the device may ask
        target = TargetFile.from_data(released.target, released.raw, ["sha256"])
        target.unrecognized_fields["custom"] = {"slot": "digits", "release": 1}
        images.list_in_bin(name, target)
    images.sign_top()
    return device.outcome(device.assignment(released.assigned()))


@attack(Group.SOFTWARE, "the release role of one model lists another model", "E_NOT_IN_IMAGE_REPO")
def test_release_role_of_another_model(api: DeviceApi, device: AttackedDevice) -> str:
    api.images.publish(a_manifest("doors"), channel=Channel.PROD)
    manifest = a_manifest("digits", 2)
    smuggled = Release(manifest, "prod/digits/2/int8/manifest.json", manifest.to_bytes())
    target = TargetFile.from_data(smuggled.target, smuggled.raw, ["sha256"])
    target.unrecognized_fields["custom"] = {"slot": "digits", "release": 2}
    api.images.list_in_release("doors", target)
    api.images.sign_top()
    return device.outcome(device.assignment(smuggled.assigned()))


@attack(Group.SOFTWARE, "a release is signed by the controller's online keys", "E_SIG_THRESHOLD[delegated]")
def test_release_by_online_keys(api: DeviceApi, device: AttackedDevice) -> str:
    images = api.images
    images.publish(a_manifest(), channel=Channel.PROD)
    images.keys["release"] = images.keys["bins"]  # what a thief of the controller has
    forged = images.publish(a_manifest(version=2), channel=Channel.PROD)
    return device.outcome(device.assignment(forged.assigned()))


@attack(
    Group.SOFTWARE,
    "a thief of a release key replaces the role under its version, with the CDN's help",
    "E_HASH_MISMATCH[delegated]",
)
def test_role_content_replaced_under_its_version(api: DeviceApi, device: AttackedDevice) -> str:
    images = api.images
    released = images.publish(a_manifest(), channel=Channel.PROD)
    path = "metadata/1.prod-digits.json"
    document: Metadata[Targets] = Metadata.from_bytes(images.files[path])
    document.signed.targets[released.target].hashes["sha256"] = "0" * 64
    document.sign(images.keys["release"])
    images.files[path] = document.to_bytes()
    return device.outcome(device.assignment(released.assigned()))


@attack(Group.SOFTWARE, "the director and the image repository share a key", "E_KEY_REUSE[root]")
def test_shared_key(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    images = api.images
    images.keys["timestamp"] = api.director.signer
    images.root.add_key(api.director.signer.public_key, "timestamp")
    images.rotate()
    return device.outcome(device.assignment(release.assigned()))


@attack(Group.SOFTWARE, "a director's root takes over a key of the image repository", "E_KEY_REUSE[director-root]")
def test_director_root_with_an_image_key(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    api.director.root.add_key(api.images.keys["snapshot"].public_key, "targets")
    api.director.rotate()
    return device.outcome(device.assignment(release.assigned()))


@attack(Group.SOFTWARE, "a development version for a device that takes released ones", "E_CHANNEL[assignment]")
def test_dev_target_on_a_prod_device(api: DeviceApi, tmp_path: Path, release: Release) -> str:
    careful = AttackedDevice(api, tmp_path / "careful", channel=Channel.PROD)
    return careful.outcome(careful.assignment(release.assigned()))


@attack(Group.SOFTWARE, "the director claims that the device is on the development channel", "E_CHANNEL[assignment]")
def test_director_claims_the_other_channel(api: DeviceApi, tmp_path: Path, release: Release) -> str:
    careful = AttackedDevice(api, tmp_path / "careful", channel=Channel.PROD)
    return careful.outcome(careful.assignment(release.assigned(), channel=Channel.DEV))


@attack(Group.SOFTWARE, "a target path climbs out of the folder", "E_NOT_IN_IMAGE_REPO")
def test_path_traversal_in_a_target(device: AttackedDevice, release: Release) -> str:
    climbing = replace(release.assigned(), target="dev/../../../../etc/cron.d/manifest.json")
    return device.outcome(device.assignment(climbing))


def manifest_with_file(name: str) -> bytes:
    document = json.loads(a_manifest(version=2).to_bytes())
    document["artifacts"][0]["name"] = document["main"] = name
    return json.dumps(document).encode()


@attack(Group.SOFTWARE, "a signed manifest names the file ../x", "E_MANIFEST_PATH[manifest]")
def test_manifest_climbs(api: DeviceApi, device: AttackedDevice) -> str:
    signed = api.images.publish(a_manifest(version=2), raw=manifest_with_file("../x.onnx"))
    return device.outcome(device.assignment(signed.assigned()))


@attack(Group.SOFTWARE, "a signed manifest names an absolute path", "E_MANIFEST_PATH[manifest]")
def test_manifest_with_an_absolute_path(api: DeviceApi, device: AttackedDevice) -> str:
    signed = api.images.publish(a_manifest(version=2), raw=manifest_with_file("/etc/passwd"))
    return device.outcome(device.assignment(signed.assigned()))


@attack(Group.SOFTWARE, "a signed manifest names a file inside a folder", "E_MANIFEST_PATH[manifest]")
def test_manifest_with_a_folder(api: DeviceApi, device: AttackedDevice) -> str:
    signed = api.images.publish(a_manifest(version=2), raw=manifest_with_file("weights/model.onnx"))
    return device.outcome(device.assignment(signed.assigned()))


@attack(Group.SOFTWARE, "a manifest is for another model than its target says", "E_WRONG_SLOT")
def test_manifest_of_another_model(api: DeviceApi, device: AttackedDevice) -> str:
    signed = api.images.publish(a_manifest(version=2), raw=a_manifest("doors", 2).to_bytes())
    return device.outcome(device.assignment(signed.assigned()))


@attack(Group.SOFTWARE, "metadata is of another type than its role", "E_METADATA[timestamp]")
def test_snapshot_served_as_timestamp(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    files = api.images.files
    files["metadata/timestamp.json"] = files[f"metadata/{api.images.version}.snapshot.json"]
    return device.outcome(device.assignment(release.assigned()))


def test_the_key_of_a_role_is_found_by_what_it_is_and_not_by_what_it_is_called(api: DeviceApi) -> None:
    """The reason for E_KEY_REUSE: python-tuf itself counts key ids."""
    root = Root.from_dict(json.loads(api.images.bootstrap)["signed"])
    root.add_key(second_id(api.images.keys["root"]), "root")
    assert len(root.roles["root"].keyids) == 2


SLOT_FIELDS = [field for field in SlotAssignment.__dataclass_fields__ if field in {"length", "sha256", "release"}]


@pytest.mark.parametrize("field", SLOT_FIELDS)
def test_whatever_an_assignment_says_of_a_target_the_image_repository_must_say_too(
    device: AttackedDevice, release: Release, field: str
) -> None:
    other = {"length": 1, "sha256": "0" * 64, "release": 7}[field]
    raw = device.assignment(replace(release.assigned(), **{field: other}))
    assert label_of(lambda: device.take(raw)) == "E_DIRECTOR_IMAGE_MISMATCH"
