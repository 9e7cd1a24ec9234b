import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner

from controller.trust.approvals import Approval, sign_approval
from controller.trust.custody.keys import KeyName
from controller.trust.errors import KeyStoreError, SignedFilesError, SignerCode, SignerRefused
from controller.trust.signer.verbs import LocalSigner, open_local_signer
from device_agent.protocol.assignment import PAYLOAD_TYPE, VALIDITY, SlotAssignment
from tests.support.image_repositories import NOW, Place
from tests.support.manifests import manifest_bytes
from tests.support.signers import GOOD, MANIFEST, RELEASED, SHA256, SLOT


def refused(signer: LocalSigner, *payloads: bytes, approvals: tuple[bytes, ...] = ()) -> str:
    head = signer.journal_head()
    with pytest.raises(SignerRefused) as found:
        signer.sign_assignments(payloads, approvals)
    assert signer.journal_head() == head
    return found.value.code


def with_slot(slot: SlotAssignment, name: str = "digits") -> bytes:
    return replace(GOOD, slots={name: slot}).to_payload()


def test_good_assignments_are_signed_in_order_under_one_line_of_the_journal(place: Place, signer: LocalSigner) -> None:
    payloads = [replace(GOOD, device=f"dv_{number}").to_payload() for number in range(20)]
    before = (place.path / "signer/journal.jsonl").read_text().count("\n")
    envelopes = signer.sign_assignments(payloads)
    assert (place.path / "signer/journal.jsonl").read_text().count("\n") == before + 1
    for payload, raw in zip(payloads, envelopes, strict=True):
        envelope = Envelope.from_dict(json.loads(raw))
        assert (envelope.payload, envelope.payload_type) == (payload, PAYLOAD_TYPE)
        envelope.verify([signer.public_key(KeyName.DIRECTOR)], 1)


def test_an_assignment_is_signed_for_a_released_target(signer: LocalSigner) -> None:
    assert signer.sign_assignments([with_slot(RELEASED)])


@pytest.mark.parametrize(
    "slot",
    [
        replace(SLOT, target="dev/digits/9/int8/manifest.json"),
        replace(RELEASED, target="prod/digits/2/int8/manifest.json"),
        replace(SLOT, target="prod/faces/1/int8/manifest.json"),
        replace(SLOT, target="digits"),
        replace(SLOT, sha256="0" * 64),
        replace(SLOT, length=len(MANIFEST) + 1),
        replace(SLOT, release=2),
    ],
    ids=["unknown", "not released", "no such role", "no path", "other hash", "other length", "other release"],
)
def test_a_target_that_is_not_published_as_named_is_refused(signer: LocalSigner, slot: SlotAssignment) -> None:
    assert refused(signer, with_slot(slot)) == SignerCode.NOT_IN_IMAGE_REPO


def test_a_target_of_another_slot_is_refused(signer: LocalSigner) -> None:
    assert refused(signer, with_slot(SLOT, "faces")) == SignerCode.NOT_IN_IMAGE_REPO


def test_one_bad_assignment_in_a_batch_has_none_signed(signer: LocalSigner) -> None:
    bad = with_slot(replace(SLOT, sha256="0" * 64))
    assert refused(signer, GOOD.to_payload(), bad) == SignerCode.NOT_IN_IMAGE_REPO


def test_a_fresh_publication_is_seen_and_a_withdrawn_release_too(place: Place, signer: LocalSigner) -> None:
    third = manifest_bytes(version=3)
    slot = SlotAssignment("dev/digits/3/int8/manifest.json", len(third), hashlib.sha256(third).hexdigest(), 1.0, "", 3)
    assert refused(signer, with_slot(slot)) == SignerCode.NOT_IN_IMAGE_REPO
    place.repository().publish([third], NOW)
    assert signer.sign_assignments([with_slot(slot)])
    repository = place.repository()
    document = repository.draft_release("digits", [], 1, None, (), NOW)
    for name in ("release-1", "release-2"):
        document = repository.add_signature(document, place.offline.signature(document, name))
    repository.publish_release(document, [], NOW)
    assert refused(signer, with_slot(RELEASED)) == SignerCode.NOT_IN_IMAGE_REPO


def test_a_counter_from_a_restored_database_is_refused(signer: LocalSigner) -> None:
    behind = replace(GOOD, counter=int((NOW - timedelta(minutes=2)).timestamp()))
    assert refused(signer, behind.to_payload()) == SignerCode.ROLLBACK
    assert signer.sign_assignments([replace(GOOD, counter=GOOD.counter - 30).to_payload()])
    assert signer.sign_assignments([replace(GOOD, counter=GOOD.counter + 10_000).to_payload()])


@pytest.mark.parametrize(
    ("issued", "expires"),
    [
        (NOW, NOW + VALIDITY + timedelta(seconds=1)),
        (NOW, NOW),
        (NOW - timedelta(minutes=11), NOW + timedelta(hours=1)),
        (NOW + timedelta(minutes=11), NOW + timedelta(hours=1)),
    ],
    ids=["too long", "over at once", "of the past", "of the future"],
)
def test_an_assignment_holds_from_now_and_for_two_days_at_most(
    signer: LocalSigner, issued: datetime, expires: datetime
) -> None:
    assert refused(signer, replace(GOOD, issued=issued, expires=expires).to_payload()) == SignerCode.CONTENT


def edited(**fields: Any) -> bytes:
    body: Mapping[str, Any] = {**json.loads(GOOD.to_payload()), **fields}
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"{}",
        edited(schema=2),
        edited(also="this"),
        edited(counter=True),
        GOOD.to_payload().replace(b",", b", ", 1),
        GOOD.to_payload().replace(b'{"channel"', b'{"device":"dv_2","channel"', 1),
        edited(slots={f"slot-{number}": None for number in range(10_000)}),
    ],
    ids=["empty", "list", "no fields", "schema", "one more", "counter", "spaces", "twice", "large"],
)
def test_what_is_no_assignment_in_its_one_encoding_is_refused(signer: LocalSigner, payload: bytes) -> None:
    assert refused(signer, payload) == SignerCode.CONTENT


def test_a_repository_of_somebody_else_is_not_believed(place: Place, signer: LocalSigner, tmp_path: Path) -> None:
    signer.sign_assignments([GOOD.to_payload()])
    thief = Place(tmp_path / "thief")
    thief.install()
    thief.repository().publish([MANIFEST], NOW)
    place.directory.rename(tmp_path / "gone")
    thief.directory.rename(place.directory)
    fresh = open_local_signer(place.path / "signer", place.directory, clock=lambda: NOW)
    for one in (signer, fresh):
        with pytest.raises(SignedFilesError, match="not the root that this signer began under"):
            one.sign_assignments([GOOD.to_payload()])


APPROVER = CryptoSigner.generate_ed25519()


@pytest.fixture
def approvers(place: Place) -> Path:
    public = load_pem_private_key(APPROVER.private_bytes, None).public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    path = place.path / "signer" / "approvers.json"
    path.write_text(json.dumps([pem]))
    return path


def approval(
    signer: CryptoSigner = APPROVER, sha256: str = SHA256, expires: datetime = NOW + timedelta(days=1)
) -> bytes:
    return sign_approval(signer, Approval("ro_1", (sha256,), expires)).encode()


def test_with_approvers_a_released_target_needs_an_approval(signer: LocalSigner, approvers: Path) -> None:
    assert refused(signer, with_slot(RELEASED)) == SignerCode.NOT_APPROVED
    assert signer.sign_assignments([with_slot(RELEASED)], [b"rubbish", approval()])
    assert signer.sign_assignments([with_slot(SLOT)])
    approvers.unlink()
    assert signer.sign_assignments([with_slot(RELEASED)])


@pytest.mark.parametrize(
    "shown",
    [
        approval(CryptoSigner.generate_ed25519()),
        approval(sha256="0" * 64),
        approval(expires=NOW),
        approval().replace(b"approval.v1", b"assignment.v1"),
        b"{}",
        b"\xff",
    ],
    ids=["by nobody known", "of another manifest", "expired", "of another type", "empty", "no text"],
)
def test_an_approval_that_does_not_count_approves_nothing(signer: LocalSigner, approvers: Path, shown: bytes) -> None:
    assert refused(signer, with_slot(RELEASED), approvals=(shown,)) == SignerCode.NOT_APPROVED


@pytest.mark.parametrize("content", ["{", '["no key"]', "[7]", "7"])
def test_a_list_of_approvers_that_cannot_be_read_stops_the_signing(
    signer: LocalSigner, approvers: Path, content: str
) -> None:
    approvers.write_text(content)
    with pytest.raises(KeyStoreError, match=r"approvers\.json"):
        signer.sign_assignments([with_slot(RELEASED)])


def test_no_assignments_leave_no_line(signer: LocalSigner) -> None:
    head = signer.journal_head()
    assert signer.sign_assignments([]) == []
    assert signer.journal_head() == head


def test_more_than_a_batch_at_once_is_refused(signer: LocalSigner) -> None:
    assert refused(signer, *([GOOD.to_payload()] * 5001)) == SignerCode.CONTENT
