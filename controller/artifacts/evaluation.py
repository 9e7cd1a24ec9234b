"""The evaluation job: how a variant answers beside its source, and the golden tensors that prove it on devices.

    python -m controller.artifacts.evaluation SOURCE VARIANT GOLDEN METRIC HELD_OUT [EVALUATION]

HELD_OUT is 1 when the variant has learnt from one half of the evaluation data and is judged on the other; else 0.
Started by `jobs.evaluate` in a confined child.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from controller.artifacts.behaviour.comparison import compare
from controller.artifacts.behaviour.golden import Golden, choose_rows, draw_rows, make_golden
from controller.artifacts.behaviour.metrics import decisions_of
from controller.artifacts.behaviour.samples import Samples, read_samples, split
from controller.artifacts.confinement import answer
from controller.artifacts.findings import Comparison, Evaluation
from controller.artifacts.graph.facts import describe
from controller.artifacts.graph.layers import compare_layers
from controller.artifacts.graph.reading import read_model, refused
from controller.artifacts.graph.sessions import Session, Tensors, rows_a_run
from controller.artifacts.metric_plugins import NO_DATA, failed
from controller.domain.promise import AUTO

_FRACTIONS = {"tensor(float16)": np.float16, "tensor(float)": np.float32, "tensor(double)": np.float64}
"""The runtime's names of types whose precision a recipe may change."""


def evaluate_files(
    source: Path,
    variant: Path,
    golden_path: Path,
    evaluation: Path | None,
    metric: str = AUTO,
    held_out: bool = False,
) -> Evaluation:
    """Evaluate the variant, write its golden tensors to `golden_path`, and return the figures.

    InvalidInput: data as `read_samples` refuses them, metrics as `measure` does, `not_finite` for answers that are
    no numbers.
    """
    specs = describe(read_model(source)).inputs
    if evaluation is None:
        if metric != AUTO:
            raise failed(metric, NO_DATA)
        return _write(golden_path, make_golden(variant, _as_taken(Session(variant), draw_rows(specs))), {})
    samples = read_samples(evaluation, specs)
    if held_out:
        samples = split(samples)[1]
    of_source, of_variant = _answers("source", source, samples), _answers("variant", variant, samples)
    figures = compare(metric, samples, of_source, of_variant)
    decisions = decisions_of(of_variant, len(samples)) if samples.numbers is None else None
    chosen = _as_taken(Session(variant), choose_rows(samples, decisions, rows_a_run(specs)))
    return _write(golden_path, make_golden(variant, chosen), figures)


def _answers(who: str, model: Path, samples: Samples) -> Tensors:
    session = Session(model)
    outputs = session.run_rows(_as_taken(session, samples.inputs), samples.rows_a_run)
    for name, array in outputs.items():
        if array.dtype.kind == "f" and np.isnan(array).any():
            rows = int(np.isnan(array.reshape(len(array), -1)).any(axis=1).sum())
            raise refused("not_finite", f"the {who}'s output {name!r} is no number for {rows} of {len(array)} rows")
    return outputs


def _as_taken(session: Session, inputs: Tensors) -> Tensors:
    """Return the inputs in the precision that the model takes, without those that it does not."""
    types = {name: _FRACTIONS.get(kind) for name, kind in session.input_types.items()}
    return {
        name: array.astype(types[name]) if array.dtype.kind == "f" and types[name] else array
        for name, array in inputs.items()
        if name in types
    }


def _write(path: Path, golden: Golden, figures: dict[str, Any]) -> Evaluation:
    golden.write(path)
    nothing = {"metric": None, "value": None, "source_value": None, "agreement": None, "samples": 0}
    return Evaluation(
        golden_rows=golden.rows,
        absolute_tolerance=golden.absolute_tolerance,
        relative_tolerance=golden.relative_tolerance,
        **(figures or nothing),
    )


def main(arguments: list[str]) -> dict[str, Any]:
    """Evaluate the files named on the command line."""
    source, variant, golden, metric, held_out, *evaluation = arguments
    data = Path(evaluation[0]) if evaluation else None
    found = evaluate_files(Path(source), Path(variant), Path(golden), data, metric, held_out == "1")
    layers = compare_layers(onnx.load(source), onnx.load(variant))
    return Comparison(found, tuple(layers)).to_json()


if __name__ == "__main__":
    answer(lambda: main(sys.argv[1:]))
