"""Every upload that cannot be used is refused, with a code, the field, and a way out."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from controller.artifacts.findings import Inspection
from controller.artifacts.inspection import inspect_files, main
from controller.domain.errors import InvalidInput
from tests.support import hostile_models
from tests.support.digits import HELD_OUT, digits, digits_evaluation, digits_model
from tests.support.onnx_models import linear_model

FEATURES, CLASSES = 4, 3


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    linear_model(path, features=FEATURES, classes=CLASSES)
    return path


def refusal_of(model: Path, evaluation: Path | None = None) -> InvalidInput:
    with pytest.raises(InvalidInput) as refusal:
        inspect_files(model, evaluation)
    return refusal.value


def saved(path: Path, *nodes: onnx.NodeProto, opset: int = 17, ir_version: int = 8, domain: str = "") -> Path:
    """Write a model from `x` [rows, 4] to `y` without asking the checker."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", FEATURES])],
    )
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=ir_version), path)
    return path


class TestGoodUploads:
    def test_the_facts_of_a_model_are_recorded(self, tmp_path: Path) -> None:
        model, evaluation = tmp_path / "digits.onnx", tmp_path / "digits.npz"
        digits_model(model)
        digits_evaluation(evaluation)
        found = inspect_files(model, evaluation)
        facts = found.model
        assert [(spec.name, spec.datatype, spec.shape) for spec in facts.inputs] == [("image", "FP32", (-1, 64))]
        assert [(spec.name, spec.datatype, spec.shape) for spec in facts.outputs] == [("scores", "FP32", (-1, 10))]
        assert (facts.opset, facts.operators, facts.precision) == (17, ("Gemm",), "fp32")
        assert facts.parameters == 64 * 10 + 10
        assert found.samples == HELD_OUT

    def test_the_memory_estimate_is_twice_the_weights_and_the_largest_activations_of_one_row(self, model: Path) -> None:
        weights = 4 * (FEATURES * CLASSES + CLASSES)
        activations = 4 * (FEATURES + CLASSES)
        assert inspect_files(model, None).model.memory_bytes == 2 * weights + activations

    def test_a_model_that_takes_a_fixed_number_of_rows_is_evaluated_by_that_number(self, tmp_path: Path) -> None:
        model, evaluation = tmp_path / "fixed.onnx", tmp_path / "evaluation.npz"
        digits_model(model)
        fixed = onnx.load(model)
        for value in (*fixed.graph.input, *fixed.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 5
        onnx.save(fixed, model)
        images, labels = digits()
        np.savez(evaluation, inputs=images[:10], labels=labels[:10])
        assert inspect_files(model, evaluation).samples == 10
        np.savez(evaluation, inputs=images[:11], labels=labels[:11])
        assert refusal_of(model, evaluation).code == "evaluation_shape"

    @pytest.mark.parametrize("labels", [None, np.zeros((10, CLASSES))], ids=["no labels", "a regression"])
    def test_a_model_is_evaluated_with_any_labels_that_fit_it(
        self, tmp_path: Path, model: Path, labels: np.ndarray | None
    ) -> None:
        evaluation = tmp_path / "evaluation.npz"
        named = {} if labels is None else {"labels": labels}
        np.savez(evaluation, inputs=np.ones((10, FEATURES), np.float32), **named)
        assert inspect_files(model, evaluation).samples == 10

    @pytest.mark.parametrize("rows", [4, 300])
    def test_calibration_inputs_are_counted(self, tmp_path: Path, model: Path, rows: int) -> None:
        calibration = tmp_path / "calibration.npz"
        np.savez(calibration, inputs=np.ones((rows, FEATURES), np.float32))
        found = inspect_files(model, None, calibration)
        assert (found.samples, found.calibration_samples) == (0, rows)
        assert Inspection.from_json(json.loads(json.dumps(found.to_json()))) == found

    def test_an_inspection_that_was_stored_before_calibration_is_read(self, model: Path) -> None:
        stored = json.loads(json.dumps(inspect_files(model, None).to_json()))
        del stored["calibration_samples"]
        assert Inspection.from_json(stored).calibration_samples == 0

    @pytest.mark.parametrize(
        ("files", "samples", "calibrating"),
        [(("-", "-"), 0, 0), (("data.npz", "-"), 5, 0), (("-", "data.npz"), 0, 5), (("data.npz", "data.npz"), 5, 5)],
    )
    def test_the_command_line_names_the_files_that_there_are(
        self, tmp_path: Path, model: Path, files: tuple[str, str], samples: int, calibrating: int
    ) -> None:
        np.savez(tmp_path / "data.npz", inputs=np.ones((5, FEATURES), np.float32))
        paths = [name if name == "-" else str(tmp_path / name) for name in files]
        found = main([str(model), *paths, "auto"])
        assert (found["samples"], found["calibration_samples"]) == (samples, calibrating)


class TestMetrics:
    """A promise that could never be judged is refused with the upload."""

    @pytest.mark.parametrize("metric", ["accuracy", "r2", "plugin:missing"])
    def test_a_metric_that_the_data_do_not_have(self, tmp_path: Path, model: Path, metric: str) -> None:
        evaluation = tmp_path / "evaluation.npz"
        np.savez(evaluation, inputs=np.ones((10, FEATURES), np.float32))
        with pytest.raises(InvalidInput) as refusal:
            inspect_files(model, evaluation, metric=metric)
        assert refusal.value.field == "/promise/metric"

    @pytest.mark.parametrize(("metric", "code"), [("accuracy", "metric_failed"), ("f1", "metric_unknown")])
    def test_a_named_metric_without_any_data(self, model: Path, metric: str, code: str) -> None:
        with pytest.raises(InvalidInput) as refusal:
            inspect_files(model, None, metric=metric)
        assert (refusal.value.code, refusal.value.field) == (code, "/promise/metric")


class TestBadModels:
    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\x89PNG\r\n\x1a\n" + bytes(100),
            b"PK\x03\x04" + bytes(100),
            b"import os\n",
            b"\x80\x04\x95pickle",
            b"\x08\x08\x0f",
        ],
        ids=["empty", "picture", "zip", "text", "pickle", "the beginning of a model and then nothing like it"],
    )
    def test_a_file_that_is_not_onnx(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "upload"
        path.write_bytes(content)
        refusal = refusal_of(path)
        assert (refusal.code, refusal.field) == ("not_onnx", "/artifact_sha256")

    @pytest.mark.parametrize("kept", [2, 10, 100, 0.5, 0.99])
    def test_a_truncated_file(self, tmp_path: Path, kept: float) -> None:
        path = tmp_path / "digits.onnx"
        digits_model(path)
        content = path.read_bytes()
        path.write_bytes(content[: int(kept if kept > 1 else kept * len(content))])
        assert refusal_of(path).code == "truncated_onnx"

    @pytest.mark.parametrize(
        ("location", "words"),
        [("weights.bin", "another file,"), ("../weights.bin", "outside its own folder"), ("/etc/passwd", "outside")],
    )
    def test_weights_in_another_file(self, tmp_path: Path, model: Path, location: str, words: str) -> None:
        loaded = onnx.load(model)
        tensor = loaded.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        path = tmp_path / "external.onnx"
        path.write_bytes(loaded.SerializeToString())
        refusal = refusal_of(path)
        assert refusal.code == "external_data"
        assert words in refusal.detail
        assert "save_as_external_data=False" in refusal.detail

    @pytest.mark.parametrize("domain", ["", "com.acme"])
    def test_an_operator_that_the_runtime_lacks(self, tmp_path: Path, domain: str) -> None:
        path = saved(tmp_path / "m.onnx", helper.make_node("Frobnicate", ["x"], ["y"], domain=domain), domain=domain)
        refusal = refusal_of(path)
        assert refusal.code == "unknown_operator"
        assert "Frobnicate" in refusal.detail

    @pytest.mark.parametrize("change", [{"opset": 99}, {"ir_version": 99}])
    def test_a_format_that_the_runtime_does_not_know_yet(self, tmp_path: Path, change: dict[str, int]) -> None:
        path = saved(tmp_path / "m.onnx", helper.make_node("Relu", ["x"], ["y"]), **change)
        assert refusal_of(path).code == "unsupported_opset"

    def test_a_graph_that_runs_in_a_circle(self, tmp_path: Path) -> None:
        nodes = (helper.make_node("Relu", ["y"], ["z"]), helper.make_node("Relu", ["z"], ["y"]))
        assert refusal_of(saved(tmp_path / "m.onnx", *nodes)).code == "invalid_onnx"

    def test_a_tensor_of_absurd_size(self, tmp_path: Path) -> None:
        shape = numpy_helper.from_array(np.array([2**40, 2**20, FEATURES], np.int64), "shape")
        path = saved(
            tmp_path / "m.onnx",
            helper.make_node("Constant", [], ["shape"], value=shape),
            helper.make_node("Expand", ["x", "shape"], ["large"]),
            helper.make_node("ReduceMax", ["large"], ["y"], axes=[0, 1], keepdims=0),
        )
        assert refusal_of(path).code == "too_much_memory"

    def test_inputs_that_are_texts(self, tmp_path: Path) -> None:
        values = [helper.make_tensor_value_info(name, TensorProto.STRING, ["rows"]) for name in ("x", "y")]
        graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "graph", values[:1], values[1:])
        path = tmp_path / "m.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
        assert refusal_of(path).code == "unsupported_signature"

    def test_inputs_without_common_rows_cannot_be_evaluated(self, tmp_path: Path) -> None:
        path, evaluation = tmp_path / "m.onnx", tmp_path / "evaluation.npz"
        path.write_bytes(hostile_models.sums_of([2, 3], [1, 3]))
        arrays = {"input:a": np.ones((2, 3), np.float32), "input:b": np.ones((2, 3), np.float32)}
        np.savez(evaluation, **arrays)
        refusal = refusal_of(path, evaluation)
        assert refusal.code == "unsupported_signature"
        assert "no common first dimension for rows: a [2, 3], b [1, 3]" in refusal.detail


class TestBadEvaluationData:
    ROWS = 6

    def refuse(self, tmp_path: Path, model: Path, **changes: object) -> InvalidInput:
        arrays = {
            "inputs": np.zeros((self.ROWS, FEATURES), np.float32),
            "labels": np.arange(self.ROWS) % CLASSES,
            **changes,
        }
        path = tmp_path / "evaluation.npz"
        np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
        refusal = refusal_of(model, path)
        assert refusal.field == "/evaluation_sha256"
        return refusal

    @pytest.mark.parametrize("shape", [(ROWS, FEATURES + 1), (ROWS,), (ROWS, FEATURES, 1), (ROWS - 1, FEATURES)])
    def test_inputs_of_another_shape(self, tmp_path: Path, model: Path, shape: tuple[int, ...]) -> None:
        assert self.refuse(tmp_path, model, inputs=np.zeros(shape, np.float32)).code == "evaluation_shape"

    @pytest.mark.parametrize("dtype", ["float64", "int64", "float16"])
    def test_inputs_of_another_type_name_the_conversion(self, tmp_path: Path, model: Path, dtype: str) -> None:
        refusal = self.refuse(tmp_path, model, inputs=np.zeros((self.ROWS, FEATURES), dtype))
        assert refusal.code == "evaluation_dtype"
        assert ".astype('float32')" in refusal.detail

    @pytest.mark.parametrize(("label", "words"), [(CLASSES, "0 to 2"), (-1, "count from 0")])
    def test_labels_out_of_range(self, tmp_path: Path, model: Path, label: int, words: str) -> None:
        labels = np.full(self.ROWS, label)
        refusal = self.refuse(tmp_path, model, labels=labels)
        assert refusal.code == "evaluation_labels"
        assert words in refusal.detail

    @pytest.mark.parametrize(
        ("labels", "code"),
        [
            (np.zeros(ROWS, np.float32), "evaluation_shape"),
            (np.zeros((ROWS, CLASSES), np.int64), "evaluation_shape"),
            (np.zeros(0, np.int64), "evaluation_shape"),
            (np.zeros(ROWS, bool), "evaluation_dtype"),
        ],
        ids=["fractions of another width", "one-hot", "none at all", "truth values"],
    )
    def test_labels_of_another_form(self, tmp_path: Path, model: Path, labels: object, code: str) -> None:
        assert self.refuse(tmp_path, model, labels=labels).code == code

    def test_classes_saved_as_fractions_name_the_way_out(self, tmp_path: Path, model: Path) -> None:
        refusal = self.refuse(tmp_path, model, labels=np.zeros(self.ROWS, np.float32))
        assert "classes are labelled with whole numbers" in refusal.detail

    def test_inputs_that_are_missing(self, tmp_path: Path, model: Path) -> None:
        refusal = self.refuse(tmp_path, model, inputs=None, images=np.zeros(3))
        assert refusal.code == "evaluation_format"
        assert "'images'" in refusal.detail

    def test_arrays_that_would_have_to_be_unpickled(self, tmp_path: Path, model: Path) -> None:
        assert self.refuse(tmp_path, model, inputs=np.array([print], object)).code == "evaluation_format"

    @pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut off"])
    def test_a_file_that_is_no_npz(self, tmp_path: Path, model: Path, content: bytes) -> None:
        path = tmp_path / "evaluation.npz"
        path.write_bytes(content)
        assert refusal_of(model, path).code == "evaluation_format"

    def test_outputs_that_name_no_class(self, tmp_path: Path) -> None:
        node = helper.make_node("Unsqueeze", ["x", "axes"], ["y"])
        axes = helper.make_node("Constant", [], ["axes"], value=numpy_helper.from_array(np.array([1], np.int64)))
        path = saved(tmp_path / "m.onnx", axes, node)
        loaded = onnx.load(path)
        loaded.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 1, FEATURES]))
        onnx.save(loaded, path)
        assert self.refuse(tmp_path, path).code == "evaluation_output"
