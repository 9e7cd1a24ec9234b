"""The evaluation job on real models: every metric, plugins run in the real child, halves of the data, golden rows."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from controller.artifacts import jobs
from controller.artifacts.child_process import NO_HEARTBEAT, Limits
from controller.artifacts.evaluation import evaluate_files
from controller.artifacts.findings import Evaluation
from controller.domain.errors import InvalidInput
from tests.support.digits import HELD_OUT, digits, digits_evaluation, digits_model, linear_classifier
from tests.support.metric_plugins import install_metrics

LIMITS = Limits(timeout_s=120.0, memory_bytes=4 * 1024**3)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.onnx"
    digits_model(path)
    return path


@pytest.fixture
def worse(tmp_path: Path, source: Path) -> Path:
    """The source with weights rounded so far that it shows."""
    path = tmp_path / "worse.onnx"
    weights, biases = (numpy_helper.to_array(tensor) for tensor in onnx.load(source).graph.initializer)
    linear_classifier(path, np.round(weights * 2) / 2, biases)
    return path


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    path = tmp_path / "evaluation.npz"
    digits_evaluation(path)
    return path


def fractions_of(path: Path, model: Path, element_type: int) -> Path:
    """Write a model that takes and gives numbers of another precision."""
    loaded = onnx.load(model)
    (gemm,) = loaded.graph.node
    taken, given = loaded.graph.input[0], loaded.graph.output[0]
    gemm.input[0], gemm.output[0] = "wide", "answer"
    nodes = [
        helper.make_node("Cast", [taken.name], ["wide"], to=TensorProto.FLOAT),
        gemm,
        helper.make_node("Cast", ["answer"], [given.name], to=element_type),
    ]
    for value in (taken, given):
        value.type.tensor_type.elem_type = element_type
    graph = helper.make_graph(nodes, "graph", [taken], [given], loaded.graph.initializer)
    onnx.save(helper.make_model(graph, opset_imports=loaded.opset_import, ir_version=8), path)
    return path


class TestFigures:
    def test_a_worse_classifier_has_lower_figures_and_an_interval_that_tells_so(
        self, source: Path, worse: Path, evaluation: Path, tmp_path: Path
    ) -> None:
        found = evaluate_files(source, worse, tmp_path / "golden.npz", evaluation)
        assert (found.metric, found.samples, found.golden_rows) == ("accuracy", HELD_OUT, 32)
        assert found.value is not None
        assert found.source_value is not None
        assert found.value_ci
        assert found.drop_ci
        assert found.value < found.source_value
        assert found.drop_ci[0] < found.source_value - found.value < found.drop_ci[1]
        assert found.agreement is not None
        assert found.agreement < 1
        assert found.worst_class
        assert found.worst_class["value"] < found.value
        assert found.calibration
        assert 0 < found.calibration["source_value"] < 1
        assert found.similarity is not None
        assert 0.9 < found.similarity < 1

    def test_a_variant_that_is_its_source_loses_nothing(self, source: Path, evaluation: Path, tmp_path: Path) -> None:
        found = evaluate_files(source, source, tmp_path / "golden.npz", evaluation)
        assert (found.agreement, found.drop_ci) == (1.0, (0.0, 0.0))
        assert found.value_ci == found.source_ci
        assert found.similarity == pytest.approx(1.0)

    def test_a_regression_is_judged_by_r2_and_its_golden_rows_span_the_labels(
        self, source: Path, worse: Path, tmp_path: Path
    ) -> None:
        images, _ = digits()
        labels = _scores(source, images[:300])
        data = tmp_path / "regression.npz"
        np.savez(data, inputs=images[:300], labels=labels)
        found = evaluate_files(source, worse, tmp_path / "golden.npz", data)
        assert (found.metric, found.source_value) == ("r2", pytest.approx(1.0))
        assert found.value is not None
        assert 0 < found.value < 1
        assert (found.agreement, found.calibration) == (None, None)
        with np.load(tmp_path / "golden.npz") as golden:
            first = _scores(source, golden["input:image"])[:, 0]
        assert (first.min(), first.max()) == pytest.approx((labels[:, 0].min(), labels[:, 0].max()))

    def test_inputs_without_labels_are_judged_by_similarity(self, source: Path, worse: Path, tmp_path: Path) -> None:
        data = tmp_path / "inputs.npz"
        np.savez(data, inputs=digits()[0][:100])
        found = evaluate_files(source, worse, tmp_path / "golden.npz", data)
        assert (found.metric, found.source_value, found.worst_class) == ("cosine", 1.0, None)
        assert found.value == found.similarity
        assert found.agreement is not None

    def test_half_of_the_data_judges_what_has_learnt_from_the_other(
        self, source: Path, worse: Path, evaluation: Path, tmp_path: Path
    ) -> None:
        found = evaluate_files(source, worse, tmp_path / "golden.npz", evaluation, held_out=True)
        assert found.samples == HELD_OUT // 2

    def test_a_variant_of_another_precision_is_asked_in_its_own(
        self, source: Path, evaluation: Path, tmp_path: Path
    ) -> None:
        half = fractions_of(tmp_path / "half.onnx", source, TensorProto.FLOAT16)
        found = evaluate_files(source, half, tmp_path / "golden.npz", evaluation)
        assert found.agreement is not None
        assert found.agreement > 0.99
        with np.load(tmp_path / "golden.npz") as golden:
            assert (golden["input:image"].dtype, golden["output:scores"].dtype) == (np.float16, np.float16)
        assert evaluate_files(source, half, tmp_path / "drawn.npz", None).golden_rows == 16

    def test_a_variant_whose_weights_lie_beside_it_is_evaluated_like_any_other(
        self, source: Path, worse: Path, evaluation: Path, tmp_path: Path
    ) -> None:
        folder = tmp_path / "apart"
        folder.mkdir()
        apart = folder / "model.onnx"
        onnx.save(onnx.load(worse), apart, save_as_external_data=True, location="weights.bin", size_threshold=0)
        assert (folder / "weights.bin").exists()
        found = evaluate_files(source, apart, tmp_path / "golden.npz", evaluation)
        assert found == evaluate_files(source, worse, tmp_path / "golden.npz", evaluation)

    def test_a_variant_that_answers_no_numbers_is_refused_with_the_rows(
        self, source: Path, evaluation: Path, tmp_path: Path
    ) -> None:
        broken = tmp_path / "broken.onnx"
        linear_classifier(broken, np.full((64, 10), np.nan, np.float32), np.zeros(10, np.float32))
        with pytest.raises(InvalidInput, match=f"variant's output 'scores' is no number for {HELD_OUT} of") as refusal:
            evaluate_files(source, broken, tmp_path / "golden.npz", evaluation)
        assert refusal.value.code == "not_finite"

    def test_a_named_metric_needs_evaluation_data(self, source: Path, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput) as refusal:
            evaluate_files(source, source, tmp_path / "golden.npz", None, "accuracy")
        assert refusal.value.code == "metric_failed"


class TestFindings:
    def test_figures_are_plain_json_and_survive_their_stored_form(
        self, source: Path, worse: Path, evaluation: Path, tmp_path: Path
    ) -> None:
        found = evaluate_files(source, worse, tmp_path / "golden.npz", evaluation)
        assert Evaluation.from_json(json.loads(json.dumps(found.to_json()))) == found
        assert json.loads(json.dumps(found.figures(), allow_nan=False)) == found.figures()
        assert "absolute_tolerance" not in found.figures()

    def test_figures_that_were_stored_before_there_were_intervals_are_read(self) -> None:
        names = ("metric", "value", "source_value", "agreement", "samples", "golden_rows")
        stored = dict(zip(names, ("accuracy", 0.97, 0.98, 0.99, 400, 32), strict=True))
        found = Evaluation.from_json({**stored, "absolute_tolerance": 0.01, "relative_tolerance": 0.001})
        assert (found.value, found.drop_ci, found.worst_class, found.similarity) == (0.97, None, None, None)


class TestPlugins:
    @pytest.fixture(autouse=True)
    def installed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        packages = tmp_path / "packages"
        packages.mkdir()
        install_metrics(packages)
        monkeypatch.setenv("PYTHONPATH", str(packages))

    def evaluate(self, metric: str, source: Path, variant: Path, evaluation: Path) -> Evaluation:
        golden = source.with_name("golden.npz")
        return jobs.evaluate(
            source, variant, golden, evaluation, LIMITS, NO_HEARTBEAT, metric=metric, held_out=True
        ).evaluation

    def test_an_installed_metric_is_called_in_the_child_and_bootstrapped_like_any_other(
        self, source: Path, worse: Path, evaluation: Path
    ) -> None:
        found = self.evaluate("plugin:margin", source, worse, evaluation)
        assert (found.metric, found.samples) == ("plugin:margin", HELD_OUT // 2)
        assert found.value is not None
        assert found.source_value is not None
        assert found.drop_ci
        assert -1 < found.value < found.source_value < 1
        assert found.drop_ci[0] < found.source_value - found.value < found.drop_ci[1]
        assert found.worst_class

    @pytest.mark.parametrize(
        ("name", "code", "words"),
        [
            ("raising", "metric_failed", "fleet_metrics:raising ends with ZeroDivisionError: nothing to divide"),
            ("writing", "metric_failed", "read-only"),
            ("absent", "metric_failed", "AttributeError"),
            ("wrong_shape", "metric_failed", "float64 of shape [200, 2]; expected one number for each row"),
            ("missing", "metric_unknown", "cosine, plugin:absent, plugin:leaving, plugin:loud, plugin:margin"),
        ],
    )
    def test_a_metric_that_gives_no_scores_is_refused_for_its_own_reason(
        self, source: Path, evaluation: Path, name: str, code: str, words: str
    ) -> None:
        with pytest.raises(InvalidInput) as refusal:
            self.evaluate(f"plugin:{name}", source, source, evaluation)
        assert (refusal.value.code, refusal.value.field) == (code, "/promise/metric")
        assert words in refusal.value.detail

    def test_a_metric_that_prints_does_not_disturb_the_answer(self, source: Path, evaluation: Path) -> None:
        assert self.evaluate("plugin:loud", source, source, evaluation).value == 1.0


def _scores(model: Path, images: np.ndarray) -> np.ndarray:
    weights, biases = (numpy_helper.to_array(tensor) for tensor in onnx.load(model).graph.initializer)
    return images.astype(np.float64) @ weights + biases
