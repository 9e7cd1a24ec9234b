"""A variant's behaviour, measured again here: golden outputs as a device compares them, and the signed figures.

Models are hostile until shown otherwise: everything that reads one runs in the confined child processes of
`controller.artifacts.jobs`, as on the worker.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from controller.artifacts import jobs
from controller.artifacts.child_process import NO_HEARTBEAT, Limits
from controller.artifacts.errors import ArtifactsError
from controller.artifacts.findings import Evaluation
from controller.domain.errors import InvalidInput
from controller.domain.promise import AUTO, ROUNDING, Promise, broken, compared
from controller.release_desk.report import DeskCode, DeskRefusal
from device_agent.protocol.manifest import Manifest

VALUES = ("value", "source_value")
TOLERANCE_FACTOR = 10.0
"""By how much the signed tolerance may exceed the one measured here: processors differ in how they round."""


def prove(folder: Path, raw: bytes, manifest: Manifest, files: Mapping[str, Path], limits: Limits) -> str:
    """Lay the variant out in `folder` and run the device's self-test; return what was found, in words.

    DeskRefusal(BEHAVIOUR) when a device would refuse it.
    """
    if manifest.behaviour.golden is None:
        return "opaque: it is delivered as it is, and nothing can be run"
    try:
        difference = jobs.prove(folder, raw, dict(files), limits, NO_HEARTBEAT)
    except ArtifactsError as error:
        raise DeskRefusal(DeskCode.BEHAVIOUR, str(error)) from error
    return (
        f"golden outputs differ by {difference:.2g} at most; "
        f"{manifest.behaviour.absolute_tolerance:.2g} is signed as the tolerance"
    )


def evaluate(folder: Path, manifest: Manifest, source: Path, data: Path | None, limits: Limits) -> Evaluation:
    """Measure the variant in `folder`, where `prove` laid it out, beside its source; without data there are no figures.

    DeskRefusal(EVALUATION) where it cannot be measured here.
    """
    metric, samples = (manifest.behaviour.evaluation.get(name) for name in ("metric", "samples"))
    if (metric is None) != (data is None):
        told = f"the manifest has figures of {metric}" if data is None else "the manifest has no figures"
        there = "there is no evaluation data" if data is None else "there is evaluation data"
        raise DeskRefusal(DeskCode.EVALUATION, f"{told}, and {there}")
    if data is None:
        return _measure(folder, manifest, source, None, limits, held_out=False)
    # A variant that has learnt from one half of the data was judged on the other: the signed number of samples tells.
    for held_out in (False, True):
        found = _measure(folder, manifest, source, data, limits, held_out=held_out)
        if found.samples == samples:
            return found
    told = f"the manifest says {samples} samples; the half of the data that judges has {found.samples} here"
    raise DeskRefusal(DeskCode.EVALUATION, told)


def compare(manifest: Manifest, found: Evaluation, promises: tuple[Promise, ...]) -> str:
    """Hold the measured figures against the signed ones and against promises; return them in words.

    A figure may differ by one sample's share or by the signed relative tolerance, whichever is more: processors round
    differently, and the closest decision of all may fall to the other side. DeskRefusal(EVALUATION).
    """
    _refuse_loose_tolerance(manifest, found)
    signed, measured = manifest.behaviour.evaluation, found.figures()
    if signed.get("metric") != found.metric:
        told = f"the manifest's figures are of {signed.get('metric')}; measured here was {found.metric}"
        raise DeskRefusal(DeskCode.EVALUATION, told)
    if found.metric is None:
        return "no evaluation data: nothing is promised, and nobody knows how right it is"
    for name in VALUES:
        _refuse_other_value(name, signed.get(name), measured[name], manifest, found.samples)
    for promise in promises:
        why_not = broken(measured, promise)
        if why_not:
            raise DeskRefusal(DeskCode.EVALUATION, f"measured here, it breaks its promise: {why_not}")
    return f"measured here: {compared(measured)}"


def _measure(
    folder: Path, manifest: Manifest, source: Path, data: Path | None, limits: Limits, *, held_out: bool
) -> Evaluation:
    metric = manifest.behaviour.evaluation.get("metric")
    golden, variant = folder / "golden-of-the-desk.npz", folder / manifest.main
    wanted = AUTO if metric is None else str(metric)
    try:
        found = jobs.evaluate(source, variant, golden, data, limits, NO_HEARTBEAT, metric=wanted, held_out=held_out)
    except (InvalidInput, ArtifactsError) as error:
        raise DeskRefusal(DeskCode.EVALUATION, f"it cannot be evaluated here: {error}") from error
    return found.evaluation


def _refuse_loose_tolerance(manifest: Manifest, found: Evaluation) -> None:
    # A tolerance that lets everything pass would make the devices' own test worthless.
    signed = manifest.behaviour
    for name in ("absolute_tolerance", "relative_tolerance"):
        value, here = getattr(signed, name), getattr(found, name)
        if value > TOLERANCE_FACTOR * here:
            told = f"{name} is {value:.3g} in the manifest and {here:.3g} as measured here"
            raise DeskRefusal(DeskCode.BEHAVIOUR, f"{told}; at most {TOLERANCE_FACTOR:.0f} times as much is signed")


def _refuse_other_value(name: str, signed: Any, found: float | None, manifest: Manifest, samples: int) -> None:
    if not isinstance(signed, int | float) or found is None:
        raise DeskRefusal(DeskCode.EVALUATION, f"{name} is {signed!r} in the manifest and {found!r} here")
    allowed = max(1 / samples, manifest.behaviour.relative_tolerance * abs(signed)) + ROUNDING
    if not abs(found - signed) <= allowed:
        raise DeskRefusal(
            DeskCode.EVALUATION,
            f"{name} is {signed:.4f} in the manifest and {found:.4f} here, on the same {samples} samples; "
            f"they may differ by {allowed:.4f}",
        )
