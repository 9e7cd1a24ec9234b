"""The keys to sealed models, as this device gets them: wrapped for it alone, in its assignment."""

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from device_agent.image_client import VerifiedManifest
from device_agent.protocol.assignment import SlotAssignment
from device_agent.protocol.sealing import content_key_info, unwrap_content_key


class ContentKeys:
    """Unwraps with the device's encryption key. Keys are kept nowhere: each assignment brings them again."""

    def __init__(self, device: str, private: X25519PrivateKey) -> None:
        """Take the device's id and the key that it enrolled with."""
        self._device = device
        self._private = private

    def key_to(self, signed: VerifiedManifest, assigned: SlotAssignment) -> bytes | None:
        """Return the content key of a manifest, None where it is not sealed; UNWRAP where it should be there."""
        if signed.manifest.content_key is None:
            return None
        info = content_key_info(self._device, signed.sha256)
        return unwrap_content_key(assigned.content_key, self._private, info)
