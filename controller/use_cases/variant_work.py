"""One worker, one variant, one step: claim it, work, write what was found. The frame of every variant task.

Running a task twice, at the same time or again, is harmless: the claim lets one worker in, the fence lets one
result through. A worker that dies leaves a claim that runs out, and the sweep sends the task again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from controller.artifacts import jobs
from controller.artifacts.blob_store import BlobStore, StoredBlob
from controller.artifacts.child_process import Heartbeat, Limits
from controller.artifacts.findings import MAIN_FILE
from controller.domain.catalog import NEXT_TASK, ModelVersion, VariantEvent, VariantState, transition
from controller.domain.errors import InvalidInput, Unavailable
from controller.domain.ids import VariantId
from controller.store import catalog, variants
from controller.store.artifacts import put_artifact
from controller.store.attestations import Attestation, AttestationKind, forget_attestations, put_attestations
from controller.store.database import Database, Transaction, add_event
from controller.store.tables import Row
from controller.store.variants import Claim, LeaseLost
from controller.trust.images.image_repository import ImageRepository
from controller.trust.signer.interface import OnlineSigner
from controller.use_cases.task_queue import TaskQueue
from device_agent.protocol.manifest import GOLDEN_FILE

RETRY_AFTER_S = 2.0
"""A variant whose step broke waits this long for each attempt it has had."""
BEATS_A_LEASE = 4
"""How often a claim is renewed within its time, so that one slow renewal does not lose it."""
CANCEL_SEEN_S = 2.0
"""A child at work is ended this soon after its variant was cancelled."""
_log = structlog.get_logger()


@dataclass(frozen=True)
class Workshop:
    """What a worker works with."""

    database: Database
    blobs: BlobStore
    image_repository: ImageRepository
    signer: OnlineSigner
    tasks: TaskQueue
    clock: Callable[[], datetime]
    owner: str
    """Names this worker among all others, at most 64 characters."""
    lease_s: float
    limits: Limits
    accuracy_drop_max: float

    def model_file(self, files: Mapping[str, Mapping[str, Any]], scratch: Path) -> Path:
        """Give a variant's files their names inside `scratch` and return the model's; weights may lie beside it."""
        for name, entry in files.items():
            if name != GOLDEN_FILE:
                jobs.lay_out(self.blobs.path(entry["sha256"]), scratch / name)
        return scratch / MAIN_FILE


@dataclass(frozen=True)
class Job:
    """A claimed variant with the version it is made of."""

    claim: Claim
    version: ModelVersion
    heartbeat: Heartbeat
    """Renews the claim; to be given to whatever takes long."""
    place: dict[str, object] = field(default_factory=dict)
    """Which of how many jobs is at work, for the progress that people see."""

    def at(self, number: int, of: int) -> "Job":
        """Return the same claim at one of its jobs, counted from 1."""
        return replace(self, place={"number": number, "of": of})

    @property
    def name(self) -> str:
        """How people know the variant: `digits version 3, int8`."""
        return f"{self.version.model} version {self.version.number}, {self.claim.recipe}"


@dataclass(frozen=True)
class Attested:
    """What is stated of a finding, in place of what an earlier attempt at the same work stated."""

    kinds: frozenset[AttestationKind]
    """Statements of these kinds about the variant are replaced."""
    statements: tuple[Attestation, ...]


@dataclass(frozen=True)
class Finding:
    """What a step found: the event for the table, words for the history, columns, new artifacts."""

    event: VariantEvent
    message: str
    values: Row = field(default_factory=dict)
    artifacts: tuple[StoredBlob, ...] = ()
    attested: Attested | None = None
    publish: Callable[[Transaction, datetime], None] | None = None
    """What else belongs into the transaction that writes the finding; runs after the fence, last of all."""


def work_on(
    shop: Workshop, variant_id: VariantId, state: VariantState, step: Callable[[Workshop, Job], Finding]
) -> VariantState | None:
    """Run the step if the variant is in `state` and free; return its new state, None when there was nothing to do.

    InvalidInput from the step is final: the variant fails with its words. After anything else that the step raises
    the variant waits for another attempt, and the exception goes on.
    """
    job = _claim(shop, variant_id, state)
    if job is None:
        return None
    try:
        return _write(shop, job, _find(shop, job, step))
    except LeaseLost:
        return None
    except Exception as error:
        _put_back(shop, job, error)
        raise


def _find(shop: Workshop, job: Job, step: Callable[[Workshop, Job], Finding]) -> Finding:
    try:
        return step(shop, job)
    except InvalidInput as refusal:
        return Finding(VariantEvent.GAVE_UP, refusal.detail, {"error": refusal.detail})


def _claim(shop: Workshop, variant_id: VariantId, state: VariantState) -> Job | None:
    now = shop.clock()
    with shop.database.writing() as tx:
        claimed = variants.claim(tx, variant_id, state, shop.owner, until=_lease_end(shop, now), now=now)
        if claimed is None:
            return None
        version = catalog.version_by_id(tx, claimed.version_id)
    every_s = min(shop.lease_s / BEATS_A_LEASE, CANCEL_SEEN_S)
    return Job(claimed, version, Heartbeat(lambda: renew(shop, claimed), every_s))


def renew(shop: Workshop, claimed: Claim, progress: Row | None = None) -> None:
    """Keep the claim and write how far the work is; LeaseLost when it was taken over or cancelled."""
    try:
        with shop.database.writing() as tx:
            variants.renew(tx, claimed, progress, until=_lease_end(shop, shop.clock()))
    except Unavailable:
        # The work goes on: if the claim runs out meanwhile, the next renewal or the fence will tell.
        return


def _lease_end(shop: Workshop, now: datetime) -> datetime:
    return now + timedelta(seconds=shop.lease_s)


def _put_back(shop: Workshop, job: Job, error: Exception) -> None:
    now = shop.clock()
    told = f"{type(error).__name__}: {error}"
    again_at = now + timedelta(seconds=RETRY_AFTER_S * job.claim.attempts)
    try:
        with shop.database.writing() as tx:
            variants.put_back(tx, job.claim, told, again_at=again_at, now=now)
            message = f"{job.name}: attempt {job.claim.attempts} broke off: {told}"
            add_event(tx, now, "worker", "variant.broke_off", job.version.id, message)
    except (LeaseLost, Unavailable):
        # Nothing to put back any more, or no way to: then the claim runs out by itself.
        return


def _write(shop: Workshop, job: Job, finding: Finding) -> VariantState:
    now = shop.clock()
    state = transition(job.claim.state, finding.event)
    with shop.database.writing() as tx:
        for stored in finding.artifacts:
            put_artifact(tx, stored.sha256, stored.size_bytes, now)
        variants.finish(tx, job.claim, state, finding.values, now)
        if finding.attested:
            forget_attestations(tx, job.claim.id, finding.attested.kinds)
            put_attestations(tx, job.version.id, job.claim.id, finding.attested.statements, now)
        add_event(tx, now, "worker", f"variant.{state}", job.version.id, f"{job.name}: {finding.message}")
        if finding.publish:
            finding.publish(tx, now)
    _log.info("variant moved on", variant=job.claim.id, state=state, found=f"{job.name}: {finding.message}")
    if state in NEXT_TASK:
        shop.tasks.send(NEXT_TASK[state], job.claim.id)
    return state
