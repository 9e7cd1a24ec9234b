"""Workers of the production wiring: several processes on PostgreSQL and Redis."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from controller.domain.catalog import VariantState
from controller.settings import Settings
from controller.wiring import build
from controller.worker.app import CeleryTaskQueue, create_celery
from controller.worker.tasks import workshop
from tests.support.digits import digits_evaluation, digits_model
from tests.support.waiting import wait_until
from tests.support.workshops import add, add_opaque, variant_rows


@pytest.mark.postgres
def test_two_workers_share_the_work_and_outlive_one_of_them(postgres_url: str, redis_url: str, tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    settings = Settings(state_dir=state_dir, database_url=postgres_url, broker_url=redis_url, single_operator=True)
    shop = workshop(build(settings), "the-api", create_celery(redis_url))
    model, evaluation = tmp_path / "digits.onnx", tmp_path / "evaluation.npz"
    digits_model(model)
    digits_evaluation(evaluation)
    environment = {
        **os.environ,
        "EDGEFLEET_STATE_DIR": str(state_dir),
        "EDGEFLEET_DATABASE_URL": postgres_url,
        "EDGEFLEET_BROKER_URL": redis_url,
        "EDGEFLEET_SINGLE_OPERATOR": "true",
    }
    workers = [
        subprocess.Popen([sys.executable, "-m", "controller.worker"], env=environment, stdin=subprocess.DEVNULL)
        for _ in range(2)
    ]
    try:
        version_id = add(shop, model, evaluation)
        wait_until(
            lambda: {row.state for row in variant_rows(shop.database, version_id).values()} == {"published"},
            timeout_s=120,
            what="both variants to be published",
        )
        workers[0].send_signal(signal.SIGTERM)
        assert workers[0].wait(60) == 0
        after = add_opaque(shop, tmp_path)
        wait_until(
            lambda: variant_rows(shop.database, after)["opaque"].state == VariantState.PUBLISHED,
            what="the other worker to go on",
        )
    finally:
        for worker in workers:
            worker.terminate()
            worker.wait(60)
        shop.database.engine.dispose()


def test_a_hint_that_cannot_be_sent_is_no_error() -> None:
    CeleryTaskQueue(create_celery("redis://127.0.0.1:9/0")).send("compress_variant", "va_1")
