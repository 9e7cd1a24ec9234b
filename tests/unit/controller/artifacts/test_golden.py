"""Golden tensors: which rows, and how far an honest device may differ."""

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from controller.artifacts.behaviour.decisions import Decisions
from controller.artifacts.behaviour.golden import FLOOR, ROWS_MAX, choose_rows, draw_rows, make_golden
from controller.artifacts.behaviour.samples import Samples
from controller.artifacts.graph.sessions import Session
from controller.domain.errors import InvalidInput
from device_agent.protocol.manifest import TensorSpec
from tests.support.hostile_models import model, value
from tests.support.onnx_models import INPUT, OUTPUT, golden_rows, linear_model


def samples_of(labels: list[int], margins: list[float], *, rows_a_run: int = 1) -> tuple[Samples, Decisions]:
    """Return samples whose only input is their own row number."""
    numbers = np.arange(len(labels), dtype=np.float32).reshape(-1, 1)
    named = np.array(labels)
    return Samples({"x": numbers}, named, rows_a_run), Decisions(named, np.array(margins), None)


def test_rows_come_from_every_class_in_turn_the_closest_decisions_first() -> None:
    margins = np.linspace(1, 0.1, 100)
    labels = [0] * 98 + [1, 2]
    chosen = choose_rows(*samples_of(labels, margins.tolist()))["x"].reshape(-1).astype(int).tolist()
    assert len(chosen) == ROWS_MAX
    assert {98, 99} <= set(chosen)
    assert chosen[:-2] == list(range(68, 98))


def test_samples_without_a_class_are_taken_for_what_is_decided() -> None:
    samples, decisions = samples_of([0] * 50 + [1] * 50, [0.5] * 100)
    chosen = choose_rows(Samples(samples.inputs, None, 1), decisions)["x"].reshape(-1).astype(int).tolist()
    assert chosen == [*range(16), *range(50, 66)]


@pytest.mark.parametrize("labels", [np.arange(100)[::-1] / 2, None])
def test_where_nothing_is_decided_rows_are_spread_over_the_range(labels: np.ndarray | None) -> None:
    samples, _ = samples_of([0] * 100, [1.0] * 100)
    chosen = choose_rows(Samples(samples.inputs, labels, 1), None)["x"].reshape(-1)
    assert (len(chosen), chosen[0], chosen[-1]) == (ROWS_MAX, 0, 99)
    assert np.diff(chosen).max() <= 4


def test_a_model_with_a_fixed_number_of_rows_gets_exactly_these() -> None:
    samples, decisions = samples_of([0, 1] * 10, [0.5] * 20, rows_a_run=5)
    assert len(choose_rows(samples, decisions, 5)["x"]) == 5


def test_large_rows_are_fewer() -> None:
    samples, decisions = samples_of([0] * 40, [0.5] * 40)
    large = Samples({"x": np.zeros((40, 64 * 1024), np.float32)}, samples.labels, 1)
    assert len(choose_rows(large, decisions)["x"]) == 4


def test_drawn_inputs_have_the_signatures_form_and_are_always_the_same() -> None:
    specs = (TensorSpec("image", "FP32", (-1, 3, 8)), TensorSpec("token", "INT64", (-1, -1)))
    drawn, again = draw_rows(specs), draw_rows(specs)
    assert {name: (array.dtype.name, array.shape) for name, array in drawn.items()} == {
        "image": ("float32", (16, 3, 8)),
        "token": ("int64", (16, 16)),
    }
    assert set(np.unique(drawn["token"])) <= {0, 1}
    assert all(np.array_equal(drawn[name], again[name]) for name in drawn)


def test_the_tolerance_admits_what_execution_settings_change_and_no_fault(tmp_path: Path) -> None:
    path, other = tmp_path / "model.onnx", tmp_path / "other.onnx"
    linear_model(path)
    linear_model(other, bias=0.5)
    golden = make_golden(path, {INPUT: golden_rows(8)})
    largest = np.abs(golden.outputs[OUTPUT]).max()
    assert golden.relative_tolerance == FLOOR
    assert FLOOR * largest <= golden.absolute_tolerance < 2 * FLOOR * largest

    def fits(model: Path) -> bool:
        got = Session(model).run(golden.inputs)[OUTPUT]
        return np.allclose(got, golden.outputs[OUTPUT], rtol=golden.relative_tolerance, atol=golden.absolute_tolerance)

    assert fits(path)
    assert not fits(other)


def test_the_file_is_the_same_bytes_every_time(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    linear_model(path)
    written = []
    for name in ("a.npz", "b.npz"):
        make_golden(path, {INPUT: golden_rows(8)}).write(tmp_path / name)
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]
    with np.load(tmp_path / "a.npz") as arrays:
        assert set(arrays.files) == {f"input:{INPUT}", f"output:{OUTPUT}"}


def test_answers_that_are_not_finite_cannot_be_golden(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    linear_model(path)
    with pytest.raises(InvalidInput) as refusal:
        make_golden(path, {INPUT: np.full((2, 4), np.inf, np.float32)})
    assert refusal.value.code == "not_finite"


def test_a_model_of_single_numbers_has_golden_values(tmp_path: Path) -> None:
    content = model(
        [helper.make_node("Add", ["x", "x"], ["y"])], inputs=[value("x", ())], outputs=[value("y", ())]
    ).SerializeToString()
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    golden = make_golden(file, draw_rows((TensorSpec("x", "FP32", ()),)))
    assert golden.outputs["y"] == 2 * golden.inputs["x"]
    assert golden.rows == 1
    assert Session(file).one_request(golden.inputs) == golden.inputs
