"""A worker that is killed in any of a variant's jobs loses that job alone: its successor repeats nothing."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from controller.domain.catalog import VariantState
from controller.store.database import Database, open_engine
from controller.store.job_results import logs_of
from controller.use_cases.known_recipes import create_recipe
from controller.use_cases.variant_work import Workshop
from tests.support.digits import HELD_OUT, digits, digits_evaluation
from tests.support.mortal_worker import JOBS
from tests.support.networks import digits_network
from tests.support.workshops import NOW, CollectedTasks, add, open_workshop, variant_rows

STEPS = ["clip", "prune_structured", "quantize_dynamic"]
EVERY_JOB = [*STEPS, "packing", "evaluation", "measurement", "selftest"]


@pytest.fixture
def shop(sqlite_url: str, tmp_path: Path) -> Iterator[Workshop]:
    engine = open_engine(sqlite_url)
    yield open_workshop(Database(engine), tmp_path, CollectedTasks())
    engine.dispose()


def recipe(name: str, sigma: float) -> dict[str, object]:
    return {
        "name": name,
        "steps": [
            {"step": "clip", "parameters": {"bound": "sigma", "value": sigma}},
            {"step": "prune_structured", "parameters": {"fraction": 0.5}},
            {"step": "quantize_dynamic"},
        ],
    }


def work(folder: Path, variant_id: str, mortal_job: str) -> int:
    command = [sys.executable, "-m", "tests.support.mortal_worker", str(folder), variant_id, mortal_job]
    return subprocess.run(command, check=False, timeout=120).returncode


def test_no_finished_job_is_repeated_wherever_workers_are_killed(shop: Workshop, tmp_path: Path) -> None:
    model, evaluation, calibration = (tmp_path / name for name in ("m.onnx", "e.npz", "c.npz"))
    onnx.save(digits_network(), model)
    digits_evaluation(evaluation)
    np.savez(calibration, inputs=digits()[0][:-HELD_OUT])
    create_recipe(shop.database, recipe("first", 2.0), now=NOW)
    create_recipe(shop.database, recipe("second", 2.5), now=NOW)
    version_id = add(shop, model, evaluation, calibration, recipes=["first", "second"])
    rows = variant_rows(shop.database, version_id)

    # A variant is given up after its third attempt at one state, so each is killed twice at the most while it is made.
    deaths = {
        "first": ["clip", "quantize_dynamic", "evaluation", "measurement", "selftest"],
        "second": ["prune_structured", "packing"],
    }
    for name, jobs in deaths.items():
        for job in jobs:
            assert work(tmp_path, rows[name].id, job) == -9, f"{name} was not killed in {job}"
        assert work(tmp_path, rows[name].id, "none") == 0

    assert {name: row.state for name, row in variant_rows(shop.database, version_id).items()} == {
        "first": VariantState.PUBLISHED,
        "second": VariantState.PUBLISHED,
    }
    # Each job ran once for each variant, and once more where its worker was killed in it.
    killed = Counter(job for jobs in deaths.values() for job in jobs)
    assert Counter((tmp_path / JOBS).read_text().split()) == {job: 2 + killed[job] for job in EVERY_JOB}
    with shop.database.reading() as tx:
        logs = logs_of(tx, rows["first"].id)
    assert [log["job"] for log in logs if log["outcome"] == "done"] == [*STEPS, "pack", "evaluate", "measure"]
