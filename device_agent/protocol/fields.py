"""Strict reading of JSON objects: every error names the field, the value and what was expected."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeVar

from device_agent.protocol.errors import Code, ProtocolError

T = TypeVar("T")

TIMESTAMP_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
SHA256_HEX = re.compile(r"[0-9a-f]{64}")
"""A sha256 as it appears on the wire."""
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def is_storable(text: str) -> bool:
    """Tell whether every database keeps the text: PostgreSQL has no NUL, and UTF-8 has no half of a surrogate pair."""
    return _UNSTORABLE.search(text) is None


@lru_cache(maxsize=256)
def format_utc(moment: datetime) -> str:
    """Return the moment as RFC 3339 in UTC with whole seconds, the only form used on the wire."""
    return moment.astimezone(UTC).strftime(TIMESTAMP_FORMAT)


@lru_cache(maxsize=256)
def parse_utc(text: str) -> datetime:
    """Return the moment written by `format_utc`; ValueError for any other form."""
    # Not strptime, and remembered: thousands of assignments a second are checked, most of them of one moment.
    moment = datetime.fromisoformat(text) if text.endswith("Z") else None
    if moment is None or format_utc(moment) != text:
        raise ValueError(f"{text!r} does not match {TIMESTAMP_FORMAT}")
    return moment


def _is_text(value: object) -> bool:
    return isinstance(value, str) and is_storable(value)


class Fields:
    """One JSON object, read field by field; a field that does not fit raises ProtocolError(MALFORMED)."""

    def __init__(self, value: object, where: str) -> None:
        """Take any parsed JSON value; anything but an object is refused at once."""
        self._where = where
        if not isinstance(value, dict):
            raise self._malformed("", value, "an object")
        self._object: Mapping[str, Any] = value

    @classmethod
    def from_json(cls, raw: bytes | str, where: str) -> "Fields":
        """Parse JSON text; text that is not JSON is malformed too."""
        try:
            return cls(json.loads(raw), where)
        except (ValueError, RecursionError) as error:
            raise ProtocolError(Code.MALFORMED, f"{where} is not JSON: {error}", role=where) from error

    def _malformed(self, name: str, value: object, expected: str) -> ProtocolError:
        path = f"{self._where}.{name}" if name else self._where
        shown = repr(value)
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        role = self._where.split(".", maxsplit=1)[0]
        return ProtocolError(Code.MALFORMED, f"{path} is {shown}; expected {expected}", role=role)

    def raw(self, name: str) -> Any:
        """Return the value unread, None where it is absent."""
        return self._object.get(name)

    def text(self, name: str, *, pattern: re.Pattern[str] | None = None, most: int = 1024) -> str:
        """Return a string of at most `most` characters that matches the whole pattern."""
        value = self._object.get(name)
        if not isinstance(value, str) or len(value) > most or not is_storable(value):
            raise self._malformed(name, value, f"a string of at most {most} characters, without NUL")
        if pattern and not pattern.fullmatch(value):
            raise self._malformed(name, value, f"a string like {pattern.pattern}")
        return value

    def optional_text(self, name: str, *, pattern: re.Pattern[str] | None = None, most: int = 1024) -> str | None:
        """Return the string, or None where the field is absent or null."""
        return None if self._object.get(name) is None else self.text(name, pattern=pattern, most=most)

    def integer(self, name: str, *, least: int = 0, most: int = 2**53) -> int:
        """Return a whole number within the bounds; booleans are not numbers."""
        value = self._object.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self._malformed(name, value, f"a whole number from {least} to {most}")
        return value

    def number(self, name: str, *, least: float = 0.0, most: float = 1e18) -> float:
        """Return a finite number within the bounds."""
        value = self._object.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise self._malformed(name, value, f"a number from {least:g} to {most:g}")
        return float(value)

    def moment(self, name: str) -> datetime:
        """Return an aware datetime in UTC from `2026-01-31T12:00:00Z`."""
        value = self.text(name, most=32)
        try:
            return parse_utc(value)
        except ValueError as error:
            raise self._malformed(name, value, "a moment like 2026-01-31T12:00:00Z") from error

    def one_of(self, name: str, allowed: type) -> Any:
        """Return the member of a string enumeration."""
        value = self._object.get(name)
        try:
            return allowed(value)
        except ValueError as error:
            raise self._malformed(name, value, "one of " + ", ".join(allowed)) from error  # type: ignore[arg-type]

    def texts(self, name: str, *, most: int = 1000) -> tuple[str, ...]:
        """Return a list of strings."""
        value = self._object.get(name)
        if not isinstance(value, list) or len(value) > most or not all(map(_is_text, value)):
            raise self._malformed(name, value, f"a list of at most {most} strings, without NUL")
        return tuple(value)

    def child(self, name: str) -> "Fields":
        """Return an object inside this one."""
        return Fields(self._object.get(name), f"{self._where}.{name}")

    def optional_child(self, name: str) -> "Fields | None":
        """Return the object, or None where the field is absent or null."""
        return None if self._object.get(name) is None else self.child(name)

    def children(self, name: str, read: "Callable[[Fields], T]", *, most: int = 1000) -> tuple[T, ...]:
        """Read a list of objects."""
        value = self._object.get(name)
        if not isinstance(value, list) or len(value) > most:
            raise self._malformed(name, value, f"a list of at most {most} objects")
        return tuple(read(Fields(item, f"{self._where}.{name}[{index}]")) for index, item in enumerate(value))

    def named_children(self, name: str, read: "Callable[[Fields], T]", *, most: int = 100) -> dict[str, T | None]:
        """Read an object whose values are objects or null."""
        value = self._object.get(name)
        if not isinstance(value, dict) or len(value) > most:
            raise self._malformed(name, value, f"an object of at most {most} objects")
        return {
            key: None if item is None else read(Fields(item, f"{self._where}.{name}.{key}"))
            for key, item in value.items()
        }
