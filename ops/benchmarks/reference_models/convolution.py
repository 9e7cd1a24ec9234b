"""Training a small convolutional network with numpy alone: two convolutions with batch normalisation, two dense layers.

    image [n, 1, 8, 8] -> (conv 3x3, batch norm, relu) twice -> max pool 2x2 -> dense, relu -> dense -> logits

Inside, maps are [rows, height, width, channels], so that a convolution is one matrix product over patches. The
optimiser is Adam (Kingma & Ba, 2015) with a cosine schedule; batch normalisation as in Ioffe & Szegedy (2015).
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from controller.artifacts.graph.sessions import Array, Tensors

Floats = npt.NDArray[np.float32]
Weights = dict[str, Floats]
EPSILON = 1e-5
BATCH = 64


@dataclass
class Adam:
    """Keeps the running moments of each weight's gradient."""

    rate: float
    steps: int
    """Length of the schedule."""
    taken: int = 0
    moments: dict[str, tuple[Array, Array]] = field(default_factory=dict)

    def step(self, weights: Weights, gradients: Weights) -> None:
        """Move the weights in place."""
        self.taken += 1
        rate = self.rate * 0.5 * (1 + np.cos(np.pi * self.taken / self.steps))
        rate *= np.sqrt(1 - 0.999**self.taken) / (1 - 0.9**self.taken)
        for name, gradient in gradients.items():
            first, second = self.moments.setdefault(name, (np.zeros_like(gradient), np.zeros_like(gradient)))
            first += 0.1 * (gradient - first)
            second += 0.001 * (gradient**2 - second)
            weights[name] -= (rate * first / (np.sqrt(second) + 1e-8)).astype(np.float32)


def train(images: Floats, labels: Array, channels: tuple[int, int], hidden: int, epochs: int, seed: int) -> Tensors:
    """Return the weights in ONNX's layouts, with the statistics that batch normalisation runs on.

    `images` is [rows, 8, 8] from 0 to 1, `labels` [rows] from 0 to 9. Each epoch shifts each image by up to a pixel.
    """
    drawn = np.random.default_rng(seed)
    weights = _initial(channels, hidden, drawn)
    optimiser = Adam(2e-3, epochs * (len(images) // BATCH))
    for _ in range(epochs):
        order = drawn.permutation(len(images))
        shifted = _shifted(images, drawn)
        for start in range(0, len(images) - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            optimiser.step(weights, _gradients(weights, shifted[chosen], labels[chosen]))
    return _exported(weights, images)


def _initial(channels: tuple[int, int], hidden: int, drawn: np.random.Generator) -> Weights:
    one, two = channels
    shapes = {"conv1_w": (9, one), "conv2_w": (9 * one, two), "dense1_w": (16 * two, hidden), "dense2_w": (hidden, 10)}
    weights = {name: drawn.normal(0, np.sqrt(2 / shape[0]), shape).astype(np.float32) for name, shape in shapes.items()}
    for name, size in (("conv1", one), ("conv2", two)):
        weights |= {f"{name}_scale": np.ones(size, np.float32), f"{name}_shift": np.zeros(size, np.float32)}
    return weights | {"dense1_b": np.zeros(hidden, np.float32), "dense2_b": np.zeros(10, np.float32)}


def _shifted(images: Floats, drawn: np.random.Generator) -> Floats:
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    rows, columns = drawn.integers(0, 3, (2, len(images), 1, 1))
    lines = np.arange(8)
    shifted: Floats = padded[np.arange(len(images))[:, None, None], rows + lines[:, None], columns + lines]
    return shifted


def _patches(maps: Floats) -> Floats:
    """Return [rows, 8, 8, 9 * channels]: the neighbourhood of each place, places outside as zero."""
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return np.concatenate([padded[:, y : y + 8, x : x + 8] for y in range(3) for x in range(3)], axis=3)


def _spread(patches: Floats, channels: int) -> Floats:
    """Return the transpose of `_patches`: the sum over the patches that each place is part of."""
    padded = np.zeros((len(patches), 10, 10, channels), np.float32)
    for place in range(9):
        y, x = divmod(place, 3)
        padded[:, y : y + 8, x : x + 8] += patches[..., place * channels : (place + 1) * channels]
    return padded[:, 1:9, 1:9]


def _normalised(sums: Floats) -> tuple[Floats, Floats]:
    mean, variance = sums.mean(axis=(0, 1, 2)), sums.var(axis=(0, 1, 2))
    spread = np.sqrt(variance + EPSILON)
    return (sums - mean) / spread, spread


def _normalised_back(gradient: Floats, normal: Floats, scale: Floats, spread: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the gradients of the sums, the scale and the shift."""
    of_scale, of_shift = (gradient * normal).sum(axis=(0, 1, 2)), gradient.sum(axis=(0, 1, 2))
    places = gradient.size // gradient.shape[-1]
    of_sums = scale / spread * (gradient - of_shift / places - normal * of_scale / places)
    return of_sums, of_scale, of_shift


def _block(weights: Weights, name: str, maps: Floats) -> tuple[Floats, tuple[Floats, Floats, Floats]]:
    patches = _patches(maps)
    normal, spread = _normalised(patches @ weights[f"{name}_w"])
    return np.maximum(normal * weights[f"{name}_scale"] + weights[f"{name}_shift"], 0), (patches, normal, spread)


def _block_back(
    weights: Weights, name: str, kept: tuple[Floats, Floats, Floats], gradient: Floats, found: Weights
) -> Floats:
    """Write the block's gradients to `found`; return the gradient of its patches."""
    patches, normal, spread = kept
    scale = weights[f"{name}_scale"]
    sums, found[f"{name}_scale"], found[f"{name}_shift"] = _normalised_back(gradient, normal, scale, spread)
    flat = sums.reshape(-1, sums.shape[-1])
    found[f"{name}_w"] = patches.reshape(-1, patches.shape[-1]).T @ flat
    return sums @ weights[f"{name}_w"].T


def _gradients(weights: Weights, images: Floats, labels: Array) -> Weights:
    """Return the gradients of the mean cross-entropy."""
    found: Weights = {}
    first, kept1 = _block(weights, "conv1", images[..., None])
    second, kept2 = _block(weights, "conv2", first)
    rows, two = len(images), second.shape[-1]
    windows = second.reshape(rows, 4, 2, 4, 2, two)
    pooled = windows.max(axis=(2, 4))
    flat = pooled.transpose(0, 3, 1, 2).reshape(rows, -1)
    hidden = np.maximum(flat @ weights["dense1_w"] + weights["dense1_b"], 0)
    of_logits = _softmax(hidden @ weights["dense2_w"] + weights["dense2_b"])
    of_logits[np.arange(rows), labels] -= 1
    of_logits /= rows
    found["dense2_w"], found["dense2_b"] = hidden.T @ of_logits, of_logits.sum(axis=0)
    of_hidden = of_logits @ weights["dense2_w"].T * (hidden > 0)
    found["dense1_w"], found["dense1_b"] = flat.T @ of_hidden, of_hidden.sum(axis=0)
    of_pooled = (of_hidden @ weights["dense1_w"].T).reshape(rows, two, 4, 4).transpose(0, 2, 3, 1)
    winners = (windows == pooled[:, :, None, :, None]) & (windows > 0)
    of_second = (winners * of_pooled[:, :, None, :, None]).reshape(second.shape)
    of_first = _spread(_block_back(weights, "conv2", kept2, of_second, found), first.shape[-1]) * (first > 0)
    _block_back(weights, "conv1", kept1, of_first, found)
    return found


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _exported(weights: Weights, images: Floats) -> Tensors:
    """Return kernels as [out, in, 3, 3], and the statistics of all training images in place of a batch's."""
    result: Tensors = dict(weights)
    maps = images[..., None]
    for name in ("conv1", "conv2"):
        inner = maps.shape[-1]
        sums = _patches(maps) @ weights[f"{name}_w"]
        mean, variance = sums.mean(axis=(0, 1, 2)), sums.var(axis=(0, 1, 2))
        result |= {f"{name}_mean": mean, f"{name}_var": variance}
        result[f"{name}_w"] = weights[f"{name}_w"].reshape(3, 3, inner, -1).transpose(3, 2, 0, 1)
        normal = (sums - mean) / np.sqrt(variance + EPSILON)
        maps = np.maximum(normal * weights[f"{name}_scale"] + weights[f"{name}_shift"], 0)
    return result
