"""When the agent talks next: bounds that hold for every draw of chance."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from device_agent.polling import (
    RETRY_AFTER_MAX_S,
    Backoff,
    clamp_interval_s,
    first_poll_s,
    next_poll_s,
    retry_s,
)

randoms = st.randoms(use_true_random=False)
seconds = st.floats(0, 1e6)


@given(seconds, randoms)
def test_the_first_poll_is_spread_and_later_ones_keep_within_a_tenth(interval_s: float, random: Random) -> None:
    assert 0 <= first_poll_s(interval_s, random) <= interval_s
    assert 0.9 * interval_s <= next_poll_s(interval_s, random) * (1 + 1e-9)
    assert next_poll_s(interval_s, random) <= 1.1 * interval_s * (1 + 1e-9)


@given(st.integers(1, 10_000), randoms)
def test_a_retry_is_bounded_by_the_doubling_and_by_the_cap(failures: int, random: Random) -> None:
    bound = min(300.0, 5.0 * 2.0 ** (failures - 1)) if failures < 20 else 300.0
    assert 0 <= retry_s(failures, Backoff(5, 300), random) <= bound


@given(st.integers(1, 50), st.floats(0, 1e9), randoms)
def test_a_retry_after_is_never_undercut_nor_obeyed_beyond_an_hour(
    failures: int, told_s: float, random: Random
) -> None:
    wait_s = retry_s(failures, Backoff(5, 300), random, told_s)
    told_s = min(told_s, RETRY_AFTER_MAX_S)
    assert told_s <= wait_s <= 2 * max(told_s, 300)


def test_devices_told_the_same_moment_do_not_come_back_together() -> None:
    waits = [retry_s(1, Backoff(5, 300), Random(seed), 60) for seed in range(1000)]
    assert min(waits) < 65
    assert max(waits) > 115


def test_the_controller_moves_the_interval_only_within_the_devices_bounds() -> None:
    assert [clamp_interval_s(asked, 10, 600) for asked in (0.1, 60, 1e6)] == [10, 60, 600]
