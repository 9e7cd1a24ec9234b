"""A controller's fleet without processes: published versions and enrolled devices as rows, devices as method calls.

Devices here take assignments and report through the same use cases as real ones; only HTTP is left out.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

from sqlalchemy import insert, select

from controller.domain.catalog import VariantState
from controller.domain.costs import Cost
from controller.domain.fleet import Device
from controller.domain.ids import DeviceId
from controller.store import catalog, devices, tables
from controller.store.database import Database, record_change
from controller.trust.director import Director, open_director
from controller.trust.keys import KeyStore
from controller.use_cases.create_model import create_model
from controller.use_cases.issue_assignments import CurrentAssignment, issue_assignments
from controller.use_cases.record_reports import record_reports
from device_agent.protocol.messages import FailureStage, LifecycleItem, LifecycleState, ReportBatch
from device_agent.protocol.profile import DeviceProfile
from tests.support.decisions import NO_COSTS

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


@dataclass
class Fleet:
    """A database with one model, and a clock that only moves when it is told to."""

    database: Database
    director: Director
    now: datetime = START
    model: str = "digits"
    _numbers: "count[int]" = field(default_factory=lambda: count(1))

    @classmethod
    def create(cls, database: Database, directory: Path) -> "Fleet":
        """Return a fleet with the model and no device."""
        keys = KeyStore(directory / "keys")
        fleet = cls(database, open_director(directory / "director", keys.signer, START))
        create_model(database, fleet.model, "", now=START)
        return fleet

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    def publish(self, number: int, *, precision: str = "fp32", costs: Mapping[str, Cost] = NO_COSTS) -> str:
        """Add a version with one published variant; return the manifest's sha256."""
        manifest = manifest_digest(number, precision)
        with self.database.writing() as tx:
            model_id = catalog.model_named(tx, self.model)
            artifact = {"sha256": manifest, "size_bytes": 1, "created_at": self.now}
            version = {"id": f"ve_{number}", "model_id": model_id, "number": number, "format": "onnx", "notes": ""}
            tx.execute(insert(tables.artifact).values(artifact))
            stored = {**version, "artifact_sha256": manifest, "created_at": self.now}
            tx.execute(insert(tables.model_version).values(stored))
        return self.publish_variant(number, precision=precision, costs=costs)

    def publish_variant(self, number: int, *, precision: str, costs: Mapping[str, Cost] = NO_COSTS) -> str:
        """Add a published variant, named after its precision, to a version; return the manifest's sha256."""
        manifest = manifest_digest(number, precision)
        runtime = {"engine": "onnxruntime", "opset": 17, "operators": [], "precision": precision, "memory_bytes": 1000}
        variant = {
            "id": f"va_{number}_{precision}",
            "version_id": f"ve_{number}",
            "recipe": precision,
            "state": VariantState.PUBLISHED,
            "runtime": runtime,
            "target": f"dev/{self.model}/{number}/{precision}/manifest.json",
            "manifest_sha256": manifest,
            "manifest_bytes": 500,
            "wire_bytes": 1000,
            "costs": {name: cost.to_json() for name, cost in costs.items()},
            "updated_at": self.now,
        }
        with self.database.writing() as tx:
            tx.execute(insert(tables.variant).values(**variant, attempts=1, created_at=self.now))
            record_change(tx, self.now)
        return manifest

    def enrol(self, name: str, of: DeviceProfile | None = None, **labels: str) -> DeviceId:
        """Add a device; its key is never used here."""
        device = Device(DeviceId(f"dv_{name}"), name, of or profile(), labels)
        with self.database.writing() as tx:
            if tx.execute(select(tables.enrolment_token)).first() is None:
                token = {"id": "t", "secret_hash": "", "labels": {}, "uses_left": 99, "created_at": self.now}
                tx.execute(insert(tables.enrolment_token).values(**token, expires_at=self.now))
            assert devices.insert_device(tx, device, "key", "t", self.now)
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
        batch = ReportBatch(f"batch-{next(self._numbers)}", "boot", 0, (item,))
        record_reports(self.database, [(device_id, batch)], now=self.now)

    def healthy(self, *device_ids: DeviceId) -> None:
        """Let devices take their assignment and report it healthy."""
        for device_id in device_ids:
            self.report(device_id, LifecycleState.HEALTHY)
