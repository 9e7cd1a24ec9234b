from datetime import UTC, datetime

import pytest

from controller.cli.render import ago, cell, labels, percent, size

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        ("2026-01-31T12:00:00Z", "now"),
        ("2026-01-31T11:59:18Z", "42s ago"),
        ("2026-01-31T11:15:00Z", "45m ago"),
        ("2026-01-31T06:00:00+00:00", "6h ago"),
        ("2026-01-01T12:00:00Z", "30d ago"),
        ("2026-02-01T12:00:00Z", "in 1d"),
    ],
)
def test_a_moment_is_told_in_the_largest_unit_that_fits(moment: str, words: str) -> None:
    assert ago(moment, NOW) == words


def test_what_is_unknown_is_a_dash() -> None:
    assert [cell(value).plain for value in (None, "", size(None), percent(None), labels({}), ago(None))] == ["-"] * 6


def test_a_zero_is_not_unknown() -> None:
    assert cell(0).plain == "0"


def test_states_have_the_colour_that_they_deserve() -> None:
    assert [str(cell(word).style) for word in ("healthy", "aborted", "running")] == ["green", "red", ""]
