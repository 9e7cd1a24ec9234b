import json
from datetime import UTC, datetime

import pytest
from securesystemslib.signer import CryptoSigner

from controller.trust.approvals import (
    PAYLOAD_TYPE,
    Approval,
    approval_payload,
    open_approval,
    read_approval,
    sign_approval,
)
from device_agent.protocol.errors import Code, ProtocolError

APPROVAL = Approval("ro_1", ("1" * 64, "2" * 64), datetime(2027, 1, 31, 12, 0, tzinfo=UTC))


def test_a_signed_approval_says_what_was_approved_and_verifies_under_the_approvers_key() -> None:
    signer = CryptoSigner.generate_ed25519()
    envelope, said = open_approval(sign_approval(signer, APPROVAL))
    assert said == APPROVAL
    assert envelope.payload_type == PAYLOAD_TYPE
    assert list(envelope.verify([signer.public_key], 1)) == [signer.public_key.keyid]


def test_what_is_signed_is_canonical() -> None:
    payload = approval_payload("ro_1", ["2" * 64, "1" * 64, "1" * 64], APPROVAL.expires)
    said = f'"manifests":["{"1" * 64}","{"2" * 64}"],"rollout":"ro_1"'
    assert payload.decode() == '{"expires":"2027-01-31T12:00:00Z",' + said + "}"


@pytest.mark.parametrize(
    "changed",
    [{"manifests": ["x"]}, {"manifests": "1" * 64}, {"rollout": None}, {"expires": "tomorrow"}, {"expires": 3}],
)
def test_a_statement_that_does_not_fit_is_malformed(changed: dict[str, object]) -> None:
    said = {**json.loads(approval_payload("ro_1", [], APPROVAL.expires)), **changed}
    with pytest.raises(ProtocolError) as no:
        read_approval(json.dumps(said).encode())
    assert no.value.code is Code.MALFORMED


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"payload": 1}', "\ud800", '{"payload": "eA", "payloadType": "x"}'])
def test_a_text_that_is_no_envelope_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError):
        open_approval(text)


def test_another_kind_of_statement_is_no_approval() -> None:
    text = sign_approval(CryptoSigner.generate_ed25519(), APPROVAL).replace("approval.v1", "assignment.v1")
    with pytest.raises(ProtocolError) as no:
        open_approval(text)
    assert no.value.code is Code.WRONG_TYPE
