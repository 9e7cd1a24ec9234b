"""The verbs, with every refusal: what the signer process does, and what a small installation does without one."""

import hashlib
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from securesystemslib.signer import Key, Signature, Signer

from controller.trust.custody.key_uris import configured_passphrase
from controller.trust.custody.keys import ONLINE, KeyName, KeyStore, give_to_owner_of
from controller.trust.errors import SignerCode, SignerRefused, SigningKeyError
from controller.trust.images.image_roles import policy_of
from controller.trust.lineage.statements import PAYLOAD_TYPE as STATEMENT_PAYLOAD_TYPE
from controller.trust.signer.assignment_rules import Approvers, AssignmentRules
from controller.trust.signer.certificates import CertificateAuthority
from controller.trust.signer.content_keys import ContentKeys
from controller.trust.signer.envelopes import EnvelopeSigner
from controller.trust.signer.interface import KeyWish, StatementKind
from controller.trust.signer.journal import Journal, Kind
from controller.trust.signer.published import PublishedTrust, SignedTargets
from controller.trust.signer.role_rules import check_role
from controller.trust.signer.statement_rules import check_statement
from device_agent.protocol.assignment import PAYLOAD_TYPE as ASSIGNMENT_PAYLOAD_TYPE
from device_agent.protocol.fields import SHA256_HEX
from device_agent.protocol.time_answer import TIME_PAYLOAD_TYPE, TimeAnswer

NONCE_CHARACTERS_MAX = 128
DEVICE_CHARACTERS_MAX = 64
BATCH_MAX = 5000
_KEY_OF = {
    StatementKind.PROVENANCE: KeyName.ATTESTATION,
    StatementKind.MODEL_SIGNING: KeyName.MODEL_SIGNING,
}


def system_clock() -> datetime:
    """Return the present moment, aware, in UTC."""
    return datetime.now(UTC)


class LocalSigner:
    """An OnlineSigner in this process. Safe to share between threads, and beside others on the same folder."""

    def __init__(
        self,
        keys: KeyStore,
        journal: Journal,
        published: SignedTargets,
        approvers: Approvers,
        clock: Callable[[], datetime] = system_clock,
    ) -> None:
        """Take the parts; `open_local_signer` makes them from a folder."""
        self._keys = keys
        self._journal = journal
        self._published = published
        self._approvers = approvers
        self._clock = clock
        self._certificates = CertificateAuthority(keys, clock)
        self._content_keys = ContentKeys(keys.directory)
        self._envelopes: dict[tuple[str, str], EnvelopeSigner] = {}
        self._lock = threading.Lock()

    def open_keys(self) -> None:
        """Open every key, and make what is missing, so that what is wrong shows at the start."""
        for name in sorted(ONLINE):
            self._keys.signer(name)
            self._keys.pending(name)

    def public_key(self, name: KeyName) -> Key:
        """Return the public key that the published files name, else the present one."""
        return self._signer(name).public_key

    def public_keys(self, name: KeyName) -> list[Key]:
        """Return the present key and, where one is prepared, its successor."""
        _check_online(name)
        return [signer.public_key for signer in self._candidates(name)]

    def sign_role(self, role: str, signed: bytes, keyids: Sequence[str] = ()) -> Signature:
        """Sign a role of the image repository."""
        bins = {signer.public_key.keyid for signer in self._candidates(KeyName.IMAGE_BINS)}
        document = check_role(role, signed, self._clock(), bins)
        signer = self._signer(policy_of(role).key, keyids)
        self._journal.record_role(role, document.version, _sha256(signed))
        return signer.sign(signed)

    def sign_assignments(self, payloads: Sequence[bytes], approvals: Sequence[bytes] = ()) -> list[bytes]:
        """Return the envelopes of these assignments, in order; all or none."""
        if not payloads:
            return []
        if len(payloads) > BATCH_MAX:
            raise SignerRefused(f"{len(payloads)} assignments; at most {BATCH_MAX} at once", code=SignerCode.CONTENT)
        now = self._clock()
        rules = AssignmentRules(self._published, self._approvers.approved(approvals, now), now)
        for payload in payloads:
            rules.check(payload)
        envelopes = self._envelope_signer(KeyName.DIRECTOR, ASSIGNMENT_PAYLOAD_TYPE)
        batch = hashlib.sha256(b"".join(hashlib.sha256(payload).digest() for payload in payloads)).hexdigest()
        self._journal.record(Kind.ASSIGNMENTS, "", len(payloads), batch)
        return [envelopes.envelope(payload) for payload in payloads]

    def sign_time(self, nonce: str) -> bytes:
        """Return the signed time. Not in the journal: it decides nothing but what time it is."""
        if not 0 < len(nonce) <= NONCE_CHARACTERS_MAX or not nonce.isprintable():
            raise SignerRefused(f"a nonce has 1 to {NONCE_CHARACTERS_MAX} characters", code=SignerCode.CONTENT)
        answer = TimeAnswer(nonce, self._clock())
        return self._envelope_signer(KeyName.DIRECTOR, TIME_PAYLOAD_TYPE).envelope(answer.to_payload())

    def issue_certificate(self, device: str, public_key_pem: str) -> bytes:
        """Return a certificate for a device's P-256 key."""
        if not 0 < len(device) <= DEVICE_CHARACTERS_MAX or not device.isascii() or not device.isprintable():
            raise SignerRefused(f"{device!r} is no id of a device", code=SignerCode.CONTENT)
        certificate = self._certificates.issue(device, public_key_pem)
        self._journal.record(Kind.CERTIFICATE, device, 0, _sha256(certificate))
        return certificate

    def ca_certificate(self) -> bytes:
        """Return the device CA's certificate in PEM, followed by its predecessor's where there is one."""
        return self._certificates.certificates()

    def sign_statement(self, kind: StatementKind, statement: bytes) -> bytes:
        """Return the envelope of an in-toto statement."""
        check_statement(kind, statement)
        envelopes = self._envelope_signer(_KEY_OF[kind], STATEMENT_PAYLOAD_TYPE)
        self._journal.record(Kind.STATEMENT, kind, 0, _sha256(statement))
        return envelopes.envelope(statement)

    def content_key(self, key_id: str) -> bytes:
        """Return the content key of this name. Journalled: who asks may open whatever is sealed with it."""
        key = self._content_keys.key(key_id)
        self._journal.record(Kind.CONTENT_KEY, key_id, 0, _sha256(key_id.encode()))
        return key

    def wrap_content_keys(self, wishes: Sequence[KeyWish]) -> list[str]:
        """Return each key wrapped for its device, in order. Journalled: who gets a key may open what it seals."""
        if len(wishes) > BATCH_MAX:
            raise SignerRefused(f"{len(wishes)} keys; at most {BATCH_MAX} at once", code=SignerCode.CONTENT)
        wrapped = self._content_keys.wrap(wishes)
        if wrapped:
            told = "\n".join("|".join(wish) for wish in wishes)
            self._journal.record(Kind.WRAPPED_KEYS, "", len(wrapped), _sha256(told.encode()))
        return wrapped

    def journal_head(self) -> str:
        """Return the sha256 of the journal's last line."""
        return self._journal.head

    def newest_versions(self) -> dict[str, int]:
        """Return the highest version that was ever signed of each role."""
        return self._journal.versions()

    def anchor_audit(self, seq: int, sha256: str) -> None:
        """Write the head of the audit log into the journal."""
        if seq < 1 or not SHA256_HEX.fullmatch(sha256):
            raise SignerRefused("the head of an audit log is a number and a sha256", code=SignerCode.CONTENT)
        self._journal.record_anchor(seq, sha256)

    def audit_anchors(self) -> list[tuple[int, str]]:
        """Return the heads of the audit log that the journal holds, oldest first."""
        return self._journal.anchors()

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    def _candidates(self, name: KeyName) -> list[Signer]:
        pending = self._keys.pending(name)
        return [self._keys.signer(name), *([pending] if pending else [])]

    def _signer(self, name: KeyName, keyids: Sequence[str] = ()) -> Signer:
        _check_online(name)
        candidates = self._candidates(name)
        if not keyids and len(candidates) == 1:
            return candidates[0]
        named = keyids or self._published.keyids(name)
        for signer in candidates:
            if signer.public_key.keyid in named:
                return signer
        if keyids:
            raise SigningKeyError(f"neither {name} nor its successor is among the keys {', '.join(keyids)}")
        return candidates[0]

    def _envelope_signer(self, name: KeyName, payload_type: str) -> EnvelopeSigner:
        signer = self._signer(name)
        entry = signer.public_key.keyid, payload_type
        with self._lock:
            if entry not in self._envelopes:
                self._envelopes[entry] = EnvelopeSigner(signer, payload_type)
            return self._envelopes[entry]


def open_local_signer(
    directory: Path,
    tuf_dir: Path,
    passphrase: str | None = None,
    clock: Callable[[], datetime] = system_clock,
) -> LocalSigner:
    """Open the signer whose keys, journal and approvers lie below `directory`.

    `tuf_dir` is where the image repository and the director's root are published. KeyStoreError where the journal was
    edited or a file cannot be used.
    """
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    keys = KeyStore(directory / "keys", ONLINE, passphrase if passphrase is not None else configured_passphrase())
    journal = Journal(directory / "journal.jsonl", clock)
    published = PublishedTrust(tuf_dir, journal.pin)
    for path in directory.rglob("*"):
        # What root opens here, for a command on the keys, stays the signer's.
        give_to_owner_of(directory, path)
    return LocalSigner(keys, journal, published, Approvers(directory / "approvers.json"), clock)


def _check_online(name: KeyName) -> None:
    if name not in ONLINE:
        raise SignerRefused(f"{name} is an offline key, which the signer never holds", code=SignerCode.VERB)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
