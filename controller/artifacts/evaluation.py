"""The evaluation job: how a variant decides beside its source, and the golden tensors that prove it on devices.

    python -m controller.artifacts.evaluation SOURCE VARIANT GOLDEN [EVALUATION]

Started by `jobs.evaluate` in a confined child.
"""

import sys
from pathlib import Path
from typing import Any

from controller.artifacts.behaviour.decisions import Decisions, decide
from controller.artifacts.behaviour.golden import Golden, choose_rows, draw_rows, make_golden
from controller.artifacts.behaviour.samples import Samples, read_samples, refused
from controller.artifacts.confinement import answer
from controller.artifacts.findings import Evaluation
from controller.artifacts.graph.facts import describe
from controller.artifacts.graph.reading import read_model
from controller.artifacts.graph.sessions import Session


def evaluate_files(source: Path, variant: Path, golden_path: Path, evaluation: Path | None) -> Evaluation:
    """Evaluate the variant, write its golden tensors to `golden_path`, and return the figures."""
    specs = describe(read_model(source)).inputs
    if evaluation is None:
        golden = make_golden(variant, draw_rows(specs))
        golden.write(golden_path)
        return _finding(golden, {"metric": None, "value": None, "source_value": None, "agreement": None, "samples": 0})
    samples = read_samples(evaluation, specs)
    of_source, of_variant = _decisions(source, samples), _decisions(variant, samples)
    golden = make_golden(variant, choose_rows(samples, of_variant))
    golden.write(golden_path)
    return _finding(
        golden,
        {
            "metric": "accuracy",
            "value": float((of_variant.labels == samples.labels).mean()),
            "source_value": float((of_source.labels == samples.labels).mean()),
            "agreement": float((of_variant.labels == of_source.labels).mean()),
            "samples": len(samples),
        },
    )


def _decisions(model: Path, samples: Samples) -> Decisions:
    decisions = decide(Session(model).run_rows(samples.inputs, samples.rows_a_run))
    if decisions is None or len(decisions.labels) != len(samples):
        raise refused("evaluation_output", "the model does not name one class for each sample")
    return decisions


def _finding(golden: Golden, figures: dict[str, Any]) -> Evaluation:
    return Evaluation(
        golden_rows=golden.rows,
        absolute_tolerance=golden.absolute_tolerance,
        relative_tolerance=golden.relative_tolerance,
        **figures,
    )


def main(arguments: list[str]) -> dict[str, Any]:
    """Evaluate the files named on the command line."""
    source, variant, golden, *evaluation = map(Path, arguments)
    return evaluate_files(source, variant, golden, evaluation[0] if evaluation else None).to_json()


if __name__ == "__main__":
    answer(lambda: main(sys.argv[1:]))
