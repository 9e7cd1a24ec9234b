"""What the controller asks of its signer, whether that is another process or a part of this one."""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from securesystemslib.signer import Key, Signature

from controller.trust.custody.keys import KeyName


class StatementKind(StrEnum):
    """What a signed in-toto statement says; each kind has a key of its own."""

    PROVENANCE = "provenance"
    """How an artifact was made (SLSA v1), under KeyName.ATTESTATION."""
    MODEL_SIGNING = "model-signing"
    """What files a model consists of (OpenSSF Model Signing), under KeyName.MODEL_SIGNING."""


class KeyWish(NamedTuple):
    """A content key that a device is to get."""

    key_id: str
    manifest_sha256: str
    """What the key opens, in hex."""
    device: str
    public_key: str
    """The device's X25519 key: 32 bytes, base64."""


class OnlineSigner(Protocol):
    """The narrow verbs. Every method may raise SignerRefused (with a stable code) or SignerUnavailable."""

    def public_key(self, name: KeyName) -> Key:
        """Return the public key of this name, one of ONLINE.

        While its successor is prepared there are two; this is the one that the published files name.
        """

    def public_keys(self, name: KeyName) -> list[Key]:
        """Return the present key of this name and, where one is prepared, its successor: both can sign."""

    def sign_role(self, role: str, signed: bytes, keyids: Sequence[str] = ()) -> Signature:
        """Sign a role of the image repository: `timestamp`, `snapshot`, `dev` or a bin.

        `keyids` are those that the role's delegator names where it is not published yet: of the present key and its
        prepared successor, the one among them signs, and SigningKeyError when neither is.

        `signed` is the canonical JSON of the document's signed part. Refused: another role, a version that is not
        above the last one of that role (E_SIGNER_ROLLBACK; the very same bytes are signed again), an expiry beyond the
        role's policy, a bin that lists a path outside `dev/`.
        """

    def sign_assignments(self, payloads: Sequence[bytes], approvals: Sequence[bytes] = ()) -> list[bytes]:
        """Return the DSSE envelopes (compact JSON) of these assignments, in order; all or none.

        Refused: a target that the published image repository does not sign with this length and hash
        (E_NOT_IN_IMAGE_REPO), a counter behind the clock (E_SIGNER_ROLLBACK), and where approvers are configured, a
        released target that no approval among `approvals` covers (E_NOT_APPROVED).
        """

    def sign_time(self, nonce: str) -> bytes:
        """Return a DSSE envelope that says the signer's time to whoever made up the nonce."""

    def issue_certificate(self, device: str, public_key_pem: str) -> bytes:
        """Return an X.509 certificate (PEM) for a device's P-256 key under the device CA."""

    def ca_certificate(self) -> bytes:
        """Return the device CA's own certificate (PEM)."""

    def sign_statement(self, kind: StatementKind, statement: bytes) -> bytes:
        """Return the DSSE envelope (compact JSON) of an in-toto statement."""

    def content_key(self, key_id: str) -> bytes:
        """Return the key of this name, for the worker that seals with it: 32 bytes, always the same ones."""

    def wrap_content_keys(self, wishes: Sequence[KeyWish]) -> list[str]:
        """Return each key wrapped for its device, in base64 and in order; empty where nothing can be wrapped to it."""

    def journal_head(self) -> str:
        """Return the sha256 of the journal's last line, for the timestamp's `x-log`: what auditors compare."""

    def newest_versions(self) -> dict[str, int]:
        """Return the highest version that was ever signed of each role; what a restored repository must pass."""

    def anchor_audit(self, seq: int, sha256: str) -> None:
        """Write the head of the audit log into the journal, so that a log that was cut off or rewritten shows."""

    def audit_anchors(self) -> list[tuple[int, str]]:
        """Return the heads (seq, sha256) of the audit log that the journal holds, oldest first."""
