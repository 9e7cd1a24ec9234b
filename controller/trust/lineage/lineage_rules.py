"""The rules of a lineage, one function each: whatever does not hold raises Broken with its code and the values.

They take statements whose signatures were checked (`lineage.py`), and the manifest that must follow from them.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from controller.trust.lineage.provenance import Judgement, StepRun, Upload
from controller.trust.lineage.statements import Files, as_words
from device_agent.protocol.fields import Fields
from device_agent.protocol.manifest import Manifest


class LineageCode(StrEnum):
    """Why a lineage is not believed. Malformed statements carry `E_MALFORMED[provenance]` and the like."""

    MISSING = "E_PROVENANCE_MISSING"
    SUBJECT = "E_PROVENANCE_SUBJECT"
    PARENT = "E_PROVENANCE_PARENT"
    SIGNATURE = "E_SIG_THRESHOLD[provenance]"
    HASH = "E_HASH_MISMATCH[lineage]"


class Broken(Exception):
    """The chain is broken here."""

    def __init__(self, code: LineageCode, detail: str) -> None:
        """Keep the code apart from the words."""
        self.code = code
        super().__init__(detail)


def only_one(found: Sequence[Any], what: str) -> Any:
    """Return the one statement of its kind, None where there is none; two of them are refused."""
    if len(found) > 1:
        raise Broken(LineageCode.SUBJECT, f"there are {len(found)} statements of one {what}")
    return found[0] if found else None


def source_of(uploads: Sequence[Upload], manifest: Manifest) -> Upload:
    """Return the upload of the manifest's own source."""
    upload: Upload | None = only_one(uploads, "upload")
    if upload is None:
        raise Broken(LineageCode.MISSING, "nobody has stated where the source comes from")
    if (upload.model, upload.version, upload.sha256) != (manifest.model, manifest.version, manifest.source_sha256):
        told = f"{upload.model} version {upload.version}, {upload.sha256}"
        wanted = f"{manifest.model} version {manifest.version}, {manifest.source_sha256}"
        raise Broken(LineageCode.SUBJECT, f"the upload is {told}; the manifest's source is {wanted}")
    return upload


def check_recipe(runs: Sequence[StepRun], manifest: Manifest) -> None:
    """Refuse what is not the recipe that the manifest names: every step once, in order, with its parameters."""
    recipe = Fields({"steps": [], **manifest.recipe}, "recipe")
    uses = recipe.children("steps", lambda use: (use.text("step"), use.raw("parameters") or {}))
    for number, (step, given) in enumerate(uses, start=1):
        run = next((run for run in runs if run.number == number), None)
        if run is None:
            detail = f"step {number} of {len(uses)}, {step}, is not stated"
            raise Broken(LineageCode.MISSING, detail)
        if run.step != step or not _is_stated(given, dict(run.parameters)):
            told = f"{run.step} with {dict(run.parameters)}; the manifest's recipe says {step} with {given}"
            raise Broken(LineageCode.SUBJECT, f"step {number} was {told}")
    if len(runs) != len(uses):
        raise Broken(LineageCode.SUBJECT, f"{len(runs)} steps are stated; the manifest's recipe has {len(uses)}")


def _is_stated(given: Any, stated: Any) -> bool:
    """Tell whether a parameter was stated as it was given; 1 and 1.0 are the same number."""
    if isinstance(given, dict):
        return isinstance(stated, dict) and all(_is_stated(value, stated.get(key)) for key, value in given.items())
    if isinstance(given, list | tuple):
        same_length = isinstance(stated, list) and len(given) == len(stated)
        return same_length and all(_is_stated(one, other) for one, other in zip(given, stated, strict=True))
    if isinstance(given, int | float) and not isinstance(given, bool) and isinstance(stated, str):
        return stated in {as_words(given), as_words(float(given))}
    return bool(given == stated)


def check_chain(runs: Sequence[StepRun], source: Upload, manifest: Manifest) -> None:
    """Follow the files from the source through every step to the manifest."""
    made = {manifest.main: source.sha256}
    for run in runs:
        _check_materials(run, made, source)
        made = dict(run.outputs)
    wanted = _files(manifest)
    if made != wanted:
        by = f"step {len(runs)}, {runs[-1].step}, made" if runs else "the upload is"
        raise Broken(LineageCode.SUBJECT, f"{by} {_words(made)}; the manifest names {_words(wanted)}")


def _check_materials(run: StepRun, before: Files, source: Upload) -> None:
    if dict(run.inputs) != dict(before):
        detail = f"step {run.number}, {run.step}, was given {_words(run.inputs)}; before it there was {_words(before)}"
        raise Broken(LineageCode.PARENT, detail)
    _check_data(run.step, run.data, source)


def _check_data(what: str, data: Files, source: Upload) -> None:
    if unknown := {role: sha256 for role, sha256 in data.items() if source.data.get(role) != sha256}:
        detail = f"{what} used {_words(unknown)}; with the source came {_words(source.data) or 'no data'}"
        raise Broken(LineageCode.PARENT, detail)


def check_behaviour(golden: StepRun | None, judgement: Judgement | None, source: Upload, manifest: Manifest) -> None:
    """Hold golden tensors and figures to the files that they were drawn and judged from."""
    name, files = manifest.behaviour.golden, _files(manifest)
    if name is None:
        return
    if golden is None or judgement is None:
        raise Broken(LineageCode.MISSING, "nobody has stated how the files were evaluated")
    _check_materials(golden, files, source)
    drawn = {entry.name: entry.sha256 for entry in manifest.artifacts if entry.name == name}
    if dict(golden.outputs) != drawn:
        detail = f"the golden tensors are {_words(golden.outputs)}; the manifest names {_words(drawn)}"
        raise Broken(LineageCode.SUBJECT, detail)
    if dict(judgement.files) != files:
        detail = f"{_words(judgement.files)} was judged; the manifest names {_words(files)}"
        raise Broken(LineageCode.SUBJECT, detail)
    _check_data("the judgement", judgement.data, source)
    if judgement.figures != as_words(manifest.behaviour.evaluation):
        detail = f"figures {dict(judgement.figures)} were judged; the manifest says {manifest.behaviour.evaluation}"
        raise Broken(LineageCode.SUBJECT, detail)
    if not judgement.passed:
        raise Broken(LineageCode.MISSING, f"no judgement was passed: {judgement.words}")


def _files(manifest: Manifest) -> dict[str, str]:
    return {entry.name: entry.sha256 for entry in manifest.artifacts if entry.name != manifest.behaviour.golden}


def _words(files: Files) -> str:
    return ", ".join(f"{name} {sha256[:12]}" for name, sha256 in sorted(files.items()))
