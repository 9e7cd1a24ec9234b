"""Carries out the recovery table for one slot: from what a start finds on disk to where its worker goes on."""

import logging
from dataclasses import dataclass

from device_agent.failure import Failure
from device_agent.journal import Journal, SlotRecord, Trial
from device_agent.lifecycle import BOOTS_MAX, RECOVERY, Recovery, SlotFound, TrialFound
from device_agent.protocol.errors import Code
from device_agent.protocol.messages import FailureStage
from device_agent.slot_reports import Job
from device_agent.slots import ModelStore

_log = logging.getLogger(__name__)

BOOT_LOOP = Failure(
    FailureStage.RUNTIME,
    Code.BOOT_LOOP,
    f"the device, the agent or the serving process went down {BOOTS_MAX} times while it was on trial",
    refuses=True,
)
DAMAGED = Failure(FailureStage.VERIFY, Code.HASH_MISMATCH, "the model is damaged on disk", refuses=False)


@dataclass(frozen=True)
class Recovered:
    """Where a slot goes on."""

    job: Job | None
    """The candidate that was on trial."""
    failure: Failure | None
    """Why its trial has ended; None where the trial goes on, or there was none."""


def recover_slot(name: str, journal: Journal, store: ModelStore) -> Recovered:
    """Bring the slot's record in line with what is on disk; models that are damaged or refused are deleted."""
    record = journal.record.slot(name)
    found = SlotFound(_trial_found(record.trial), store.inspect(record.active), store.inspect(record.good))
    action = RECOVERY[found]
    if action in {Recovery.REST, Recovery.LOAD}:
        return Recovered(None, None)
    _log.warning("slot %s: found %s, so %s", name, found, action)
    job = _job(record)
    if action is Recovery.RESUME_TRIAL:
        return Recovered(job, None)
    refuses = action in {Recovery.REFUSE_TRIAL, Recovery.REFUSE_AND_EMPTY}
    failure = BOOT_LOOP if refuses else DAMAGED
    kept = record.end_trial() if action in {Recovery.DROP_TRIAL, Recovery.REFUSE_TRIAL} else record.empty()
    if refuses and job:
        kept = kept.refuse(job.manifest, failure.refusal(job.counter))
    journal.commit_slot(name, kept)
    if record.active:
        store.discard(record.active)
    return Recovered(job, failure)


def _trial_found(trial: Trial | None) -> TrialFound:
    if trial is None:
        return TrialFound.NONE
    return TrialFound.OPEN if trial.boots < BOOTS_MAX else TrialFound.SPENT


def _job(record: SlotRecord) -> Job | None:
    if record.trial is None or record.active is None:
        return None
    return Job(record.active, record.trial.counter, record.trial.soak_s)
