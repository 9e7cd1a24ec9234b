"""A controller's fleet without processes: published versions and enrolled devices as rows, devices as method calls.

Devices here take assignments and report through the same use cases as real ones; only HTTP is left out.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count

from securesystemslib.signer import CryptoSigner, Key
from sqlalchemy import insert, select
from tuf.api.metadata import Root

from controller.domain.catalog import VariantState
from controller.domain.costs import Cost
from controller.domain.fleet import Device
from controller.domain.ids import DeviceId
from controller.store import catalog, device_identities, tables
from controller.store.database import Database, record_change
from controller.store.device_identities import NewIdentity
from controller.trust.director import Director
from controller.trust.images.image_repository import ImageRepository
from controller.trust.signer.envelopes import EnvelopeSigner
from controller.use_cases.create_model import create_model
from controller.use_cases.issue_assignments import CurrentAssignment, issue_assignments
from controller.use_cases.record_reports import Receipt, record_reports
from device_agent.protocol.assignment import PAYLOAD_TYPE
from device_agent.protocol.messages import FailureStage, LifecycleItem, LifecycleState, ReportBatch, ReportItem
from device_agent.protocol.profile import DeviceProfile
from tests.support.decisions import NO_COSTS
from tests.support.manifests import a_manifest

START = datetime(2026, 1, 1, tzinfo=UTC)


def profile(
    name: str = "camera",
    *,
    precisions: tuple[str, ...] = ("fp32",),
    memory_bytes: int = 10**9,
    threads: int = 1,
    engine: str = "onnxruntime",
) -> DeviceProfile:
    """Return a device profile."""
    return DeviceProfile(name, "x86_64", engine, "1.32.0", 26, precisions, memory_bytes, threads)


def manifest_digest(number: int, precision: str = "fp32") -> str:
    """Return the sha256 that stands for the manifest of a version that a `Fleet` publishes."""
    return hashlib.sha256(f"{number}{precision}".encode()).hexdigest()


class PlainSigner:
    """Signs assignments without a look at what is published: a `Fleet` without a repository publishes rows alone."""

    def __init__(self) -> None:
        self._signer = CryptoSigner.generate_ed25519()
        self._envelopes = EnvelopeSigner(self._signer, PAYLOAD_TYPE)

    def public_key(self, _name: str) -> Key:
        """Return the one key."""
        return self._signer.public_key

    def sign_assignments(self, payloads: Sequence[bytes], _approvals: Sequence[bytes] = ()) -> list[bytes]:
        """Return the envelopes."""
        return [self._envelopes.envelope(payload) for payload in payloads]


def plain_director() -> Director:
    """Return a director with a key of its own, for fleets of which nothing is in an image repository."""
    signer = PlainSigner()
    root = Root(consistent_snapshot=True)
    root.add_key(signer.public_key("director"), "targets")
    return Director(root, signer)


@dataclass
class Fleet:
    """A database with one model, and a clock that only moves when it is told to."""

    database: Database
    director: Director
    now: datetime = START
    model: str = "digits"
    repository: ImageRepository | None = None
    """Where manifests are published too, for directors whose signer looks there."""
    _numbers: "count[int]" = field(default_factory=lambda: count(1))
    _seqs: Counter[DeviceId] = field(default_factory=Counter)

    @classmethod
    def create(cls, database: Database) -> "Fleet":
        """Return a fleet with the model and no device."""
        fleet = cls(database, plain_director())
        create_model(database, fleet.model, "", now=START)
        return fleet

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    def publish(self, number: int, *, precision: str = "fp32", costs: Mapping[str, Cost] = NO_COSTS) -> str:
        """Add a version with one published variant; return the manifest's sha256."""
        source = manifest_digest(number, precision)
        with self.database.writing() as tx:
            model_id = catalog.model_named(tx, self.model)
            artifact = {"sha256": source, "size_bytes": 1, "created_at": self.now}
            version = {"id": f"ve_{number}", "model_id": model_id, "number": number, "format": "onnx", "notes": ""}
            tx.execute(insert(tables.artifact).values(artifact))
            stored = {**version, "artifact_sha256": source, "created_at": self.now}
            tx.execute(insert(tables.model_version).values(stored))
        return self.publish_variant(number, precision=precision, costs=costs)

    def publish_variant(self, number: int, *, precision: str, costs: Mapping[str, Cost] = NO_COSTS) -> str:
        """Add a published variant, named after its precision, to a version; return the manifest's sha256."""
        manifest, manifest_bytes = manifest_digest(number, precision), 500
        if self.repository:
            content = a_manifest(self.model, number, precision).to_bytes()
            self.repository.publish([content], self.now)
            manifest, manifest_bytes = hashlib.sha256(content).hexdigest(), len(content)
        runtime = {"engine": "onnxruntime", "opset": 17, "operators": [], "precision": precision, "memory_bytes": 1000}
        variant = {
            "id": f"va_{number}_{precision}",
            "version_id": f"ve_{number}",
            "recipe": precision,
            "state": VariantState.PUBLISHED,
            "runtime": runtime,
            "target": f"dev/{self.model}/{number}/{precision}/manifest.json",
            "manifest_sha256": manifest,
            "manifest_bytes": manifest_bytes,
            "wire_bytes": 1000,
            "costs": {name: cost.to_json() for name, cost in costs.items()},
            "updated_at": self.now,
        }
        with self.database.writing() as tx:
            tx.execute(insert(tables.variant).values(**variant, attempts=1, created_at=self.now))
            record_change(tx, self.now)
        return manifest

    def enrol(
        self, name: str, of: DeviceProfile | None = None, *, public_key_pem: str = "key", **labels: str
    ) -> DeviceId:
        """Add a device, with a key where it is to be used."""
        device = Device(DeviceId(f"dv_{name}"), name, of or profile(), labels)
        with self.database.writing() as tx:
            if tx.execute(select(tables.enrolment_token)).first() is None:
                token = {"id": "t", "secret_hash": "", "labels": {}, "uses_left": 99, "created_at": self.now}
                tx.execute(insert(tables.enrolment_token).values(**token, expires_at=self.now))
            assert device_identities.insert_device(tx, device, NewIdentity(public_key_pem, "t"), self.now)
            record_change(tx, self.now, [device.id])
        return device.id

    def poll(self, device_id: DeviceId) -> CurrentAssignment:
        """Let a device ask for its assignment, which it thereby takes."""
        issued = issue_assignments(self.database, self.director, [device_id], None, poll_s=60, now=self.now)
        return issued.of[device_id]

    def runs(self, device_id: DeviceId) -> str | None:
        """Let a device poll; return the manifest that it shall run."""
        return self.poll(device_id).manifests.get(self.model)

    def report(self, device_id: DeviceId, state: LifecycleState, *, active: str | None = None) -> None:
        """Let a device poll and report on what it was assigned; a failure refuses it, and `active` runs instead."""
        assignment = self.poll(device_id)
        manifest = assignment.manifests[self.model]
        assert manifest is not None
        failed = state is LifecycleState.FAILED
        item = LifecycleItem(
            slot=self.model,
            counter=assignment.counter,
            manifest=manifest,
            state=state,
            at=self.now,
            active=active if failed else manifest,
            stage=FailureStage.HEALTH if failed else None,
            code="E_HEALTH_COMMAND" if failed else None,
            refused=failed,
        )
        self.send(device_id, item)

    def batch(self, device_id: DeviceId, *items: ReportItem, name: str | None = None) -> ReportBatch:
        """Return what the device reports next."""
        self._seqs[device_id] += 1
        name = name or f"batch-{next(self._numbers)}"
        return ReportBatch(name, "boot", 0, items, device_id, "spool", self._seqs[device_id])

    def send(self, device_id: DeviceId, *items: ReportItem) -> Receipt:
        """Let a device report; return what became of it."""
        [receipt] = record_reports(self.database, [(device_id, self.batch(device_id, *items))], now=self.now)
        return receipt

    def healthy(self, *device_ids: DeviceId) -> None:
        """Let devices take their assignment and report it healthy."""
        for device_id in device_ids:
            self.report(device_id, LifecycleState.HEALTHY)
