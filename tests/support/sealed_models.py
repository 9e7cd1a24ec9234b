"""Sealed models for tests of the agent: made with the protocol's own sealing, by a director that knows the key."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from device_agent.protocol.assignment import SlotAssignment
from device_agent.protocol.manifest import SEALED, ArtifactEntry, Manifest, Sealed
from device_agent.protocol.sealing import content_key_info, seal, wrap_content_key
from tests.support.device_api import DeviceApi
from tests.support.signed_repository import Release
from tests.support.stored_models import entry_of

CONTENT_KEY = b"content key of thirty-two bytes!"
KEY_ID = "va_test"


def sealed_form(content: bytes, key: bytes = CONTENT_KEY) -> bytes:
    """Return the sealed form of some bytes."""
    return b"".join(seal([content], key=key, sha256=hashlib.sha256(content).hexdigest()))


def sealed_entry(entry: ArtifactEntry, form: bytes) -> ArtifactEntry:
    """Return an artifact's entry with `form` as its sealed form, whatever that opens to."""
    wire = entry_of(entry.name, form)
    return replace(entry, sealed=Sealed(SEALED, wire.length, wire.sha256, wire.chunks))


def sealed_manifest(manifest: Manifest, clear: Mapping[str, bytes]) -> tuple[Manifest, dict[str, bytes]]:
    """Return the manifest sealed, and the sealed forms by digest; `clear` holds what would travel, by its digest."""
    entries, forms = [], {}
    for entry in manifest.artifacts:
        form = sealed_form(clear[entry.clear.sha256])
        entries.append(sealed_entry(entry, form))
        forms[hashlib.sha256(form).hexdigest()] = form
    return replace(manifest, artifacts=tuple(entries), content_key=KEY_ID), forms


def wrapped_for(device: str, public: X25519PublicKey, manifest_sha256: str) -> str:
    """Return the content key as an assignment of this device and manifest carries it."""
    return wrap_content_key(CONTENT_KEY, public, content_key_info(device, manifest_sha256))


def assigned_with_key(api: DeviceApi, release: Release) -> SlotAssignment:
    """Return what the enrolled device's assignment says of a sealed release."""
    assert api.device
    assert api.request
    public = X25519PublicKey.from_public_bytes(base64.b64decode(api.request.encryption_key))
    return replace(release.assigned(), content_key=wrapped_for(api.device, public, release.sha256))
