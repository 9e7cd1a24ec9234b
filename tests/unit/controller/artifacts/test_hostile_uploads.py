"""What strangers send ends in plain words wherever it first bites, in a child: this process goes on every time.

Lawful models whose harm shows only when they run are let loose on every job, with limits as tight as a test can wait
for.
"""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from controller.artifacts import jobs
from controller.artifacts.child_process import NO_HEARTBEAT, Limits
from controller.artifacts.errors import JobFailed, ProofFailed
from controller.artifacts.inspection import inspect_files
from controller.domain.costs import CONTROLLER, DeviceClass
from controller.domain.errors import InvalidInput
from device_agent.protocol.manifest import GOLDEN_FILE
from tests.support import hostile_models
from tests.support.hostile_models import FEATURES
from tests.support.onnx_models import MAIN_FILE, golden_rows, linear_model, manifest_for, write_golden

MEMORY_BYTES = 2 * 1024**3
LIMITS = Limits(timeout_s=60.0, memory_bytes=MEMORY_BYTES)
IMPATIENT = Limits(timeout_s=2.5, memory_bytes=MEMORY_BYTES)
"""Longer than a child needs to start, so that it is the model that takes too long."""
MB = 1024**2


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / MAIN_FILE


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    path = tmp_path / "evaluation.npz"
    np.savez(path, inputs=golden_rows(20, FEATURES))
    return path


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    path = tmp_path / GOLDEN_FILE
    rows = golden_rows(2, FEATURES)
    write_golden(path, inputs={"x": rows}, outputs={"y": rows})
    return path


def written(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


def step(name: str, model: Path, evaluation: Path, limits: Limits) -> object:
    target = model.parent / "target"
    target.mkdir()
    return jobs.run_step(name, {}, model, target, (evaluation, "all"), limits, NO_HEARTBEAT)


class TestInspection:
    @pytest.mark.parametrize("operator", ["ConstantOfShape", "Tile", "Resize", "OneHot"])
    def test_an_operator_that_allocates_terabytes_is_refused(self, file: Path, evaluation: Path, operator: str) -> None:
        with pytest.raises(InvalidInput) as refusal:
            jobs.inspect(written(file, hostile_models.unbounded(operator)), evaluation, LIMITS)
        assert (refusal.value.code, refusal.value.field) == ("too_much_memory", "/artifact_sha256")
        assert "more memory than a job may use (job_memory_bytes)" in refusal.value.detail

    def test_a_loop_that_hoards_is_refused(self, file: Path, evaluation: Path) -> None:
        with pytest.raises(InvalidInput) as refusal:
            jobs.inspect(written(file, hostile_models.hoarding()), evaluation, LIMITS)
        assert refusal.value.code == "too_much_memory"

    def test_a_loop_without_end_is_ended_and_refused(self, file: Path, evaluation: Path) -> None:
        with pytest.raises(InvalidInput) as refusal:
            jobs.inspect(written(file, hostile_models.endless()), evaluation, IMPATIENT)
        assert (refusal.value.code, refusal.value.field) == ("inspection_failed", "/artifact_sha256")
        assert "was ended after 2.5 s (job_timeout_s)" in refusal.value.detail

    def test_a_refusal_crosses_from_the_child_with_its_code(self, file: Path) -> None:
        with pytest.raises(InvalidInput) as refusal:
            jobs.inspect(written(file, hostile_models.unfolding(60)), None, LIMITS)
        assert (refusal.value.code, refusal.value.field) == ("too_many_parts", "/artifact_sha256")


class TestSteps:
    @pytest.mark.parametrize("name", ["clip", "quantize_static", "float16", "distil"])
    def test_a_step_that_runs_a_model_without_bounds_is_refused(self, file: Path, evaluation: Path, name: str) -> None:
        with pytest.raises(InvalidInput) as refusal:
            step(name, written(file, hostile_models.unbounded("ConstantOfShape")), evaluation, LIMITS)
        assert refusal.value.code == "too_much_memory"

    def test_a_step_that_runs_a_loop_without_end_is_ended(self, file: Path, evaluation: Path) -> None:
        with pytest.raises(JobFailed, match=r"step_job was ended after 2\.5 s \(job_timeout_s\)"):
            step("quantize_dynamic", written(file, hostile_models.endless()), evaluation, IMPATIENT)

    @pytest.mark.parametrize("name", ["quantize_dynamic", "distil"])
    def test_weights_that_are_no_numbers_are_refused_where_they_matter(
        self, file: Path, evaluation: Path, name: str
    ) -> None:
        with pytest.raises(InvalidInput) as refusal:
            step(name, written(file, hostile_models.without_value()), evaluation, LIMITS)
        assert (refusal.value.code, refusal.value.field) == ("recipe_inapplicable", "/recipes")


class TestEvaluation:
    def evaluate(self, model: Path, evaluation: Path | None, limits: Limits = LIMITS) -> object:
        return jobs.evaluate(model, model, model.parent / GOLDEN_FILE, evaluation, limits, NO_HEARTBEAT)

    def test_a_model_without_bounds_that_was_uploaded_without_data_is_refused_when_golden_rows_are_drawn(
        self, file: Path
    ) -> None:
        written(file, hostile_models.unbounded("Range"))
        assert jobs.inspect(file, None, LIMITS).samples == 0
        with pytest.raises(InvalidInput) as refusal:
            self.evaluate(file, None)
        assert refusal.value.code == "too_much_memory"

    def test_a_loop_without_end_is_ended(self, file: Path, evaluation: Path) -> None:
        with pytest.raises(JobFailed, match=r"evaluation was ended after 2\.5 s \(job_timeout_s\)"):
            self.evaluate(written(file, hostile_models.endless()), evaluation, IMPATIENT)

    def test_answers_that_are_no_numbers_are_refused_with_their_count(self, file: Path, evaluation: Path) -> None:
        with pytest.raises(InvalidInput) as refusal:
            self.evaluate(written(file, hostile_models.without_value()), evaluation)
        assert refusal.value.code == "not_finite"
        assert "20 of 20 rows" in refusal.value.detail

    def test_more_free_dimensions_than_memory_has_room_for_are_refused(self, file: Path) -> None:
        shape = ["rows", *"abcdefghijk"]
        content = hostile_models.relu(
            inputs=[hostile_models.value("x", shape)], outputs=[hostile_models.value("y", shape)]
        ).SerializeToString()
        with pytest.raises(InvalidInput) as refusal:
            self.evaluate(written(file, content), None)
        assert refusal.value.code == "too_much_memory"


class TestMeasurement:
    def test_a_model_without_bounds_is_refused(self, file: Path, golden: Path) -> None:
        written(file, hostile_models.unbounded("Expand"))
        with pytest.raises(InvalidInput) as refusal:
            jobs.measure(file, golden, CONTROLLER, LIMITS, NO_HEARTBEAT)
        assert refusal.value.code == "too_much_memory"

    def test_a_model_without_bounds_does_not_fit_a_class(self, file: Path, golden: Path) -> None:
        written(file, hostile_models.unbounded("Expand"))
        cost = jobs.measure(file, golden, DeviceClass("camera", 1, 64 * MB), LIMITS, NO_HEARTBEAT)
        assert not cost.fits
        assert f"cannot load and run within {64 * MB} bytes" in (cost.reason or "")

    def test_a_loop_without_end_is_ended(self, file: Path, golden: Path) -> None:
        written(file, hostile_models.endless())
        with pytest.raises(JobFailed, match=r"measurement was ended after 2\.5 s \(job_timeout_s\)"):
            jobs.measure(file, golden, DeviceClass("camera", 1, 64 * MB), IMPATIENT, NO_HEARTBEAT)


class TestProof:
    def prove(self, folder: Path, content: bytes, limits: Limits) -> float:
        made, proven = folder / "made", folder / "proven"
        made.mkdir()
        proven.mkdir()
        written(made / MAIN_FILE, content)
        rows = golden_rows(2, FEATURES)
        write_golden(made / GOLDEN_FILE, inputs={"x": rows}, outputs={"y": rows})
        files = {name: made / name for name in (MAIN_FILE, GOLDEN_FILE)}
        return jobs.prove(proven, manifest_for(made).to_bytes(), files, limits, NO_HEARTBEAT)

    def test_a_model_without_bounds_would_be_refused_by_devices(self, tmp_path: Path) -> None:
        with pytest.raises(ProofFailed, match="devices would refuse it with E_LOAD"):
            self.prove(tmp_path, hostile_models.unbounded("Pad"), LIMITS)

    def test_a_loop_without_end_is_ended(self, tmp_path: Path) -> None:
        with pytest.raises(JobFailed, match=r"selftest was ended after 2\.5 s \(job_timeout_s\)"):
            self.prove(tmp_path, hostile_models.endless(), IMPATIENT)

    def test_a_child_that_cannot_even_start_tells_how_it_ended(self, tmp_path: Path) -> None:
        with pytest.raises(JobFailed, match="the self-test ended with exit code"):
            self.prove(tmp_path, hostile_models.endless(), Limits(LIMITS.timeout_s, 64 * MB))


class Canary:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


class TestPickles:
    @pytest.fixture
    def nest(self, tmp_path: Path) -> Path:
        return tmp_path / "unpickled"

    def test_the_canary_sings(self, nest: Path) -> None:
        pickle.loads(pickle.dumps(Canary(nest)))
        assert nest.exists()

    def test_a_pickled_model_is_refused_and_not_unpickled(self, file: Path, nest: Path) -> None:
        with pytest.raises(InvalidInput) as refusal:
            inspect_files(written(file, pickle.dumps(Canary(nest))), None)
        assert refusal.value.code == "not_onnx"
        assert not nest.exists()

    def test_a_checkpoint_is_refused_and_not_unpickled(self, file: Path, nest: Path) -> None:
        """What torch.save writes: a zip file around a pickle."""
        with zipfile.ZipFile(file, "w") as packed:
            packed.writestr("archive/data.pkl", pickle.dumps(Canary(nest)))
        with pytest.raises(InvalidInput) as refusal:
            inspect_files(file, None)
        assert refusal.value.code == "not_onnx"
        assert not nest.exists()

    @pytest.mark.parametrize("kind", ["evaluation", "calibration"])
    def test_arrays_of_pickles_are_refused_and_not_unpickled(
        self, file: Path, tmp_path: Path, nest: Path, kind: str
    ) -> None:
        linear_model(file)
        data = tmp_path / "data.npz"
        np.savez(data, inputs=np.array([Canary(nest)], object))
        files = (data, None) if kind == "evaluation" else (None, data)
        with pytest.raises(InvalidInput) as refusal:
            inspect_files(file, *files)
        assert (refusal.value.code, refusal.value.field) == (f"{kind}_format", f"/{kind}_sha256")
        assert not nest.exists()

    def test_a_bare_pickle_in_place_of_arrays_is_refused_and_not_unpickled(
        self, file: Path, tmp_path: Path, nest: Path
    ) -> None:
        linear_model(file)
        data = written(tmp_path / "data.npz", pickle.dumps(Canary(nest)))
        with pytest.raises(InvalidInput) as refusal:
            inspect_files(file, data)
        assert refusal.value.code == "evaluation_format"
        assert not nest.exists()
