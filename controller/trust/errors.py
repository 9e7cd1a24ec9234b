"""What goes wrong with keys and signed files, and the value that says why a device is turned away.

    TrustError
    |- KeyStoreError          a key file cannot be used                        (Unavailable)
    |- SigningKeyError        a key is not the one that the signed files name  (Unavailable)
    |- SignedFilesError       the signed files on disk are missing or altered  (Unavailable)
    `- TargetConflictError    a published manifest is to be changed            (Conflict)

A device that is turned away is no error: the functions that decide it return a Refusal.
"""

from dataclasses import dataclass
from enum import StrEnum

from controller.domain.errors import Conflict, EdgefleetError, Unavailable


class TrustError(EdgefleetError):
    """Root of everything that this package raises."""

    code = "trust"


class KeyStoreError(TrustError, Unavailable):
    """A key file cannot be used: unreadable, open to others, or a copy of another key."""

    code = "key_store"


class SigningKeyError(TrustError, Unavailable):
    """A key in the store is not the one that the published root or delegation names."""

    code = "signing_key"


class SignedFilesError(TrustError, Unavailable):
    """Signed files are missing, altered or mixed; nothing is signed on top of them."""

    code = "signed_files"


class TargetConflictError(TrustError, Conflict):
    """A manifest is published already with other content; what was signed once stays as it is."""

    code = "target_conflict"


class RefusalCode(StrEnum):
    """Why a device is turned away, in the form that the API answers with."""

    MALFORMED = "E_MALFORMED"
    WRONG_TYPE = "E_WRONG_TYPE"
    SIGNATURE = "E_SIG_THRESHOLD"
    DEVICE_UNKNOWN = "E_DEVICE_UNKNOWN"
    CHALLENGE = "E_CHALLENGE"
    KEY_TYPE = "E_KEY_TYPE"


@dataclass(frozen=True)
class Refusal:
    """An expected no, with its reason."""

    code: RefusalCode
    detail: str
