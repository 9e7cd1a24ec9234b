"""Issue assignments: compute what devices shall run, and sign it for those to whom nothing good is signed.

Reading comes first and alone, so that devices with a good assignment, by far the most, cost no write. For the
others everything is read again under lock and under the newest policy: a process that has not yet heard of a
change must not take back what another has just issued.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from controller.domain.assignments import (
    PIN_SILENT_AFTER,
    RENEW_AFTER,
    Manifests,
    OutcomeState,
    counts_anew,
    is_good,
    manifests_of,
    next_counter,
)
from controller.domain.desired_state import DesiredState, Policy, SlotChoice, desired_state
from controller.domain.fleet import Device
from controller.domain.ids import DeviceId, VersionId
from controller.store import assignments, changes, devices, rollouts
from controller.store.assignments import NewOutcome, StoredAssignment
from controller.store.database import Database, Transaction, record_change
from controller.store.policy import PolicySnapshot, load_policy
from controller.trust.director import Director
from controller.trust.signer.interface import KeyWish
from device_agent.protocol.assignment import VALIDITY, Assignment, SlotAssignment


@dataclass(frozen=True)
class CurrentAssignment:
    """The assignment that is good for a device, and the facts by which it is."""

    device: Device
    counter: int
    manifests: Manifests
    envelope: bytes
    renew_at: datetime
    policy: Policy
    """The policy under which it was found good."""


@dataclass(frozen=True)
class CurrentAssignments:
    """An answer for every device that exists, and the place in the change log from which on it may be outdated."""

    seq: int
    of: dict[DeviceId, CurrentAssignment]


@dataclass(frozen=True)
class _Finding:
    device: Device
    desired: DesiredState
    stored: StoredAssignment | None


def issue_assignments(
    database: Database,
    director: Director,
    device_ids: Sequence[DeviceId],
    known: PolicySnapshot | None,
    *,
    poll_s: float,
    now: datetime,
) -> CurrentAssignments:
    """Return the good assignment of every device, signed anew where there is none. Unknown devices are left out.

    `known` is a policy that the caller keeps up to date by the change log; None has it read from the database.
    SignerRefused, and nothing is issued, when the signer does not sign what was decided.
    """
    with database.reading() as tx:
        seq = changes.last_seq(tx)
        snapshot = known or load_policy(tx)
        good, due = _sort(tx, device_ids, snapshot.policy, now)
    if due:
        with database.writing() as tx:
            devices.lock_devices(tx, due)
            newest = load_policy(tx) if changes.policy_changed_after(tx, snapshot.seq) else snapshot
            found_good, still_due = _sort(tx, list(due), newest.policy, now)
            good |= found_good | _issue(tx, director, still_due, newest.policy, poll_s, now)
    return CurrentAssignments(seq, good)


def _sort(
    tx: Transaction, ids: Sequence[DeviceId], policy: Policy, now: datetime
) -> tuple[dict[DeviceId, CurrentAssignment], dict[DeviceId, _Finding]]:
    """Return the good assignments, and what is known of the devices that need a new one."""
    stored_of = assignments.load_assignments(tx, ids)
    good, due = {}, {}
    for device in devices.load_devices(tx, ids).values():
        stored, desired = stored_of.get(device.id), desired_state(device, policy)
        young = stored is not None and now < stored.issued_at + RENEW_AFTER
        if stored and young and is_good(stored.manifests, device, desired):
            good[device.id] = _current(device, stored, policy)
        else:
            due[device.id] = _Finding(device, desired, stored)
    return good, due


def _issue(
    tx: Transaction,
    director: Director,
    due: dict[DeviceId, _Finding],
    policy: Policy,
    poll_s: float,
    now: datetime,
) -> dict[DeviceId, CurrentAssignment]:
    if not due:
        return {}
    at_rest = assignments.manifests_at_rest(tx, due)
    keys = _wrapped_keys(director, due)
    written = [_write(finding, poll_s, now, keys) for finding in due.values()]
    approvals = rollouts.approvals_of_versions(tx, _released_versions(due))
    signed = list(zip(written, director.sign_all(written, approvals), strict=True))
    issued, outcomes = {}, []
    for finding, (assignment, envelope) in zip(due.values(), signed, strict=True):
        taken = _outcomes(finding, assignment, policy, at_rest)
        took = finding.device.took | {one.rollout_id for one in taken if one.rollout_id}
        stored = StoredAssignment(
            finding.device.id, assignment.counter, manifests_of(finding.desired), envelope, assignment.issued
        )
        issued[finding.device.id] = _current(replace(finding.device, took=took), stored, policy)
        outcomes += taken
    assignments.save_assignments(tx, signed)
    assignments.insert_outcomes(tx, outcomes)
    record_change(tx, now, sorted(due))
    return issued


def _released_versions(due: dict[DeviceId, _Finding]) -> set[VersionId]:
    """Return the released versions that are assigned: a signer that has approvers asks for people's word on them."""
    choices = (choice for finding in due.values() for choice in finding.desired.slots.values())
    return {choice.variant.version_id for choice in choices if choice.variant and choice.variant.released}


def _wrapped_keys(director: Director, due: dict[DeviceId, _Finding]) -> dict[tuple[DeviceId, str], str]:
    """Return the keys to sealed models by device and slot. Each time they are other texts, which no device minds."""
    wanted = {
        (device_id, slot): KeyWish(
            choice.variant.content_key, choice.variant.manifest_sha256, device_id, finding.device.encryption_key or ""
        )
        for device_id, finding in due.items()
        for slot, choice in finding.desired.slots.items()
        if choice.variant and choice.variant.content_key
    }
    return dict(zip(wanted, director.wrap_content_keys([*wanted.values()]), strict=True)) if wanted else {}


def _write(finding: _Finding, poll_s: float, now: datetime, keys: dict[tuple[DeviceId, str], str]) -> Assignment:
    issued = now.replace(microsecond=0)
    return Assignment(
        device=finding.device.id,
        counter=next_counter(finding.stored.counter if finding.stored else 0, now),
        issued=issued,
        expires=issued + VALIDITY,
        slots={
            slot: _slot(choice, keys.get((finding.device.id, slot))) for slot, choice in finding.desired.slots.items()
        },
        poll_s=poll_s,
        hardware=finding.device.profile.name,
        channel=finding.device.profile.channel,
    )


def _slot(choice: SlotChoice, content_key: str | None) -> SlotAssignment | None:
    variant = choice.variant
    if variant is None:
        return None
    return SlotAssignment(
        variant.target,
        variant.manifest_bytes,
        variant.manifest_sha256,
        choice.soak_s,
        choice.reason,
        variant.release,
        content_key or None,
    )


def _outcomes(
    finding: _Finding, assignment: Assignment, policy: Policy, at_rest: set[tuple[str, str, str]]
) -> list[NewOutcome]:
    """Return an outcome for every slot that changes, and for every rollout that counts the device from now on."""
    before = finding.stored.manifests if finding.stored else {}
    wanted = manifests_of(finding.desired)
    found = []
    for slot, choice in finding.desired.slots.items():
        unchanged = slot in before and before[slot] == wanted[slot]
        if unchanged and not counts_anew(choice, finding.device):
            continue
        # A device that runs the manifest already has nothing to do and nothing to report.
        fulfilled = (finding.device.id, slot, wanted[slot]) in at_rest
        state = OutcomeState.HEALTHY if fulfilled else OutcomeState.TAKEN
        found.append(_outcome(finding.device.id, assignment, slot, choice, state, policy))
    return found


def _outcome(
    device_id: DeviceId, assignment: Assignment, slot: str, choice: SlotChoice, state: OutcomeState, policy: Policy
) -> NewOutcome:
    rollout = next((one for one in policy.rollouts if one.id == choice.rollout_id), None)
    patience = timedelta(seconds=rollout.gate.silent_after_s) if rollout else PIN_SILENT_AFTER
    return NewOutcome(
        device_id=device_id,
        counter=assignment.counter,
        slot=slot,
        rollout_id=choice.rollout_id,
        stage=rollout.stage if rollout else None,
        version_id=choice.variant.version_id if choice.variant else None,
        manifest_sha256=choice.variant.manifest_sha256 if choice.variant else None,
        state=state,
        taken_at=assignment.issued,
        silent_at=assignment.issued + patience,
    )


def _current(device: Device, stored: StoredAssignment, policy: Policy) -> CurrentAssignment:
    renew_at = stored.issued_at + RENEW_AFTER
    return CurrentAssignment(device, stored.counter, stored.manifests, stored.envelope, renew_at, policy)
