"""The inspection job: whether an upload can be compressed, run and evaluated at all.

    python -m controller.artifacts.inspection MODEL [EVALUATION]

Started by `jobs.inspect` in a confined child, because the files are anybody's.
"""

import sys
from pathlib import Path
from typing import Any

from controller.artifacts.behaviour.decisions import decide
from controller.artifacts.behaviour.samples import Samples, read_samples, refuse_labels_beyond, refused
from controller.artifacts.confinement import answer
from controller.artifacts.findings import Inspection
from controller.artifacts.graph.facts import describe
from controller.artifacts.graph.reading import read_model
from controller.artifacts.graph.sessions import Level, Session


def inspect_files(model: Path, evaluation: Path | None) -> Inspection:
    """Return what the files say about themselves; InvalidInput names what does not fit."""
    facts = describe(read_model(model))
    session = Session(model, level=Level.ORT_DISABLE_ALL)
    if evaluation is None:
        return Inspection(facts, samples=0)
    samples = read_samples(evaluation, facts.inputs)
    _try_first_rows(session, samples)
    return Inspection(facts, samples=len(samples))


def _try_first_rows(session: Session, samples: Samples) -> None:
    first = {name: array[: samples.rows_a_run] for name, array in samples.inputs.items()}
    decisions = decide(session.run(first))
    if decisions is None or len(decisions.labels) != samples.rows_a_run:
        raise refused(
            "evaluation_output",
            f"none of the model's outputs ({', '.join(session.outputs)}) names one class for each row; upload the "
            "version without evaluation data",
        )
    refuse_labels_beyond(samples, decisions.classes)


def main(arguments: list[str]) -> dict[str, Any]:
    """Inspect the files named on the command line."""
    model, *evaluation = map(Path, arguments)
    return inspect_files(model, evaluation[0] if evaluation else None).to_json()


if __name__ == "__main__":
    answer(lambda: main(sys.argv[1:]))
