"""Add a version to a model: inspect the upload, number it, and ask for its variants.

ONNX files are inspected before anything is written, so that a version that exists can be compressed and run.
Opaque files are taken as they are: signed and delivered, not compressed and not evaluated. The lineage of every
variant begins here: who uploaded what, and which data came with it, is stated and signed with the version.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from controller.artifacts import jobs
from controller.artifacts.blob_store import BlobStore
from controller.artifacts.child_process import Limits
from controller.artifacts.findings import Inspection
from controller.artifacts.manifests import OPAQUE_RUNTIME
from controller.artifacts.recipes import DEFAULT_RECIPES, OPAQUE, Recipe
from controller.domain.catalog import NEXT_TASK, VariantState
from controller.domain.errors import InvalidInput
from controller.domain.ids import PREFIXES, SearchId, VariantId, VersionId
from controller.domain.promise import AUTO, Promise
from controller.store import artifacts, catalog, variants
from controller.store.attestations import put_attestations
from controller.store.audit import record_audit
from controller.store.database import Database, Transaction, add_event
from controller.store.tables import Row
from controller.trust.lineage.provenance import Upload
from controller.trust.signer.interface import OnlineSigner
from controller.use_cases.attest_work import attest_upload, tools
from controller.use_cases.identity import new_id
from controller.use_cases.known_recipes import chosen_recipes
from controller.use_cases.task_queue import TaskQueue


@dataclass(frozen=True)
class VersionRequest:
    """What an operator asks for. Files are named by digest; `recipes` None takes the usual ones."""

    model: str
    artifact_sha256: str
    evaluation_sha256: str | None = None
    calibration_sha256: str | None = None
    """Inputs without labels, which steps may learn from; without them they learn from half of the evaluation data."""
    promise: Promise | None = None
    """What its variants must keep; None for what the installation promises."""
    format: str = "onnx"
    notes: str = ""
    recipes: Sequence[str] | None = None


def add_version(
    database: Database,
    blobs: BlobStore,
    tasks: TaskQueue,
    request: VersionRequest,
    limits: Limits,
    *,
    signer: OnlineSigner,
    now: datetime,
    actor: str = "operator",
) -> VersionId:
    """Write the version with the model's next number, its variants queued; return its id.

    NotFound: no such model. InvalidInput: an artifact that was never uploaded, an unknown recipe, an upload that
    the inspection refuses, recipes or evaluation data for an opaque file.
    """
    with database.reading() as tx:
        _check_known(tx, request)
        recipes = _recipes_of(tx, request)
    inspection = _inspect(blobs, request, limits)
    version_id = VersionId(new_id(PREFIXES[VersionId]))
    with database.writing() as tx:
        rows = [_variant_row(tx, version_id, recipe, request, now) for recipe in recipes]
        number = _insert(tx, version_id, request, inspection, rows, now)
        # Its number is known only here. The signer knows nothing of this database, so it cannot wait for it.
        stated = attest_upload(signer, _upload(version_id, number, request, actor, now))
        put_attestations(tx, version_id, None, [stated], now)
        names = ", ".join(recipe.name for recipe in recipes)
        told = f"{request.model} version {number}: variants {names} are queued"
        add_event(tx, now, actor, "version.added", version_id, told)
        asked = {"model": request.model, "version": number, "artifact": request.artifact_sha256}
        record_audit(tx, now, actor, "version.added", version_id, asked)
    for row in rows:
        tasks.send(NEXT_TASK[VariantState(row["state"])], row["id"])
    return version_id


def _check_known(tx: Transaction, request: VersionRequest) -> None:
    catalog.model_named(tx, request.model)
    for field in ("artifact_sha256", "evaluation_sha256", "calibration_sha256"):
        sha256 = getattr(request, field)
        if sha256 is not None and not artifacts.has_artifact(tx, sha256):
            raise InvalidInput(
                f"there is no artifact {sha256}; upload the file first and name the sha256 of the answer",
                code="artifact_unknown",
                field=f"/{field}",
            )


def _recipes_of(tx: Transaction, request: VersionRequest) -> tuple[Recipe, ...]:
    if request.format != "opaque":
        names = DEFAULT_RECIPES if request.recipes is None else request.recipes
        has_inputs = bool(request.evaluation_sha256 or request.calibration_sha256)
        return chosen_recipes(tx, names, has_inputs=has_inputs)
    for field in ("recipes", "evaluation_sha256", "calibration_sha256", "promise"):
        if getattr(request, field):
            raise InvalidInput(
                "opaque files are delivered as they are; they take no recipes, no promise and no data",
                code="opaque_is_not_compressed",
                field=f"/{field}",
            )
    return (Recipe(name=OPAQUE),)


def _inspect(blobs: BlobStore, request: VersionRequest, limits: Limits) -> Inspection | None:
    if request.format == "opaque":
        return None
    evaluation = blobs.path(request.evaluation_sha256) if request.evaluation_sha256 else None
    calibration = blobs.path(request.calibration_sha256) if request.calibration_sha256 else None
    metric = request.promise.metric if request.promise else AUTO
    inspection = jobs.inspect(blobs.path(request.artifact_sha256), evaluation, limits, calibration, metric)
    if inspection.model.memory_bytes > limits.memory_bytes:
        raise InvalidInput(
            f"the model needs about {inspection.model.memory_bytes} bytes of memory; the controller evaluates with "
            f"{limits.memory_bytes} (job_memory_bytes)",
            code="too_much_memory",
            field="/artifact_sha256",
        )
    return inspection


def _upload(version_id: VersionId, number: int, request: VersionRequest, actor: str, now: datetime) -> Upload:
    data = {"evaluation": request.evaluation_sha256, "calibration": request.calibration_sha256}
    return Upload(
        model=request.model,
        version=number,
        format=request.format,
        sha256=request.artifact_sha256,
        actor=actor,
        at=now,
        data={role: sha256 for role, sha256 in data.items() if sha256},
        tools=tools(),
        key=version_id,
    )


def _variant_row(tx: Transaction, version_id: VersionId, recipe: Recipe, request: VersionRequest, now: datetime) -> Row:
    if recipe.name != OPAQUE:
        return queued_variant(version_id, recipe, None, now)
    size_bytes = artifacts.artifact_bytes(tx, request.artifact_sha256)
    return {
        **queued_variant(version_id, recipe, None, now),
        "recipe_document": None,
        "state": VariantState.MEASURED,
        "artifact_sha256": request.artifact_sha256,
        "wire_bytes": size_bytes,
        "runtime": asdict(OPAQUE_RUNTIME),
    }


def queued_variant(version_id: VersionId, recipe: Recipe, search_id: SearchId | None, now: datetime) -> Row:
    """Return the row of a variant that is to be made, for a search or because it was asked for by name."""
    return {
        "id": new_id(PREFIXES[VariantId]),
        "version_id": version_id,
        "recipe": recipe.name,
        "recipe_document": recipe.to_json(),
        "search_id": search_id,
        "state": VariantState.QUEUED,
        "attempts": 0,
        "created_at": now,
        "updated_at": now,
    }


def _insert(
    tx: Transaction,
    version_id: VersionId,
    request: VersionRequest,
    inspection: Inspection | None,
    rows: Sequence[Row],
    now: datetime,
) -> int:
    model_id = catalog.model_named(tx, request.model)
    number = variants.next_number(tx, model_id)
    version = {
        "id": version_id,
        "model_id": model_id,
        "number": number,
        "format": request.format,
        "artifact_sha256": request.artifact_sha256,
        "evaluation_sha256": request.evaluation_sha256,
        "calibration_sha256": request.calibration_sha256,
        "promise": request.promise and request.promise.to_json(),
        "inspection": inspection and inspection.to_json(),
        "notes": request.notes,
        "created_at": now,
    }
    variants.insert_version(tx, version, rows)
    return number
