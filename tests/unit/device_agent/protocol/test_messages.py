import base64
import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.histogram import Histogram
from device_agent.protocol.messages import (
    REPORT_BYTES_MAX,
    REPORT_ITEMS_MAX,
    EnrolmentRequest,
    EnrolmentToken,
    FailureStage,
    LifecycleItem,
    LifecycleState,
    ReportBatch,
    ServingItem,
    parse_report_batch,
    trust_pin,
)
from device_agent.protocol.profile import DeviceProfile
from tests.support.malformed_json import damaged, refusal_of

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
SOAKING = LifecycleItem("digits", 7, "a" * 64, LifecycleState.SOAKING, AT, active="b" * 64)
FAILED = replace(
    SOAKING,
    state=LifecycleState.FAILED,
    stage=FailureStage.HEALTH,
    code="E_HEALTH_COMMAND",
    message="exit status 3",
    refused=True,
)
SERVING = ServingItem("digits", "a" * 64, AT, 30.0, 2, 1, 512, Histogram(2, 0.003, {-150: 1, -149: 1}))
KEY = base64.b64encode(bytes(32)).decode()
BATCH = ReportBatch("batch-1", "boot-1", 0, (SOAKING, FAILED, SERVING), "dv_1", "spool-1", 3)
PROFILE = DeviceProfile("pi-5", "aarch64", "onnxruntime", "1.32.0", 21, ("int8", "fp32"), 500_000_000)
REQUEST = EnrolmentRequest("eft_a_b_c", "-----BEGIN", "camera-7", PROFILE, {"site": "north"}, KEY, "SN-1")


def encoded(document: object) -> bytes:
    return json.dumps(document).encode()


def refusal(document: object) -> ProtocolError:
    with pytest.raises(ProtocolError) as refused:
        parse_report_batch(encoded(document))
    return refused.value


def test_a_batch_survives_the_wire() -> None:
    assert parse_report_batch(encoded(BATCH.to_json())) == BATCH


def test_a_failure_without_stage_or_code_is_malformed() -> None:
    for missing in ("stage", "code"):
        item = {key: value for key, value in FAILED.to_json().items() if key != missing}
        assert f".{missing}" in str(refusal({**BATCH.to_json(), "items": [item]}))


def test_a_stage_without_a_failure_is_ignored() -> None:
    item = {**SOAKING.to_json(), "stage": "health", "code": "E_HEALTH_COMMAND"}
    assert parse_report_batch(encoded({**BATCH.to_json(), "items": [item]})).items == (SOAKING,)


def test_an_item_of_unknown_kind_is_malformed() -> None:
    assert "unknown kind" in str(refusal({**BATCH.to_json(), "items": [{"kind": "song"}]}))


def test_too_many_items_are_malformed() -> None:
    items = [SOAKING.to_json()] * (REPORT_ITEMS_MAX + 1)
    assert refusal({**BATCH.to_json(), "items": items}).code in {Code.MALFORMED, Code.ENDLESS_DATA}


def test_an_oversized_batch_is_refused_before_it_is_read() -> None:
    with pytest.raises(ProtocolError) as refused:
        parse_report_batch(b" " * (REPORT_BYTES_MAX + 1))
    assert refused.value.code is Code.ENDLESS_DATA


@given(damaged(BATCH.to_json()))
def test_a_damaged_batch_is_read_or_malformed_and_never_an_error(document: object) -> None:
    assert refusal_of(lambda: parse_report_batch(encoded(document))) in {None, Code.MALFORMED}


def test_an_enrolment_request_survives_the_wire() -> None:
    assert EnrolmentRequest.parse(encoded(REQUEST.to_json())) == REQUEST


def test_an_enrolment_request_needs_no_labels() -> None:
    assert EnrolmentRequest.parse(encoded({**REQUEST.to_json(), "labels": None})).labels == {}


@pytest.mark.parametrize(
    "labels", [["a"], {"a": 1}, {"a": "x" * 129}, {"a\0": "x"}, {str(number): "x" for number in range(65)}]
)
def test_labels_that_are_not_a_few_short_strings_are_malformed(labels: object) -> None:
    with pytest.raises(ProtocolError, match=r"enrolment\.labels"):
        EnrolmentRequest.parse(encoded({**REQUEST.to_json(), "labels": labels}))


@given(damaged(REQUEST.to_json()))
def test_a_damaged_enrolment_request_is_read_or_malformed_and_never_an_error(document: object) -> None:
    assert refusal_of(lambda: EnrolmentRequest.parse(encoded(document))) in {None, Code.MALFORMED}


def test_a_token_is_read_from_its_text_with_blanks_around_it() -> None:
    assert EnrolmentToken.parse("  eft_id_secret_pin\n") == EnrolmentToken("id", "secret", "pin")


@pytest.mark.parametrize("text", ["", "eft_id_secret", "eft_id_secret_pin_more", "eft__secret_pin", "efs_a_b_c"])
def test_a_text_that_is_no_token_is_malformed(text: str) -> None:
    with pytest.raises(ProtocolError, match="not an enrolment token"):
        EnrolmentToken.parse(text)


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_a_pin_tells_which_root_documents_it_was_made_of(image_root: bytes, director_root: bytes) -> None:
    pin = trust_pin(image_root, director_root)
    assert len(pin) == 32
    assert pin != trust_pin(image_root + b"x", director_root)
    assert pin != trust_pin(image_root, director_root + b"x")
