"""The device CA inside the signer: its own certificate beside the keys, and certificates for devices.

device-ca.crt            the CA's certificate, self-signed once
device-ca.previous.crt   that of the key before, which devices show until they have renewed
"""

from collections.abc import Callable
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from securesystemslib.signer import CryptoSigner

from controller.trust.custody.keys import KEYS_LOCK, KeyName, KeyStore
from controller.trust.durable_files import exclusive, write_durably
from controller.trust.errors import KeyStoreError, SignerCode, SignerRefused
from controller.trust.identity.device_ca import make_ca_certificate, make_device_certificate


class CertificateAuthority:
    """Issues certificates under the device CA's key, which must be a key file."""

    def __init__(self, keys: KeyStore, clock: Callable[[], datetime]) -> None:
        """Take the store and the clock; nothing is made yet."""
        self._keys = keys
        self._clock = clock
        self._current = keys.directory / "device-ca.crt"
        self._previous = keys.directory / "device-ca.previous.crt"

    def certificates(self) -> bytes:
        """Return the CA's certificate in PEM, followed by the one before it where there is one."""
        _, certificate = self._key_and_certificate()
        previous = self._previous.read_bytes() if self._previous.exists() else b""
        return certificate.public_bytes(Encoding.PEM) + previous

    def issue(self, device: str, public_key_pem: str) -> bytes:
        """Return the certificate of a device's key in PEM; SignerRefused for a key that is none on P-256."""
        key, certificate = self._key_and_certificate()
        try:
            issued = make_device_certificate(certificate, key, device, public_key_pem, self._clock())
        except (ValueError, UnsupportedAlgorithm) as error:
            raise SignerRefused(f"no certificate for {device}: {error}", code=SignerCode.CONTENT) from error
        return issued.public_bytes(Encoding.PEM)

    def _key_and_certificate(self) -> tuple[EllipticCurvePrivateKey, x509.Certificate]:
        key = self._key()
        with exclusive(self._keys.directory, KEYS_LOCK):
            if self._current.exists():
                found = x509.load_pem_x509_certificate(self._current.read_bytes())
                if found.public_key() == key.public_key():
                    return key, found
                self._current.replace(self._previous)
            made = make_ca_certificate(key, self._clock())
            write_durably(self._current, made.public_bytes(Encoding.PEM))
        return key, made

    def _key(self) -> EllipticCurvePrivateKey:
        signer = self._keys.signer(KeyName.DEVICE_CA)
        key = load_pem_private_key(signer.private_bytes, None) if isinstance(signer, CryptoSigner) else None
        if not isinstance(key, EllipticCurvePrivateKey):
            raise KeyStoreError("the device CA's key must be a P-256 key file; a key service cannot hold it yet")
        return key
