"""The step job: one compression step, from one folder of files to another.

    python -m controller.artifacts.step_job STEP PARAMETERS SOURCE TARGET [CALIBRATION ROWS]

PARAMETERS is JSON; SOURCE is a model file, TARGET a folder for the result. ROWS is `all` for a calibration file and
`even` for evaluation data, of which the other half then judges. Started by `jobs.run_step` in a confined child.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import onnx

from controller.artifacts.behaviour.samples import read_inputs, read_samples, split
from controller.artifacts.confinement import answer
from controller.artifacts.findings import ALL_ROWS, EVEN_ROWS, MAIN_FILE, StepResult
from controller.artifacts.graph.facts import describe
from controller.artifacts.graph.reading import read_model
from controller.artifacts.progress import tell
from controller.artifacts.steps.interface import Calibration, inapplicable
from controller.artifacts.steps.parameters import read_parameters


def run_step(
    step: str, parameters: dict[str, Any], source: Path, target: Path, calibration: Path | None, rows: str
) -> StepResult:
    """Write the changed model below `target`; InvalidInput when the step does not apply."""
    module = importlib.import_module(f"controller.artifacts.steps.{step}")
    model = read_model(source)
    before = describe(model)
    read = read_parameters(step, parameters)
    applied = module.apply(model, read, _calibration(calibration, rows, before.inputs), tell)
    after = describe(applied.model)
    if (after.inputs, after.outputs) != (before.inputs, before.outputs):
        raise inapplicable(
            f"{step} would change what the model takes and gives, which applications rely on; leave it out"
        )
    if hasattr(module, "write"):
        files = module.write(applied.model, target, read)
    else:
        onnx.save(applied.model, target / MAIN_FILE)
        files = [target / MAIN_FILE]
    return StepResult(after, applied.facts, tuple(path.name for path in files))


def _calibration(path: Path | None, rows: str, specs: Any) -> Calibration | None:
    if path is None:
        return None
    return split(read_samples(path, specs))[0] if rows == EVEN_ROWS else read_inputs(path, specs)


def main(arguments: list[str]) -> dict[str, Any]:
    """Run the step named on the command line."""
    step, parameters, source, target, *rest = arguments
    calibration, rows = (Path(rest[0]), rest[1]) if rest else (None, ALL_ROWS)
    return run_step(step, json.loads(parameters), Path(source), Path(target), calibration, rows).to_json()


if __name__ == "__main__":
    answer(lambda: main(sys.argv[1:]))
