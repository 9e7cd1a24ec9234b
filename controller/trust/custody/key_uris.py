"""Where a private key is, as a URI, and how a signer is opened from it.

    encfile:PATH   PKCS#8 in PEM, encrypted with a passphrase (ours)
    file2:PATH     PKCS#8 in PEM, unencrypted
    awskms: gcpkms: azurekms: hv: hsm:   key services and hardware tokens, through securesystemslib

The passphrase is an argument, or comes from EDGEFLEET_KEY_PASSPHRASE or the file that EDGEFLEET_KEY_PASSPHRASE_FILE
names; never from a command line, which every account of the machine can read.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlparse

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.signer import (
    SIGNER_FOR_URI_SCHEME,
    AWSSigner,
    AzureSigner,
    CryptoSigner,
    GCPSigner,
    HSMSigner,
    Key,
    SecretsHandler,
    Signer,
    VaultSigner,
)

from controller.trust.custody.encrypted_pem import BEGIN, encrypt_pkcs8
from controller.trust.durable_files import flush_directory
from controller.trust.errors import KeyStoreError

ENCRYPTED_FILE = "encfile"
PLAIN_FILE = "file2"
PASSPHRASE_VARIABLE = "EDGEFLEET_KEY_PASSPHRASE"  # noqa: S105
PASSPHRASE_FILE_VARIABLE = "EDGEFLEET_KEY_PASSPHRASE_FILE"  # noqa: S105
PASSPHRASE_CHARACTERS_MIN = 8


def configured_passphrase() -> str | None:
    """Return the passphrase that the environment gives, None where it gives none. KeyStoreError for a bad one."""
    file = os.environ.get(PASSPHRASE_FILE_VARIABLE)
    passphrase = os.environ.get(PASSPHRASE_VARIABLE)
    if file:
        try:
            passphrase = Path(file).read_text().rstrip("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise KeyStoreError(f"{PASSPHRASE_FILE_VARIABLE} names {file}, which cannot be read: {error}") from error
    if not passphrase:
        return None
    if len(passphrase) < PASSPHRASE_CHARACTERS_MIN:
        raise KeyStoreError(
            f"the passphrase has {len(passphrase)} characters; {PASSPHRASE_CHARACTERS_MIN} is the least"
        )
    return passphrase


def open_signer(uri: str, passphrase: str | None = None, public_key: Key | None = None) -> Signer:
    """Return the signer behind a URI. KeyStoreError says what is in the way, and what helps.

    `public_key` spares a key service the question which key it holds; for files it is not needed.
    """
    scheme, _, rest = uri.partition(":")
    if rest and scheme in (ENCRYPTED_FILE, PLAIN_FILE):
        return _open_file(Path(rest), scheme, passphrase)
    if scheme not in SIGNER_FOR_URI_SCHEME or not rest:
        known = ", ".join(sorted({*_IMPORTS, ENCRYPTED_FILE, PLAIN_FILE}))
        raise KeyStoreError(f"{uri!r} is no key URI; it begins with one of {known}, and a colon")
    secret = _secrets(passphrase)
    try:
        return Signer.from_priv_key_uri(uri, public_key or _import(scheme, uri, rest, secret), secret)
    except KeyStoreError:
        raise
    except UnsupportedLibraryError as error:
        raise KeyStoreError(
            f"{scheme} keys need a library that is not installed: pip install 'securesystemslib[{_EXTRAS.get(scheme)}]'"
        ) from error
    except Exception as error:  # every key service raises what it likes
        raise KeyStoreError(f"{uri} cannot be opened: {type(error).__name__}: {error}") from error


def public_key_of(uri: str, passphrase: str | None = None) -> Key:
    """Return the public half of the key behind a URI. Raises KeyStoreError as `open_signer` does."""
    return open_signer(uri, passphrase).public_key


def new_signer(*, p256: bool = False) -> CryptoSigner:
    """Return a new key, Ed25519 unless P-256 is asked for, which is nowhere yet but in memory."""
    return CryptoSigner.generate_ecdsa() if p256 else CryptoSigner.generate_ed25519()


def private_pem(signer: CryptoSigner, passphrase: str | None) -> bytes:
    """Return the content of the key's file, encrypted when there is a passphrase."""
    if passphrase is None:
        return bytes(signer.private_bytes)
    key = load_pem_private_key(signer.private_bytes, None)
    return encrypt_pkcs8(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), passphrase)


def generate_key_file(path: Path, *, p256: bool = False, passphrase: str | None = None) -> Signer:
    """Make a key, write it durably with mode 0600, and return its signer. A file that exists is never replaced.

    Without an argument the configured passphrase encrypts it; without that one it is not encrypted.
    """
    signer = new_signer(p256=p256)
    content = private_pem(signer, passphrase if passphrase is not None else configured_passphrase())
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise KeyStoreError(f"{path} exists; keys are not replaced: choose another name") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    flush_directory(path.parent)
    return signer


def file_uri(path: Path) -> str:
    """Return the URI of a key file by what is in it: `encfile:` or `file2:`."""
    is_encrypted = _read(path).startswith(BEGIN.encode())
    return f"{ENCRYPTED_FILE if is_encrypted else PLAIN_FILE}:{path}"


def _open_file(path: Path, scheme: str, passphrase: str | None) -> CryptoSigner:
    content = _read(path)
    is_encrypted = content.startswith(BEGIN.encode())
    if is_encrypted != (scheme == ENCRYPTED_FILE):
        other = ENCRYPTED_FILE if is_encrypted else PLAIN_FILE
        raise KeyStoreError(f"{path} is {'' if is_encrypted else 'not '}encrypted; its URI is {other}:{path}")
    secret = None
    if is_encrypted:
        secret = passphrase if passphrase is not None else configured_passphrase()
        if secret is None:
            raise KeyStoreError(f"{path} is encrypted; set {PASSPHRASE_VARIABLE} or {PASSPHRASE_FILE_VARIABLE}")
    try:
        return CryptoSigner(load_pem_private_key(content, secret.encode() if secret else None))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if is_encrypted:
            raise KeyStoreError(f"{path.name} does not open with this passphrase, or is damaged: {path}") from error
        raise KeyStoreError(f"{path.name} is no private key in PKCS#8 PEM: {error}") from error


def _read(path: Path) -> bytes:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise KeyStoreError(f"others may open {path} (mode {mode:04o}); set it to 0600")
        return path.read_bytes()
    except OSError as error:
        raise KeyStoreError(f"the key {path} cannot be read: {error.strerror}") from error


def _secrets(passphrase: str | None) -> SecretsHandler:
    def secret(name: str) -> str:
        found = passphrase if passphrase is not None else configured_passphrase()
        if found is None:
            raise KeyStoreError(f"the key asks for its {name}; set {PASSPHRASE_VARIABLE} or {PASSPHRASE_FILE_VARIABLE}")
        return found

    return secret


class EncryptedFileSigner(CryptoSigner):
    """The scheme `encfile` for everybody who opens signers through securesystemslib."""

    SCHEME = ENCRYPTED_FILE

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> CryptoSigner:
        """Open the file; the passphrase is asked of the handler, else of the environment."""
        secret = secrets_handler("passphrase") if secrets_handler else None
        signer = _open_file(Path(priv_key_uri.partition(":")[2]), ENCRYPTED_FILE, secret)
        if signer.public_key.keyval != public_key.keyval:
            raise KeyStoreError(f"{priv_key_uri} holds another key than {public_key.keyid}")
        return signer


SIGNER_FOR_URI_SCHEME[ENCRYPTED_FILE] = EncryptedFileSigner


def _import_azure(uri: str, _rest: str, _secret: SecretsHandler) -> Key:
    parsed = urlparse(uri)
    parts = parsed.path.strip("/").split("/")
    if len(parts) < 2 or not parsed.hostname:
        raise KeyStoreError(f"{uri!r} does not read azurekms://VAULT.vault.azure.net/keys/NAME/VERSION")
    return AzureSigner.import_(parsed.hostname.partition(".")[0], parts[1])[1]


def _import_hsm(uri: str, _rest: str, secret: SecretsHandler) -> Key:
    parsed = urlparse(uri)
    label = parse_qs(parsed.query).get("label", [None])[0]
    return HSMSigner.import_(int(parsed.path) if parsed.path else None, label, secret)[1]


_IMPORTS: dict[str, Callable[[str, str, SecretsHandler], Key]] = {
    "awskms": lambda _uri, rest, _secret: AWSSigner.import_(rest)[1],
    "gcpkms": lambda _uri, rest, _secret: GCPSigner.import_(rest)[1],
    "hv": lambda _uri, rest, _secret: VaultSigner.import_(rest.partition("/")[0])[1],
    "azurekms": _import_azure,
    "hsm": _import_hsm,
}
"""How a key service is asked for the public half of a key."""
_EXTRAS = {"awskms": "awskms", "gcpkms": "gcpkms", "azurekms": "azurekms", "hv": "vault", "hsm": "hsm"}


def _import(scheme: str, uri: str, rest: str, secret: SecretsHandler) -> Key:
    if scheme not in _IMPORTS:
        raise KeyStoreError(f"{scheme} does not say which public key {uri} has; keep it beside, in NAME.public.json")
    return _IMPORTS[scheme](uri, rest, secret)
