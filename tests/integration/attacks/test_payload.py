"""Somebody wants to read a sealed model, or to have a device open something else than what was sealed for it.

A mirror or the link alone never gets so far: chunk hashes are signed. Whoever damages a sealed form here has also
signed a manifest about it.
"""

import hashlib
from dataclasses import replace
from pathlib import Path
from random import Random

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from device_agent.arrival import fetch_artifact
from device_agent.content_keys import ContentKeys
from device_agent.downloader import Downloader, DownloadLimits
from device_agent.polling import Backoff
from device_agent.protocol.sealed_form import CHUNK, MAGIC, TAG
from device_agent.transport import Pace, Transport
from tests.support.attacked_device import DEVICE, SLOT, AttackedDevice
from tests.support.attacks import Group, attack, label_of
from tests.support.device_api import DeviceApi, Fault
from tests.support.manifests import a_manifest
from tests.support.sealed_models import KEY_ID, sealed_entry, sealed_form, wrapped_for
from tests.support.signed_repository import Release
from tests.support.stored_models import a_store, entry_of

PRIVATE = X25519PrivateKey.generate()
CONTENT = Random(3).randbytes(3 * CHUNK + 100)
FORM = sealed_form(CONTENT)
CHUNKS = [FORM[start : start + CHUNK + TAG] for start in range(len(MAGIC), len(FORM), CHUNK + TAG)]
GOLDEN = b"golden"


def publish(api: DeviceApi, form: bytes) -> Release:
    """Sign a manifest whose model travels as `form`, with lengths that fit."""
    within = len(form) - len(MAGIC) - TAG * -(-(len(form) - len(MAGIC)) // (CHUNK + TAG))
    model = replace(entry_of("model.onnx", bytes(within)), sha256=hashlib.sha256(CONTENT).hexdigest())
    golden = sealed_form(GOLDEN)
    artifacts = (sealed_entry(model, form), sealed_entry(entry_of("golden.npz", GOLDEN), golden))
    api.artifacts |= {hashlib.sha256(one).hexdigest(): one for one in (form, golden)}
    return api.images.publish(replace(a_manifest(), artifacts=artifacts, content_key=KEY_ID))


def outcome(api: DeviceApi, device: AttackedDevice, folder: Path, release: Release, wrapped: str | None) -> str:
    """Let the device do all that an agent does up to the artifacts; return what comes of it."""
    assigned = replace(release.assigned(), content_key=wrapped)
    limits = DownloadLimits(tries=1, backoff=Backoff(0, 0), pace=Pace(60, 0, 60))
    downloader = Downloader(Transport(), f"{api.url}/artifacts/sha256", limits, Random(1))
    store = a_store(folder / "models-of-the-device")

    def install() -> None:
        signed = device.take(device.assignment(assigned))[SLOT]
        key = ContentKeys(DEVICE, PRIVATE).key_to(signed, assigned)
        for entry in signed.manifest.artifacts:
            list(fetch_artifact(entry, signed.sha256, downloader, store, key))

    return label_of(install)


def with_form(api: DeviceApi, device: AttackedDevice, folder: Path, form: bytes) -> str:
    """Give the device this form and the right key."""
    release = publish(api, form)
    return outcome(api, device, folder, release, wrapped_for(DEVICE, PRIVATE.public_key(), release.sha256))


def with_key(api: DeviceApi, device: AttackedDevice, folder: Path, wrapped: str | None) -> str:
    """Give the device the right form and this key."""
    return outcome(api, device, folder, publish(api, FORM), wrapped)


def test_an_honest_sealed_model_is_accepted(api: DeviceApi, device: AttackedDevice, tmp_path: Path) -> None:
    assert len(CHUNKS) == 4
    assert with_form(api, device, tmp_path, FORM) == "accepted"


@attack(Group.PAYLOAD, "a sealed artifact is cut off at the border of a chunk", "E_DECRYPT[artifact]")
def test_truncated_at_a_chunk(api: DeviceApi, device: AttackedDevice, tmp_path: Path) -> str:
    return with_form(api, device, tmp_path, MAGIC + b"".join(CHUNKS[:3]))


@attack(Group.PAYLOAD, "two chunks of a sealed artifact are swapped", "E_DECRYPT[artifact]")
def test_chunks_swapped(api: DeviceApi, device: AttackedDevice, tmp_path: Path) -> str:
    first, second, *others = CHUNKS
    return with_form(api, device, tmp_path, MAGIC + b"".join([second, first, *others]))


@attack(Group.PAYLOAD, "a chunk of a sealed artifact is dropped", "E_DECRYPT[artifact]")
def test_chunk_dropped(api: DeviceApi, device: AttackedDevice, tmp_path: Path) -> str:
    return with_form(api, device, tmp_path, MAGIC + b"".join([CHUNKS[0], *CHUNKS[2:]]))


@attack(Group.PAYLOAD, "one bit of a sealed artifact is flipped and signed", "E_DECRYPT[artifact]")
def test_bit_flipped(api: DeviceApi, device: AttackedDevice, tmp_path: Path) -> str:
    return with_form(api, device, tmp_path, FORM[:-1] + bytes([FORM[-1] ^ 1]))


@attack(Group.PAYLOAD, "an artifact is sealed with another key", "E_DECRYPT[artifact]")
def test_sealed_with_another_key(api: DeviceApi, device: AttackedDevice, tmp_path: Path) -> str:
    return with_form(api, device, tmp_path, sealed_form(CONTENT, b"x" * 32))


@attack(Group.PAYLOAD, "an artifact that is not sealed stands in for a sealed one", "E_DECRYPT[artifact]")
def test_not_sealed_at_all(api: DeviceApi, device: AttackedDevice, tmp_path: Path) -> str:
    return with_form(api, device, tmp_path, bytes(len(FORM)))


@attack(Group.PAYLOAD, "a mirror flips a bit of a sealed artifact", "E_HASH_MISMATCH[artifact]")
def test_bit_flipped_on_the_way(api: DeviceApi, device: AttackedDevice, tmp_path: Path) -> str:
    api.faults["/artifacts/"] = [Fault(flip_at=100)]
    return with_form(api, device, tmp_path, FORM)


@attack(Group.PAYLOAD, "a key to a sealed model that was wrapped for another device", "E_UNWRAP[assignment]")
def test_key_of_another_device(api: DeviceApi, device: AttackedDevice, tmp_path: Path) -> str:
    other = X25519PrivateKey.generate().public_key()
    return with_key(api, device, tmp_path, wrapped_for(DEVICE, other, publish(api, FORM).sha256))


@attack(
    Group.PAYLOAD, "a key to a sealed model that was wrapped for this key under another name", "E_UNWRAP[assignment]"
)
def test_key_under_another_name(api: DeviceApi, device: AttackedDevice, tmp_path: Path) -> str:
    return with_key(api, device, tmp_path, wrapped_for("dv_2", PRIVATE.public_key(), publish(api, FORM).sha256))


@attack(Group.PAYLOAD, "a key to a sealed model that was wrapped for another manifest", "E_UNWRAP[assignment]")
def test_key_of_another_manifest(api: DeviceApi, device: AttackedDevice, tmp_path: Path) -> str:
    return with_key(api, device, tmp_path, wrapped_for(DEVICE, PRIVATE.public_key(), "0" * 64))


@attack(Group.PAYLOAD, "a sealed model is assigned without a key", "E_UNWRAP[assignment]")
def test_no_key(api: DeviceApi, device: AttackedDevice, tmp_path: Path) -> str:
    return with_key(api, device, tmp_path, None)
