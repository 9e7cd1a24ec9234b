import itertools

import pytest

from controller.domain.errors import Conflict, InvalidInput
from controller.domain.releases import (
    HARDWARE_MAX,
    TRANSITIONS,
    ReleaseEvent,
    ReleaseState,
    VersionRelease,
    check_terms,
    transition,
    version_release,
)
from tests.support.transition_grids import reachable, read_grid

PAIRS = list(itertools.product(ReleaseState, ReleaseEvent))
EXPECTED = read_grid(
    """
               sign      publish    cancel
    proposed   proposed  published  cancelled
    published  -         -          -
    cancelled  -         -          -
    """
)


def test_the_grid_names_every_state_with_every_event() -> None:
    assert set(EXPECTED) == set(PAIRS)


@pytest.mark.parametrize(("state", "event"), PAIRS)
def test_every_event_in_every_state_leads_where_the_grid_says(state: ReleaseState, event: ReleaseEvent) -> None:
    expected = EXPECTED[state, event]
    if expected is None:
        with pytest.raises(Conflict, match=f"the release is {state} and cannot {event}; possible: nothing"):
            transition(state, event)
    else:
        assert transition(state, event) == expected


def test_every_state_can_be_reached_from_a_proposal() -> None:
    assert reachable(TRANSITIONS, ReleaseState.PROPOSED) == set(ReleaseState)


@pytest.mark.parametrize(
    ("released", "proposed", "expected"),
    [
        ([False, False], False, VersionRelease.NO),
        ([], True, VersionRelease.PROPOSED),
        ([False, True], False, VersionRelease.RELEASED),
        ([True], True, VersionRelease.RELEASED),
    ],
)
def test_a_version_is_released_once_any_of_its_variants_is(
    released: list[bool], proposed: bool, expected: VersionRelease
) -> None:
    assert version_release(released, proposed=proposed) is expected


@pytest.mark.parametrize("floor", [None, 1, 7])
def test_a_floor_that_the_release_reaches_is_accepted(floor: int | None) -> None:
    check_terms(7, floor, ["camera", "gateway-2"])


@pytest.mark.parametrize("floor", [0, -1, 8])
def test_a_floor_that_the_release_does_not_reach_is_refused(floor: int) -> None:
    with pytest.raises(InvalidInput, match=f"the floor is {floor}; it must be from 1 to 7") as refused:
        check_terms(7, floor, [])
    assert (refused.value.code, refused.value.field) == ("release_floor", "/floor")


@pytest.mark.parametrize("hardware", [["Camera"], ["../x"], [""], ["a"] * (HARDWARE_MAX + 1)])
def test_what_names_no_profile_is_refused(hardware: list[str]) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_terms(7, None, hardware)
    assert (refused.value.code, refused.value.field) == ("release_hardware", "/hardware")
