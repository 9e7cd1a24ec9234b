"""Trained weights kept between runs, because training would take longer than a quick measurement.

They lie in the user's cache folder, under a name that changes with the code and the libraries that trained them.
"""

import hashlib
import inspect
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import sklearn
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from controller.artifacts.graph.sessions import Tensors
from ops.benchmarks.findings import progress


def trained(name: str, train: Callable[[], Tensors], *modules: ModuleType, folder: Path | None = None) -> Tensors:
    """Return what `train` returned when the code of `modules` was last as it is now, or train."""
    path = (folder or cache_folder()) / f"{name}-{_fingerprint(modules)}.npz"
    if path.exists():
        with np.load(path, allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}
    progress(f"training {name} (once; kept in {path.parent})")
    # One thread, so that sums are taken in the same order on every machine with the same processor.
    with threadpool_limits(1):
        arrays = train()
    for outdated in path.parent.glob(f"{name}-*.npz"):
        outdated.unlink(missing_ok=True)
    _write(path, arrays)
    return arrays


def cache_folder() -> Path:
    """Return the folder for what can be made again, after the XDG base directory specification."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(given) if given else Path.home() / ".cache") / "edgefleet-benchmarks"


def _fingerprint(modules: tuple[ModuleType, ...]) -> str:
    parts = [np.__version__, sklearn.__version__, *(inspect.getsource(module) for module in modules)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _write(path: Path, arrays: Tensors) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
        named: dict[str, Any] = dict(arrays)
        np.savez(file, **named)
    Path(file.name).replace(path)
