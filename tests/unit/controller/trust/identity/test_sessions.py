import hashlib
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner

from controller.trust.errors import Refusal, RefusalCode
from controller.trust.identity.sessions import (
    CHALLENGE_VALIDITY,
    Answered,
    AuthenticatedDevice,
    Sessions,
    read_session_request,
)
from device_agent.protocol.messages import SESSION_PAYLOAD_TYPE
from tests.support.malformed_json import damaged

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SESSIONS = Sessions(b"s" * 32)
KEY = CryptoSigner.generate_ecdsa()
DEVICE = AuthenticatedDevice("dv_1")


AUDIENCE = "https://fleet.example.org"
PEM = KEY.public_key.keyval["public"]


def signed(payload: bytes, signer: CryptoSigner = KEY, payload_type: str = SESSION_PAYLOAD_TYPE) -> bytes:
    envelope = Envelope(payload, payload_type, {})
    envelope.sign(signer)
    return json.dumps(envelope.to_dict()).encode()


def answer(challenge: str, audience: str = AUDIENCE) -> bytes:
    return json.dumps({"device": DEVICE, "challenge": challenge, "audience": audience}).encode()


def check(raw: bytes, now: datetime = NOW, *, pem: str = PEM, audiences: tuple[str, ...] = ()) -> Answered | Refusal:
    request = read_session_request(raw)
    return request if isinstance(request, Refusal) else SESSIONS.check_answer(request, pem, audiences, now)


def refusal(raw: bytes, now: datetime = NOW, *, pem: str = PEM, audiences: tuple[str, ...] = ()) -> RefusalCode:
    result = check(raw, now, pem=pem, audiences=audiences)
    assert isinstance(result, Refusal)
    return result.code


def test_a_device_that_signs_a_challenge_in_time_is_the_device() -> None:
    challenge = SESSIONS.issue_challenge(NOW)
    found = check(signed(answer(challenge)), NOW + timedelta(seconds=59))
    digest = hashlib.sha256(challenge.encode()).hexdigest()
    assert found == Answered(digest, (NOW + CHALLENGE_VALIDITY).replace(microsecond=0))


def test_a_session_lasts_an_hour() -> None:
    session = SESSIONS.open(DEVICE, NOW)
    assert (session.device, session.expires_s) == (DEVICE, 3600)
    assert SESSIONS.check_token(session.token, NOW) == DEVICE


def test_every_process_with_the_same_secret_accepts_the_others_challenges() -> None:
    assert isinstance(check(signed(answer(Sessions(b"s" * 32).issue_challenge(NOW)))), Answered)


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
    assert refusal(raw) is RefusalCode.REQUEST_SIGNATURE


def test_an_answer_edited_after_signing_is_refused() -> None:
    document = json.loads(signed(answer(SESSIONS.issue_challenge(NOW))))
    other = json.loads(signed(answer(SESSIONS.issue_challenge(NOW))))
    document["payload"] = other["payload"]
    assert refusal(json.dumps(document).encode()) is RefusalCode.REQUEST_SIGNATURE


def test_an_answer_to_another_controller_that_was_passed_on_is_refused() -> None:
    raw = signed(answer(SESSIONS.issue_challenge(NOW), "https://thief.example.org"))
    assert refusal(raw, audiences=(AUDIENCE,)) is RefusalCode.REQUEST_SIGNATURE


@pytest.mark.parametrize("audience", [AUDIENCE, f"{AUDIENCE}/", AUDIENCE.upper(), f"{AUDIENCE}:443"])
def test_an_origin_may_be_written_in_several_ways(audience: str) -> None:
    raw = signed(answer(SESSIONS.issue_challenge(NOW), audience))
    assert isinstance(check(raw, audiences=(AUDIENCE,)), Answered)


def test_where_no_origins_are_set_any_is_taken() -> None:
    raw = signed(answer(SESSIONS.issue_challenge(NOW), "http://10.0.0.7:8600"))
    assert isinstance(check(raw), Answered)


def test_an_answer_that_names_no_origin_is_malformed() -> None:
    payload = json.dumps({"device": DEVICE, "challenge": SESSIONS.issue_challenge(NOW)}).encode()
    assert refusal(signed(payload)) is RefusalCode.MALFORMED


def test_a_recorded_key_that_cannot_be_read_is_refused_as_a_wrong_signature() -> None:
    raw = signed(answer(SESSIONS.issue_challenge(NOW)))
    assert refusal(raw, pem="no key") is RefusalCode.REQUEST_SIGNATURE


def test_a_signature_made_for_another_purpose_is_refused() -> None:
    raw = signed(answer(SESSIONS.issue_challenge(NOW)), payload_type="application/vnd.edgefleet.report.v1+json")
    assert refusal(raw) is RefusalCode.WRONG_TYPE


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b"\xff", b"[" * 9000, signed(b"{}"), signed(b"x")])
def test_what_is_no_signed_answer_is_malformed(raw: bytes) -> None:
    assert refusal(raw) is RefusalCode.MALFORMED


ENVELOPE = json.loads(signed(answer(SESSIONS.issue_challenge(NOW))))


@given(damaged(ENVELOPE))
def test_a_damaged_envelope_is_refused_or_accepted_but_never_an_error(value: object) -> None:
    assert isinstance(check(json.dumps(value).encode()), Answered | Refusal)


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
