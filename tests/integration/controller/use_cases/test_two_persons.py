"""Two persons decide about released versions: what one proposes another approves, on both databases."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from securesystemslib.signer import CryptoSigner
from sqlalchemy import update

from controller.domain.errors import Conflict, Forbidden, InvalidInput
from controller.domain.gates import GatePolicy
from controller.domain.ids import DeviceId, RolloutId, VersionId
from controller.domain.rollout import RolloutEvent, RolloutState
from controller.store import rollouts, tables
from controller.store.audit import audit_entries
from controller.store.database import Database, record_change
from controller.store.views import rollouts as views
from controller.trust.approvals import Approval, sign_approval
from controller.use_cases.advance_rollout import advance_rollouts
from controller.use_cases.approve_rollout import approve_rollout
from controller.use_cases.create_group import create_group
from controller.use_cases.create_rollout import RolloutRequest, create_rollout
from controller.use_cases.explain_device import explain_device
from controller.use_cases.set_pin import set_pin
from controller.use_cases.steer_rollout import steer_rollout
from device_agent.protocol.channels import Channel
from tests.support.attacks import Group, plays
from tests.support.fleet import Fleet, profile

GATE = GatePolicy(success_share=1.0, failure_share=0.0, soak_s=10, silent_after_s=60)


@pytest.fixture
def fleet(database: Database) -> Fleet:
    """Version 1 is released, version 2 is not; one device is on each channel."""
    fleet = Fleet.create(database)
    for number in (1, 2):
        fleet.publish(number)
    release(fleet, 1)
    fleet.enrol("prod", replace(profile(), channel=Channel.PROD))
    fleet.enrol("dev", replace(profile(), channel=Channel.DEV))
    return fleet


PROD, DEV = DeviceId("dv_prod"), DeviceId("dv_dev")


def release(fleet: Fleet, number: int) -> None:
    with fleet.database.writing() as tx:
        of_version = tables.variant.c.version_id == f"ve_{number}"
        tx.execute(update(tables.variant).where(of_version).values(released_at=fleet.now))
        record_change(tx, fleet.now)


def propose(fleet: Fleet, version: int = 1, *, group: str = "all", actor: str = "alice") -> RolloutId:
    request = RolloutRequest(fleet.model, version, group, (100.0,), GATE)
    by = {"actor": actor, "token_id": f"token of {actor}"}
    return create_rollout(fleet.database, request, now=fleet.now, two_persons=True, **by).rollout.id


def approve(fleet: Fleet, rollout_id: RolloutId, actor: str = "bob", **given: str) -> None:
    given.setdefault("token_id", f"token of {actor}")
    approve_rollout(fleet.database, rollout_id, actor=actor, now=fleet.now, **given)  # type: ignore[arg-type]


def state(fleet: Fleet, rollout_id: RolloutId) -> RolloutState:
    with fleet.database.reading() as tx:
        return rollouts.rollout_by_id(tx, rollout_id)[0].state


def actions(fleet: Fleet) -> list[tuple[str, str]]:
    with fleet.database.reading() as tx:
        return [(entry.actor, entry.action) for entry, _ in audit_entries(tx)]


def pin(fleet: Fleet, version: int, group: str = "all") -> None:
    set_pin(fleet.database, fleet.model, version, group, now=fleet.now, two_persons=True, actor="alice")


def test_a_released_version_is_given_to_nobody_before_another_person_approves(fleet: Fleet) -> None:
    rollout_id = propose(fleet)
    fleet.wait(3600)
    advance_rollouts(fleet.database, now=fleet.now)
    assert state(fleet, rollout_id) is RolloutState.PROPOSED
    assert (fleet.runs(PROD), fleet.runs(DEV)) == (None, None)
    approve(fleet, rollout_id)
    assert fleet.runs(PROD) == fleet.runs(DEV) is not None
    fleet.healthy(PROD, DEV)
    fleet.wait(11)
    advance_rollouts(fleet.database, now=fleet.now)
    assert state(fleet, rollout_id) is RolloutState.SUCCEEDED
    newcomer = fleet.enrol("late", replace(profile(), channel=Channel.PROD))
    assert fleet.runs(newcomer) is not None


def test_a_proposal_says_everywhere_whom_it_waits_for(fleet: Fleet) -> None:
    rollout_id = propose(fleet)
    with fleet.database.reading() as tx:
        shown = views.rollout(tx, rollout_id)
    assert (shown["state"], shown["proposed_by"], shown["approved_by"]) == ("proposed", "alice", None)
    assert "waits until another person approves it" in shown["explanation"]
    assert f"{rollout_id} waits for another person than alice" in str(explain_device(fleet.database, "prod"))


@plays(Group.IDENTITY, "a proposer approves the own rollout, under another name or with another token", "E_TWO_PERSON")
@pytest.mark.parametrize(
    ("actor", "token"), [("alice", "another token"), ("alias", "token of alice"), ("alice", "token of alice")]
)
def test_the_proposer_approves_nothing_under_whatever_name_or_token(fleet: Fleet, actor: str, token: str) -> None:
    rollout_id = propose(fleet)
    with pytest.raises(Forbidden, match="proposed by alice, and another person must approve it") as no:
        approve(fleet, rollout_id, actor, token_id=token)
    assert no.value.code == "E_TWO_PERSON"
    assert state(fleet, rollout_id) is RolloutState.PROPOSED


def test_both_persons_are_in_the_history_and_in_the_audit_log(fleet: Fleet) -> None:
    rollout_id = propose(fleet)
    approve(fleet, rollout_id)
    assert actions(fleet)[-2:] == [("alice", "rollout.proposed"), ("bob", "rollout.approved")]
    with fleet.database.reading() as tx:
        shown = views.rollout(tx, rollout_id)
    assert (shown["proposed_by"], shown["approved_by"]) == ("alice", "bob")
    assert shown["explanation"].startswith("proposed by alice, approved by bob")


def test_what_runs_already_cannot_be_approved_once_more(fleet: Fleet) -> None:
    rollout_id = propose(fleet)
    approve(fleet, rollout_id)
    with pytest.raises(Conflict, match="running and cannot approve"):
        approve(fleet, rollout_id, "carol")


def test_a_rejected_proposal_ends_at_once_and_nobody_has_to_go_back(fleet: Fleet) -> None:
    rollout_id = propose(fleet)
    steer_rollout(fleet.database, rollout_id, RolloutEvent.ABORT, now=fleet.now, actor="bob")
    assert state(fleet, rollout_id) is RolloutState.ABORTED
    assert actions(fleet)[-1] == ("bob", "rollout.aborted")
    assert fleet.poll(PROD).manifests == {}
    with pytest.raises(Conflict, match="aborted and cannot approve"):
        approve(fleet, rollout_id)


def test_a_proposal_keeps_other_rollouts_and_pins_off_its_devices(fleet: Fleet) -> None:
    propose(fleet)
    with pytest.raises(Conflict, match="is proposed and shares 2 devices"):
        propose(fleet, 2)
    with pytest.raises(Conflict, match="is moving digits on group all"):
        pin(fleet, 2)


@plays(Group.IDENTITY, "one person pins a released version around the rollout", "E_TWO_PERSON")
def test_one_person_pins_no_released_version(fleet: Fleet) -> None:
    with pytest.raises(Forbidden, match="version 1 is released, and two persons decide") as no:
        pin(fleet, 1)
    assert no.value.code == "E_TWO_PERSON"


@pytest.mark.parametrize("decide", [pin, propose])
def test_what_one_person_decided_is_for_the_channel_dev_also_after_a_release(
    fleet: Fleet, decide: Callable[[Fleet, int], object]
) -> None:
    decide(fleet, 2)
    assert fleet.runs(DEV) is not None
    assert fleet.runs(PROD) is None
    release(fleet, 2)
    assert fleet.runs(DEV) is not None
    assert fleet.runs(PROD) is None
    assert "decided by one person" in str(explain_device(fleet.database, "prod"))


def test_a_rollout_that_one_person_decided_leaves_a_pin_for_the_channel_dev(fleet: Fleet) -> None:
    rollout_id = propose(fleet, 2)
    fleet.healthy(DEV)
    fleet.wait(11)
    advance_rollouts(fleet.database, now=fleet.now)
    assert state(fleet, rollout_id) is RolloutState.SUCCEEDED
    release(fleet, 2)
    assert fleet.runs(PROD) is None
    with fleet.database.reading() as tx:
        assert [found["dev_only"] for found in views.pins(tx)] == [True]


@pytest.mark.parametrize("decide", [pin, propose])
def test_one_person_moves_no_pin_that_two_have_decided(fleet: Fleet, decide: Callable[..., object]) -> None:
    approve(fleet, propose(fleet))
    fleet.healthy(PROD, DEV)
    fleet.wait(11)
    advance_rollouts(fleet.database, now=fleet.now)
    running = fleet.runs(PROD)
    with pytest.raises(Forbidden, match="holds for them too"):
        decide(fleet, 2)
    fleet.wait(1)
    create_group(fleet.database, "lab", None, ["dev"], now=fleet.now)
    decide(fleet, 2, group="lab")
    assert fleet.runs(PROD) == running != fleet.runs(DEV)


def test_with_a_single_operator_everything_is_decided_at_once(fleet: Fleet) -> None:
    request = RolloutRequest(fleet.model, 1, "all", (100.0,), GATE)
    rollout = create_rollout(fleet.database, request, now=fleet.now).rollout
    assert rollout.state is RolloutState.RUNNING
    assert fleet.runs(PROD) is not None


def signed(fleet: Fleet, rollout_id: str, *manifests: str, hours: float = 1) -> str:
    approval = Approval(rollout_id, manifests, fleet.now + timedelta(hours=hours))
    return sign_approval(CryptoSigner.generate_ed25519(), approval)


def released_manifest(fleet: Fleet) -> str:
    with fleet.database.reading() as tx:
        found = tables.variant.select().where(tables.variant.c.version_id == "ve_1")
        sha256: str = tx.execute(found).one().manifest_sha256
    return sha256


def test_a_signed_approval_is_kept_for_the_signer(fleet: Fleet) -> None:
    rollout_id = propose(fleet)
    approval = signed(fleet, rollout_id, released_manifest(fleet))
    approve(fleet, rollout_id, approval=approval)
    with fleet.database.reading() as tx:
        assert rollouts.approvals_of_versions(tx, [VersionId("ve_1")]) == (approval.encode(),)
        assert rollouts.approvals_of_versions(tx, [VersionId("ve_2")]) == ()
        assert rollouts.approvals_of_versions(tx, []) == ()


def test_an_approval_that_does_not_fit_the_rollout_is_refused_and_nothing_begins(fleet: Fleet) -> None:
    rollout_id, manifest = propose(fleet), released_manifest(fleet)
    for told, approval in {
        "approves rollout ro_other": signed(fleet, "ro_other", manifest),
        "does not name the released manifests": signed(fleet, rollout_id, "f" * 64),
        "it expired": signed(fleet, rollout_id, manifest, hours=-1),
        "not a DSSE envelope": "{}",
    }.items():
        with pytest.raises(InvalidInput, match=told) as no:
            approve(fleet, rollout_id, approval=approval)
        assert no.value.code == "approval_unfit"
    assert state(fleet, rollout_id) is RolloutState.PROPOSED
