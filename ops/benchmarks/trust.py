"""What trust costs: signatures on the controller; bytes, time and memory on the device.

Repositories of 10 and of 10,000 versions are made by the controller's own code and served over loopback HTTP. Each look
of a device is a process of its own, as after a start: the first one, one that finds nothing new, and one after another
version was published. The peer is python-tuf as it comes: its client over a repository that lists every version in the
top-level role. Bytes are those of the answers' bodies; a manifest, some 1 kB, is not among them, for either.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

from device_agent.protocol.assignment import VALIDITY, Assignment, SlotAssignment
from device_agent.protocol.channels import Channel
from ops.benchmarks.device_look import BOOTSTRAP
from ops.benchmarks.findings import Findings, progress
from ops.benchmarks.repositories import Ours, Plain, manifests, ours, target_of
from ops.benchmarks.updated_agent import rss_mb_after_updates

SIZES = (10, 10_000)
BATCH = 500
"""Assignments signed at once, as when many devices poll after a change."""
UPDATES = 5


def measure(quick: bool) -> Findings:
    """Return signatures a second, what devices fetch and how long they verify, and the agent's memory."""
    looks, batches = (3, 20) if quick else (7, 100)
    with tempfile.TemporaryDirectory(prefix="edgefleet-bench-") as name:
        folder = Path(name)
        device = {}
        for size in SIZES:
            progress(f"ours: {size} versions")
            made = ours(folder / f"ours-{size}", size)
            device[f"versions_{size}"] = _looks("ours", made, made.folder, folder / f"device-{size}", size, looks)
        progress(f"signing {batches} batches of {BATCH} assignments")
        rates = _signing_rates(made, batches)
        progress(f"peer: {SIZES[-1]} versions in one role")
        plain = Plain(folder / "plain", SIZES[-1])
        peer = _looks("stock", plain, plain.folder, folder / "device-plain", SIZES[-1], looks)
        progress(f"a real agent takes {UPDATES} updates")
        rss_mb = rss_mb_after_updates(folder / "agent", UPDATES)
    return {
        "assignments_per_s_core": round(statistics.median(rates)),
        "assignments_per_s_core_lowest": round(min(rates)),
        "device": device,
        f"peer_no_bins_{SIZES[-1]}": peer,
        "verify_ratio_to_peer": round(device[f"versions_{SIZES[-1]}"]["verify_ms"] / peer["verify_ms"], 3),
        "agent_rss_mb_after_5": rss_mb,
        "looks": looks,
        "batch": BATCH,
    }


@dataclass
class _Served:
    url: str
    sent: int = 0


@contextmanager
def _serving(folder: Path) -> Iterator[_Served]:
    """Serve a folder over loopback HTTP and count the bytes of the answers' bodies."""
    served = _Served("")

    class Handler(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, directory=str(folder), **options)

        def copyfile(self, source: IO[bytes], outputfile: IO[bytes]) -> None:  # type: ignore[override]
            content = source.read()
            served.sent += len(content)
            outputfile.write(content)

        def log_message(self, *_words: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _looks(kind: str, made: Ours | Plain, folder: Path, state: Path, size: int, rounds: int) -> Findings:
    """Return bytes and CPU milliseconds of the three kinds of looks; times are medians, bytes of the dearest round."""
    bytes_of: dict[str, list[int]] = {"first": [], "idle": [], "update": []}
    ms_of: dict[str, list[float]] = {"first": [], "idle": [], "update": []}
    with _serving(folder) as served:
        for number in range(rounds):
            place = state / str(number)
            place.mkdir(parents=True)
            (place / BOOTSTRAP).write_bytes(made.root)
            (known,) = manifests(1)
            (new,) = manifests(1, first=size + number)
            for look, content in (("first", known), ("idle", known), ("update", new)):
                if look == "update":
                    made.publish(iter([new]))
                before = served.sent
                ms_of[look].append(_look(kind, served.url, place, target_of(content)))
                bytes_of[look].append(served.sent - before)
    found: Findings = {f"{look}_bytes": max(sizes) for look, sizes in bytes_of.items()}
    found |= {f"{look}_ms": round(statistics.median(times), 2) for look, times in ms_of.items()}
    return {**found, "verify_ms": found["update_ms"]}


def _look(kind: str, url: str, state: Path, target: str) -> float:
    command = [sys.executable, "-m", "ops.benchmarks.device_look", kind, url, str(state), target]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    milliseconds: float = json.loads(ended.stdout)["cpu_ms"]
    return milliseconds


def _signing_rates(made: Ours, batches: int) -> list[float]:
    """Return assignments a second of one core's time, batch by batch: checked, journalled, signed."""
    (content,) = manifests(1)
    target = made.images.read_targets(target_of(content))
    assert target is not None
    slot = SlotAssignment(
        target.path, target.length, target.hashes["sha256"], 60.0, "rollout ro_bench, stage 1 of 3", 1
    )
    rates = []
    for number in range(batches):
        payloads = [_assignment(number * BATCH + place, slot).to_payload() for place in range(BATCH)]
        began = time.process_time()
        made.signer.sign_assignments(payloads)
        rates.append(BATCH / (time.process_time() - began))
    return rates


def _assignment(number: int, slot: SlotAssignment) -> Assignment:
    issued = datetime.now(UTC).replace(microsecond=0)
    return Assignment(
        device=f"dv_{number:024x}",
        counter=int(issued.timestamp()) + 1,
        issued=issued,
        expires=issued + VALIDITY,
        slots={"model-0": slot},
        poll_s=300.0,
        hardware="gateway",
        channel=Channel.DEV,
    )
