from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from controller.domain.errors import InvalidInput
from ops.benchmarks.compress import Extent, best_recipe, measure_model
from ops.benchmarks.reference_models.dense import dense_model
from ops.benchmarks.reference_models.reference import Reference, write_rows
from ops.benchmarks.resident import ResidentMemory
from ops.benchmarks.variants import PEER, Workbench

FIGURES = {
    "bytes",
    "wire_bytes",
    "accuracy_source",
    "accuracy",
    "accuracy_ci",
    "latency_ratio",
    "memory_ratio",
}


def dense_reference(hidden: int = 64) -> Reference:
    """A network of random weights, and labels that it is right about: what variants change is what they lose."""
    drawn = np.random.default_rng(5)
    weights = {
        "w1": drawn.normal(size=(16, hidden)) / 4,
        "b1": np.zeros(hidden),
        "w2": drawn.normal(size=(hidden, 4)),
        "b2": np.zeros(4),
    }
    rows = drawn.normal(size=(300, 16)).astype(np.float32)
    scores = np.maximum(rows @ weights["w1"], 0) @ weights["w2"]
    model = dense_model("dense", weights, "row")
    return Reference("dense", model, {"row": rows[:100]}, scores[:100].argmax(axis=1), {"row": rows[100:]})


def figures(wire_bytes: int, accuracy: float) -> dict[str, Any]:
    return {"wire_bytes": wire_bytes, "accuracy_source": 0.9, "accuracy": accuracy}


def test_the_best_recipe_is_the_smallest_that_loses_less_than_a_point() -> None:
    found = {"fp32": figures(900, 0.9), "int8": figures(250, 0.895), "student": figures(10, 0.889)}
    assert best_recipe(1000, found) == {"recipe": "int8", "wire_ratio": 4.0, "drop_points": 0.5}


def test_a_recipe_that_loses_a_whole_point_is_not_good_enough() -> None:
    # In binary fractions 0.946 - 0.936 is a little less than 0.01.
    lossy = {"wire_bytes": 10, "accuracy_source": 0.946, "accuracy": 0.936}
    assert best_recipe(1000, {"student": lossy, "int8": figures(250, 0.9)})["recipe"] == "int8"


def test_there_is_no_best_recipe_where_each_loses_a_point() -> None:
    assert best_recipe(1000, {"int8": figures(250, 0.8)})["recipe"] is None


def test_a_model_is_measured_with_every_figure_of_every_recipe_and_the_words_of_refusals(tmp_path: Path) -> None:
    bench = Workbench(dense_reference(), tmp_path)
    found = measure_model(bench, ["fp32", "structured-50", "int4-weights"], Extent(blocks=1, processes=1))
    assert set(found["recipes"]) == {"fp32", "structured-50"}
    assert all(set(made) >= FIGURES for made in (*found["recipes"].values(), found[PEER]))
    assert "int4" in found["refused"]["int4-weights"]
    source, pruned = found["recipes"]["fp32"], found["recipes"]["structured-50"]
    assert source["bytes"] == found["source_bytes"] > pruned["bytes"] > pruned["wire_bytes"]
    assert source["accuracy"] == source["accuracy_source"] == pruned["accuracy_source"] == 1.0
    assert found["best"]["drop_points"] < 1


def test_what_two_recipes_begin_with_alike_is_made_once(tmp_path: Path) -> None:
    bench = Workbench(dense_reference(), tmp_path)
    pruned = bench.compress("structured-50")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.onnx")}
    quantized = bench.compress("structured-50-int8")
    added = set(tmp_path.rglob("*.onnx")) - set(before)
    assert added == {quantized.model}
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert quantized.seconds > pruned.seconds


def test_a_recipe_that_does_not_apply_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as refusal:
        Workbench(dense_reference(), tmp_path).compress("int4-weights")
    assert refusal.value.code == "recipe_inapplicable"


def test_a_model_of_many_megabytes_makes_its_process_grow_by_more_than_a_small_one(tmp_path: Path) -> None:
    paths = []
    for hidden in (64, 200_000):
        reference = dense_reference(hidden)
        paths.append(tmp_path / f"{hidden}.onnx")
        onnx.save(reference.model, paths[-1])
    write_rows(tmp_path / "row.npz", reference.row())
    with ResidentMemory(tmp_path / "row.npz") as memory:
        small, large = (memory.growth_bytes(path) for path in paths)
    assert large - small > paths[1].stat().st_size - paths[0].stat().st_size - 1_000_000


def test_a_file_that_is_no_model_does_not_end_the_process_that_measures(tmp_path: Path) -> None:
    reference = dense_reference()
    onnx.save(reference.model, tmp_path / "model.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    write_rows(tmp_path / "row.npz", reference.row())
    with ResidentMemory(tmp_path / "row.npz") as memory:
        with pytest.raises(RuntimeError, match=r"broken\.onnx"):
            memory.growth_bytes(tmp_path / "broken.onnx")
        assert memory.growth_bytes(tmp_path / "model.onnx") > 0
