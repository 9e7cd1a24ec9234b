"""Classes to measure for, and factors, on both databases."""

import pytest

from controller.domain.costs import DeviceClass, LearnedFactor
from controller.store import costs
from controller.store.costs import CLASSES_MAX
from controller.store.database import Database
from device_agent.protocol.profile import DeviceProfile
from tests.support.fleet import Fleet, profile


@pytest.fixture
def fleet(database: Database) -> Fleet:
    return Fleet.create(database)


def classes(fleet: Fleet, *profiles: DeviceProfile) -> list[DeviceClass]:
    for number, of in enumerate(profiles):
        fleet.enrol(f"device-{number}", of)
    with fleet.database.reading() as tx:
        return costs.device_classes(tx)


def test_a_fleet_without_devices_has_no_classes(fleet: Fleet) -> None:
    assert classes(fleet) == []


def test_the_least_of_a_class_stands_for_it(fleet: Fleet) -> None:
    found = classes(
        fleet,
        profile("camera", memory_bytes=300, threads=2),
        profile("camera", memory_bytes=200, threads=4),
        profile("camera", memory_bytes=200, threads=4),
    )
    assert found == [DeviceClass("camera", threads=2, memory_bytes=200)]


def test_classes_with_most_devices_come_first_and_then_by_name(fleet: Fleet) -> None:
    rare, frequent = profile("b-rare"), profile("c-frequent")
    # Counted by name: no single one of its profiles is the most frequent.
    varied = [profile("d-varied", memory_bytes=size) for size in (1000, 2000, 3000, 4000)]
    found = classes(fleet, rare, frequent, frequent, frequent, profile("a-rare"), *varied)
    assert [one.name for one in found] == ["d-varied", "c-frequent", "a-rare", "b-rare"]


def test_more_classes_than_can_be_measured_are_cut(fleet: Fleet) -> None:
    names = [f"class-{number}" for number in range(CLASSES_MAX + 1)]
    found = classes(fleet, *(profile(name) for name in names), profile(names[-1]))
    assert [one.name for one in found] == [names[-1], *names[: CLASSES_MAX - 1]]


def test_devices_that_run_models_otherwise_and_the_built_in_class_are_left_out(fleet: Fleet) -> None:
    assert classes(fleet, profile("plc", engine="opaque"), profile("controller")) == []


def test_factors_are_kept_by_class_and_replaced(fleet: Fleet) -> None:
    with fleet.database.writing() as tx:
        costs.save_factors(tx, {"camera": LearnedFactor(2.0, 1, 100), "plc": LearnedFactor(9.0, 1, 100)}, fleet.now)
        costs.save_factors(tx, {"camera": LearnedFactor(3.0, 2, 200)}, fleet.now)
        assert costs.class_factors(tx) == {"camera": 3.0, "plc": 9.0}
