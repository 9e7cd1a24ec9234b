"""How much of the database's own speed is left when reports arrive over HTTP, are checked, and kept exactly once.

The ceiling is the driver alone: the same rows into the same table, prepared beforehand, 2000 in a transaction. Ours
is the whole way: token, signature, JSON, checks, order and deduplication, rows, commit, acknowledgement. Both are
durable (WAL with synchronous=FULL). A device sends its reports in batches; how many there are in one decides much, so
there are two rows: batches of BATCH, and single reports. The generator signs as it sends, on the same machine.
"""

import json
import random
import sqlite3
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path

from controller.store import migrate
from device_agent.protocol.histogram import Histogram
from device_agent.protocol.messages import ServingItem
from ops.benchmarks.findings import Findings, median_ratio, progress
from ops.benchmarks.fleet import Measured, measured_server
from ops.benchmarks.load import Load, Reporter, run

BATCH = 20
RAW_ROWS = 2000
"""Rows in a transaction of the ceiling."""
REPORTERS = 192
"""Devices that report: three on each connection."""


def measure(quick: bool) -> Findings:
    """Return reports per second and rows per second on SQLite."""
    rounds, seconds = (5, 1.0) if quick else (9, 3.0)
    raw: list[float] = []
    batched: list[float] = []
    single: list[float] = []
    with measured_server() as ours:
        raw_file = ours.database_file.with_name("raw.db")
        migrate.upgrade(f"sqlite:///{raw_file}")
        for number in range(rounds):
            raw.append(_raw_rows_per_s(raw_file, seconds))
            batched.append(BATCH * run(_load(ours, BATCH, seconds)).per_s)
            single.append(run(_load(ours, 1, seconds)).per_s)
            progress(f"round {number + 1} of {rounds}: {raw[-1]:.0f} {batched[-1]:.0f} {single[-1]:.0f} per second")
    found = {
        "reports_per_s": round(statistics.median(batched)),
        "raw_rows_per_s": round(statistics.median(raw)),
        "ratio": median_ratio(batched, raw),
        "reports_in_a_batch": BATCH,
        "single_reports_per_s": round(statistics.median(single)),
        "single_ratio": median_ratio(single, raw),
    }
    reason = "the private test server does not wait for its disk, so its figures would not say what a commit costs"
    nothing = {"reports_per_s": None, "raw_rows_per_s": None, "ratio": None, "reason": reason}
    return {"sqlite": found, "postgres": nothing, "rounds": rounds}


def _item(seed: int) -> ServingItem:
    """Return a minute of 200 requests around 7 ms."""
    drawn = random.Random(seed)  # noqa: S311 - the same figures in every run
    latency = Histogram()
    for _ in range(200):
        latency.add(drawn.lognormvariate(-5, 0.4))
    return ServingItem("digits", "a" * 64, datetime.now(UTC), 60.0, 200, 0, 51_200, latency)


def _load(ours: Measured, items: int, seconds: float) -> Load:
    said = json.dumps([_item(number).to_json() for number in range(items)], separators=(",", ":"))
    devices = zip(ours.ids, ours.keys_pem, ours.tokens, strict=True)
    reporters = tuple(Reporter(*device) for device in list(devices)[:REPORTERS])
    return Load(ours.server.port, 200, seconds, reporters=reporters, items=said)


def _raw_rows_per_s(file: Path, seconds: float) -> float:
    item = _item(0)
    row = ("dv", "digits", "a" * 64, str(item.at), 60.0, 200, 0, 51_200, json.dumps(item.latency.to_json()))
    statement = (
        "INSERT INTO serving_report"
        " (device_id, slot, manifest_sha256, at, window_s, requests, errors, input_bytes, latency)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
    )
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    rows, started = 0, time.monotonic()
    while time.monotonic() - started < seconds:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(statement, [row] * RAW_ROWS)
        connection.execute("COMMIT")
        rows += RAW_ROWS
    elapsed = time.monotonic() - started
    connection.close()
    return rows / elapsed
