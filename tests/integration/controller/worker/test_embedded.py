"""The embedded worker as the server runs it: a supervised child with queue, workers and beat."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import func, select

from controller.domain.catalog import NEXT_TASK, VariantState
from controller.domain.ids import VersionId
from controller.settings import Settings
from controller.store import tables
from controller.store.database import Database
from controller.use_cases.variant_work import Workshop
from controller.wiring import build
from controller.worker.app import create_celery
from controller.worker.supervisor import Supervisor
from controller.worker.tasks import register_variant_tasks, workshop
from tests.support import hostile_models
from tests.support.digits import digits_model, linear_classifier
from tests.support.waiting import wait_until
from tests.support.workshops import add, add_opaque, insert_exhausted_variant, variant_rows

LEASE_S = "2"
SERVER = """
import time
from controller.worker.supervisor import Supervisor
supervisor = Supervisor()
supervisor.start()
while not supervisor.pid:
    time.sleep(0.01)
print(supervisor.pid, flush=True)
time.sleep(3600)
"""
"""A process that does nothing but keep a worker."""


@pytest.fixture
def environment(sqlite_url: str, tmp_path: Path) -> Mapping[str, str]:
    return {
        **os.environ,
        "EDGEFLEET_STATE_DIR": str(tmp_path / "state"),
        "EDGEFLEET_DATABASE_URL": sqlite_url,
        "EDGEFLEET_LEASE_S": LEASE_S,
        "EDGEFLEET_SWEEP_S": "0.2",
    }


@pytest.fixture
def settings(environment: Mapping[str, str]) -> Settings:
    names = ("state_dir", "database_url", "lease_s", "sweep_s")
    return Settings(**{name: environment[f"EDGEFLEET_{name.upper()}"] for name in names})


@pytest.fixture
def shop(settings: Settings) -> Iterator[Workshop]:
    """What the server sees of the worker's installation; its own hints go nowhere."""
    services = build(settings)
    yield workshop(services, "the-server", create_celery(""))
    services.database.engine.dispose()


@pytest.fixture
def supervisor(environment: Mapping[str, str]) -> Iterator[Supervisor]:
    supervisor = Supervisor(environment)
    yield supervisor
    supervisor.stop()


def slow_model(path: Path) -> None:
    """Write a model that takes seconds to quantize."""
    weights = np.random.default_rng(5).normal(size=(2048, 4096)).astype(np.float32)
    linear_classifier(path, weights, np.zeros(4096, np.float32))


def states(database: Database) -> dict[str, int]:
    with database.reading() as tx:
        query = select(tables.variant.c.state, func.count()).group_by(tables.variant.c.state)
        return dict(tx.execute(query).all())


def wait_for(database: Database, version_id: VersionId, recipe: str, state: VariantState) -> None:
    wait_until(
        lambda: variant_rows(database, version_id)[recipe].state == state, timeout_s=120, what=f"{recipe} to be {state}"
    )


def jobs_of(worker: int) -> list[int]:
    """Return the process ids of the confined children of a worker, dead or alive: its id is on their command line."""
    mark = f"controller.artifacts.confinement\0{worker}\0".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark in path.read_bytes():
                found.append(int(path.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def test_every_task_of_the_state_table_is_registered(shop: Workshop) -> None:
    app = create_celery("")
    register_variant_tasks(app, shop)
    assert set(NEXT_TASK.values()) <= set(app.tasks)


def test_a_worker_killed_in_mid_compress_leaves_nothing_running_and_the_sweep_finishes_the_job(
    shop: Workshop, supervisor: Supervisor, tmp_path: Path
) -> None:
    model = tmp_path / "slow.onnx"
    slow_model(model)
    version_id = add(shop, model, recipes=["int8"])
    supervisor.start()
    killed = wait_until(lambda: supervisor.pid, what="the worker to start")
    wait_until(lambda: jobs_of(killed), what="a compression to run", every_s=0.01)
    assert variant_rows(shop.database, version_id)["int8"].state == VariantState.QUEUED

    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: not jobs_of(killed), what="its child to die with it")
    wait_for(shop.database, version_id, "int8", VariantState.PUBLISHED)
    assert supervisor.pid != killed


def test_a_poke_has_new_work_done_without_waiting_for_the_next_sweep(
    environment: Mapping[str, str], shop: Workshop, tmp_path: Path
) -> None:
    supervisor = Supervisor({**environment, "EDGEFLEET_SWEEP_S": "3600"})
    supervisor.start()
    try:
        first = add_opaque(shop, tmp_path)
        # The sweep at the start may have run before or after this: it is not what is tested.
        wait_until(lambda: supervisor.pid, what="the worker to start")
        supervisor.poke()
        wait_for(shop.database, first, "opaque", VariantState.PUBLISHED)
        second = add_opaque(shop, tmp_path)
        supervisor.send("publish_variant", "ids do not matter")
        wait_for(shop.database, second, "opaque", VariantState.PUBLISHED)
    finally:
        supervisor.stop()
    assert supervisor.pid is None


def test_a_flood_of_jobs_does_not_keep_sweeps_from_running(
    shop: Workshop, supervisor: Supervisor, tmp_path: Path
) -> None:
    model = tmp_path / "digits.onnx"
    digits_model(model)
    versions = [add(shop, model) for _ in range(8)]
    supervisor.start()
    wait_until(lambda: states(shop.database).get(VariantState.COMPRESSED), what="the flood to be worked on")
    insert_exhausted_variant(shop.database, versions[0])
    wait_for(shop.database, versions[0], "exhausted", VariantState.FAILED)
    unfinished = sum(states(shop.database).get(state, 0) for state in NEXT_TASK)
    assert unfinished > 0, "the flood was over before the sweep came"


def test_a_model_that_never_answers_keeps_no_worker_from_the_next_variant(
    environment: Mapping[str, str], shop: Workshop, tmp_path: Path
) -> None:
    model = tmp_path / "endless.onnx"
    model.write_bytes(hostile_models.endless())
    hostile = add(shop, model, recipes=["fp32"])
    supervisor = Supervisor({**environment, "EDGEFLEET_JOB_TIMEOUT_S": "2"})
    supervisor.start()
    try:
        worker = wait_until(lambda: supervisor.pid, what="the worker to start")
        row = wait_until(
            lambda: next((row for row in variant_rows(shop.database, hostile).values() if row.error), None),
            what="the model to be ended",
        )
        assert "was ended after 2 s (job_timeout_s)" in row.error
        lawful = add_opaque(shop, tmp_path)
        wait_for(shop.database, lawful, "opaque", VariantState.PUBLISHED)
        assert supervisor.pid == worker
        assert variant_rows(shop.database, hostile)["fp32"].manifest_sha256 is None
    finally:
        supervisor.stop()


@pytest.mark.parametrize("way", ["end of standard input", "SIGTERM", "SIGINT"])
def test_the_child_finishes_what_it_has_in_hand_and_leaves(
    environment: Mapping[str, str], shop: Workshop, tmp_path: Path, way: str
) -> None:
    model = tmp_path / "slow.onnx"
    slow_model(model)
    version_id = add(shop, model, recipes=["int8"])
    child = subprocess.Popen(
        [sys.executable, "-m", "controller.worker.embedded"], stdin=subprocess.PIPE, env=environment
    )
    assert child.stdin
    with child.stdin:
        wait_until(lambda: jobs_of(child.pid), what="a compression to run", every_s=0.01)
        if way == "end of standard input":
            child.stdin.close()
        else:
            child.send_signal(signal.Signals[way])
        assert child.wait(60) == 0
    row = variant_rows(shop.database, version_id)["int8"]
    assert row.state != VariantState.QUEUED
    assert row.lease_owner is None


def test_the_child_of_a_killed_parent_leaves(environment: Mapping[str, str], tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, env=environment)
    assert parent.stdout
    with parent.stdout:
        child = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        wait_until(lambda: not is_running(child), what="the child to leave")


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
