"""The spool and a process that is killed again and again: every item leaves under exactly one batch id."""

import json
import multiprocessing
import os
from datetime import UTC, datetime
from pathlib import Path

from device_agent.protocol.messages import LifecycleItem, LifecycleState
from device_agent.reports import ReportSpool
from tests.support.waiting import wait_until

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ITEMS = 400


def work(directory: Path) -> None:
    """Add numbered items and deliver them to a file, which is the controller: a line for every batch that arrived."""
    spool = ReportSpool(directory / "reports.sqlite", "boot", 1000, "dv_1")
    progress = directory / "added"
    number = int(progress.read_text()) if progress.exists() else 0
    with (directory / "arrived").open("a") as arrived:
        while number < ITEMS:
            number += 1
            spool.add([LifecycleItem("digits", number, "a" * 64, LifecycleState.HEALTHY, NOW)])
            # Put in place whole: a kill must not leave an empty file.
            (directory / "added.new").write_text(str(number))
            (directory / "added.new").replace(progress)
            batch = spool.cut()
            if batch is None or number % 5:
                continue
            body = json.loads(batch.body)
            arrived.write(json.dumps([batch.id, [item["counter"] for item in body["items"]]]) + "\n")
            arrived.flush()
            spool.acknowledge(batch.id)
    spool.close()


def arrived(directory: Path) -> list[tuple[str, list[int]]]:
    path = directory / "arrived"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [tuple(json.loads(line)) for line in lines if line.endswith("]\n")]


def test_no_item_is_lost_or_leaves_under_two_names_when_its_process_is_killed(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    for kill in range(8):
        child = fork.Process(target=work, args=(tmp_path,))
        child.start()
        seen = len(arrived(tmp_path))
        wait_until(
            lambda child=child, seen=seen: len(arrived(tmp_path)) > seen + 3 or not child.is_alive(),  # type: ignore[misc]
            what=f"batches before kill {kill}",
            every_s=0.001 * (kill + 1),
        )
        child.kill()
        child.join()
    last = fork.Process(target=work, args=(tmp_path,))
    last.start()
    last.join(60)
    assert last.exitcode == os.EX_OK
    spool = ReportSpool(tmp_path / "reports.sqlite", "boot", 1000, "dv_1")
    batches = dict(arrived(tmp_path))
    while batch := spool.cut():
        batches[batch.id] = [item["counter"] for item in json.loads(batch.body)["items"]]
        spool.acknowledge(batch.id)
    spool.close()
    counters = [counter for items in batches.values() for counter in items]
    # An item added just before the kill may be added again by its successor, which is the test's doing.
    assert set(counters) == set(range(1, ITEMS + 1))
    assert len(counters) - ITEMS <= 8
