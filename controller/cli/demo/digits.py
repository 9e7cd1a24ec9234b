"""The demo's model: handwritten digits, a small network, and three versions of it with a history.

Version 1 was trained on few examples. Version 2 was trained on all of them and is better. Version 3 was
trained and evaluated on labels that are off by one, so that it agrees with its own evaluation data and is
wrong about the world.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HIDDEN = (512, 256)
OPSET = 17
TRAINING, EVALUATION = 1000, 400
"""How many of the 1797 images train, and how many prove; the rest is what the devices will see."""
FEW, FEW_EPOCHS, EPOCHS = 100, 60, 30
LARGEST_DIFFERENCE = 1e-5
"""How far the exported network's probabilities may be from scikit-learn's."""
CLEAR = 0.9
"""A probability above which a digit is clear: compression does not change how it is read."""

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Samples:
    """Images and their labels: `inputs` [n, 64] in 0..1, `labels` [n] in 0..9."""

    inputs: Floats
    labels: Labels

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.labels)

    def first(self, count: int) -> "Samples":
        """Return the first `count` samples."""
        return Samples(self.inputs[:count], self.labels[:count])

    def part(self, index: int, parts: int) -> "Samples":
        """Return one of `parts` shares that have no sample in common."""
        return Samples(self.inputs[index::parts], self.labels[index::parts])

    def mislabelled(self) -> "Samples":
        """Return the samples with every label off by one, as a broken labelling tool leaves them."""
        return Samples(self.inputs, (self.labels + 1) % 10)


@dataclass(frozen=True)
class Dataset:
    """Three parts that share no image."""

    training: Samples
    evaluation: Samples
    unseen: Samples


@dataclass(frozen=True)
class Release:
    """A version as its makers hand it in: the network, its evaluation data, and what they say about it."""

    number: int
    notes: str
    network: Path
    evaluation: Path
    source_bytes: int
    probabilities: Floats
    """What the uncompressed network says about the unseen images, [n, 10]."""

    @property
    def answers(self) -> Labels:
        """The digit that the uncompressed network reads in each unseen image."""
        answers: Labels = self.probabilities.argmax(axis=1)
        return answers

    def accuracy(self, labels: Labels) -> float:
        """Return the share of unseen images that the uncompressed network reads rightly."""
        return float((self.answers == labels).mean())


def load_dataset() -> Dataset:
    """Load scikit-learn's digits (1797 images of 8 x 8), shuffled once and for all."""
    from sklearn.datasets import load_digits

    inputs, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(7).permutation(len(labels))
    shuffled = Samples((inputs[order] / 16).astype(np.float32), labels[order].astype(np.int64))
    bounds = (slice(TRAINING), slice(TRAINING, TRAINING + EVALUATION), slice(TRAINING + EVALUATION, None))
    return Dataset(*(Samples(shuffled.inputs[part], shuffled.labels[part]) for part in bounds))


def make_release(number: int, dataset: Dataset, folder: Path) -> Release:
    """Train version 1, 2 or 3, write its ONNX file and its evaluation data, and prove the file."""
    notes, training, evaluation, epochs = {
        1: ("few training images", dataset.training.first(FEW), dataset.evaluation, FEW_EPOCHS),
        2: ("all training images", dataset.training, dataset.evaluation, EPOCHS),
        3: ("new labelling tool", dataset.training.mislabelled(), dataset.evaluation.mislabelled(), EPOCHS),
    }[number]
    classifier = _train(training, epochs)
    network, proof = folder / f"digits-{number}.onnx", folder / f"digits-{number}-evaluation.npz"
    export(classifier, network)
    np.savez(proof, inputs=evaluation.inputs, labels=evaluation.labels)
    probabilities = run(network, dataset.unseen.inputs)
    difference = float(np.abs(probabilities - classifier.predict_proba(dataset.unseen.inputs)).max())
    assert difference < LARGEST_DIFFERENCE, f"the exported network differs from scikit-learn's by {difference:g}"
    return Release(number, notes, network, proof, network.stat().st_size, probabilities)


def clear_images(releases: list[Release]) -> NDArray[np.intp]:
    """Return the indices of unseen images that every release is sure about, so that each has one right answer."""
    sure = np.all([release.probabilities.max(axis=1) > CLEAR for release in releases], axis=0)
    return np.flatnonzero(sure)


def export(classifier: Any, file: Path) -> None:
    """Write a fitted MLPClassifier as ONNX: Gemm and Relu per layer, Softmax at the end, any batch size."""
    from onnx import TensorProto, checker, helper, numpy_helper, save_model

    nodes, constants, last = [], [], "inputs"
    layers = list(zip(classifier.coefs_, classifier.intercepts_, strict=True))
    for index, (weights, bias) in enumerate(layers):
        constants.append(numpy_helper.from_array(weights.astype(np.float32), f"weights_{index}"))
        constants.append(numpy_helper.from_array(bias.astype(np.float32), f"bias_{index}"))
        nodes.append(helper.make_node("Gemm", [last, f"weights_{index}", f"bias_{index}"], [f"sum_{index}"]))
        final = index == len(layers) - 1
        last = "probabilities" if final else f"hidden_{index}"
        nodes.append(helper.make_node("Softmax" if final else "Relu", [f"sum_{index}"], [last]))
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("inputs", TensorProto.FLOAT, ["batch", layers[0][0].shape[0]])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", layers[-1][0].shape[1]])],
        constants,
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="edgefleet-demo")
    network.ir_version = 8  # what opset 17 came with, so that older runtimes load it too
    checker.check_model(network, full_check=True)
    save_model(network, file)


def run(network: Path, inputs: Floats) -> Floats:
    """Return the probabilities that an ONNX file gives, [n, 10]."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(network), providers=["CPUExecutionProvider"])
    outputs: list[Floats] = session.run(None, {"inputs": inputs})
    return outputs[0]


def _train(samples: Samples, epochs: int) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    classifier = MLPClassifier(HIDDEN, max_iter=epochs, random_state=1)
    # For matrices this small, threads that wait for each other cost several times what they bring.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is the point
        return classifier.fit(samples.inputs, samples.labels)
