import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.tree import DecisionTreeClassifier

from controller.artifacts.graph.facts import describe
from controller.artifacts.graph.running import damage, run_model
from controller.artifacts.steps import distil
from controller.artifacts.steps.interface import Applied, Calibration, tell_nobody
from controller.artifacts.steps.parameters import Distil
from controller.domain.errors import InvalidInput
from tests.support.digits import HELD_OUT, digits
from tests.support.networks import as_model, conv_calibration, conv_network, digits_calibration, digits_network

QUICK = {"epochs": 40, "augment": 2}


def drawn(rows: int = 200, columns: int = 6) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(rows, columns)).astype(np.float32)


def calibration(rows: np.ndarray, rows_a_run: int = 1) -> Calibration:
    return Calibration({"x": rows}, rows_a_run)


def dense_network(
    width: int,
    *after: onnx.NodeProto,
    scores: list[int | str] | None = None,
    rows: int | str = "n",
    constants: dict[str, np.ndarray] | None = None,
) -> onnx.ModelProto:
    """Return a linear teacher of six numbers; the nodes `after` turn `linear` into `scores`."""
    weights = {"w": np.random.default_rng(4).normal(size=(6, width)).astype(np.float32), **(constants or {})}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["linear"])]
    nodes += after or [helper.make_node("Neg", ["linear"], ["scores"])]
    return as_model(nodes, weights, inputs={"x": [rows, 6]}, outputs={"scores": scores or [rows, width]})


def softmax_network() -> onnx.ModelProto:
    return dense_network(3, helper.make_node("Softmax", ["linear"], ["scores"], axis=1))


def with_label(model: onnx.ModelProto, *, operator: str = "ArgMax", kind: int = TensorProto.INT64) -> onnx.ModelProto:
    node = helper.make_node(operator, ["scores"], ["label"], axis=1, keepdims=0)
    model.graph.node.append(node)
    model.graph.output.insert(0, helper.make_tensor_value_info("label", kind, ["n"]))
    onnx.checker.check_model(model)
    return model


def tree_network(tree: DecisionTreeClassifier) -> onnx.ModelProto:
    """Return a fitted tree as converters write it: label INT64 [-1] and probabilities FP32 [-1, classes]."""
    nodes, count = tree.tree_, tree.tree_.node_count
    leaves = [number for number in range(count) if nodes.children_left[number] < 0]
    shares = [nodes.value[number, 0] / nodes.value[number, 0].sum() for number in leaves]
    classes = len(tree.classes_)
    ensemble = helper.make_node(
        "TreeEnsembleClassifier",
        ["image"],
        ["label", "probabilities"],
        domain="ai.onnx.ml",
        nodes_treeids=[0] * count,
        nodes_nodeids=list(range(count)),
        nodes_featureids=[max(0, int(feature)) for feature in nodes.feature],
        nodes_values=[float(value) for value in nodes.threshold],
        nodes_modes=["LEAF" if number in leaves else "BRANCH_LEQ" for number in range(count)],
        nodes_truenodeids=[max(0, int(child)) for child in nodes.children_left],
        nodes_falsenodeids=[max(0, int(child)) for child in nodes.children_right],
        class_treeids=[0] * classes * len(leaves),
        class_nodeids=[leaf for leaf in leaves for _ in range(classes)],
        class_ids=list(range(classes)) * len(leaves),
        class_weights=[float(share) for leaf in shares for share in leaf],
        classlabels_int64s=[int(name) for name in tree.classes_],
        post_transform="NONE",
    )
    graph = helper.make_graph(
        [ensemble],
        "tree",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [None, 64])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, classes]),
        ],
    )
    opsets = [helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def student_of(model: onnx.ModelProto, given: Calibration, **parameters: object) -> Applied:
    return distil.apply(model, Distil(**{**QUICK, **parameters}), given, tell_nobody)


def same_signature(model: onnx.ModelProto, other: onnx.ModelProto) -> bool:
    before, after = describe(model), describe(other)
    return (before.inputs, before.outputs) == (after.inputs, after.outputs)


def refusal(model: onnx.ModelProto, given: Calibration | None, **parameters: object) -> str:
    with pytest.raises(InvalidInput) as refused:
        distil.apply(model, Distil(**parameters), given, tell_nobody)
    assert refused.value.code == "recipe_inapplicable"
    return refused.value.detail


def test_a_student_of_a_few_kilobytes_decides_digits_as_its_teacher_does() -> None:
    teacher = digits_network()
    before = teacher.SerializeToString()
    applied = distil.apply(teacher, Distil(), digits_calibration(), tell_nobody)
    unseen = Calibration({"image": digits()[0][-HELD_OUT:]}, 1)
    strayed = damage(run_model(teacher, unseen), run_model(applied.model, unseen))
    assert strayed.disagreement < 0.05
    assert strayed.relative_error < 0.15
    assert applied.model.ByteSize() < 10_100
    assert same_signature(teacher, applied.model)
    assert teacher.SerializeToString() == before
    assert applied.facts["image"] == [1, 8, 8]
    assert (applied.facts["held_back_rows"], applied.facts["trained_rows"]) == (120, 480 * 9)


def test_the_same_seed_gives_the_same_bytes_and_another_others() -> None:
    teacher, given = softmax_network(), calibration(drawn())
    first, again, other = (
        student_of(teacher, given, seed=seed).model.SerializeToString() for seed in (3, 3, 2**32 - 1)
    )
    assert first == again
    assert first != other


def test_the_search_goes_from_small_to_large_and_stops_at_the_first_that_agrees() -> None:
    told: list[tuple[float, str]] = []
    parameters = Distil(**QUICK, hidden=[48], search=[[64, 32], [1], [12]], agreement_min=0.9)
    applied = distil.apply(digits_network(), parameters, digits_calibration(300), lambda *news: told.append(news))
    tried = applied.facts["tried"]
    assert [size["hidden"] for size in tried] == [[1], [12]]
    assert tried[0]["agreement"] < 0.9 <= tried[1]["agreement"]
    assert applied.facts["reached"]
    assert applied.facts["hidden"] == [12]
    assert applied.model.ByteSize() == tried[1]["bytes"]
    assert [layer["outputs"] for layer in applied.facts["layers"]] == [12, 10]
    assert tried[1]["parameters"] == 65 * 12 + 13 * 10
    assert f"hidden [12], 910 parameters, {tried[1]['bytes']} bytes: agreement 0.9" in told[-1][1]
    assert [share for share, _ in told] == sorted(share for share, _ in told)


def test_when_no_size_agrees_the_one_that_agrees_most_is_taken() -> None:
    applied = student_of(digits_network(), digits_calibration(300), hidden=[16], search=[[1], [2]], agreement_min=1.0)
    assert not applied.facts["reached"]
    assert len(applied.facts["tried"]) == 3
    assert applied.facts["hidden"] == [16]


def test_sizes_above_the_bound_of_bytes_are_not_tried() -> None:
    bound = Distil(**QUICK, hidden=[16], search=[[4], [64]], bytes_max=5500, agreement_min=1.0)
    applied = distil.apply(digits_network(), bound, digits_calibration(300), tell_nobody)
    assert [size["hidden"] for size in applied.facts["tried"]] == [[4], [16]]
    assert applied.model.ByteSize() <= 5500
    told = refusal(digits_network(), digits_calibration(300), hidden=[16], search=[[4]], bytes_max=1000)
    assert "bytes_max is 1000, and the smallest student, hidden [4], has 1" in told


def test_probabilities_come_out_as_probabilities() -> None:
    teacher, given = softmax_network(), calibration(drawn())
    applied = student_of(teacher, given, hidden=[], epochs=300, temperature=4.0)
    assert applied.facts["learnt"] == "probabilities"
    assert applied.facts["temperature"] == 4.0
    assert [node.op_type for node in applied.model.graph.node] == ["Gemm", "Softmax"]
    found, wanted = (run_model(model, given)["scores"] for model in (applied.model, teacher))
    np.testing.assert_allclose(found, wanted, atol=0.05)


def test_a_single_probability_comes_out_as_one() -> None:
    rows = drawn()
    size = rows.shape[1]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Sigmoid", ["z"], ["chance"])]
    weights = {"w": np.linspace(-1, 1, size, dtype=np.float32)[:, None]}
    teacher = as_model(nodes, weights, inputs={"x": ["rows", size]}, outputs={"chance": ["rows", 1]})
    given = Calibration({"x": rows}, 1)
    applied = student_of(teacher, given, hidden=[], epochs=300, temperature=4.0)
    assert applied.facts["learnt"] == "probability"
    assert [node.op_type for node in applied.model.graph.node] == ["Gemm", "Sigmoid"]
    found, wanted = (run_model(model, given)["chance"] for model in (applied.model, teacher))
    np.testing.assert_allclose(found, wanted, atol=0.05)


def test_a_lower_temperature_follows_faint_probabilities_less_far_down() -> None:
    teacher, given = softmax_network(), calibration(3 * drawn())
    low, high = (
        run_model(student_of(teacher, given, hidden=[16], epochs=200, temperature=t).model, given)["scores"]
        for t in (1.0, 6.0)
    )
    faint = run_model(teacher, given)["scores"] < 1e-8
    assert np.median(low[faint]) > 1e-4
    assert np.median(high[faint]) < 1e-7


def test_the_label_beside_the_scores_is_rebuilt() -> None:
    teacher, given = with_label(softmax_network()), calibration(drawn())
    applied = student_of(teacher, given)
    found = run_model(applied.model, given)
    np.testing.assert_array_equal(found["label"], found["scores"].argmax(axis=1))
    assert same_signature(teacher, applied.model)


def test_a_tree_is_taught_from_with_its_label_and_its_exact_zeros() -> None:
    images, labels = digits()
    teacher = tree_network(DecisionTreeClassifier(max_leaf_nodes=20, random_state=0).fit(images, labels))
    applied = student_of(teacher, digits_calibration(), hidden=[32], epochs=100)
    assert applied.facts["learnt"] == "probabilities"
    assert same_signature(teacher, applied.model)
    assert applied.facts["tried"][0]["agreement"] > 0.75


def test_a_label_that_counts_classes_otherwise_is_refused() -> None:
    images, labels = digits()
    teacher = tree_network(DecisionTreeClassifier(max_depth=3, random_state=0).fit(images, labels + 1))
    told = refusal(teacher, digits_calibration(100))
    assert "names a class by its largest score, and the output 'label' does not: for one row it is" in told
    assert "counted from 0" in told


def test_a_regression_keeps_its_scale_its_offset_and_its_single_dimension() -> None:
    teacher = dense_network(
        1,
        helper.make_node("Mul", ["linear", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "offset"], ["column"]),
        helper.make_node("Squeeze", ["column", "axis"], ["scores"]),
        scores=["n"],
        constants={"scale": np.float32([3000]), "offset": np.float32([1e6]), "axis": np.int64([1])},
    )
    given = calibration(drawn())
    applied = student_of(teacher, given, hidden=[16], epochs=200)
    assert applied.facts["learnt"] == "numbers"
    assert applied.facts["temperature"] is None
    assert applied.facts["tried"][0]["agreement"] > 0.98
    assert same_signature(teacher, applied.model)
    found, wanted = (run_model(model, given)["scores"] for model in (applied.model, teacher))
    assert found.shape == wanted.shape == (200,)
    assert np.corrcoef(found, wanted)[0, 1] > 0.99
    assert abs(found.mean() - wanted.mean()) < 0.1 * wanted.std()


def test_maps_go_in_as_they_are() -> None:
    teacher = conv_network()
    applied = student_of(teacher, conv_calibration(), hidden=[32])
    assert applied.model.graph.node[0].op_type == "Flatten"
    assert applied.facts["tried"][0]["agreement"] > 0.85
    assert same_signature(teacher, applied.model)


@pytest.mark.parametrize("rows", [1, 8])
def test_a_teacher_that_fixes_its_rows_has_a_student_that_does(rows: int) -> None:
    teacher, given = dense_network(3, rows=rows), calibration(drawn(), rows)
    applied = student_of(teacher, given, hidden=[8])
    assert same_signature(teacher, applied.model)
    assert applied.facts["held_back_rows"] == 40
    assert run_model(applied.model, given)["scores"].shape == (200, 3)


def test_features_that_never_vary_do_no_harm() -> None:
    rows = drawn()
    rows[:, 2] = 1e5
    applied = student_of(dense_network(3), calibration(rows), hidden=[])
    assert applied.facts["tried"][0]["relative_error"] < 0.1


def test_nothing_is_learnt_without_calibration_data() -> None:
    with pytest.raises(InvalidInput) as refused:
        distil.apply(digits_network(), Distil(), None, tell_nobody)
    assert refused.value.code == "calibration_missing"


def test_too_few_rows_are_refused() -> None:
    told = refusal(dense_network(3), calibration(drawn(19)))
    assert "needs 20 calibration rows or more" in told
    assert "19 of 19 rows" in told


def test_several_inputs_are_refused_by_name() -> None:
    teacher = as_model(
        [helper.make_node("Add", ["x", "y"], ["scores"])],
        {},
        inputs={"x": ["n", 3], "y": ["n", 3]},
        outputs={"scores": ["n", 3]},
    )
    told = refusal(teacher, Calibration({"x": drawn(50, 3), "y": drawn(50, 3)}, 1))
    assert "takes one input, and this model has 2 ('x', 'y')" in told


def test_token_ids_are_refused() -> None:
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "ids"], ["scores"])],
        "embedding",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(drawn(10, 3), "table")],
    )
    teacher = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    told = refusal(teacher, Calibration({"ids": np.arange(30) % 10}, 1))
    assert "the input 'ids' is INT64" in told


def test_free_sizes_beside_the_rows_are_refused() -> None:
    teacher = as_model(
        [helper.make_node("ReduceMean", ["x"], ["scores"], axes=[1], keepdims=1)],
        {},
        inputs={"x": ["n", "steps"]},
        outputs={"scores": ["n", 1]},
    )
    assert "the input 'x' has the shape ['n', 'steps']" in refusal(teacher, calibration(drawn()))


def test_a_sequence_is_refused_with_its_shape() -> None:
    node = helper.make_node("Unsqueeze", ["linear", "axis"], ["scores"])
    teacher = dense_network(3, node, scores=["n", 1, 3], constants={"axis": np.int64([1])})
    assert "for 40 rows the output 'scores' has the shape [40, 1, 3]" in refusal(teacher, calibration(drawn()))


def test_two_outputs_of_scores_are_refused_by_name() -> None:
    teacher = dense_network(3)
    teacher.graph.output.append(helper.make_tensor_value_info("linear", TensorProto.FLOAT, ["n", 3]))
    told = refusal(teacher, calibration(drawn()))
    assert "has 2 of those ('scores' FLOAT, 'linear' FLOAT)" in told


def test_an_output_beside_scores_and_label_is_refused_by_name() -> None:
    teacher = with_label(softmax_network())
    teacher.graph.node.append(helper.make_node("Cast", ["label"], ["named"], to=TensorProto.INT32))
    teacher.graph.output.append(helper.make_tensor_value_info("named", TensorProto.INT32, ["n"]))
    assert "this model also has 'label', 'named'" in refusal(teacher, calibration(drawn()))


def test_a_label_that_is_not_the_largest_score_is_refused() -> None:
    teacher = with_label(softmax_network(), operator="ArgMin")
    assert "the output 'label' does not" in refusal(teacher, calibration(drawn()))


def test_answers_that_are_not_finite_are_refused() -> None:
    teacher = dense_network(3, helper.make_node("Log", ["linear"], ["scores"]))
    assert "'scores', and for rows like the calibration's it holds values that are not finite" in refusal(
        teacher, calibration(drawn())
    )


def test_rows_are_left_out_where_their_copies_would_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.artifacts.behaviour.teachers.ELEMENTS_MAX", 6 * 3 * 50)
    applied = student_of(dense_network(3), calibration(drawn()), hidden=[4])
    assert applied.facts["calibration_rows"] == 50
    assert applied.facts["trained_rows"] == 40 * 3


def test_reading_recipes_does_not_load_scikit_learn() -> None:
    code = "import sys, controller.artifacts.steps.distil; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
