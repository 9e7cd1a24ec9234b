"""What time it is when the clock may be wrong by decades."""

from datetime import UTC, datetime

from device_agent.clock import BUILT, DeviceClock
from device_agent.journal import Record

DIRECTOR, IMAGE = datetime(2030, 1, 2, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)


def at_1970() -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC)


def test_a_clock_at_1970_is_not_believed() -> None:
    assert DeviceClock(at_1970).now(Record()) == BUILT


def test_the_floor_is_what_both_repositories_have_stated() -> None:
    clock = DeviceClock(at_1970)
    assert clock.now(Record(director_issued=DIRECTOR, image_issued=IMAGE)) == IMAGE
    assert clock.now(Record(director_issued=DIRECTOR)) == BUILT
    assert clock.now(Record(image_issued=IMAGE)) == BUILT


def test_a_clock_after_the_floor_is_used_as_it_is() -> None:
    later = datetime(2031, 5, 5, tzinfo=UTC)
    assert DeviceClock(lambda: later).now(Record(director_issued=DIRECTOR, image_issued=IMAGE)) == later
