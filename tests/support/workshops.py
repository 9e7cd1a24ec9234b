"""The way from an upload to a published variant, run without a broker: every task at once, in the order it was sent."""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select

from controller.artifacts.blob_store import BlobStore
from controller.artifacts.child_process import Limits
from controller.domain.catalog import VariantState
from controller.domain.ids import VariantId, VersionId
from controller.store import tables
from controller.store.database import Database
from controller.trust.ceremonies import single_operator
from controller.trust.images.image_repository import ImageRepository
from controller.trust.signer.verbs import open_local_signer
from controller.use_cases.add_version import VersionRequest, add_version
from controller.use_cases.create_model import create_model
from controller.use_cases.store_upload import record_upload
from controller.use_cases.variant_work import Workshop
from controller.worker.tasks import VARIANT_TASKS

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LIMITS = Limits(timeout_s=120.0, memory_bytes=4 * 1024**3)


class CollectedTasks:
    """A queue whose tasks run when the test says so."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[str, str]] = deque()

    def send(self, task: str, *ids: str) -> None:
        """Keep the task."""
        self.waiting.append((task, *ids))  # type: ignore[arg-type]  # variant tasks have one id

    def run_all(self, shop: Workshop) -> None:
        """Run every task, and those that it sends, until none is left."""
        while self.waiting:
            self.run_one(shop)

    def run_one(self, shop: Workshop) -> None:
        """Run the task that was sent first."""
        task, variant_id = self.waiting.popleft()
        VARIANT_TASKS[task](shop, VariantId(variant_id))


def open_workshop(
    database: Database,
    folder: Path,
    tasks: CollectedTasks,
    clock: Callable[[], datetime] = lambda: NOW,
    **changes: Any,
) -> Workshop:
    """Return a workshop on real parts below the folder; `changes` replace some of its fields."""
    signer = open_local_signer(folder / "signer", folder / "tuf", clock=clock)
    single_operator.ensure(folder / "tuf", folder / "keys" / "offline", signer, clock())
    shop = Workshop(
        database=database,
        blobs=BlobStore(folder / "artifacts"),
        image_repository=ImageRepository(folder / "tuf", signer),
        signer=signer,
        tasks=tasks,
        clock=clock,
        owner="worker-1",
        lease_s=60.0,
        limits=LIMITS,
        accuracy_drop_max=0.01,
    )
    return replace(shop, **changes)


def upload(shop: Workshop, file: Path) -> str:
    """Store a file as the upload route does; return its sha256."""
    return record_upload(shop.database, shop.blobs.add_file(file), now=NOW).sha256


def add_opaque(shop: Workshop, folder: Path) -> VersionId:
    """Add a version that needs no child process: its one variant waits to be published."""
    file = folder / "opaque.bin"
    file.write_bytes(b"opaque")
    return add(shop, file, format="opaque")


def add(
    shop: Workshop, model: Path, evaluation: Path | None = None, calibration: Path | None = None, **request: Any
) -> VersionId:
    """Upload the files and add them as the next version of the model `digits`, which is created when missing."""
    with shop.database.reading() as tx:
        exists = tx.execute(select(tables.model.c.id).where(tables.model.c.name == "digits")).first()
    if not exists:
        create_model(shop.database, "digits", "", now=NOW)
    data = [upload(shop, file) if file else None for file in (evaluation, calibration)]
    wanted = VersionRequest("digits", upload(shop, model), *data, **request)
    return add_version(shop.database, shop.blobs, shop.tasks, wanted, shop.limits, signer=shop.signer, now=NOW)


def variant_rows(database: Database, version_id: VersionId) -> dict[str, Any]:
    """Return the version's variants by recipe, as they are stored."""
    with database.reading() as tx:
        found = tx.execute(select(tables.variant).where(tables.variant.c.version_id == version_id))
        return {row.recipe: row for row in found}


def events_of(database: Database, subject: str) -> list[str]:
    """Return what the history says about a subject, oldest first."""
    with database.reading() as tx:
        query = select(tables.event.c.message).where(tables.event.c.subject == subject).order_by(tables.event.c.id)
        return list(tx.execute(query).scalars())


def insert_exhausted_variant(database: Database, version_id: VersionId) -> None:
    """Write a variant whose workers have all died."""
    row = {
        "id": "va_exhausted",
        "version_id": version_id,
        "recipe": "exhausted",
        "state": VariantState.QUEUED,
        "attempts": 3,
        "created_at": NOW,
        "updated_at": NOW,
    }
    with database.writing() as tx:
        tx.execute(insert(tables.variant).values(row))
