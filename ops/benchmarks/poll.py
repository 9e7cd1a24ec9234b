"""How much of a bare server's speed is left when it answers polls.

The ceiling is an ASGI application under the same uvicorn that answers at once, to the same requests, with a 304 too:
a status without a body, which is less work than the usual answer. Ours checks the token, finds the device and its
assignment, and notes that the device was seen. Every device has polled with its token before, as it has in all but
the first poll of a session. Each server runs in a process of its own; the rounds alternate.
"""

import statistics
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from ops.benchmarks.findings import Findings, median_ratio, progress
from ops.benchmarks.fleet import DEVICES, Measured, measured_server
from ops.benchmarks.load import Load, run
from tests.support.device_server import ServerProcess

REASONS = {
    "goosebit_rps": "this benchmark does not install goosebit",
    "ratio_1m_to_1k": "this benchmark has one fleet size",
    "ratio_two_processes": "two servers and the generator need more than two cores",
}


def bare_app() -> ASGIApp:
    """Return the ceiling: an application that answers without looking."""
    headers = [(b"etag", b'"1"')]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        status = 200 if scope["path"] == "/device/v1/challenge" else 304
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    return app


async def _live(receive: Receive, send: Send) -> None:
    while True:
        phase = (await receive())["type"]
        await send({"type": f"{phase}.complete"})
        if phase == "lifespan.shutdown":
            return


def measure(quick: bool) -> Findings:
    """Return requests per second and the ratios between them."""
    rounds, seconds = (5, 1.0) if quick else (9, 3.0)
    rates: dict[str, list[float]] = {"bare": [], "ours_304": [], "ours_200": []}
    busy = 0.0
    bare_process = ServerProcess(Path(), "", f"{__name__}:bare_app")
    with measured_server() as ours, bare_process as bare:
        loads = _loads(ours, bare, seconds)
        for number in range(rounds):
            for name, load in loads.items():
                answered = run(load)
                rates[name].append(answered.per_s)
                busy = max(busy, answered.busy)
                progress(f"round {number + 1} of {rounds}: {name} {rates[name][-1]:.0f}/s")
    found: dict[str, Any] = {f"{name}_rps": round(statistics.median(values)) for name, values in rates.items()}
    found["ratio_304"] = median_ratio(rates["ours_304"], rates["bare"])
    found["ratio_200"] = median_ratio(rates["ours_200"], rates["bare"])
    found |= {"goosebit_rps": None, "ratio_goosebit": None, "ratio_1m_to_1k": None, "ratio_two_processes": None}
    return {**found, "devices": DEVICES, "rounds": rounds, "generator_busy": busy, "peer": None, "reasons": REASONS}


def _loads(ours: Measured, bare: ServerProcess, seconds: float) -> dict[str, Load]:
    with_tag = tuple(_request(token, etag) for token, etag in zip(ours.tokens, ours.etags, strict=True))
    without = tuple(_request(token, None) for token in ours.tokens)
    return {
        "bare": Load(bare.port, 304, seconds, with_tag),
        "ours_304": Load(ours.server.port, 304, seconds, with_tag),
        "ours_200": Load(ours.server.port, 200, seconds, without),
    }


def _request(token: str, etag: str | None) -> str:
    tag = f"if-none-match: {etag}\r\n" if etag else ""
    head = f"GET /device/v1/assignment HTTP/1.1\r\nhost: controller\r\nauthorization: Bearer {token}\r\n"
    return f"{head}{tag}\r\n"
