"""Rules on variants, from the operator's word to what devices are assigned."""

import pytest

from controller.domain.errors import InvalidInput, NotFound
from controller.domain.gates import GatePolicy
from controller.domain.variant_rules import RuleKind
from controller.store.database import Database
from controller.store.views.overview import events
from controller.use_cases.create_group import create_group
from controller.use_cases.create_rollout import RolloutRequest, create_rollout
from controller.use_cases.explain_device import explain_device
from controller.use_cases.follow_changes import follow_changes, read_policy
from controller.use_cases.set_pin import set_pin
from controller.use_cases.set_variant_rule import release_variant_rule, set_variant_rule
from tests.support.fleet import Fleet, manifest_digest, profile

INT8, FP32 = manifest_digest(1, "int8"), manifest_digest(1, "fp32")


@pytest.fixture
def fleet(database: Database) -> Fleet:
    """Two devices that run int8 best, pinned to a version that has fp32 too."""
    fleet = Fleet.create(database)
    fleet.publish(1, precision="int8")
    fleet.publish_variant(1, precision="fp32")
    for site in ("lyon", "turin"):
        fleet.enrol(site, profile(precisions=("int8", "fp32")), site=site)
    create_group(database, "lyon", "site=lyon", None, now=fleet.now)
    set_pin(database, fleet.model, 1, "all", now=fleet.now)
    return fleet


def rule(fleet: Fleet, kind: RuleKind, variant: str, group: str = "lyon") -> str:
    return set_variant_rule(fleet.database, fleet.model, variant, group, kind, now=fleet.now)


def running(fleet: Fleet) -> list[str | None]:
    return [fleet.runs(fleet_id) for fleet_id in ("dv_lyon", "dv_turin")]  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "variant"), [(RuleKind.FORBID, "int8"), (RuleKind.PIN, "fp32")])
def test_a_rule_moves_its_group_alone_until_it_is_released(fleet: Fleet, kind: RuleKind, variant: str) -> None:
    assert running(fleet) == [INT8, INT8]
    rule(fleet, kind, variant)
    assert running(fleet) == [FP32, INT8]
    release_variant_rule(fleet.database, fleet.model, variant, "lyon", now=fleet.now)
    assert running(fleet) == [INT8, INT8]


def test_a_rule_about_the_same_variant_and_group_replaces_the_one_before(fleet: Fleet) -> None:
    first = rule(fleet, RuleKind.FORBID, "fp32")
    assert rule(fleet, RuleKind.PIN, "fp32") == first
    assert running(fleet) == [FP32, INT8]


def test_a_rule_reaches_every_process_as_a_change_of_the_policy_and_is_remembered(fleet: Fleet) -> None:
    position = read_policy(fleet.database).seq
    rule_id = rule(fleet, RuleKind.FORBID, "int8")
    found = follow_changes(fleet.database, position)
    assert found.snapshot is not None
    assert [one.id for one in found.snapshot.policy.variant_rules] == [rule_id]
    release_variant_rule(fleet.database, fleet.model, "int8", "lyon", now=fleet.now)
    released = follow_changes(fleet.database, found.position)
    assert released.snapshot is not None
    assert released.snapshot.policy.variant_rules == ()
    with fleet.database.reading() as tx:
        kinds = [event["kind"] for event in events(tx, rule_id, 10)]
    assert kinds == ["variant_rule.released", "variant_rule.forbid"]


def test_the_explanation_of_a_device_names_the_rule_and_the_choice(fleet: Fleet) -> None:
    rule(fleet, RuleKind.FORBID, "int8")
    words = explain_device(fleet.database, "lyon")["models"][fleet.model]
    assert "variant int8 is forbidden for a group of this device" in words
    assert any(word.startswith("variant fp32: by the precisions of camera") for word in words)


def test_what_does_not_exist_is_named(fleet: Fleet) -> None:
    with pytest.raises(NotFound, match="there is no model 'none'"):
        set_variant_rule(fleet.database, "none", "int8", "all", RuleKind.PIN, now=fleet.now)
    with pytest.raises(NotFound, match="there is no group 'none'"):
        rule(fleet, RuleKind.PIN, "int8", "none")
    with pytest.raises(NotFound, match="no rule about variant 'int8'"):
        release_variant_rule(fleet.database, fleet.model, "int8", "lyon", now=fleet.now)
    with pytest.raises(InvalidInput, match="Int 8"):
        rule(fleet, RuleKind.PIN, "Int 8")


def test_a_rollout_leaves_out_the_devices_that_the_rules_leave_nothing(fleet: Fleet) -> None:
    fleet.publish(2, precision="int8")
    rule(fleet, RuleKind.FORBID, "int8")
    request = RolloutRequest(fleet.model, 2, "all", (100,), GatePolicy())
    preview = create_rollout(fleet.database, request, now=fleet.now, validate_only=True)
    assert [stage.devices for stage in preview.rollout.stages] == [1]
    assert preview.incompatible == {"variant int8 is forbidden for a group of this device": 1}
