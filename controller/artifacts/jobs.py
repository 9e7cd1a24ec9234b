"""The jobs of this package, each in a confined child: inspect, compress, evaluate, prove, measure.

Every function returns a typed finding. InvalidInput is a reason that will stay; JobFailed (the child was ended, or
broke) may not happen again.
"""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

from controller.artifacts.child_process import NO_HEARTBEAT, Heartbeat, Limits, result_of, run_confined, run_job
from controller.artifacts.errors import JobFailed, ProofFailed
from controller.artifacts.findings import MAIN_FILE, NO_FILE, Comparison, Inspection, StepResult
from controller.artifacts.processor import processor_name
from controller.domain.costs import Cost, DeviceClass, unfit
from controller.domain.errors import InvalidInput

SELF_TEST = "device_agent.serving.selftest"
MEASUREMENT = "controller.artifacts.measurement"
OUT_OF_MEMORY_SIGNALS = frozenset({signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS})
MANIFEST_FILE = "manifest.json"


def inspect(
    model: Path, evaluation: Path | None, limits: Limits, calibration: Path | None = None, metric: str = "auto"
) -> Inspection:
    """Inspect an ONNX upload. A child that dies of it speaks against the upload: InvalidInput(`inspection_failed`)."""
    arguments = [model, evaluation or NO_FILE, calibration or NO_FILE, metric]
    try:
        found = run_job("controller.artifacts.inspection", arguments, limits, NO_HEARTBEAT)
    except JobFailed as failure:
        raise InvalidInput(
            f"the model could not be inspected: {failure}", code="inspection_failed", field="/artifact_sha256"
        ) from failure
    return Inspection.from_json(found)


def run_step(
    step: str,
    parameters: dict[str, Any],
    source: Path,
    target: Path,
    calibration: tuple[Path, str] | None,
    limits: Limits,
    heartbeat: Heartbeat,
) -> StepResult:
    """Write what the step makes of the source into the folder `target`; `calibration` is a file and which rows."""
    arguments = [step, json.dumps(parameters), source, target, *(calibration or ())]
    return StepResult.from_json(run_job("controller.artifacts.step_job", arguments, limits, heartbeat))


def evaluate(
    source: Path,
    variant: Path,
    golden: Path,
    evaluation: Path | None,
    limits: Limits,
    heartbeat: Heartbeat,
    metric: str = "auto",
    held_out: bool = False,
) -> Comparison:
    """Measure the variant beside its source and write its golden tensors to `golden`.

    `held_out` leaves out the half of the evaluation data that the variant has learnt from.
    """
    arguments = [source, variant, golden, metric, str(int(held_out)), *_present(evaluation)]
    return Comparison.from_json(run_job("controller.artifacts.evaluation", arguments, limits, heartbeat))


def prove(directory: Path, manifest: bytes, artifacts: dict[str, Path], limits: Limits, heartbeat: Heartbeat) -> float:
    """Run the device's own self-test on a variant as a device would hold it, put together in `directory`.

    Returns the largest difference from the golden outputs; ProofFailed when a device would refuse the variant.
    """
    (directory / MANIFEST_FILE).write_bytes(manifest)
    for name, path in artifacts.items():
        lay_out(path, directory / name)
    finished = run_confined(SELF_TEST, [directory], limits, heartbeat)
    try:
        verdict = json.loads(finished.output)
    except ValueError as error:
        raise JobFailed(f"the self-test ended with exit code {finished.exit_code}: {finished.errors}") from error
    if finished.exit_code != 0:
        raise ProofFailed(f"devices would refuse it with {verdict['code']}: {verdict['message']}")
    return float(verdict["max_difference"])


def pack(source: Path, target: Path, limits: Limits, heartbeat: Heartbeat) -> int | None:
    """Write the form in which an artifact travels to `target` and return its length; None where it is not worth it."""
    found = run_job("controller.artifacts.packing", [source, target], limits, heartbeat)
    return int(found["length"]) if found["packed"] else None


def _present(*paths: Path | None) -> list[str | Path]:
    return [path for path in paths if path is not None]


def lay_out(stored: Path, named: Path) -> None:
    """Give stored bytes a name in a folder of the same disk, without a copy where that is possible.

    Weights that lie apart from their graph are copied: ONNX takes a link to them, of either kind, for an attack.
    """
    if named.name == MAIN_FILE:
        named.hardlink_to(stored)
    else:
        shutil.copyfile(stored, named)


def measure(
    model: Path,
    inputs: Path,
    device_class: DeviceClass,
    limits: Limits,
    heartbeat: Heartbeat,
    lock: Path | None = None,
) -> Cost:
    """Measure the variant as a device of the class would run it, on one request out of the golden file `inputs`.

    Only one measurement at a time goes on under the same `lock`, a file that is made when missing; waiting for it
    counts as time of the job. A variant that cannot run within the class's memory is an answer: `fits` is False.
    InvalidInput and JobFailed as for the other jobs, where the class's memory is not what failed.
    """
    wanted = [model, inputs, str(device_class.threads), str(device_class.memory_bytes or 0), *_present(lock)]
    finished = run_confined(MEASUREMENT, wanted, limits, heartbeat)
    if device_class.memory_bytes is not None and -finished.exit_code in OUT_OF_MEMORY_SIGNALS:
        # Not every part of the runtime can be told that there is no memory: some end their process instead.
        name = signal.Signals(-finished.exit_code).name
        reason = (
            f"cannot load and run within {device_class.memory_bytes} bytes of memory: the runtime ended with {name}"
        )
        return unfit(device_class, reason, processor_name())
    return Cost.from_json(result_of(MEASUREMENT, finished, limits))
