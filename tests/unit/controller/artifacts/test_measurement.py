"""Measuring real models in real children: what fits, what does not, and that two never measure at once."""

import fcntl
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from controller.artifacts import jobs
from controller.artifacts.child_process import NO_HEARTBEAT, Heartbeat, Limits
from controller.artifacts.errors import JobFailed
from controller.artifacts.measurement import RUNS_MOST, read_memory
from controller.domain.costs import CONTROLLER, Cost, DeviceClass
from controller.domain.errors import InvalidInput
from tests.support.onnx_models import golden_npz, linear_model, write_golden, write_model

LIMITS = Limits(timeout_s=60.0, memory_bytes=4 * 1024**3)
MB = 1024**2
FEATURES, CLASSES = 2000, 1000
WEIGHT_BYTES = FEATURES * CLASSES * 4


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    return tmp_path / "golden.npz"


@pytest.fixture
def eight_megabytes(tmp_path: Path, golden: Path) -> Path:
    """A model whose weights take 8 MB, with its golden file."""
    path = tmp_path / "model.onnx"
    linear_model(path, features=FEATURES, classes=CLASSES)
    golden_npz(path, golden, rows=4)
    return path


def measure(model: Path, golden: Path, of: DeviceClass, lock: Path | None = None) -> Cost:
    return jobs.measure(model, golden, of, LIMITS, NO_HEARTBEAT, lock)


def test_a_model_that_fits_has_quantiles_in_order_and_the_memory_of_its_weights(
    eight_megabytes: Path, golden: Path
) -> None:
    cost = measure(eight_megabytes, golden, DeviceClass("camera", 2, 100 * MB))
    assert (cost.fits, cost.reason, cost.threads, cost.memory_bytes) == (True, None, 2, 100 * MB)
    assert cost.runs <= RUNS_MOST
    assert cost.p50_us is not None
    assert cost.p90_us is not None
    assert cost.p99_us is not None
    assert 0 < cost.p50_us <= cost.p90_us <= cost.p99_us
    assert cost.peak_bytes is not None
    assert cost.steady_bytes is not None
    assert WEIGHT_BYTES <= cost.steady_bytes <= cost.peak_bytes <= 4 * WEIGHT_BYTES
    assert cost.processor


def test_a_tiny_model_is_not_charged_with_the_memory_of_the_engine(tmp_path: Path, golden: Path) -> None:
    linear_model(tmp_path / "model.onnx")
    golden_npz(tmp_path / "model.onnx", golden, rows=4)
    cost = measure(tmp_path / "model.onnx", golden, CONTROLLER)
    assert cost.peak_bytes is not None
    assert cost.peak_bytes < 4 * MB
    assert (cost.memory_bytes, cost.runs) == (None, RUNS_MOST)


def test_a_model_that_needs_more_than_the_class_has_does_not_fit_and_says_the_figures(
    eight_megabytes: Path, golden: Path
) -> None:
    cost = measure(eight_megabytes, golden, DeviceClass("sensor", 1, 4 * MB))
    assert (cost.fits, cost.runs, cost.p50_us, cost.peak_bytes) == (False, 0, None, None)
    assert cost.reason is not None
    assert f"cannot load and run within {4 * MB} bytes" in cost.reason
    assert str(eight_megabytes.parent) not in cost.reason


def test_a_model_that_fits_until_it_runs_does_not_fit(tmp_path: Path, golden: Path) -> None:
    """It is loaded in a few kilobytes and makes 64 MB out of one row."""
    shape = helper.make_node("Constant", [], ["shape"], value_ints=[4000, 4000])
    grown = helper.make_node("Expand", ["x", "shape"], ["large"])
    total = helper.make_node("ReduceSum", ["large"], ["y"], keepdims=0)
    sides = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 1]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, []),
    ]
    write_model(tmp_path / "model.onnx", helper.make_graph([shape, grown, total], "grows", sides[:1], sides[1:]))
    write_golden(golden, inputs={"x": np.ones((2, 1), np.float32)}, outputs={})
    assert measure(tmp_path / "model.onnx", golden, DeviceClass("camera", 1, 200 * MB)).fits
    cost = measure(tmp_path / "model.onnx", golden, DeviceClass("sensor", 1, 20 * MB))
    assert not cost.fits


@pytest.mark.parametrize(
    ("first_size", "asked"), [("rows", 1), (3, 3)], ids=["rows are free", "the model fixes three rows"]
)
def test_a_run_takes_what_a_device_is_asked_at_a_time(
    tmp_path: Path, golden: Path, first_size: str | int, asked: int
) -> None:
    """The model fails on any other number of rows: it adds one row for each that it may be given."""
    constant = helper.make_node("Constant", [], ["shape"], value_ints=[asked])
    reshaped = helper.make_node("Reshape", ["x", "shape"], ["y"])
    sides = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [first_size, 1]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [asked]),
    ]
    write_model(tmp_path / "model.onnx", helper.make_graph([constant, reshaped], "rows", sides[:1], sides[1:]))
    write_golden(golden, inputs={"x": np.ones((3, 1), np.float32)}, outputs={})
    assert measure(tmp_path / "model.onnx", golden, CONTROLLER).fits


def test_without_a_limit_a_file_that_is_no_model_is_refused(tmp_path: Path, golden: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    write_golden(golden, inputs={}, outputs={})
    with pytest.raises(InvalidInput) as refused:
        measure(tmp_path / "model.onnx", golden, CONTROLLER)
    assert refused.value.code == "not_loadable"


def test_weights_in_a_file_of_their_own_are_mapped_and_do_not_count(tmp_path: Path, golden: Path) -> None:
    """A table of 8 MB that rows are taken from: the engine reads it where it lies."""
    table = numpy_helper.from_array(np.ones((2000, 1000), np.float32), "table")
    taken = helper.make_node("Gather", ["table", "x"], ["y"])
    sides = [
        helper.make_tensor_value_info("x", TensorProto.INT64, ["rows"]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 1000]),
    ]
    path, tight = tmp_path / "model.onnx", DeviceClass("sensor", 1, 4 * MB)
    write_model(path, helper.make_graph([taken], "table", sides[:1], sides[1:], [table]))
    write_golden(golden, inputs={"x": np.zeros(3, np.int64)}, outputs={})
    assert not measure(path, golden, tight).fits
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights.bin", size_threshold=1024)
    assert measure(path, golden, tight).fits


def test_a_measurement_waits_for_the_one_that_holds_the_lock(tmp_path: Path, golden: Path) -> None:
    linear_model(tmp_path / "model.onnx")
    golden_npz(tmp_path / "model.onnx", golden, rows=1)
    found: list[Cost] = []
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        short = Limits(timeout_s=3.0, memory_bytes=LIMITS.memory_bytes)
        with pytest.raises(JobFailed, match="ended after 3 s"):
            jobs.measure(tmp_path / "model.onnx", golden, CONTROLLER, short, NO_HEARTBEAT, tmp_path / "lock")
        waiting = Thread(
            target=lambda: found.append(measure(tmp_path / "model.onnx", golden, CONTROLLER, tmp_path / "lock"))
        )
        waiting.start()
    waiting.join()
    assert found[0].fits


def test_the_caller_is_heard_from_while_it_waits(tmp_path: Path, golden: Path) -> None:
    linear_model(tmp_path / "model.onnx")
    golden_npz(tmp_path / "model.onnx", golden, rows=1)
    beats: list[None] = []
    beat: Callable[[], None] = lambda: beats.append(None)  # noqa: E731
    jobs.measure(tmp_path / "model.onnx", golden, CONTROLLER, LIMITS, Heartbeat(beat, every_s=0.1))
    assert beats


def test_memory_is_told_in_bytes() -> None:
    found = read_memory()
    assert 10_000_000 < found.resident <= found.peak
    assert found.private > 0
