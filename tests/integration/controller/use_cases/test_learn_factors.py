"""Factors are learnt from real reports, and what is published stays as it is."""

import pytest

from controller.domain.costs import Cost
from controller.domain.ids import DeviceId
from controller.store import costs
from controller.store.database import Database
from controller.store.policy import load_policy
from controller.use_cases.learn_factors import learn_factors
from controller.use_cases.set_pin import set_pin
from device_agent.protocol.histogram import Histogram
from device_agent.protocol.messages import ServingItem
from tests.support.decisions import a_cost
from tests.support.fleet import Fleet, profile

ESTIMATED_US = 1000.0


@pytest.fixture
def fleet(database: Database) -> Fleet:
    return Fleet.create(database)


def measured(*classes: str) -> dict[str, Cost]:
    return {name: a_cost(ESTIMATED_US) for name in classes}


def report(fleet: Fleet, device_id: DeviceId, manifest: str, *, took_ms: float, requests: int = 200) -> None:
    latency = Histogram()
    for _ in range(requests):
        latency.add(took_ms / 1000)
    item = ServingItem(fleet.model, manifest, fleet.now, 60.0, requests, 0, 64 * requests, latency)
    fleet.send(device_id, item)


def learn(fleet: Fleet) -> dict[str, float]:
    learn_factors(fleet.database, now=fleet.now)
    with fleet.database.reading() as tx:
        return costs.class_factors(tx)


def test_each_class_is_as_slow_as_its_devices_report_together(fleet: Fleet) -> None:
    manifest = fleet.publish(1, costs=measured("camera", "gateway"))
    one, other, gateway = fleet.enrol("a"), fleet.enrol("b"), fleet.enrol("c", profile("gateway"))
    report(fleet, one, manifest, took_ms=5.0)
    report(fleet, other, manifest, took_ms=5.0)
    report(fleet, gateway, manifest, took_ms=0.5)
    # A histogram tells durations to 2.2 %.
    assert learn(fleet) == {"camera": pytest.approx(5.0, rel=0.03), "gateway": pytest.approx(0.5, rel=0.03)}


def test_reports_of_a_few_requests_add_up_until_they_are_enough(fleet: Fleet) -> None:
    manifest = fleet.publish(1, costs=measured("camera"))
    device_id = fleet.enrol("a")
    report(fleet, device_id, manifest, took_ms=5.0, requests=60)
    assert learn(fleet) == {}
    report(fleet, device_id, manifest, took_ms=5.0, requests=40)
    assert learn(fleet) == {"camera": pytest.approx(5.0, rel=0.03)}


def test_reports_without_requests_or_of_what_was_never_measured_teach_nothing(fleet: Fleet) -> None:
    manifest = fleet.publish(1, costs=measured("gateway"))
    device_id = fleet.enrol("a")
    report(fleet, device_id, manifest, took_ms=5.0)
    report(fleet, device_id, "f" * 64, took_ms=5.0)
    report(fleet, device_id, manifest, took_ms=5.0, requests=0)
    assert learn(fleet) == {}


def test_only_the_newest_reports_are_read(fleet: Fleet) -> None:
    manifest = fleet.publish(1, costs=measured("camera"))
    device_id = fleet.enrol("a")
    for took_ms in (50.0, 5.0):
        report(fleet, device_id, manifest, took_ms=took_ms, requests=1)
    with fleet.database.reading() as tx:
        (newest,) = costs.reported_latencies(tx, at_most=1)
        (both,) = costs.reported_latencies(tx, at_most=2)
    assert newest.latency.quantile(0.5) == pytest.approx(0.005, rel=0.03)
    assert (newest.latency.count, both.latency.count, both.cost) == (1, 2, a_cost(ESTIMATED_US))


def test_a_factor_follows_what_is_reported_and_moves_nothing_that_is_published(fleet: Fleet) -> None:
    quick, slow = {"camera": a_cost(ESTIMATED_US)}, {"camera": a_cost(5 * ESTIMATED_US)}
    manifest = fleet.publish(1, precision="fp32", costs=quick)
    fleet.publish_variant(1, precision="int8", costs=slow)
    set_pin(fleet.database, fleet.model, 1, "all", now=fleet.now)
    device_id = fleet.enrol("a", profile(precisions=("int8", "fp32")))
    assert fleet.runs(device_id) == manifest
    with fleet.database.reading() as tx:
        before = load_policy(tx)
    report(fleet, device_id, manifest, took_ms=500.0)
    assert learn(fleet) == {"camera": pytest.approx(500.0, rel=0.03)}
    with fleet.database.reading() as tx:
        assert load_policy(tx) == before
    assert fleet.runs(device_id) == manifest
