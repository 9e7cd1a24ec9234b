import hashlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.domain.errors import InvalidInput
from controller.domain.ids import DeviceId, RolloutId
from controller.domain.stages import POSITION_END, Stage, cut_stages, parse_shares, position

ROLLOUT = RolloutId("ro_1")

positions = st.sets(st.integers(0, POSITION_END - 1), min_size=1, max_size=300)
percentages = st.sets(st.integers(1, 99), max_size=6).map(lambda chosen: [*sorted(chosen), 100])


def admitted(stage: Stage, of: set[int]) -> set[int]:
    return {place for place in of if place < stage.cutoff}


def test_a_position_is_the_first_53_bits_of_the_hash_of_both_ids() -> None:
    """The formula is for ever: another one would move devices between the stages of a running rollout."""
    digest = hashlib.sha256(b"ro_1:dv_1").hexdigest()
    assert position(ROLLOUT, DeviceId("dv_1")) == int(digest[:14], 16) >> 3 == 4_383_042_899_787_774


def test_positions_of_different_rollouts_are_unrelated() -> None:
    """Otherwise the same unlucky devices would be the canary of every rollout."""
    devices = [DeviceId(f"dv_{number}") for number in range(1000)]
    early = [{d for d in devices if position(RolloutId(r), d) < POSITION_END // 10} for r in ("ro_1", "ro_2")]
    assert len(early[0] & early[1]) < 30


@given(positions, percentages)
def test_a_stage_admits_exactly_its_share_rounded_up_to_whole_devices(known: set[int], percent: list[int]) -> None:
    stages = cut_stages(parse_shares(percent), known)
    exact = [-(-share * len(known) // 100) for share in percent]
    assert [len(admitted(stage, known)) for stage in stages] == exact
    assert [stage.devices for stage in stages] == exact


@given(positions, percentages)
def test_a_device_once_admitted_stays_admitted_when_the_stage_advances(known: set[int], percent: list[int]) -> None:
    stages = cut_stages(parse_shares(percent), known)
    for earlier, later in itertools.pairwise(stages):
        assert admitted(earlier, known) <= admitted(later, known)


@given(positions, percentages, st.integers(0, POSITION_END - 1))
def test_the_last_stage_admits_every_device_also_one_that_nobody_knew(
    known: set[int], percent: list[int], late_joiner: int
) -> None:
    last = cut_stages(parse_shares(percent), known)[-1]
    assert late_joiner < last.cutoff


def test_late_joiners_fall_under_the_same_cutoffs_in_the_same_shares() -> None:
    devices = [position(ROLLOUT, DeviceId(f"dv_{number}")) for number in range(4000)]
    known, late = set(devices[:2000]), set(devices[2000:])
    for stage in cut_stages(parse_shares([5, 25, 60, 100]), known):
        assert len(admitted(stage, late)) / 2000 == pytest.approx(stage.share, abs=0.03)


def test_a_canary_of_a_small_fleet_is_one_device() -> None:
    assert [stage.devices for stage in cut_stages(parse_shares([1, 50, 100]), {10, 20, 30})] == [1, 2, 3]


@pytest.mark.parametrize("percent", [[100], [10, 50, 100], [0.1, 100], [33.3, 66.6, 100]])
def test_rising_percentages_that_end_at_100_become_shares(percent: list[float]) -> None:
    assert parse_shares(percent) == tuple(value / 100 for value in percent)


@pytest.mark.parametrize(
    ("percent", "complaint"),
    [
        ([], "stages is empty"),
        ([0, 100], "each must be above 0"),
        ([-5, 100], "each must be above 0"),
        ([50, 101], "at most 100"),
        ([float("nan"), 100], "each must be above 0"),
        ([50, 20, 100], "each must be above the last"),
        ([50, 50, 100], "each must be above the last"),
        ([10, 50], "the last must be 100"),
    ],
)
def test_percentages_that_leave_devices_out_or_go_down_are_refused(percent: list[float], complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint) as refused:
        parse_shares(percent)
    assert refused.value.field == "/stages"
