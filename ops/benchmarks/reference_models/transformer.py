"""A text classifier of real size: embeddings, encoder layers with attention, mean pooling, a linear head.

Nothing but the head is trained. The rest is drawn as training usually leaves it: tokens of one topic lie together in
the embedding, a few of its dimensions are far larger than the others, and weights have heavy tails (Student's t).
The task: which of CLASSES topics a text of LENGTH tokens is about, when most of its tokens are about nothing and
another topic gets a say as well.
"""

import sys
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from sklearn.linear_model import LogisticRegression

from controller.artifacts.graph.sessions import Session, Tensors
from ops.benchmarks.reference_models.cache import trained
from ops.benchmarks.reference_models.reference import Floats, Labels, Reference, network

VOCABULARY = 8192
LENGTH = 64
WIDTH = 256
HEADS = 4
LAYERS = 4
INNER = 4 * WIDTH
CLASSES = 8
TOPIC_TOKENS = 256
"""Tokens that belong to each topic."""
SEEN, HELD, CALIBRATION = 2000, 600, 64
SEED = 0


def transformer_block() -> Reference:
    """Return the classifier: ids INT64 [-1, LENGTH] to scores FP32 [-1, CLASSES]; about 21 MB."""
    ids, labels = _texts(HELD, SEED + 2)
    calibration, _ = _texts(CALIBRATION, SEED + 3)
    head = trained("transformer_block", _train_head, sys.modules[__name__])
    return Reference("transformer_block", _model(head), {"ids": ids}, labels, {"ids": calibration})


def _texts(rows: int, seed: int) -> tuple[Labels, Labels]:
    """Return texts as token ids [rows, LENGTH], and the topic of each.

    A token is about the text's topic with a chance of 0.2, about another one with 0.1, else drawn by Zipf's law.
    """
    drawn = np.random.default_rng(seed)
    topics = drawn.integers(0, CLASSES, rows)
    others = (topics + drawn.integers(1, CLASSES, rows)) % CLASSES
    chances = 1 / np.arange(2, VOCABULARY + 2)
    plain = drawn.choice(VOCABULARY, (rows, LENGTH), p=chances / chances.sum())
    kind = drawn.random((rows, LENGTH))
    topic = np.where(kind < 0.2, topics[:, None], others[:, None])
    # Topic t owns every CLASSES-th token, from the middle of the vocabulary on.
    owned = VOCABULARY // 2 + drawn.integers(0, TOPIC_TOKENS, (rows, LENGTH)) * CLASSES + topic
    return np.where(kind < 0.3, owned, plain), topics


@dataclass(frozen=True)
class _Drawn:
    """A source of weights."""

    random: np.random.Generator

    def heavy(self, rows: int, columns: int, spread: float) -> Floats:
        """Return Student's t with 6 degrees of freedom, scaled to a standard deviation of `spread`."""
        values = self.random.standard_t(6, (rows, columns)) * np.sqrt(4 / 6)
        scaled: Floats = (values * spread).astype(np.float32)
        return scaled


@cache
def _weights() -> Tensors:
    drawn = _Drawn(np.random.default_rng(SEED))
    tokens = drawn.heavy(VOCABULARY, WIDTH, 0.05)
    topics = drawn.heavy(CLASSES, WIDTH, 0.05)
    owned = np.arange(VOCABULARY // 2, VOCABULARY // 2 + TOPIC_TOKENS * CLASSES)
    tokens[owned] += topics[(owned - VOCABULARY // 2) % CLASSES]
    tokens[:, :3] *= 6
    weights: Tensors = {"tokens": tokens, "places": drawn.heavy(LENGTH, WIDTH, 0.02)}
    weights |= {"entry_scale": np.ones(WIDTH, np.float32), "entry_shift": np.zeros(WIDTH, np.float32)}
    for layer in range(LAYERS):
        name = f"layer{layer}_"
        for part in ("query", "key", "value", "joined"):
            weights[f"{name}{part}_w"] = drawn.heavy(WIDTH, WIDTH, WIDTH**-0.5)
            weights[f"{name}{part}_b"] = drawn.heavy(1, WIDTH, 0.02)[0]
        weights[f"{name}up_w"] = drawn.heavy(WIDTH, INNER, WIDTH**-0.5)
        weights[f"{name}up_b"] = drawn.heavy(1, INNER, 0.02)[0]
        weights[f"{name}down_w"] = drawn.heavy(INNER, WIDTH, INNER**-0.5)
        weights[f"{name}down_b"] = drawn.heavy(1, WIDTH, 0.02)[0]
        for part in ("attended", "fed"):
            weights[f"{name}{part}_scale"] = np.ones(WIDTH, np.float32)
            weights[f"{name}{part}_shift"] = np.zeros(WIDTH, np.float32)
    return weights


class _Graph:
    """Nodes in order; each method appends some and returns the name of what they give."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: Tensors = dict(_weights())
        self.weights["split"] = np.array([0, LENGTH, HEADS, WIDTH // HEADS])
        self.weights["whole"] = np.array([0, LENGTH, WIDTH])
        self.weights["root"] = np.array((WIDTH // HEADS) ** 0.5, np.float32)
        self.weights |= {
            name: np.array(value, np.float32) for name, value in (("half", 0.5), ("one", 1.0), ("root2", 2**0.5))
        }

    def add(self, operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """Append a node called `name`, whose result has the same name with `_out`."""
        self.nodes.append(helper.make_node(operator, inputs, [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def dense(self, flowing: str, name: str) -> str:
        """Append a matrix product and a bias."""
        product = self.add("MatMul", [flowing, f"{name}_w"], name)
        return self.add("Add", [product, f"{name}_b"], f"{name}_biased")

    def normalise(self, flowing: str, name: str) -> str:
        """Append a layer normalisation."""
        return self.add("LayerNormalization", [flowing, f"{name}_scale", f"{name}_shift"], name, axis=-1)

    def attention(self, flowing: str, name: str) -> str:
        """Append self-attention of HEADS heads."""
        query, key, value = (
            self.add(
                "Transpose",
                [self.add("Reshape", [self.dense(flowing, f"{name}{part}"), "split"], f"{name}{part}_split")],
                f"{name}{part}_heads",
                perm=[0, 2, 3, 1] if part == "key" else [0, 2, 1, 3],
            )
            for part in ("query", "key", "value")
        )
        products = self.add("Div", [self.add("MatMul", [query, key], f"{name}match"), "root"], f"{name}match_scaled")
        shares = self.add("Softmax", [products], f"{name}shares", axis=-1)
        mixed = self.add("MatMul", [shares, value], f"{name}mix")
        turned = self.add("Transpose", [mixed], f"{name}mix_turned", perm=[0, 2, 1, 3])
        return self.dense(self.add("Reshape", [turned, "whole"], f"{name}mix_whole"), f"{name}joined")

    def feed_forward(self, flowing: str, name: str) -> str:
        """Append two dense layers with GELU between them, x * (1 + erf(x / sqrt 2)) / 2."""
        up = self.dense(flowing, f"{name}up")
        error = self.add("Erf", [self.add("Div", [up, "root2"], f"{name}gelu_div")], f"{name}gelu_erf")
        gate = self.add("Add", [error, "one"], f"{name}gelu_add")
        halved = self.add("Mul", [self.add("Mul", [up, gate], f"{name}gelu_mul"), "half"], f"{name}gelu_half")
        return self.dense(halved, f"{name}down")


def _encoder() -> tuple[_Graph, str]:
    graph = _Graph()
    found = graph.add("Gather", ["tokens", "ids"], "token_rows")
    flowing = graph.normalise(graph.add("Add", [found, "places"], "placed"), "entry")
    for layer in range(LAYERS):
        name = f"layer{layer}_"
        for part, block in (("attended", graph.attention), ("fed", graph.feed_forward)):
            summed = graph.add("Add", [flowing, block(flowing, name)], f"{name}{part}_sum")
            flowing = graph.normalise(summed, f"{name}{part}")
    return graph, graph.add("ReduceMean", [flowing], "pooled", axes=[1], keepdims=0)


def _finished(graph: _Graph, result: str, width: int) -> onnx.ModelProto:
    return network(
        "transformer_block",
        graph.nodes,
        graph.weights,
        inputs=[helper.make_tensor_value_info("ids", TensorProto.INT64, ["rows", LENGTH])],
        outputs=[helper.make_tensor_value_info(result, TensorProto.FLOAT, ["rows", width])],
    )


def _model(head: Tensors) -> onnx.ModelProto:
    graph, pooled = _encoder()
    graph.weights |= {"head_w": head["weight"], "head_b": head["bias"]}
    graph.nodes.append(helper.make_node("Gemm", [pooled, "head_w", "head_b"], ["scores"], name="head"))
    return _finished(graph, "scores", CLASSES)


def _train_head() -> Tensors:
    graph, pooled = _encoder()
    ids, labels = _texts(SEEN, SEED + 1)
    session = Session(_finished(graph, pooled, WIDTH).SerializeToString(), threads=2)
    features = session.run_rows({"ids": ids}, 50)[pooled]
    scale = features.std(axis=0)
    fitted = LogisticRegression(C=0.01, max_iter=300).fit(features / scale, labels)
    weight = (fitted.coef_ / scale).T.astype(np.float32)
    return {"weight": weight, "bias": fitted.intercept_.astype(np.float32)}
