import pytest

from controller.web import figures


@pytest.mark.parametrize(
    ("size_bytes", "words"), [(None, "\N{EN DASH}"), (0, "0 B"), (999, "999 B"), (26_585, "26.6 kB"), (3.2e9, "3.2 GB")]
)
def test_sizes_have_decimal_units(size_bytes: float | None, words: str) -> None:
    assert figures.size(size_bytes) == words


@pytest.mark.parametrize(
    ("microseconds", "words"),
    [
        (None, "\N{EN DASH}"),
        (0.0, "0.00 µs"),
        (0.5, "0.50 µs"),
        (18.44, "18.4 µs"),
        (175.2, "175 µs"),
        (4260.0, "4.26 ms"),
        (2e6, "2.00 s"),
    ],
)
def test_durations_have_three_digits(microseconds: float | None, words: str) -> None:
    assert figures.duration(microseconds) == words


def test_accuracy_is_told_in_percent_and_lost_in_points_and_others_as_they_are() -> None:
    assert (figures.value(0.9025, "accuracy"), figures.value(0.9025, "r2")) == ("90.25 %", "0.9025")
    assert (figures.drop(0.005, "accuracy"), figures.drop(-0.005, "r2")) == ("+0.50", "\N{MINUS SIGN}0.0050")
    assert figures.drop(-0.00001, "accuracy") == "0.00"


def test_intervals_have_both_ends_and_nothing_is_told_of_none() -> None:
    assert figures.interval([0.8725, 0.93], "accuracy") == "87.25 to 93.00"
    assert figures.interval([-0.01, 0.02], "accuracy", of_drop=True) == "\N{MINUS SIGN}1.00 to +2.00"
    assert figures.interval(None, "accuracy") == ""
