import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner

from controller.trust.errors import Refusal, RefusalCode
from controller.trust.sessions import AuthenticatedDevice, Session, Sessions
from device_agent.protocol.messages import SESSION_PAYLOAD_TYPE
from tests.support.malformed_json import damaged

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SESSIONS = Sessions(b"s" * 32)
KEY = CryptoSigner.generate_ecdsa()
DEVICE = AuthenticatedDevice("dv_1")


def public_key_of(device: str) -> str | None:
    return KEY.public_key.keyval["public"] if device == DEVICE else None


def signed(payload: bytes, signer: CryptoSigner = KEY, payload_type: str = SESSION_PAYLOAD_TYPE) -> bytes:
    envelope = Envelope(payload, payload_type, {})
    envelope.sign(signer)
    return json.dumps(envelope.to_dict()).encode()


def answer(challenge: str, device: str = DEVICE) -> bytes:
    return json.dumps({"device": device, "challenge": challenge}).encode()


def refusal(raw: bytes, now: datetime = NOW) -> RefusalCode:
    result = SESSIONS.open_session(raw, public_key_of, now)
    assert isinstance(result, Refusal)
    return result.code


def test_a_device_that_signs_a_challenge_gets_a_token_for_an_hour() -> None:
    raw = signed(answer(SESSIONS.issue_challenge(NOW)))
    session = SESSIONS.open_session(raw, public_key_of, NOW + timedelta(seconds=59))
    assert isinstance(session, Session)
    assert session.device == DEVICE
    assert session.expires_s == 3600
    assert SESSIONS.check_token(session.token, NOW) == DEVICE


def test_every_process_with_the_same_secret_accepts_the_others_challenges() -> None:
    raw = signed(answer(Sessions(b"s" * 32).issue_challenge(NOW)))
    assert isinstance(SESSIONS.open_session(raw, public_key_of, NOW), Session)


def test_an_answer_after_a_minute_is_refused() -> None:
    raw = signed(answer(SESSIONS.issue_challenge(NOW)))
    assert refusal(raw, NOW + timedelta(seconds=60)) is RefusalCode.CHALLENGE


@pytest.mark.parametrize(
    "challenge",
    ["", "efc1", "efc1.00.9999999999.00", Sessions(b"t" * 32).issue_challenge(NOW), SESSIONS.token_for(DEVICE, NOW)],
    ids=["empty", "prefix", "forged", "other-secret", "a-token"],
)
def test_a_challenge_that_is_not_ours_is_refused(challenge: str) -> None:
    assert refusal(signed(answer(challenge))) is RefusalCode.CHALLENGE


def test_another_key_than_the_enrolled_one_is_refused() -> None:
    raw = signed(answer(SESSIONS.issue_challenge(NOW)), signer=CryptoSigner.generate_ecdsa())
    assert refusal(raw) is RefusalCode.SIGNATURE


def test_an_answer_edited_after_signing_is_refused() -> None:
    document = json.loads(signed(answer(SESSIONS.issue_challenge(NOW))))
    other = json.loads(signed(answer(SESSIONS.issue_challenge(NOW))))
    document["payload"] = other["payload"]
    assert refusal(json.dumps(document).encode()) is RefusalCode.SIGNATURE


def test_a_device_without_a_key_on_record_is_refused() -> None:
    assert refusal(signed(answer(SESSIONS.issue_challenge(NOW), device="dv_2"))) is RefusalCode.DEVICE_UNKNOWN


def test_a_recorded_key_that_cannot_be_read_is_refused_as_a_wrong_signature() -> None:
    raw = signed(answer(SESSIONS.issue_challenge(NOW)))
    result = SESSIONS.open_session(raw, lambda _: "no key", NOW)
    assert isinstance(result, Refusal)
    assert result.code is RefusalCode.SIGNATURE


def test_a_signature_made_for_another_purpose_is_refused() -> None:
    raw = signed(answer(SESSIONS.issue_challenge(NOW)), payload_type="application/vnd.edgefleet.report.v1+json")
    assert refusal(raw) is RefusalCode.WRONG_TYPE


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b"\xff", b"[" * 9000, signed(b"{}"), signed(b"x")])
def test_what_is_no_signed_answer_is_malformed(raw: bytes) -> None:
    assert refusal(raw) is RefusalCode.MALFORMED


ENVELOPE = json.loads(signed(answer(SESSIONS.issue_challenge(NOW))))


@given(damaged(ENVELOPE))
def test_a_damaged_envelope_is_refused_or_accepted_but_never_an_error(value: object) -> None:
    result = SESSIONS.open_session(json.dumps(value).encode(), public_key_of, NOW)
    assert isinstance(result, Session | Refusal)


def test_a_token_ends_after_an_hour() -> None:
    token = SESSIONS.token_for(DEVICE, NOW)
    assert SESSIONS.check_token(token, NOW + timedelta(minutes=59, seconds=59)) == DEVICE
    assert SESSIONS.check_token(token, NOW + timedelta(hours=1)) is None


def test_a_token_of_another_secret_is_refused() -> None:
    assert SESSIONS.check_token(Sessions(b"t" * 32).token_for(DEVICE, NOW), NOW) is None


def test_a_challenge_is_no_token() -> None:
    assert SESSIONS.check_token(SESSIONS.issue_challenge(NOW), NOW) is None


def test_a_token_names_its_parts() -> None:
    prefix, device, expiry, mac = SESSIONS.token_for(DEVICE, NOW).split(".")
    assert (prefix, device, expiry) == ("efs1", "dv_1", str(int(NOW.timestamp()) + 3600))
    assert len(mac) == 64


@given(st.integers(0, 200), st.characters())
def test_a_token_with_one_character_changed_is_refused(place: int, character: str) -> None:
    token = SESSIONS.token_for(DEVICE, NOW)
    place %= len(token)
    changed = token[:place] + character + token[place + 1 :]
    assert SESSIONS.check_token(changed, NOW) == (DEVICE if changed == token else None)


@given(st.text())
def test_any_text_is_refused_without_an_error(text: str) -> None:
    assert SESSIONS.check_token(text, NOW) is None
