"""A workbench for one reference model: variants made by the controller's own steps, packed and judged by its code."""

import logging
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import quantize_dynamic

from controller.artifacts.behaviour.comparison import compare
from controller.artifacts.behaviour.samples import Samples
from controller.artifacts.findings import ALL_ROWS, MAIN_FILE
from controller.artifacts.graph.sessions import Session
from controller.artifacts.packing import pack_file
from controller.artifacts.recipes import RECIPES, StepUse
from controller.artifacts.step_job import run_step
from controller.domain.promise import AUTO
from ops.benchmarks.reference_models.reference import Reference, write_rows

PEER = "peer_quantize_dynamic"


@dataclass(frozen=True)
class Built:
    """A variant on disk."""

    name: str
    model: Path
    """The graph; further files of the variant lie beside it."""
    seconds: float
    """What making it took."""


@dataclass(frozen=True)
class Made:
    """A variant on disk, packed and judged."""

    built: Built
    bytes: int
    wire_bytes: int
    """What a device downloads: each file packed, or as it is where packing gains nothing."""
    figures: dict[str, Any]
    """By the names of `controller.artifacts.findings.Evaluation`."""


class Workbench:
    """The files of one reference model in a folder, and what is made of them there."""

    def __init__(self, reference: Reference, folder: Path) -> None:
        """Write the model and its calibration rows into `folder`, and have the source answer the evaluation rows."""
        self.reference = reference
        self.source = folder / "source.onnx"
        self.row = folder / "row.npz"
        self._folder = folder
        self._calibration = folder / "calibration.npz"
        self._built: dict[str, Built] = {}
        onnx.save(reference.model, self.source)
        write_rows(self.row, reference.row())
        write_rows(self._calibration, reference.calibration)
        self._answers = Session(self.source).run_rows(reference.inputs, 1)

    def compress(self, recipe: str) -> Built:
        """Follow a recipe; InvalidInput where it does not apply. What recipes begin with alike is made once."""
        return replace(self._after(RECIPES[recipe].steps), name=recipe)

    def compress_as_the_peer_does(self) -> Built:
        """Call onnxruntime's quantize_dynamic with its defaults, as its documentation shows it."""
        target = self._folder / PEER
        target.mkdir()
        started = time.monotonic()
        # It advises through the root logger, and is not asked here.
        logging.disable(logging.WARNING)
        try:
            quantize_dynamic(self.source, target / MAIN_FILE)
        finally:
            logging.disable(logging.NOTSET)
        return Built(PEER, target / MAIN_FILE, time.monotonic() - started)

    def judge(self, built: Built) -> Made:
        """Pack a variant and compare its answers with the source's; several threads may do so at once."""
        model = built.model
        target = self._folder / f"packed-{built.name}"
        target.mkdir()
        files = [model] if model == self.source else sorted(model.parent.iterdir())
        sizes = [file.stat().st_size for file in files]
        packed = [pack_file(file, target / file.name) for file in files]
        wire_bytes = sum(length or size for length, size in zip(packed, sizes, strict=True))
        answers = self._answers if model == self.source else Session(model).run_rows(self.reference.inputs, 1)
        samples = Samples(self.reference.inputs, self.reference.labels, 1)
        return Made(built, sum(sizes), wire_bytes, compare(AUTO, samples, self._answers, answers))

    def _after(self, uses: tuple[StepUse, ...]) -> Built:
        if not uses:
            return Built("", self.source, 0.0)
        key = str(uses)
        if key not in self._built:
            before = self._after(uses[:-1])
            target = Path(tempfile.mkdtemp(dir=self._folder))
            started = time.monotonic()
            run_step(uses[-1].step, uses[-1].parameters, before.model, target, self._calibration, ALL_ROWS)
            self._built[key] = Built("", target / MAIN_FILE, before.seconds + time.monotonic() - started)
        return self._built[key]
