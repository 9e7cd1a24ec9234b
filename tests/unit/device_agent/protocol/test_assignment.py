import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import Root

from device_agent.protocol.assignment import (
    ASSIGNMENT_BYTES_MAX,
    ISSUED_AHEAD,
    PAYLOAD_TYPE,
    Assignment,
    CounterMark,
    Recipient,
    SlotAssignment,
    VerifiedAssignment,
    director_epoch,
    parse_assignment,
    verify_assignment,
)
from device_agent.protocol.channels import Channel
from device_agent.protocol.errors import Code, ProtocolError
from tests.support.malformed_json import damaged, refusal_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY, SECOND_KEY, STRANGER = (CryptoSigner.generate_ed25519() for _ in range(3))
SLOT = SlotAssignment("dev/digits/3/int8/manifest.json", 2345, "a" * 64, 30.0, "rollout ro_1 stage 2", 3)
ASSIGNMENT = Assignment(
    "dv_1", 7, NOW, NOW + timedelta(hours=48), {"digits": SLOT, "faces": None}, 5.0, "pi-5", Channel.DEV
)
RECIPIENT = Recipient("dv_1", "pi-5", Channel.DEV)


def root_of(*signers: CryptoSigner, threshold: int = 1) -> Root:
    root = Root()
    for signer in signers:
        root.add_key(signer.public_key, "targets")
    root.roles["targets"].threshold = threshold
    return root


def signed(payload: bytes, *signers: CryptoSigner, payload_type: str = PAYLOAD_TYPE) -> bytes:
    envelope = Envelope(payload, payload_type, {})
    for signer in signers:
        envelope.sign(signer)
    return json.dumps(envelope.to_dict()).encode()


def verify(
    raw: bytes,
    *,
    root: Root | None = None,
    mark: CounterMark | None = None,
    now: datetime = NOW,
    recipient: Recipient = RECIPIENT,
) -> tuple[VerifiedAssignment, CounterMark]:
    return verify_assignment(raw, root=root or root_of(KEY), recipient=recipient, mark=mark, now=now)


def refusal(raw: bytes, **circumstances: Any) -> Code:
    with pytest.raises(ProtocolError) as refused:
        verify(raw, **circumstances)
    assert refused.value.role == "assignment"
    return refused.value.code


def issued(assignment: Assignment = ASSIGNMENT) -> bytes:
    return signed(assignment.to_payload(), KEY)


def accepted(assignment: Assignment = ASSIGNMENT) -> CounterMark:
    return verify(issued(assignment))[1]


def test_an_assignment_that_keeps_every_rule_is_accepted() -> None:
    assignment, mark = verify(issued())
    assert assignment == ASSIGNMENT
    assert (mark.counter, mark.epoch) == (7, director_epoch(root_of(KEY)))


# Rule 1: size, envelope, payload type


def test_an_oversized_assignment_is_refused_as_endless_data() -> None:
    assert refusal(b" " * (ASSIGNMENT_BYTES_MAX + 1)) is Code.ENDLESS_DATA


@pytest.mark.parametrize("raw", [b"", b"null", b"[]", b"{}", b"\xff", b"[" * 60_000, b'{"payload": 1}'])
def test_bytes_that_are_no_envelope_are_refused_as_malformed(raw: bytes) -> None:
    assert refusal(raw) is Code.MALFORMED


def test_another_payload_type_is_refused_as_wrong_type_even_when_signed() -> None:
    raw = signed(ASSIGNMENT.to_payload(), KEY, payload_type="application/vnd.edgefleet.session.v1+json")
    assert refusal(raw) is Code.WRONG_TYPE


# Rule 2: signatures


@pytest.mark.parametrize("signers", [(), (STRANGER,)], ids=["nobody", "a stranger"])
def test_an_assignment_that_the_director_did_not_sign_is_refused(signers: tuple[CryptoSigner, ...]) -> None:
    assert refusal(signed(ASSIGNMENT.to_payload(), *signers)) is Code.SIGNATURE


def test_a_payload_edited_after_signing_is_refused() -> None:
    document = json.loads(issued())
    document["payload"] = base64.b64encode(replace(ASSIGNMENT, counter=8).to_payload()).decode()
    assert refusal(json.dumps(document).encode()) is Code.SIGNATURE


def test_one_signature_of_two_needed_is_refused() -> None:
    assert refusal(issued(), root=root_of(KEY, SECOND_KEY, threshold=2)) is Code.SIGNATURE


def test_two_signatures_of_two_needed_are_accepted() -> None:
    raw = signed(ASSIGNMENT.to_payload(), KEY, SECOND_KEY)
    assert verify(raw, root=root_of(KEY, SECOND_KEY, threshold=2))[0] == ASSIGNMENT


def test_a_root_without_keys_accepts_nothing() -> None:
    assert refusal(issued(), root=Root()) is Code.SIGNATURE


def test_one_key_under_two_ids_is_refused_as_key_reuse() -> None:
    public = KEY.public_key
    root = root_of(KEY, threshold=2)
    root.add_key(SSlibKey("f" * 64, public.keytype, public.scheme, dict(public.keyval)), "targets")
    assert refusal(issued(), root=root) is Code.KEY_REUSE


def test_one_key_written_in_two_ways_is_refused_as_key_reuse() -> None:
    public = KEY.public_key
    root = root_of(KEY, threshold=2)
    loud = {"public": public.keyval["public"].upper()}
    root.add_key(SSlibKey("f" * 64, public.keytype, public.scheme, loud), "targets")
    assert refusal(issued(), root=root) is Code.KEY_REUSE


# Rule 3: the payload's form


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"counter": 0},
        {"slots": []},
        {"slots": {"../x": None}},
        {"slots": {"digits": {}}},
        {"expires": "soon"},
        {"poll_s": 0},
        {"hardware": "Pi 5"},
        {"channel": "beta"},
        {"slots": {"digits": {**vars(SLOT), "release": 0}}},
    ],
)
def test_a_signed_payload_that_does_not_fit_is_refused_as_malformed(change: dict[str, Any]) -> None:
    document = json.loads(ASSIGNMENT.to_payload())
    assert refusal(signed(json.dumps({**document, **change}).encode(), KEY)) is Code.MALFORMED


# Rule 4: this device


def test_an_assignment_for_another_device_is_refused() -> None:
    assert refusal(issued(replace(ASSIGNMENT, device="dv_2"))) is Code.WRONG_DEVICE


def test_an_assignment_for_another_class_of_hardware_is_refused() -> None:
    assert refusal(issued(replace(ASSIGNMENT, hardware="pi-4"))) is Code.WRONG_HARDWARE


def test_an_assignment_for_another_channel_is_refused() -> None:
    assert refusal(issued(), recipient=replace(RECIPIENT, channel=Channel.PROD)) is Code.CHANNEL


# Rule 5: every slot's channel


def test_a_dev_target_on_a_prod_device_is_refused_whatever_the_assignment_says_of_itself() -> None:
    lying = replace(ASSIGNMENT, channel=Channel.PROD)
    assert refusal(issued(lying), recipient=replace(RECIPIENT, channel=Channel.PROD)) is Code.CHANNEL


def test_a_dev_device_runs_released_versions_too() -> None:
    released = replace(SLOT, target="prod/digits/3/int8/manifest.json")
    assert verify(issued(replace(ASSIGNMENT, slots={"digits": released})))[0].slots == {"digits": released}


def test_a_target_of_no_channel_is_refused() -> None:
    assert refusal(issued(replace(ASSIGNMENT, slots={"digits": replace(SLOT, target="x/y")}))) is Code.CHANNEL


# Rule 6: the counter


def test_a_counter_below_the_last_one_is_refused_as_rollback() -> None:
    assert refusal(issued(replace(ASSIGNMENT, counter=6)), mark=accepted()) is Code.ROLLBACK


def test_the_same_assignment_again_is_accepted() -> None:
    assert verify(issued(), mark=accepted())[1] == accepted()


def test_an_equal_counter_with_other_content_is_refused_as_equivocation() -> None:
    assert refusal(issued(replace(ASSIGNMENT, slots={})), mark=accepted()) is Code.EQUIVOCATION


def test_a_higher_counter_is_accepted_and_becomes_the_mark() -> None:
    _, mark = verify(issued(replace(ASSIGNMENT, counter=8)), mark=accepted())
    assert mark.counter == 8


def test_new_director_keys_end_a_counter_that_was_driven_up_by_a_thief() -> None:
    driven_up = accepted(replace(ASSIGNMENT, counter=2**53))
    raw = signed(ASSIGNMENT.to_payload(), SECOND_KEY)
    assignment, mark = verify(raw, root=root_of(SECOND_KEY), mark=driven_up)
    assert assignment.counter == 7
    assert mark.epoch != driven_up.epoch


# Rule 7: time


def test_an_assignment_from_the_future_is_refused_as_a_clock_error() -> None:
    assert refusal(issued(), now=NOW - ISSUED_AHEAD - timedelta(seconds=1)) is Code.CLOCK


def test_a_clock_that_is_a_little_behind_accepts() -> None:
    assert verify(issued(), now=NOW - ISSUED_AHEAD)[0] == ASSIGNMENT


def test_an_assignment_is_refused_from_the_moment_it_expires() -> None:
    assert verify(issued(), now=ASSIGNMENT.expires - timedelta(seconds=1))[0] == ASSIGNMENT
    assert refusal(issued(), now=ASSIGNMENT.expires) is Code.EXPIRED


# Order: the first rule that fails decides


def test_an_unsigned_assignment_for_another_device_is_refused_for_its_signature() -> None:
    assert refusal(signed(replace(ASSIGNMENT, device="dv_2").to_payload())) is Code.SIGNATURE


def test_an_expired_replay_is_refused_as_rollback() -> None:
    raw = issued(replace(ASSIGNMENT, counter=6))
    assert refusal(raw, mark=accepted(), now=ASSIGNMENT.expires) is Code.ROLLBACK


# The epoch, and what any bytes may do


def test_the_epoch_depends_on_the_directors_keys_alone() -> None:
    renewed = root_of(KEY, SECOND_KEY)
    renewed.version, renewed.expires = 9, NOW
    assert director_epoch(renewed) == director_epoch(root_of(SECOND_KEY, KEY))
    assert director_epoch(renewed) != director_epoch(root_of(KEY))


def test_a_payload_survives_the_wire() -> None:
    assert parse_assignment(ASSIGNMENT.to_payload()) == ASSIGNMENT


@given(damaged(json.loads(ASSIGNMENT.to_payload())))
def test_a_damaged_payload_is_read_or_malformed_and_never_an_error(document: object) -> None:
    assert refusal_of(lambda: parse_assignment(json.dumps(document).encode())) in {None, Code.MALFORMED}


@given(damaged(json.loads(issued())))
def test_a_damaged_envelope_is_accepted_unchanged_or_refused_and_never_an_error(document: object) -> None:
    try:
        assignment, _ = verify(json.dumps(document).encode())
    except ProtocolError:
        return
    assert assignment == ASSIGNMENT
