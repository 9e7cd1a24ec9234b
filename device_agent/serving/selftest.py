"""Prove a model directory: `python -m device_agent.serving.selftest DIRECTORY`.

Loads the main artifact as the inference process would, runs all golden rows at once and compares every output
with the signed one by the manifest's tolerances: |got - wanted| <= absolute + relative * |wanted|, the rule of
numpy.allclose. One JSON line on standard output tells the result; the exit code is

 0  it behaves: `{"ok": true, "max_difference": 1e-6}`
 3  it runs and behaves differently: `{"ok": false, "code": "E_BEHAVIOUR", "message"}`
 4  it cannot be loaded or run: `{"ok": false, "code": "E_LOAD", "message"}`
 5  it wants data from outside of its folder: `{"ok": false, "code": "E_MANIFEST_PATH", "message"}`

Run it in a child with limits on memory and time: a model that exhausts them ends the child, whatever the code.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.manifest import Behaviour, Manifest, parse_manifest
from device_agent.serving.errors import LoadError, ServingError
from device_agent.serving.golden import Golden, read_golden
from device_agent.serving.session import load_model
from device_agent.serving.tensors import Array

EXIT_CODES = {Code.BEHAVIOUR: 3, Code.LOAD: 4, Code.MANIFEST_PATH: 5}
MANIFEST_FILE = "manifest.json"


class BehaviourDiffers(ServingError):
    """An output is not what the manifest signs."""

    code = Code.BEHAVIOUR


def main(arguments: list[str] | None = None) -> int:
    """Test the directory named on the command line, print the result and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m device_agent.serving.selftest")
    parser.add_argument("directory", type=Path, help="a model directory with its manifest.json")
    directory = parser.parse_args(arguments).directory
    try:
        result: dict[str, object] = {"ok": True, "max_difference": prove(directory)}
        exit_code = 0
    except (LoadError, BehaviourDiffers) as error:
        result = {"ok": False, "code": error.code, "message": str(error)}
        exit_code = EXIT_CODES[error.code]
    sys.stdout.write(json.dumps(result) + "\n")
    return exit_code


def prove(directory: Path) -> float:
    """Return the largest difference between a golden output and what the model answers.

    Raises BehaviourDiffers when one is beyond the tolerances, LoadError when there is nothing to compare.
    """
    manifest = _read_manifest(directory / MANIFEST_FILE)
    if manifest.behaviour.golden is None:
        raise LoadError(f"the manifest of {manifest.model} names no golden tensors; nothing can be proven")
    golden = read_golden(directory / manifest.behaviour.golden)
    answers = _run(directory / manifest.main, golden)
    differences = [compare(name, answers[name], wanted, manifest.behaviour) for name, wanted in golden.outputs.items()]
    return max(differences)


def _read_manifest(path: Path) -> Manifest:
    try:
        return parse_manifest(path.read_bytes())
    except (OSError, ProtocolError) as error:
        raise LoadError(f"the manifest cannot be read: {error}") from error


def _run(main: Path, golden: Golden) -> dict[str, Array]:
    try:
        model = load_model(main)
    except MemoryError as error:
        raise LoadError("out of memory") from error
    outputs = list(model.signature.outputs)
    if set(outputs) != set(golden.outputs):
        raise LoadError(f"golden outputs are {sorted(golden.outputs)}; the model has {sorted(outputs)}")
    try:
        return dict(zip(outputs, model.run(outputs, golden.inputs), strict=True))
    except (ServingError, MemoryError) as error:
        raise LoadError(str(error) or "out of memory") from error


def compare(name: str, got: Array, wanted: Array, behaviour: Behaviour) -> float:
    """Return the largest difference within one output; 0.0 for equal texts and truth values.

    Raises BehaviourDiffers when the form differs or a value lies outside the tolerances; NaN always does.
    """
    if got.shape != wanted.shape or got.dtype.kind != wanted.dtype.kind:
        raise BehaviourDiffers(
            f"output {name!r} is {got.dtype}{list(got.shape)}; signed {wanted.dtype}{list(wanted.shape)}"
        )
    if got.dtype.kind not in "fiu":
        equal = got == wanted
        difference = np.where(equal, 0.0, 1.0)
    else:
        with np.errstate(invalid="ignore"):
            difference = np.abs(got.astype(np.float64) - wanted.astype(np.float64))
        equal = difference <= behaviour.absolute_tolerance + behaviour.relative_tolerance * np.abs(wanted)
    if not equal.all():
        raise BehaviourDiffers(
            f"output {name!r} differs in {np.count_nonzero(~equal)} of {equal.size} values, "
            f"by up to {difference.max():g}"
        )
    return float(difference.max(initial=0.0))


if __name__ == "__main__":
    sys.exit(main())
