"""More rows to learn from than were given: unlabelled rows with noise, mixed in pairs, and images moved by a pixel.

A student sees only what its teacher answers, so a copy needs no label; it has to lie where inputs may lie. Every
copy of a row gets noise in proportion to each feature's spread, so a feature that never varies stays as it is. Every
second copy is a mix of two rows (Zhang et al., "mixup", 2018), at least half of it the row itself.

Images are also moved by up to one pixel each way, their edges repeated. What counts as an image:

 1. [rows, channels, height, width], up to 4 channels, both sides 5 or more
 2. [rows, side * side] with a side of 5 or more, where neighbours are alike: their mean correlation across and down
    is at least NEIGHBOURS_MIN, and twice that of features paired at random. Tables pass for neither.
"""

import math

import numpy as np

from controller.artifacts.graph.weights import Floats

NOISE = 0.1
"""Standard deviation of the noise, as a share of the feature's own."""
SIDE_MIN = 5
CHANNELS_MAX = 4
NEIGHBOURS_MIN = 0.2
_JUDGED_ROWS = 1000
_SEED = 20_240_229

Image = tuple[int, int, int]
"""Channels, height and width."""


def augmented(rows: Floats, copies: int, *, seed: int) -> Floats:
    """Return the rows and then `copies` changed copies of all of them, float32 [rows * (copies + 1), ...]."""
    generator = np.random.default_rng(seed)
    image = image_of(rows)
    spread = rows.std(axis=0, dtype=np.float64).astype(np.float32)
    result = np.empty((len(rows) * (copies + 1), *rows.shape[1:]), np.float32)
    result[: len(rows)] = rows
    for number in range(1, copies + 1):
        copy = moved(rows, image, generator) if image else rows
        if number % 2 == 0:
            copy = _mixed(copy, generator)
        noise = generator.standard_normal(rows.shape, dtype=np.float32)
        result[number * len(rows) : (number + 1) * len(rows)] = copy + NOISE * spread * noise
    return result


def image_of(rows: Floats) -> Image | None:
    """Return what the rows show if they count as images by the rules above; None otherwise."""
    if rows.ndim == 2:
        side = math.isqrt(rows.shape[1])
        squares = side * side == rows.shape[1] and side >= SIDE_MIN
        return (1, side, side) if squares and _neighbours_are_alike(rows[:_JUDGED_ROWS], side) else None
    if rows.ndim == 4 and rows.shape[1] <= CHANNELS_MAX and min(rows.shape[2:]) >= SIDE_MIN:
        return rows.shape[1], rows.shape[2], rows.shape[3]
    return None


def moved(rows: Floats, image: Image, generator: np.random.Generator) -> Floats:
    """Return every image moved by -1, 0 or 1 pixels down and across, each its own way."""
    _, height, width = image
    images = rows.reshape(-1, *image)
    result = np.empty_like(images)
    directions = generator.integers(-1, 2, (len(images), 2))
    for down, across in np.unique(directions, axis=0):
        here = (directions == (down, across)).all(axis=1)
        lines = np.clip(np.arange(height) - down, 0, height - 1)
        columns = np.clip(np.arange(width) - across, 0, width - 1)
        result[here] = images[here][:, :, lines][:, :, :, columns]
    return result.reshape(rows.shape)


def _mixed(rows: Floats, generator: np.random.Generator) -> Floats:
    shares = generator.uniform(0.5, 1.0, (len(rows),) + (1,) * (rows.ndim - 1)).astype(np.float32)
    mixed: Floats = shares * rows + (1 - shares) * rows[generator.permutation(len(rows))]
    return mixed


def _neighbours_are_alike(rows: Floats, side: int) -> bool:
    spread = rows.std(axis=0, dtype=np.float64)
    varies = spread > 0
    standard = ((rows - rows.mean(axis=0)) / np.where(varies, spread, 1)).T
    places = np.arange(side * side).reshape(side, side)

    def alike(first: np.ndarray, second: np.ndarray) -> float:
        both = varies[first] & varies[second]
        if not both.any():
            return 0.0
        return float((standard[first[both]] * standard[second[both]]).mean())

    across = alike(places[:, :-1].ravel(), places[:, 1:].ravel())
    down = alike(places[:-1].ravel(), places[1:].ravel())
    at_random = alike(places.ravel(), np.random.default_rng(_SEED).permutation(places.ravel()))
    return min(across, down) >= max(NEIGHBOURS_MIN, 2 * at_random)
