"""Signing DSSE envelopes, also many at once: by hand over the raw key where it is in this process."""

import base64
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, Signer

from device_agent.protocol.dsse import pre_authentication_encoding

SignBytes = Callable[[bytes], bytes]


class EnvelopeSigner:
    """Makes envelopes (compact JSON) of one payload type under one key."""

    def __init__(self, signer: Signer, payload_type: str) -> None:
        """Take the key and the type."""
        self._sign = _signing(signer)
        self._payload_type = payload_type
        self._tail = f'","payloadType":"{payload_type}","signatures":[{{"keyid":"{signer.public_key.keyid}","sig":"'

    def envelope(self, payload: bytes) -> bytes:
        """Return the payload with its signature."""
        signature = self._sign(pre_authentication_encoding(self._payload_type, payload))
        return b'{"payload":"%b%b%b"}]}' % (
            base64.b64encode(payload),
            self._tail.encode(),
            base64.b64encode(signature),
        )


def _signing(signer: Signer) -> SignBytes:
    if isinstance(signer, CryptoSigner):
        key = load_pem_private_key(signer.private_bytes, None)
        if isinstance(key, Ed25519PrivateKey):
            return key.sign
    return lambda message: bytes.fromhex(signer.sign(message).signature)
