"""The jobs of this package, each in a confined child: inspect, compress, evaluate, prove.

Every function returns a typed finding. InvalidInput is a reason that will stay; JobFailed (the child was ended, or
broke) may not happen again.
"""

import json
from pathlib import Path

from controller.artifacts.child_process import NO_HEARTBEAT, Heartbeat, Limits, run_confined, run_job
from controller.artifacts.errors import JobFailed, ProofFailed
from controller.artifacts.findings import Compression, Evaluation, Inspection
from controller.domain.errors import InvalidInput

SELF_TEST = "device_agent.serving.selftest"
MANIFEST_FILE = "manifest.json"


def inspect(model: Path, evaluation: Path | None, limits: Limits) -> Inspection:
    """Inspect an ONNX upload. A child that dies of it speaks against the upload: InvalidInput(`inspection_failed`)."""
    try:
        found = run_job("controller.artifacts.inspection", _present(model, evaluation), limits, NO_HEARTBEAT)
    except JobFailed as failure:
        raise InvalidInput(
            f"the model could not be inspected: {failure}", code="inspection_failed", field="/artifact_sha256"
        ) from failure
    return Inspection.from_json(found)


def compress(
    recipe: str, source: Path, target: Path, calibration: Path | None, limits: Limits, heartbeat: Heartbeat
) -> Compression:
    """Write the variant that the recipe makes of the source to `target`."""
    arguments = [recipe, *_present(source, target, calibration)]
    return Compression.from_json(run_job("controller.artifacts.compression", arguments, limits, heartbeat))


def evaluate(
    source: Path, variant: Path, golden: Path, evaluation: Path | None, limits: Limits, heartbeat: Heartbeat
) -> Evaluation:
    """Measure the variant beside its source and write its golden tensors to `golden`."""
    arguments = _present(source, variant, golden, evaluation)
    return Evaluation.from_json(run_job("controller.artifacts.evaluation", arguments, limits, heartbeat))


def prove(directory: Path, manifest: bytes, artifacts: dict[str, Path], limits: Limits, heartbeat: Heartbeat) -> float:
    """Run the device's own self-test on a variant as a device would hold it, put together in `directory`.

    Returns the largest difference from the golden outputs; ProofFailed when a device would refuse the variant.
    """
    (directory / MANIFEST_FILE).write_bytes(manifest)
    for name, path in artifacts.items():
        (directory / name).symlink_to(path.resolve())
    finished = run_confined(SELF_TEST, [directory], limits, heartbeat)
    try:
        verdict = json.loads(finished.output)
    except ValueError as error:
        raise JobFailed(f"the self-test ended with exit code {finished.exit_code}: {finished.errors}") from error
    if finished.exit_code != 0:
        raise ProofFailed(f"devices would refuse it with {verdict['code']}: {verdict['message']}")
    return float(verdict["max_difference"])


def _present(*paths: Path | None) -> list[str | Path]:
    return [path for path in paths if path is not None]
