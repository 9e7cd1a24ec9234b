"""From uploaded bytes to a published variant, on a real database, with real child processes."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from onnx import TensorProto, helper
from sqlalchemy import func, select

from controller.artifacts.errors import JobFailed
from controller.domain.catalog import ATTEMPTS_MAX, VariantState
from controller.domain.errors import Conflict, InvalidInput, NotFound
from controller.domain.gates import GatePolicy
from controller.domain.ids import VariantId
from controller.store import tables
from controller.store.database import Database, open_engine
from controller.store.variants import published_variants
from controller.trust.images.image_repository import ImageRepository
from controller.use_cases.add_version import VersionRequest, add_version
from controller.use_cases.create_model import create_model
from controller.use_cases.create_rollout import RolloutRequest, create_rollout
from controller.use_cases.publish_variant import publish_variant
from controller.use_cases.set_pin import set_pin
from controller.use_cases.sweep import sweep
from controller.use_cases.variant_work import Workshop
from device_agent.protocol.manifest import CHUNK_BYTES, Manifest, parse_manifest
from tests.support import hostile_models
from tests.support.digits import digits_evaluation, digits_model, fragile_classifier
from tests.support.onnx_models import write_model
from tests.support.workshops import (
    NOW,
    CollectedTasks,
    add,
    add_opaque,
    events_of,
    open_workshop,
    upload,
    variant_rows,
)


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    """SQLite alone: the queries run on both engines in `store/test_variants.py`."""
    engine = open_engine(sqlite_url)
    yield Database(engine)
    engine.dispose()


@pytest.fixture
def tasks() -> CollectedTasks:
    return CollectedTasks()


@pytest.fixture
def shop(database: Database, tmp_path: Path, tasks: CollectedTasks) -> Workshop:
    return open_workshop(database, tmp_path, tasks)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "digits.onnx"
    digits_model(path)
    return path


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    path = tmp_path / "evaluation.npz"
    digits_evaluation(path)
    return path


def published_manifest(folder: Path, target: str, sha256: str) -> Manifest:
    path = folder / "tuf" / "targets" / Path(target).parent / f"{sha256}.manifest.json"
    content = path.read_bytes()
    assert hashlib.sha256(content).hexdigest() == sha256
    return parse_manifest(content)


def change_count(database: Database) -> int:
    with database.reading() as tx:
        return tx.execute(select(func.count()).select_from(tables.change_log)).scalar_one()


def test_an_upload_with_evaluation_data_becomes_published_variants_with_proven_behaviour(
    shop: Workshop, tasks: CollectedTasks, model: Path, evaluation: Path, tmp_path: Path
) -> None:
    version_id = add(shop, model, evaluation)
    before = change_count(shop.database)
    tasks.run_all(shop)

    rows = variant_rows(shop.database, version_id)
    assert {recipe: row.state for recipe, row in rows.items()} == {"fp32": "published", "int8": "published"}
    int8 = rows["int8"]
    assert int8.evaluation["samples"] == 400
    assert int8.evaluation["source_value"] - int8.evaluation["value"] <= shop.accuracy_drop_max
    packed = int8.files["model.onnx"]["packed"]["size_bytes"]
    assert packed < shop.blobs.size_bytes(int8.artifact_sha256)
    assert int8.wire_bytes == packed + shop.blobs.size_bytes(int8.golden_sha256)
    assert int8.costs["controller"]["p50_us"] > 0
    assert [layer["bits"] for layer in int8.facts["layers"]] == [8]

    manifest = published_manifest(tmp_path, int8.target, int8.manifest_sha256)
    assert (manifest.model, manifest.version, manifest.variant) == ("digits", 1, "int8")
    assert manifest.runtime.precision == "int8"
    assert manifest.source_sha256 == hashlib.sha256(model.read_bytes()).hexdigest()
    assert manifest.behaviour.evaluation["value"] == int8.evaluation["value"]
    assert manifest.behaviour.evaluation["drop_ci"] == int8.evaluation["drop_ci"]
    assert manifest.wire_bytes == int8.wire_bytes
    assert [entry.name for entry in manifest.artifacts] == ["model.onnx", "golden.npz"]
    assert all(len(entry.chunks) == -(-entry.length // CHUNK_BYTES) for entry in manifest.artifacts)

    with shop.database.reading() as tx:
        found = published_variants(tx, [version_id])[version_id]
    assert {variant.target for variant in found} == {f"dev/digits/1/{recipe}/manifest.json" for recipe in rows}
    assert change_count(shop.database) == before + len(rows)
    told = [message.split(":")[0] for message in events_of(shop.database, version_id)]
    assert sorted(told) == ["digits version 1", *["digits version 1, fp32"] * 4, *["digits version 1, int8"] * 4]


def test_without_evaluation_data_nothing_is_promised_and_golden_rows_are_drawn(
    shop: Workshop, tasks: CollectedTasks, model: Path
) -> None:
    version_id = add(shop, model, recipes=["int8"])
    tasks.run_all(shop)

    row = variant_rows(shop.database, version_id)["int8"]
    assert row.state == VariantState.PUBLISHED
    assert row.evaluation["metric"] is None
    assert row.evaluation["golden_rows"] > 1


def test_an_opaque_file_is_signed_and_delivered_as_it_is(shop: Workshop, tasks: CollectedTasks, tmp_path: Path) -> None:
    firmware = tmp_path / "weights.tflite"
    firmware.write_bytes(b"TFL3" + bytes(CHUNK_BYTES))
    version_id = add(shop, firmware, format="opaque")
    tasks.run_all(shop)

    (row,) = variant_rows(shop.database, version_id).values()
    assert (row.recipe, row.state, row.wire_bytes) == ("opaque", "published", CHUNK_BYTES + 4)
    manifest = published_manifest(tmp_path, row.target, row.manifest_sha256)
    assert manifest.behaviour.golden is None
    assert manifest.artifacts[0].sha256 == hashlib.sha256(firmware.read_bytes()).hexdigest()


def test_a_variant_that_loses_too_much_accuracy_is_refused_with_the_numbers(
    shop: Workshop, tasks: CollectedTasks, tmp_path: Path
) -> None:
    model, evaluation = tmp_path / "fragile.onnx", tmp_path / "fragile.npz"
    fragile_classifier(model, evaluation)
    version_id = add(shop, model, evaluation)
    tasks.run_all(shop)

    rows = variant_rows(shop.database, version_id)
    assert rows["fp32"].state == VariantState.PUBLISHED
    assert rows["int8"].state == VariantState.REFUSED
    assert "points below the source's 1.0000 on 200 samples" in rows["int8"].error
    assert rows["int8"].manifest_sha256 is None


def test_a_version_of_an_unknown_model_is_refused(shop: Workshop, model: Path) -> None:
    wanted = VersionRequest("nobody", upload(shop, model))
    with pytest.raises(NotFound, match="nobody"):
        add_version(shop.database, shop.blobs, shop.tasks, wanted, shop.limits, signer=shop.signer, now=NOW)


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"artifact_sha256": "0" * 64}, "artifact_unknown", "/artifact_sha256"),
        ({"evaluation_sha256": "0" * 64}, "artifact_unknown", "/evaluation_sha256"),
        ({"recipes": ["fp32", "int3"]}, "recipe_unknown", "/recipes"),
        ({"recipes": ["fp32", "fp32"]}, "recipe_repeated", "/recipes"),
        ({"recipes": []}, "recipe_repeated", "/recipes"),
        ({"format": "opaque", "recipes": ["int8"]}, "opaque_is_not_compressed", "/recipes"),
    ],
)
def test_a_request_that_does_not_fit_is_refused_and_nothing_is_written(
    shop: Workshop, model: Path, change: dict[str, object], code: str, field: str
) -> None:
    create_model(shop.database, "digits", "", now=NOW)
    wanted = replace(VersionRequest("digits", upload(shop, model)), **change)
    with pytest.raises(InvalidInput) as refusal:
        add_version(shop.database, shop.blobs, shop.tasks, wanted, shop.limits, signer=shop.signer, now=NOW)
    assert (refusal.value.code, refusal.value.field) == (code, field)
    with shop.database.reading() as tx:
        assert tx.execute(select(tables.model_version.c.id)).first() is None


def test_an_upload_that_the_inspection_refuses_makes_no_version(shop: Workshop, tmp_path: Path) -> None:
    picture = tmp_path / "cat.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(InvalidInput) as refusal:
        add(shop, picture)
    assert (refusal.value.code, refusal.value.field) == ("not_onnx", "/artifact_sha256")


def test_a_model_that_needs_more_memory_than_a_job_may_use_is_refused(
    shop: Workshop, tasks: CollectedTasks, tmp_path: Path, model: Path
) -> None:
    tight = replace(shop, limits=replace(shop.limits, memory_bytes=64 * 1024**2))
    with pytest.raises(InvalidInput) as refusal:
        add(tight, model)
    assert refusal.value.code in {"inspection_failed", "too_much_memory"}


def test_a_model_whose_shapes_add_up_to_more_memory_than_a_job_may_use_is_refused_with_both_figures(
    shop: Workshop, tmp_path: Path
) -> None:
    model = tmp_path / "large.onnx"
    model.write_bytes(hostile_models.sums_of([2**20, 2**20], [2**20, 2**20]))
    with pytest.raises(InvalidInput) as refusal:
        add(shop, model)
    assert (refusal.value.code, refusal.value.field) == ("too_much_memory", "/artifact_sha256")
    assert f"the controller evaluates with {shop.limits.memory_bytes} (job_memory_bytes)" in refusal.value.detail


def test_a_version_that_nobody_can_run_yet_is_neither_pinned_nor_rolled_out(shop: Workshop, tmp_path: Path) -> None:
    add_opaque(shop, tmp_path)
    with pytest.raises(Conflict, match="no published variant; wait until one is ready") as refusal:
        set_pin(shop.database, "digits", 1, "all", now=NOW)
    assert refusal.value.code == "version_not_ready"
    with pytest.raises(Conflict, match="no published variant; wait until one is ready") as refusal:
        create_rollout(shop.database, RolloutRequest("digits", 1, "all", (100.0,), GatePolicy()), now=NOW)
    assert refusal.value.code == "version_not_ready"


class TestWhatBreaks:
    def test_a_step_that_breaks_is_tried_again_later_and_its_words_are_kept(
        self, shop: Workshop, tasks: CollectedTasks, model: Path
    ) -> None:
        version_id = add(shop, model, recipes=["int8"])
        hurried = replace(shop, limits=replace(shop.limits, timeout_s=0.01))
        with pytest.raises(JobFailed, match="job_timeout_s"):
            tasks.run_all(hurried)

        row = variant_rows(shop.database, version_id)["int8"]
        assert (row.state, row.attempts, row.lease_owner) == (VariantState.QUEUED, 1, None)
        assert "was ended after 0.01 s" in row.error
        assert sweep(shop.database, tasks, {}, now=NOW).sent == 0
        assert sweep(shop.database, tasks, {}, now=NOW + timedelta(seconds=3)).sent == 1

        tasks.run_all(replace(shop, clock=lambda: NOW + timedelta(seconds=3)))
        row = variant_rows(shop.database, version_id)["int8"]
        assert (row.state, row.error, row.attempts) == (VariantState.PUBLISHED, None, 0)

    def test_a_recipe_that_cannot_improve_the_model_fails_with_the_remedy(
        self, shop: Workshop, tasks: CollectedTasks, tmp_path: Path
    ) -> None:
        model = tmp_path / "relu.onnx"
        weightless_model(model)
        version_id = add(shop, model)
        tasks.run_all(shop)
        rows = variant_rows(shop.database, version_id)
        assert rows["fp32"].state == VariantState.PUBLISHED
        assert rows["int8"].state == VariantState.FAILED
        assert "leave int8 out" in rows["int8"].error

    def test_a_worker_that_dies_between_signing_and_writing_is_completed_by_the_next(
        self, shop: Workshop, tasks: CollectedTasks, model: Path, tmp_path: Path
    ) -> None:
        version_id = add(shop, model, recipes=["fp32"])
        dying = DiesAfterSigning(tmp_path / "tuf", shop.signer)
        with pytest.raises(ConnectionError):
            tasks.run_all(replace(shop, image_repository=dying))
        row = variant_rows(shop.database, version_id)["fp32"]
        assert (row.state, row.manifest_sha256) == (VariantState.MEASURED, None)

        later = replace(shop, clock=lambda: NOW + timedelta(seconds=120))
        assert publish_variant(later, VariantId(row.id)) is VariantState.PUBLISHED

    def test_a_damaged_artifact_is_not_published(
        self, shop: Workshop, tasks: CollectedTasks, model: Path, evaluation: Path
    ) -> None:
        version_id = add(shop, model, evaluation, recipes=["int8"])
        while tasks.waiting[0][0] != "publish_variant":
            tasks.run_one(shop)
        row = variant_rows(shop.database, version_id)["int8"]
        damaged = shop.blobs.path(row.artifact_sha256)
        damaged.write_bytes(damaged.read_bytes()[:-100])
        tasks.run_all(shop)
        row = variant_rows(shop.database, version_id)["int8"]
        assert (row.state, row.manifest_sha256) == (VariantState.FAILED, None)
        assert "devices would refuse it with E_LOAD" in row.error


class TestModelsThatMeanHarm:
    """Lawful uploads whose harm shows when they run; the process that works on them goes on to the next variant."""

    def test_one_that_never_answers_fails_with_words_after_its_attempts_and_the_next_is_published(
        self, shop: Workshop, tasks: CollectedTasks, tmp_path: Path
    ) -> None:
        model, now = tmp_path / "endless.onnx", NOW
        model.write_bytes(hostile_models.endless())
        version_id = add(shop, model, recipes=["fp32"])
        tasks.run_one(shop)
        for attempt in range(1, ATTEMPTS_MAX + 1):
            impatient = replace(shop, limits=replace(shop.limits, timeout_s=1.5), clock=lambda at=now: at)
            with pytest.raises(JobFailed):
                tasks.run_all(impatient)
            now += timedelta(minutes=1)
            found = sweep(shop.database, tasks, {}, now=now)
            assert (found.sent, found.given_up) == ((1, 0) if attempt < ATTEMPTS_MAX else (0, 1))
        row = variant_rows(shop.database, version_id)["fp32"]
        assert (row.state, row.manifest_sha256) == (VariantState.FAILED, None)
        assert "given up after 3 attempts" in row.error
        assert "was ended after 1.5 s (job_timeout_s)" in row.error

        lawful = add_opaque(shop, tmp_path)
        tasks.run_all(shop)
        assert variant_rows(shop.database, lawful)["opaque"].state == VariantState.PUBLISHED

    def test_one_that_allocates_without_bounds_fails_at_once_with_words_and_the_next_is_published(
        self, shop: Workshop, tasks: CollectedTasks, tmp_path: Path
    ) -> None:
        model = tmp_path / "unbounded.onnx"
        model.write_bytes(hostile_models.unbounded("ConstantOfShape"))
        version_id = add(shop, model, recipes=["fp32"])
        tasks.run_all(shop)
        row = variant_rows(shop.database, version_id)["fp32"]
        assert row.state == VariantState.FAILED
        assert "more memory than a job may use (job_memory_bytes)" in row.error

        lawful = add_opaque(shop, tmp_path)
        tasks.run_all(shop)
        assert variant_rows(shop.database, lawful)["opaque"].state == VariantState.PUBLISHED


class DiesAfterSigning(ImageRepository):
    """An image repository whose process ends right after the signature."""

    def publish(self, manifests: object, now: object) -> tuple[str, ...]:
        super().publish(manifests, now)  # type: ignore[arg-type]
        raise ConnectionError("the process ended here")


def weightless_model(path: Path) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 4]) for name in ("x", "y")]
    write_model(path, helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", values[:1], values[1:]))
