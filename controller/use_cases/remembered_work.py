"""Doing a piece of work once: what a job found is remembered by the digest of everything it depends on.

A worker that was killed repeats no finished step, and two variants that begin alike share their beginning. Where two
workers come to the same piece at the same time, one works and the other waits for it. What is remembered is only
used while its blobs are there.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from controller.artifacts.child_process import Heartbeat
from controller.store import job_results
from controller.store.artifacts import put_artifact
from controller.store.job_results import JobResult
from controller.store.leases import release_lease, take_lease
from controller.use_cases.job_watch import Watch
from controller.use_cases.variant_work import Job, Workshop

WAIT_S = 0.5
LIBRARIES = ("onnx", "onnxruntime", "numpy", "onnxslim", "scikit-learn")
"""Their versions belong to what a result depends on."""

Made = tuple[dict[str, Any], Mapping[str, Path]]
"""What a job found, and the files it made in the folder that it was lent, by name."""


@dataclass(frozen=True)
class Piece:
    """A piece of work: its kind, for people, and everything that its result depends on."""

    kind: str
    depends_on: Mapping[str, Any]

    @property
    def key(self) -> str:
        """Return the digest that the result is remembered under."""
        identity = {"kind": self.kind, "libraries": libraries(), **self.depends_on}
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Remembered:
    """A result with its blobs, and whether it was there already."""

    result: dict[str, Any]
    files: dict[str, str]
    seconds: float
    reused: bool
    key: str
    """The digest of everything that the result depends on."""
    at: datetime
    """When it was found."""


def once(shop: Workshop, job: Job, piece: Piece, work: Callable[[Path, Heartbeat], Made]) -> Remembered:
    """Return what the work finds, doing it only when nobody has. It is lent a folder; what it raises goes on."""
    key = piece.key
    watch = Watch(shop, job, piece.kind)
    while True:
        known = _known(shop, key)
        if known:
            return _reused(watch, key, known)
        if _reserve(shop, job, key):
            break
        watch.waits("another worker is at the same piece of work; waiting for it")
        time.sleep(WAIT_S)
    try:
        # Whoever had it reserved may have finished between the two looks.
        known = _known(shop, key)
        if known:
            return _reused(watch, key, known)
        found = _do(shop, job, piece, watch, work)
    finally:
        with shop.database.writing() as tx:
            release_lease(tx, _lease(key), job.claim.id)
    return _remembered(key, found, reused=False)


@cache
def libraries() -> dict[str, str]:
    """Return the releases of the libraries that results depend on, by name."""
    return {name: version(name) for name in LIBRARIES}


def _reused(watch: Watch, key: str, known: JobResult) -> Remembered:
    watch.remembers(known.seconds)
    return _remembered(key, known, reused=True)


def _remembered(key: str, found: JobResult, *, reused: bool) -> Remembered:
    return Remembered(found.result, found.files, found.seconds, reused=reused, key=key, at=found.created_at)


def _known(shop: Workshop, key: str) -> JobResult | None:
    with shop.database.reading() as tx:
        known = job_results.find_result(tx, key)
    complete = known and all(shop.blobs.path(sha256).is_file() for sha256 in known.files.values())
    return known if complete else None


def _reserve(shop: Workshop, job: Job, key: str) -> bool:
    now = shop.clock()
    until = now + timedelta(seconds=shop.lease_s)
    with shop.database.writing() as tx:
        return take_lease(tx, _lease(key), job.claim.id, until=until, now=now)


def _do(shop: Workshop, job: Job, piece: Piece, watch: Watch, work: Callable[[Path, Heartbeat], Made]) -> JobResult:
    heartbeat = watch.heartbeat(also=lambda: _reserve(shop, job, piece.key))
    with watch.logging(), shop.blobs.scratch() as scratch:
        result, files = work(scratch, heartbeat)
        stored = {name: shop.blobs.add_file(path) for name, path in files.items()}
    # Through JSON and back, so that what is new looks like what is remembered.
    now = shop.clock()
    made = {name: blob.sha256 for name, blob in stored.items()}
    found = JobResult(json.loads(json.dumps(result)), made, watch.seconds, now)
    with shop.database.writing() as tx:
        for blob in stored.values():
            put_artifact(tx, blob.sha256, blob.size_bytes, now)
        job_results.save_result(tx, piece.key, piece.kind, found)
    return found


def _lease(key: str) -> str:
    return f"work:{key[:48]}"
