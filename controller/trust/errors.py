"""What goes wrong with keys and signed files, and the value that says why a device is turned away.

    TrustError
    |- KeyStoreError          a key file cannot be used                        (Unavailable)
    |- SigningKeyError        a key is not the one that the signed files name  (Unavailable)
    |- SignedFilesError       the signed files on disk are missing or altered  (Unavailable)
    |- TrustMissing           no root of trust was installed yet               (Unavailable)
    |- SignerUnavailable      the signer process does not answer               (Unavailable)
    |- SignerRefused          the signer does not sign this                    (Conflict)
    |- TrustLint              a change of roles or keys would weaken trust     (InvalidInput)
    |- DocumentRefused        a signed document that was handed in is no good  (InvalidInput)
    |- TrustConflict          it does not follow what is published             (Conflict)
    |- ReleaseRoleMissing     nobody may sign releases of this model yet       (NotFound)
    `- TargetConflictError    a published manifest is to be changed            (Conflict)

A device that is turned away is no error: the functions that decide it return a Refusal.
"""

from dataclasses import dataclass
from enum import StrEnum

from controller.domain.errors import Conflict, EdgefleetError, InvalidInput, NotFound, Unavailable


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


class TrustMissing(TrustError, Unavailable):
    """No root of trust was installed yet; a ceremony makes one."""

    code = "trust_missing"


class SignerUnavailable(TrustError, Unavailable):
    """The signer process does not answer."""

    code = "signer_unavailable"


class SignerRefused(TrustError, Conflict):
    """The signer does not sign this; `code` is one of SignerCode."""

    code = "signer_refused"


class TrustLint(TrustError, InvalidInput):
    """A change of roles or keys would weaken trust; `code` is one of LintCode."""

    code = "trust_lint"


class SignerCode(StrEnum):
    """Why the signer refuses."""

    ROLLBACK = "E_SIGNER_ROLLBACK"
    NOT_IN_IMAGE_REPO = "E_NOT_IN_IMAGE_REPO"
    NOT_APPROVED = "E_NOT_APPROVED"
    VERB = "E_SIGNER_VERB"
    CONTENT = "E_SIGNER_CONTENT"


class LintCode(StrEnum):
    """Why a set of roles and keys is not published."""

    DUPLICATE_KEY = "E_LINT_DUPLICATE_KEY"
    SHARED_KEY = "E_LINT_SHARED_KEY"
    THRESHOLD = "E_LINT_THRESHOLD"


class DocumentRefused(TrustError, InvalidInput):
    """A signed document that was handed in is malformed, expired, signed by too few, or says what it must not."""

    code = "document_refused"


class TrustConflict(TrustError, Conflict):
    """A signed document does not follow what is published."""

    code = "trust_conflict"


class ReleaseRoleMissing(TrustError, NotFound):
    """No release keys are named for this model yet."""

    code = "release_role_missing"


class TargetConflictError(TrustError, Conflict):
    """A manifest is published already with other content; what was signed once stays as it is."""

    code = "target_conflict"


class RefusalCode(StrEnum):
    """Why a device is turned away, in the form that the API answers with."""

    MALFORMED = "E_MALFORMED"
    WRONG_TYPE = "E_WRONG_TYPE"
    SIGNATURE = "E_SIG_THRESHOLD"
    DEVICE_UNKNOWN = "E_DEVICE_UNKNOWN"
    DEVICE_PENDING = "E_DEVICE_PENDING"
    DEVICE_REVOKED = "E_DEVICE_REVOKED"
    DEVICE_CERT = "E_DEVICE_CERT"
    REQUEST_SIGNATURE = "E_REQUEST_SIGNATURE"
    REPLAY = "E_REPLAY"
    WRONG_DEVICE = "E_WRONG_DEVICE"
    REPORT_REPLAY = "E_REPORT_REPLAY"
    CLONE_SUSPECTED = "E_CLONE_SUSPECTED"
    ENROL_TOKEN = "E_ENROL_TOKEN"  # noqa: S105
    SCOPE = "E_SCOPE"
    TWO_PERSON = "E_TWO_PERSON"
    CHALLENGE = "E_CHALLENGE"
    KEY_TYPE = "E_KEY_TYPE"


@dataclass(frozen=True)
class Refusal:
    """An expected no, with its reason."""

    code: RefusalCode
    detail: str
