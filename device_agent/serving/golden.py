"""Golden tensors of a model directory: known inputs with the outputs that the manifest signs."""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from device_agent.serving.errors import LoadError
from device_agent.serving.tensors import Array


@dataclass(frozen=True)
class Golden:
    """Inputs and the outputs that belong to them, by tensor name, all rows stacked along the first axis."""

    inputs: dict[str, Array]
    outputs: dict[str, Array]


def read_golden(path: Path) -> Golden:
    """Read the arrays `input:NAME` and `output:NAME`; LoadError when the file does not hold them."""
    kinds: dict[str, dict[str, Array]] = {"input": {}, "output": {}}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            for key in arrays.files:
                kind, _, name = key.partition(":")
                kinds[kind][name] = arrays[key]
    except (OSError, ValueError, TypeError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise LoadError(f"{path.name} does not hold golden tensors: {error!r}") from error
    return Golden(kinds["input"], kinds["output"])
