"""Loading real models: what they must be, and what they do when they cannot answer."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from device_agent.protocol.manifest import GOLDEN_FILE, TensorSpec
from device_agent.serving.errors import LoadError, ModelFailed, RequestRefused
from device_agent.serving.session import load_model, resident_bytes
from tests.support.onnx_models import golden_npz, golden_rows, linear_model, linear_weights, write_golden, write_model

Tensors = dict[str, tuple[int, list[str | int | None]]]


def graph(*nodes: onnx.NodeProto, inputs: Tensors, outputs: Tensors) -> onnx.GraphProto:
    return helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()],
        [helper.make_tensor_value_info(name, *kind) for name, kind in outputs.items()],
    )


def reshape_model(path: Path) -> None:
    reshape = helper.make_node("Reshape", ["x", "shape"], ["y"], allowzero=1)
    inputs: Tensors = {"x": (TensorProto.FLOAT, [6]), "shape": (TensorProto.INT64, [2])}
    write_model(path, graph(reshape, inputs=inputs, outputs={"y": (TensorProto.FLOAT, ["a", "b"])}))
    golden = {"x": np.zeros(6, np.float32), "shape": np.array([2, 3])}
    write_golden(path.with_name(GOLDEN_FILE), inputs=golden, outputs={})


def test_a_loaded_model_knows_its_signature_and_has_been_warmed_up(tmp_path: Path) -> None:
    linear_model(tmp_path / "model.onnx")

    model = load_model(tmp_path / "model.onnx")

    assert model.signature.inputs == {"x": TensorSpec("x", "FP32", (-1, 4))}
    assert model.signature.outputs == {"scores": TensorSpec("scores", "FP32", (-1, 3))}
    assert model.warm_up_s > 0
    assert model.load_s > 0


def test_a_model_computes_what_its_graph_says(tmp_path: Path) -> None:
    linear_model(tmp_path / "model.onnx", bias=2.0)
    rows = golden_rows(5)

    (scores,) = load_model(tmp_path / "model.onnx").run(["scores"], {"x": rows})

    np.testing.assert_allclose(scores, rows @ linear_weights() + 2.0, rtol=1e-5)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x08" + bytes(100)])
def test_bytes_that_are_not_a_model_are_a_load_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)

    with pytest.raises(LoadError, match=r"model\.onnx cannot be loaded"):
        load_model(tmp_path / "model.onnx")


def test_a_missing_file_is_a_load_error(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="cannot be loaded"):
        load_model(tmp_path / "model.onnx")


def test_a_tensor_type_that_the_protocol_lacks_is_a_load_error(tmp_path: Path) -> None:
    cast = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.BFLOAT16)
    write_model(
        tmp_path / "model.onnx",
        graph(cast, inputs={"x": (TensorProto.FLOAT, [1])}, outputs={"y": (TensorProto.BFLOAT16, [1])}),
    )

    with pytest.raises(LoadError, match=r"output 'y' is a tensor\(bfloat16\)"):
        load_model(tmp_path / "model.onnx")


def test_a_model_that_only_runs_on_real_inputs_is_warmed_up_with_a_golden_row(tmp_path: Path) -> None:
    # Zeros ask for the shape [0, 0], which six values do not have.
    path = tmp_path / "model.onnx"
    reshape_model(path)
    path.with_name(GOLDEN_FILE).unlink()
    with pytest.raises(LoadError, match="warm-up failed"):
        load_model(path)
    reshape_model(path)

    (y,) = load_model(path).run(["y"], {"x": np.zeros(6, np.float32), "shape": np.array([3, 2])})

    assert y.shape == (3, 2)


def test_golden_rows_without_one_of_the_inputs_are_a_load_error(tmp_path: Path) -> None:
    linear_model(tmp_path / "model.onnx")
    write_golden(tmp_path / GOLDEN_FILE, inputs={"other": np.zeros((1, 4), np.float32)}, outputs={})

    with pytest.raises(LoadError, match=r"no values for \['x'\]"):
        load_model(tmp_path / "model.onnx")


def test_golden_rows_of_any_number_warm_up_one_row(tmp_path: Path) -> None:
    linear_model(tmp_path / "model.onnx")
    golden_npz(tmp_path / "model.onnx", tmp_path / GOLDEN_FILE, rows=16)

    assert load_model(tmp_path / "model.onnx").warm_up_s > 0


def test_text_models_take_and_give_text(tmp_path: Path) -> None:
    identity = helper.make_node("Identity", ["x"], ["y"])
    inputs: Tensors = {"x": (TensorProto.STRING, ["rows"])}
    write_model(tmp_path / "model.onnx", graph(identity, inputs=inputs, outputs={"y": (TensorProto.STRING, ["rows"])}))

    (y,) = load_model(tmp_path / "model.onnx").run(["y"], {"x": np.array(["é", ""], dtype=object)})

    assert y.tolist() == ["é", ""]


def test_inputs_that_contradict_each_other_are_the_fault_of_the_request(tmp_path: Path) -> None:
    linear_model(tmp_path / "model.onnx")

    with pytest.raises(RequestRefused, match="inputs do not fit together"):
        load_model(tmp_path / "model.onnx").run(["scores"], {"x": np.zeros((1, 9), np.float32)})


def test_an_operator_that_fails_at_run_time_is_the_fault_of_the_model(tmp_path: Path) -> None:
    reshape_model(tmp_path / "model.onnx")
    feeds = {"x": np.zeros(6, np.float32), "shape": np.array([4, 4])}

    with pytest.raises(ModelFailed, match="Reshape"):
        load_model(tmp_path / "model.onnx").run(["y"], feeds)


def test_a_model_has_the_threads_that_it_is_given_beside_the_callers_own(tmp_path: Path) -> None:
    linear_model(tmp_path / "model.onnx")

    def started_by(threads: int) -> int:
        before = len(list(Path("/proc/self/task").iterdir()))
        model = load_model(tmp_path / "model.onnx", threads=threads)
        after = len(list(Path("/proc/self/task").iterdir()))
        model.close()
        return after - before

    assert (started_by(1), started_by(3)) == (0, 2)


def test_resident_memory_is_told_in_bytes() -> None:
    assert resident_bytes() > 10_000_000
