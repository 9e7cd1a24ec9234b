import json
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.fields import SHA256_HEX, Fields, format_utc, parse_utc
from tests.support.malformed_json import ANY_JSON, refusal_of


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


READERS: dict[str, Any] = {
    "text": lambda fields: fields.text("x"),
    "optional_text": lambda fields: fields.optional_text("x", pattern=SHA256_HEX),
    "integer": lambda fields: fields.integer("x"),
    "number": lambda fields: fields.number("x"),
    "moment": lambda fields: fields.moment("x"),
    "one_of": lambda fields: fields.one_of("x", Colour),
    "texts": lambda fields: fields.texts("x"),
    "child": lambda fields: fields.child("x"),
    "optional_child": lambda fields: fields.optional_child("x"),
    "children": lambda fields: fields.children("x", lambda child: child),
    "named_children": lambda fields: fields.named_children("x", lambda child: child),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS.keys())
@given(value=ANY_JSON)
def test_any_value_is_read_or_malformed(read: Any, value: object) -> None:
    assert refusal_of(lambda: read(Fields.from_json(json.dumps({"x": value}), "thing"))) in {None, Code.MALFORMED}


@given(raw=st.binary(max_size=64))
def test_any_bytes_are_an_object_or_malformed(raw: bytes) -> None:
    assert refusal_of(lambda: Fields.from_json(raw, "thing")) in {None, Code.MALFORMED}


@pytest.mark.parametrize("raw", ["[1]", "null", "", "{", '{"a":1} x', "[" * 100_000, b"\xff\xfe"])
def test_what_is_no_json_object_is_malformed(raw: str) -> None:
    with pytest.raises(ProtocolError) as refused:
        Fields.from_json(raw, "thing")
    assert refused.value.code is Code.MALFORMED


@pytest.mark.parametrize(
    ("reader", "value", "expected"),
    [
        ("text", "words", "words"),
        ("optional_text", None, None),
        ("optional_text", "a" * 64, "a" * 64),
        ("integer", 0, 0),
        ("number", 3, 3.0),
        ("moment", "2026-03-01T12:00:00Z", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("one_of", "red", Colour.RED),
        ("texts", ["a", "b"], ("a", "b")),
        ("optional_child", None, None),
        ("children", [], ()),
        ("named_children", {"a": None}, {"a": None}),
    ],
)
def test_a_field_that_fits_is_read(reader: str, value: object, expected: object) -> None:
    assert READERS[reader](Fields({"x": value}, "thing")) == expected


@pytest.mark.parametrize(
    ("reader", "value"),
    [
        ("text", None),
        ("text", 1),
        ("text", "a" * 1025),
        ("optional_text", "A" * 64),
        ("optional_text", "a" * 64 + "\n"),
        ("integer", True),
        ("integer", 1.0),
        ("integer", -1),
        ("integer", 2**53 + 1),
        ("number", True),
        ("number", float("nan")),
        ("number", float("inf")),
        ("number", 10**400),
        ("number", "1"),
        ("moment", "2026-03-01 12:00:00"),
        ("moment", "2026-02-30T12:00:00Z"),
        ("moment", 0),
        ("one_of", "green"),
        ("one_of", ["red"]),
        ("texts", "ab"),
        ("texts", ["a", 1]),
        ("texts", ["a"] * 1001),
        ("child", None),
        ("optional_child", []),
        ("children", [1]),
        ("children", {}),
        ("children", [{}] * 1001),
        ("named_children", []),
        ("named_children", {"a": 1}),
        ("named_children", dict.fromkeys(map(str, range(101)))),
    ],
)
def test_a_field_that_does_not_fit_is_malformed(reader: str, value: object) -> None:
    with pytest.raises(ProtocolError) as refused:
        READERS[reader](Fields({"x": value}, "thing"))
    assert refused.value.label == "E_MALFORMED[thing]"


def test_an_error_names_the_path_the_value_and_what_was_expected() -> None:
    fields = Fields({"list": [{}, {"size": -5}]}, "thing")
    with pytest.raises(ProtocolError, match=r"thing\.list\[1\]\.size is -5; expected a whole number from 0 to"):
        fields.children("list", lambda child: child.raw("size") and child.integer("size"))


def test_an_error_shows_no_more_than_the_beginning_of_a_long_value() -> None:
    with pytest.raises(ProtocolError) as refused:
        Fields({"x": "a" * 5000}, "thing").text("x")
    assert len(str(refused.value)) < 200


def test_a_moment_is_written_in_utc_with_whole_seconds() -> None:
    moment = datetime(2026, 3, 1, 14, 0, 0, 900_000, tzinfo=timezone(timedelta(hours=2)))
    assert format_utc(moment) == "2026-03-01T12:00:00Z"


@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 30), timezones=st.just(UTC)))  # noqa: DTZ001
def test_a_moment_survives_the_wire_to_the_second(moment: datetime) -> None:
    assert parse_utc(format_utc(moment)) == moment.replace(microsecond=0)


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "\udfff end"])
def test_text_that_no_database_keeps_is_malformed(text: str) -> None:
    fields = Fields.from_json(json.dumps({"one": text, "many": ["fine", text]}), "thing")
    with pytest.raises(ProtocolError, match="without NUL"):
        fields.text("one")
    with pytest.raises(ProtocolError, match="without NUL"):
        fields.texts("many")


def test_text_beyond_the_basic_plane_is_kept() -> None:
    assert Fields.from_json(json.dumps({"x": "\N{ROCKET}"}), "thing").text("x") == "\N{ROCKET}"
