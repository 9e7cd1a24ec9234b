"""Two classifiers of handwritten digits: a dense network that is far too large, and a convolutional one.

Data: scikit-learn's copy of the UCI digits, 1797 images of 8x8; 1257 to learn from, 540 to judge by.
"""

import sys
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from controller.artifacts.graph.sessions import Tensors
from ops.benchmarks.reference_models import convolution, dense
from ops.benchmarks.reference_models.cache import trained
from ops.benchmarks.reference_models.dense import dense_layers, dense_model, train_dense
from ops.benchmarks.reference_models.reference import Floats, Labels, Reference, network

HIDDEN = (512, 256)
EPOCHS = 40
CHANNELS = (64, 64)
CONV_HIDDEN = 384
CONV_EPOCHS = 12
SEED = 0


@cache
def _split() -> tuple[Floats, Floats, Labels, Labels]:
    """Return images [n, 64] from 0 to 1 and labels: to learn from, to judge by, and the labels of both."""
    images, labels = load_digits(return_X_y=True)
    seen, held, of_seen, of_held = train_test_split(
        (images / 16).astype(np.float32), labels.astype(np.int64), test_size=540, random_state=SEED, stratify=labels
    )
    return seen, held, of_seen, of_held


def digits_mlp() -> Reference:
    """Return 64-512-256-10: image FP32 [-1, 64] to logits FP32 [-1, 10]; 670 kB."""
    seen, held, of_seen, of_held = _split()
    weights = trained(
        "digits_mlp", lambda: train_dense(seen, of_seen, HIDDEN, EPOCHS, SEED), dense, sys.modules[__name__]
    )
    return Reference(
        "digits_mlp", dense_model("digits_mlp", weights, "image"), {"image": held}, of_held, {"image": seen}
    )


def digits_conv() -> Reference:
    """Return a convolutional network: image FP32 [-1, 1, 8, 8] to logits FP32 [-1, 10]; 1.7 MB."""
    seen, held, of_seen, of_held = _split()

    def train() -> Tensors:
        return convolution.train(seen.reshape(-1, 8, 8), of_seen, CHANNELS, CONV_HIDDEN, CONV_EPOCHS, SEED)

    model = _conv_model(trained("digits_conv", train, convolution, sys.modules[__name__]))
    return Reference("digits_conv", model, {"image": _maps(held)}, of_held, {"image": _maps(seen)})


def _conv_model(weights: Tensors) -> onnx.ModelProto:
    nodes = []
    flowing = "image"
    for name in ("conv1", "conv2"):
        kernel: dict[str, Any] = {"pads": [1] * 4, "kernel_shape": [3, 3]}
        statistics = [f"{name}_{part}" for part in ("scale", "shift", "mean", "var")]
        nodes += [
            helper.make_node("Conv", [flowing, f"{name}_w"], [f"{name}_sum"], name=name, **kernel),
            helper.make_node("BatchNormalization", [f"{name}_sum", *statistics], [f"{name}_normal"], f"{name}_norm"),
            helper.make_node("Relu", [f"{name}_normal"], [f"{name}_out"], f"{name}_relu"),
        ]
        flowing = f"{name}_out"
    nodes += [
        helper.make_node("MaxPool", [flowing], ["pooled"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"),
    ]
    dense_nodes, tensors = dense_layers(
        [weights["dense1_w"], weights["dense2_w"]], [weights["dense1_b"], weights["dense2_b"]], "flat", "scores"
    )
    convolutional = {name: array for name, array in weights.items() if name.startswith("conv")}
    return network(
        "digits_conv",
        [*nodes, *dense_nodes],
        convolutional | tensors,
        inputs=[helper.make_tensor_value_info("image", TensorProto.FLOAT, ["rows", 1, 8, 8])],
        outputs=[helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["rows", 10])],
    )


def _maps(images: Floats) -> Floats:
    return images.reshape(-1, 1, 8, 8)
