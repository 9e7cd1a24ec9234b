"""Where to saturate numbers before they are quantized: three rules, and what a bound does to a grid's error.

The least-error rule searches the bound with the smallest squared error of a uniform grid, the error of what it cuts
off included (OMSE: Choukroun, Kravchik, Yang and Kisilev, "Low-bit Quantization of Neural Networks for Efficient
Inference", 2019; Banner, Nahshan and Soudry, "Post training 4-bit quantization", 2019, solve the same for an assumed
distribution). The search measures and assumes nothing.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Doubles = npt.NDArray[np.float64]

FRACTIONS = np.geomspace(1 / 64, 1.0, 65)
"""Bounds that the search tries, as shares of the largest size; the last one saturates nothing."""
TRIED_NUMBERS = 2**20
"""The search looks at about this many numbers: all of the largest, and evenly spread ones of the rest."""
TRIED_MIN = 1024


def by_percentile(rows: Floats, percentile: float) -> Doubles:
    """Return the percentile of |value| of each row of [rows, values].

    Where that is zero, as after pruning, the bound is the largest size: zero would erase the row.
    """
    return _never_zero(np.percentile(np.abs(rows), percentile, axis=1), rows)


def by_sigma(rows: Floats, k: float) -> Doubles:
    """Return k standard deviations of each row of [rows, values], but no more than the largest size."""
    bounds = np.minimum(k * rows.std(axis=1, dtype=np.float64), _largest(rows))
    return _never_zero(bounds, rows)


def by_least_error(rows: Floats, bits: int, *, signed: bool = True) -> Doubles:
    """Return for each row of [rows, values] the bound of the grid with the smallest squared error."""
    sizes, counts = _thinned(rows)
    largest = _largest(rows)
    best, errors = largest, _grid_error(sizes, largest, bits, signed=signed, counts=counts)
    # Downwards, so that of equal errors the bound that saturates less is taken.
    for fraction in FRACTIONS[-2::-1]:
        bounds = largest * fraction
        tried = _grid_error(sizes, bounds, bits, signed=signed, counts=counts)
        best, errors = np.where(tried < errors, bounds, best), np.minimum(tried, errors)
    return best


def grid_error(rows: Floats, bounds: Doubles, bits: int, *, signed: bool = True) -> Doubles:
    """Return the squared error of each row of [rows, values] on a uniform grid of `bits` up to its bound.

    Signed grids have the steps -(2^(bits-1) - 1) to 2^(bits-1) - 1, others 0 to 2^bits - 1.
    """
    return _grid_error(rows, bounds, bits, signed=signed, counts=1.0)


def _grid_error(rows: Floats, bounds: Doubles, bits: int, *, signed: bool, counts: Doubles | float) -> Doubles:
    top = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    steps = np.where(bounds > 0, bounds / top, 1.0)[:, None].astype(np.float32)
    rounded = np.clip(np.rint(rows / steps), -top if signed else 0, top) * steps
    errors: Doubles = (np.square(rounded - rows, dtype=np.float64) * counts).sum(axis=1)
    return errors


def _thinned(rows: Floats) -> tuple[Floats, Doubles]:
    """Return sizes that stand for all of each row, and how many each column of them stands for.

    The largest stand for themselves, for what a bound cuts off is few and weighs much.
    """
    kept = max(TRIED_MIN, TRIED_NUMBERS // len(rows)) // 2
    ordered = -np.sort(-np.abs(rows), axis=1)
    rest = ordered[:, kept:]
    every = max(1, -(-rest.shape[1] // kept))
    spread = rest[:, every // 2 :: every]
    share = rest.shape[1] / spread.shape[1] if spread.shape[1] else 1.0
    counts = np.concatenate([np.ones(min(kept, ordered.shape[1])), np.full(spread.shape[1], share)])
    return np.concatenate([ordered[:, :kept], spread], axis=1), counts


def _largest(rows: Floats) -> Doubles:
    sizes: Doubles = np.abs(rows).max(axis=1).astype(np.float64)
    return sizes


def _never_zero(bounds: Doubles, rows: Floats) -> Doubles:
    return np.where(bounds > 0, bounds, _largest(rows))
