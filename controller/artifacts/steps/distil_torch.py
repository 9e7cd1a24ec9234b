"""Train a small convolutional network on what the source answers, with PyTorch (the extra `distill`).

Trained as Hinton, Vinyals and Dean have it ("Distilling the Knowledge in a Neural Network", 2015): class scores of
teacher z and student s are softened by the temperature T, and the loss is

    T**2 * KL(softmax(z / T) || softmax(s / T)) + mean squared error of the standardised scores

The second part keeps what the first leaves free, the scores' own offset; it alone counts where an output names no
class. `behaviour/teachers.py` has what is learnt, `behaviour/augmentation.py` the changed copies of the rows.

The graph is written from the trained weights, not by PyTorch's exporter, so that it has the teacher's signature and
nothing of the framework. The same seed gives the same bytes with the same build of PyTorch on the same kind of
processor.
"""

import importlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
import onnx

from controller.artifacts.behaviour.augmentation import Image
from controller.artifacts.behaviour.teachers import ENDINGS, Lesson, prepare
from controller.artifacts.graph.students import Convolution, Dense, convolutional_student, outline
from controller.artifacts.graph.weights import Floats
from controller.artifacts.steps.interface import Applied, Calibration, Tell, inapplicable, needed
from controller.artifacts.steps.parameters import DistilTorch
from controller.domain.errors import InvalidInput

LEARNING_RATE = 5e-3
ROWS_A_BATCH = 128
THREADS = 1
"""Sums depend on how they are split, and students are too small to gain by more."""


def apply(model: onnx.ModelProto, parameters: DistilTorch, calibration: Calibration | None, tell: Tell) -> Applied:
    """Return a student of 3x3 convolutions, one for each of `channels`, and one dense layer.

    The input is FP32 [rows, channels, height, width], or square images as [rows, side * side]; what else is asked of
    the teacher is as in `distil`. Raises InvalidInput(`distill_missing`) without PyTorch. Facts: `learnt`,
    `temperature`, numbers of rows, `image`, `agreement` and `relative_error` on rows held back, `loss` of the last
    epoch, `parameters`, `bytes`, `layers`.
    """
    torch = _torch()
    given = needed(calibration, "distil_torch")
    lesson = prepare(model, given, step="distil_torch", copies=parameters.augment, seed=parameters.seed)
    image = _image(lesson)
    with _threads_and_seed(torch, parameters.seed):
        convolutions, head, loss = _trained(torch, lesson, image, parameters, tell)
    student = convolutional_student(lesson.signature, image, convolutions, head, ending=ENDINGS.get(lesson.kind))
    likeness = lesson.likeness(student)
    size = sum(layer.parameters for layer in convolutions) + head.parameters
    facts = {
        **lesson.facts(parameters.temperature),
        "temperature": parameters.temperature if lesson.answers.shape[1] > 1 else None,
        "image": list(image),
        **asdict(likeness),
        "loss": loss,
        "parameters": size,
        "bytes": student.ByteSize(),
        "layers": _layer_facts(convolutions, head),
    }
    tell(
        1.0,
        f"channels {parameters.channels}, {size} parameters, {student.ByteSize()} bytes: agreement "
        f"{likeness.agreement:.4f} on {len(lesson.held_back)} rows held back",
    )
    return Applied(student, facts)


def _torch() -> Any:
    # By name: types are checked alike where it is installed and where it is not.
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise InvalidInput(
            "the step distil_torch trains with PyTorch, which the worker does not have; install its CPU build first, "
            "then: pip install 'edgefleet[distill]'; or use the step distil, which needs nothing more",
            code="distill_missing",
            field="/recipes",
        ) from error


def _image(lesson: Lesson) -> Image:
    shape = lesson.inputs.shape[1:]
    if len(shape) == 3:
        return shape[0], shape[1], shape[2]
    side = math.isqrt(shape[0]) if len(shape) == 1 else 0
    if len(shape) != 1 or side * side != shape[0]:
        raise inapplicable(
            "distil_torch trains on images, [rows, channels, height, width] or [rows, side * side], and the input "
            f"{lesson.signature.input.name!r} has rows of {list(shape)}; use the step distil"
        )
    return 1, side, side


@contextmanager
def _threads_and_seed(torch: Any, seed: int) -> Iterator[None]:
    """Set both for the training alone: they are the process's own."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(before)


def _trained(
    torch: Any, lesson: Lesson, image: Image, parameters: DistilTorch, tell: Tell
) -> tuple[list[Convolution], Dense, float]:
    """Return layers that take inputs and give scores as they are, and the loss of the last epoch."""
    targets = lesson.targets(parameters.temperature)
    at, scale = targets.mean(axis=0), targets.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    spread = _spread(lesson.inputs.reshape(-1, *image))
    images = torch.from_numpy(lesson.inputs.reshape(-1, *image) / spread[:, None, None])
    standard = torch.from_numpy(((targets - at) / scale).astype(np.float32))
    network = _network(torch, image, parameters.channels, targets.shape[1])
    compare = _loss(torch, at, scale, parameters.temperature)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    slowing = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, parameters.epochs)
    loss = math.nan
    for epoch in range(1, parameters.epochs + 1):
        total = 0.0
        for rows in torch.randperm(len(images)).split(ROWS_A_BATCH):
            found = compare(network(images[rows]), standard[rows])
            optimizer.zero_grad()
            found.backward()
            optimizer.step()
            total += float(found.detach()) * len(rows)
        slowing.step()
        loss = total / len(images)
        tell(0.1 + 0.85 * epoch / parameters.epochs, f"epoch {epoch} of {parameters.epochs}: loss {loss:.4f}")
    convolutions, head = _read(torch, network, image, parameters.channels)
    first = convolutions[0]
    convolutions[0] = Convolution(first.weights / spread[:, None, None], first.biases, first.halved)
    head = Dense(head.weights * scale.astype(np.float32), (head.biases * scale + at).astype(np.float32))
    return convolutions, head, loss


def _spread(images: Floats) -> Floats:
    """Return one scale for each channel, and no offset, which the convolutions' border of zeros would not carry."""
    spread = images.std(axis=(0, 2, 3), dtype=np.float64)
    return np.where(spread > 0, spread, 1.0).astype(np.float32)


def _network(torch: Any, image: Image, channels: list[int], width: int) -> Any:
    nn, (before, height, across) = torch.nn, image
    plan = outline(height, across, channels)
    layers = []
    for count, halved in zip(channels, plan.halved, strict=True):
        layers += [nn.Conv2d(before, count, 3, padding=1), nn.ReLU(), *([nn.MaxPool2d(2)] if halved else [])]
        before = count
    averaging = [nn.AdaptiveAvgPool2d(1)] if plan.averaged else []
    return nn.Sequential(*layers, *averaging, nn.Flatten(), nn.Linear(plan.features, width))


def _loss(torch: Any, at: Any, scale: Any, temperature: float) -> Any:
    functional = torch.nn.functional
    at, scale = (torch.from_numpy(array.astype(np.float32)) for array in (at, scale))

    def soften(standard: Any) -> Any:
        return functional.log_softmax((standard * scale + at) / temperature, dim=1)

    def compare(student: Any, teacher: Any) -> Any:
        error = functional.mse_loss(student, teacher)
        if len(at) == 1:
            return error
        divergence = functional.kl_div(soften(student), soften(teacher), reduction="batchmean", log_target=True)
        return temperature**2 * divergence + error

    return compare


def _read(torch: Any, network: Any, image: Image, channels: list[int]) -> tuple[list[Convolution], Dense]:
    def numbers(parameter: Any) -> Floats:
        values: Floats = parameter.detach().numpy().copy()
        return values

    halved = outline(image[1], image[2], channels).halved
    kernels = [layer for layer in network if isinstance(layer, torch.nn.Conv2d)]
    convolutions = [
        Convolution(numbers(layer.weight), numbers(layer.bias), half)
        for layer, half in zip(kernels, halved, strict=True)
    ]
    last = network[-1]
    return convolutions, Dense(numbers(last.weight).T, numbers(last.bias))


def _layer_facts(convolutions: list[Convolution], head: Dense) -> list[dict[str, Any]]:
    told = [
        {
            "name": f"convolution{number}",
            "inputs": layer.weights.shape[1],
            "outputs": layer.weights.shape[0],
            "parameters": layer.parameters,
        }
        for number, layer in enumerate(convolutions, start=1)
    ]
    inputs, outputs = head.weights.shape
    return [*told, {"name": "dense1", "inputs": inputs, "outputs": outputs, "parameters": head.parameters}]
