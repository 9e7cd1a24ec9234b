"""Somebody has the broker: messages are hints, so a forged one is worth nothing."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from controller.store import tables
from controller.wiring import Services
from controller.worker.app import JOBS_QUEUE, create_celery
from controller.worker.threads import WorkerThreads
from tests.support.attacks import Group, attack
from tests.support.device_server import services_at
from tests.support.waiting import wait_until


@pytest.fixture
def services(tmp_path: Path, sqlite_url: str) -> Iterator[Services]:
    services = services_at(tmp_path / "state", sqlite_url)
    yield services
    services.database.engine.dispose()


def signed_and_written(services: Services) -> tuple[str, int]:
    """Return the head of the signer's journal and the number of events: what any work would change."""
    with services.database.reading() as tx:
        events = len(tx.execute(select(tables.event.c.id)).all())
    return services.signer.journal_head(), events


@attack(
    Group.CONTROLLER,
    "messages with an unknown task, a made-up id and an object for an id are put into the broker",
    "discarded: nothing was signed or written",
)
def test_forged_messages(services: Services, caplog: pytest.LogCaptureFixture) -> str:
    threads = WorkerThreads(services)
    before = signed_and_written(services)
    app = create_celery("")
    threads.start()
    try:
        app.send_task("sign_anything", args=[json.dumps({"role": "root"})], queue=JOBS_QUEUE)
        app.send_task("publish_variant", args=["va_made_up"], queue=JOBS_QUEUE)
        app.send_task("publish_variant", args=[{"target": "prod/digits/1/int8/manifest.json"}], queue=JOBS_QUEUE)
        wait_until(lambda: "unregistered task" in caplog.text, what="the unknown task to be discarded")
        wait_until(lambda: "raised unexpected" in caplog.text, what="the argument object to be refused")
    finally:
        threads.stop()
    after = signed_and_written(services)
    return "discarded: nothing was signed or written" if after == before else f"{before} became {after}"
