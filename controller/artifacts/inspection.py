"""The inspection job: whether an upload can be compressed, run and evaluated at all.

    python -m controller.artifacts.inspection MODEL EVALUATION CALIBRATION METRIC

`-` stands for a file that there is not. Started by `jobs.inspect` in a confined child, because the files are
anybody's.
"""

import sys
from pathlib import Path
from typing import Any

from controller.artifacts.behaviour.decisions import decide
from controller.artifacts.behaviour.metrics import measure
from controller.artifacts.behaviour.samples import Samples, read_inputs, read_samples, refuse_labels_beyond
from controller.artifacts.confinement import answer
from controller.artifacts.findings import NO_FILE, Inspection
from controller.artifacts.graph.facts import describe
from controller.artifacts.graph.reading import read_model
from controller.artifacts.graph.sessions import Level, Session
from controller.artifacts.metric_plugins import NO_DATA, check_metric, failed
from controller.domain.promise import AUTO


def inspect_files(
    model: Path, evaluation: Path | None, calibration: Path | None = None, metric: str = AUTO
) -> Inspection:
    """Return what the files say about themselves; InvalidInput names what does not fit.

    The metric that variants are to be judged by is measured on the model's first answers, so that a version whose
    promise could never be judged is refused here.
    """
    check_metric(metric)
    if evaluation is None and metric != AUTO:
        raise failed(metric, NO_DATA)
    facts = describe(read_model(model))
    session = Session(model, level=Level.ORT_DISABLE_ALL)
    samples = None if evaluation is None else read_samples(evaluation, facts.inputs)
    if samples is not None:
        _try_first_rows(session, samples, metric)
    learnt = None if calibration is None else read_inputs(calibration, facts.inputs)
    if learnt is not None:
        session.run(learnt.head(1).inputs)
    return Inspection(facts, samples=len(samples or ()), calibration_samples=len(learnt or ()))


def _try_first_rows(session: Session, samples: Samples, metric: str) -> None:
    first = samples.first_run()
    outputs = session.run(first.inputs)
    measure(metric, first, outputs, outputs)
    decisions = decide(outputs)
    if decisions is not None:
        refuse_labels_beyond(samples, decisions.classes)


def main(arguments: list[str]) -> dict[str, Any]:
    """Inspect the files named on the command line."""
    model, evaluation, calibration, metric = arguments
    files = [None if name == NO_FILE else Path(name) for name in (evaluation, calibration)]
    return inspect_files(Path(model), files[0], files[1], metric).to_json()


if __name__ == "__main__":
    answer(lambda: main(sys.argv[1:]))
