"""The spool: nothing leaves twice under two names, nothing is lost unless it is full, and that is said."""

import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

from device_agent.protocol.messages import REPORT_BYTES_MAX, LifecycleItem, LifecycleState, parse_report_batch
from device_agent.reports import CutBatch, ReportSpool

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def item(counter: int, message: str | None = None) -> LifecycleItem:
    return LifecycleItem("digits", counter, "a" * 64, LifecycleState.SOAKING, NOW, message=message)


def counters(batch: CutBatch | None) -> list[int]:
    assert batch
    return [entry.counter for entry in parse_report_batch(batch.body).items if isinstance(entry, LifecycleItem)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "reports.sqlite"


def test_a_cut_batch_is_the_same_until_it_is_acknowledged_even_after_a_restart(path: Path) -> None:
    spool = ReportSpool(path, "boot-1", 100, "dv_1")
    spool.add([item(1), item(2)])
    first = spool.cut()
    spool.add([item(3)])
    assert spool.cut() == first
    spool.close()
    again = ReportSpool(path, "boot-2", 100, "dv_1")
    assert again.cut() == first
    assert counters(first) == [1, 2]
    assert first
    again.acknowledge(first.id)
    rest = again.cut()
    assert counters(rest) == [3]
    assert rest
    assert (parse_report_batch(first.body).boot, parse_report_batch(rest.body).boot) == ("boot-1", "boot-2")
    again.close()


def test_nothing_to_say_is_no_batch_and_a_strange_acknowledgement_changes_nothing(path: Path) -> None:
    spool = ReportSpool(path, "boot", 100, "dv_1")
    assert spool.cut() is None
    spool.add([item(1)])
    spool.acknowledge("unknown")
    assert counters(spool.cut()) == [1]
    spool.close()


def test_a_full_spool_drops_the_oldest_but_never_inside_a_cut_batch_and_says_how_many(path: Path) -> None:
    spool = ReportSpool(path, "boot", 4, "dv_1")
    spool.add([item(1), item(2)])
    cut = spool.cut()
    spool.add([item(counter) for counter in range(3, 9)])
    assert spool.cut() == cut
    assert cut
    spool.acknowledge(cut.id)
    after = spool.cut()
    assert counters(after) == [7, 8]
    assert after
    assert parse_report_batch(after.body).dropped == 4
    spool.acknowledge(after.id)
    spool.add([item(9)])
    last = spool.cut()
    assert last
    assert parse_report_batch(last.body).dropped == 0
    spool.close()


def test_a_batch_holds_only_what_the_controller_takes_at_once(path: Path) -> None:
    spool = ReportSpool(path, "boot", 5000, "dv_1")
    spool.add([item(counter, "x" * 1900) for counter in range(1, 400)])
    sent = []
    while batch := spool.cut():
        assert len(batch.body) <= REPORT_BYTES_MAX
        sent += counters(batch)
        spool.acknowledge(batch.id)
    assert sent == list(range(1, 400))
    spool.add([item(counter) for counter in range(1, 1002)])
    assert len(counters(spool.cut())) == 500
    spool.close()


def test_a_damaged_file_is_put_aside_and_reports_go_on(path: Path) -> None:
    path.write_bytes(b"this is no database, " * 100)
    spool = ReportSpool(path, "boot", 100, "dv_1")
    spool.add([item(1)])
    assert counters(spool.cut()) == [1]
    assert path.with_name("reports.sqlite.damaged").exists()
    spool.close()


def test_a_batch_is_json_with_the_wire_fields(path: Path) -> None:
    spool = ReportSpool(path, "boot", 100, "dv_1")
    spool.add([item(1)])
    batch = spool.cut()
    assert batch
    body = json.loads(batch.body)
    assert (body["schema"], body["batch"], body["boot"], body["dropped"]) == (1, batch.id, "boot", 0)
    assert (body["device"], body["seq"]) == ("dv_1", 1)
    spool.close()


def test_batches_are_counted_without_gaps_and_a_lost_spool_begins_a_new_count(path: Path) -> None:
    numbers = []
    for counter in range(1, 4):
        spool = ReportSpool(path, "boot", 100, "dv_1")
        spool.add([item(counter)])
        for _ in range(2):
            batch = spool.cut()
            assert batch
        parsed = parse_report_batch(batch.body)
        numbers.append((parsed.spool, parsed.seq))
        spool.acknowledge(batch.id)
        spool.close()
    name = numbers[0][0]
    assert numbers == [(name, 1), (name, 2), (name, 3)]
    path.unlink()
    spool = ReportSpool(path, "boot", 100, "dv_1")
    spool.add([item(1)])
    again = spool.cut()
    assert again
    parsed = parse_report_batch(again.body)
    assert parsed.spool != name
    assert parsed.seq == 1
    spool.close()


def test_a_spool_of_an_older_agent_goes_on_with_the_batch_that_it_has_cut(path: Path) -> None:
    old = sqlite3.connect(path)
    old.executescript(
        "CREATE TABLE item (id INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL);"
        "CREATE TABLE batch (id TEXT PRIMARY KEY, boot TEXT NOT NULL, last_item INTEGER NOT NULL,"
        " dropped INTEGER NOT NULL);"
        "INSERT INTO batch VALUES ('b-1', 'boot-0', 1, 0);"
    )
    old.execute("INSERT INTO item (body) VALUES (?)", (json.dumps(item(1).to_json()),))
    old.commit()
    old.close()
    spool = ReportSpool(path, "boot", 100, "dv_1")
    batch = spool.cut()
    assert batch
    assert (batch.id, parse_report_batch(batch.body).seq) == ("b-1", 1)
    spool.acknowledge(batch.id)
    spool.add([item(2)])
    after = spool.cut()
    assert after
    assert parse_report_batch(after.body).seq == 2
    spool.close()
