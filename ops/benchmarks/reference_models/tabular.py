"""Two classifiers of table rows: 20 columns, two classes, one in fifty rows labelled wrongly.

The boosted trees are written as ONNX here, node by node, because a converter would be one more dependency.
"""

import sys
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier

from controller.artifacts.graph.sessions import Array, Tensors
from ops.benchmarks.reference_models import dense
from ops.benchmarks.reference_models.cache import trained
from ops.benchmarks.reference_models.dense import dense_model, train_dense
from ops.benchmarks.reference_models.reference import Floats, Labels, Reference, network

COLUMNS = 20
SEEN, CALIBRATION, HELD = 6000, 1500, 2000
TREES = 150
LEAVES = 31
HIDDEN = (64, 32)
EPOCHS = 30
SEED = 0


@cache
def _rows() -> tuple[Floats, Labels]:
    """Return all rows with their classes: SEEN to train on, then CALIBRATION, then HELD to judge by."""
    rows, labels = make_classification(
        SEEN + CALIBRATION + HELD,
        COLUMNS,
        n_informative=8,
        n_redundant=4,
        n_clusters_per_class=3,
        class_sep=1.2,
        flip_y=0.04,
        random_state=SEED,
    )
    return rows.astype(np.float32), labels.astype(np.int64)


def _reference(name: str, model: onnx.ModelProto) -> Reference:
    rows, labels = _rows()
    # Trees know the rows that they were trained on by heart: what they answer there is not what devices will see.
    calibration, held = rows[SEEN:-HELD], rows[-HELD:]
    return Reference(name, model, {"row": held}, labels[-HELD:], {"row": calibration})


def tabular_mlp() -> Reference:
    """Return 20-64-32-2: row FP32 [-1, 20] to logits FP32 [-1, 2]; 14 kB."""
    rows, labels = _rows()

    def train() -> Tensors:
        return train_dense(rows[:SEEN], labels[:SEEN], HIDDEN, EPOCHS, SEED)

    weights = trained("tabular_mlp", train, dense, sys.modules[__name__])
    return _reference("tabular_mlp", dense_model("tabular_mlp", weights, "row"))


def tabular_gradient_boosting() -> Reference:
    """Return boosted trees: row FP32 [-1, 20] to label INT64 [-1] and probabilities FP32 [-1, 2]; 270 kB."""
    model = boosted_trees(trained("tabular_gradient_boosting", _train_trees, sys.modules[__name__]))
    return _reference("tabular_gradient_boosting", model)


def fit_trees() -> HistGradientBoostingClassifier:
    """Return the trained trees as scikit-learn has them."""
    rows, labels = _rows()
    trees = HistGradientBoostingClassifier(
        max_iter=TREES, max_leaf_nodes=LEAVES, learning_rate=0.1, early_stopping=False, random_state=SEED
    )
    return trees.fit(rows[:SEEN], labels[:SEEN])


def _train_trees() -> Tensors:
    """Return the nodes of all trees, one after the other, and what the trees add to."""
    fitted = fit_trees()
    # scikit-learn has no public view of these trees; the test that compares predictions guards the private one.
    trees = [iteration[0].nodes for iteration in fitted._predictors]  # noqa: SLF001
    nodes = np.concatenate(trees)
    fields = {name: nodes[name] for name in ("left", "right", "feature_idx", "is_leaf")}
    return {
        **{name: array.astype(np.int64) for name, array in fields.items()},
        "threshold": _not_above(nodes["num_threshold"]),
        "value": nodes["value"].astype(np.float32),
        "tree": np.repeat(np.arange(len(trees)), [len(tree) for tree in trees]),
        "node": np.concatenate([np.arange(len(tree)) for tree in trees]),
        "start": np.asarray(fitted._baseline_prediction, np.float32).reshape(1),  # noqa: SLF001
    }


def _not_above(thresholds: Array) -> Floats:
    """Round to FP32 downwards: a column that is FP32 lies on the same side of the bound as before."""
    rounded = thresholds.astype(np.float32)
    return np.where(rounded > thresholds, np.nextafter(rounded, np.float32(-np.inf)), rounded)


def boosted_trees(trees: Tensors) -> onnx.ModelProto:
    """Return a TreeEnsembleClassifier of two classes: the logistic function of the sum of the leaves."""
    leaf = trees["is_leaf"].astype(bool)
    attributes: dict[str, Any] = {
        "nodes_treeids": trees["tree"].tolist(),
        "nodes_nodeids": trees["node"].tolist(),
        "nodes_featureids": np.where(leaf, 0, trees["feature_idx"]).tolist(),
        "nodes_values": np.where(leaf, 0, trees["threshold"]).tolist(),
        "nodes_modes": ["LEAF" if is_leaf else "BRANCH_LEQ" for is_leaf in leaf],
        "nodes_truenodeids": np.where(leaf, 0, trees["left"]).tolist(),
        "nodes_falsenodeids": np.where(leaf, 0, trees["right"]).tolist(),
        "class_treeids": trees["tree"][leaf].tolist(),
        "class_nodeids": trees["node"][leaf].tolist(),
        "class_ids": [0] * int(leaf.sum()),
        "class_weights": trees["value"][leaf].tolist(),
        "classlabels_int64s": [0, 1],
        "base_values": trees["start"].tolist(),
        "post_transform": "LOGISTIC",
    }
    outputs = ["label", "probabilities"]
    node = helper.make_node("TreeEnsembleClassifier", ["row"], outputs, name="trees", domain="ai.onnx.ml", **attributes)
    return network(
        "tabular_gradient_boosting",
        [node],
        {},
        inputs=[helper.make_tensor_value_info("row", TensorProto.FLOAT, ["rows", COLUMNS])],
        outputs=[
            helper.make_tensor_value_info("label", TensorProto.INT64, ["rows"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", 2]),
        ],
    )
