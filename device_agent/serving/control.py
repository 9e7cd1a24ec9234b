"""The control endpoints: how the agent tells this process what to serve. On a Unix socket, never in public.

| call                  | answer                                                                      |
|-----------------------|-----------------------------------------------------------------------------|
| POST /control/load    | 200 once the new model serves and the old one is gone; 422 E_LOAD otherwise |
| POST /control/unload  | 200                                                                         |
| GET /control/status   | process id, public address, threads, what each slot serves with its counts  |
| POST /control/collect | windows of the counters since the last collect                              |
| POST /control/stop    | 200, then the process drains and exits                                      |

Errors are `{"error", "code"}`; an order that is malformed is answered with 400.
"""

import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.fields import SHA256_HEX, Fields
from device_agent.protocol.manifest import FILE_NAME, NAME
from device_agent.serving.counters import CounterBook
from device_agent.serving.errors import LoadError
from device_agent.serving.http_messages import Request, Response
from device_agent.serving.inference_messages import to_json_bytes
from device_agent.serving.slots import LoadOrder, Slots

Answer = Callable[[bytes], Awaitable[dict[str, Any]]]


class Control:
    """Answers the control socket."""

    def __init__(
        self, slots: Slots, counters: CounterBook, *, store: Path, address: str, stop: Callable[[], None]
    ) -> None:
        """Take the directory that models must lie in, the public address to tell, and how to end the process."""
        self._slots = slots
        self._counters = counters
        self._store = store.resolve()
        self._address = address
        self._stop = stop
        self._calls: dict[tuple[str, str], Answer] = {
            ("POST", "/control/load"): self._load,
            ("POST", "/control/unload"): self._unload,
            ("GET", "/control/status"): self._status,
            ("POST", "/control/collect"): self._collect,
            ("POST", "/control/stop"): self._end,
        }

    async def handle(self, request: Request) -> Response:
        """Answer one call."""
        answer = self._calls.get((request.method, request.path))
        if answer is None:
            return _error(404, Code.MALFORMED, f"there is no call {request.method} {request.path[:200]}")
        try:
            return Response(200, to_json_bytes(await answer(request.body)))
        except ProtocolError as error:
            return _error(400, error.code, str(error))
        except LoadError as error:
            return _error(422, error.code, str(error))

    async def _load(self, body: bytes) -> dict[str, Any]:
        model = await self._slots.load(read_load_order(body, self._store))
        return {"load_s": model.load_s, "memory_bytes": model.memory_bytes}

    async def _unload(self, body: bytes) -> dict[str, Any]:
        await self._slots.unload(Fields.from_json(body, "unload").text("slot", pattern=NAME))
        return {}

    async def _status(self, _body: bytes) -> dict[str, Any]:
        slots = {
            occupant.order.slot: {
                "version": occupant.order.version,
                "manifest": occupant.order.manifest,
                "requests": occupant.counters.requests,
                "errors": occupant.counters.errors,
            }
            for occupant in self._slots
        }
        return {"pid": os.getpid(), "address": self._address, "threads": self._slots.threads, "slots": slots}

    async def _collect(self, _body: bytes) -> dict[str, Any]:
        return {"slots": self._counters.collect(time.monotonic())}

    async def _end(self, _body: bytes) -> dict[str, Any]:
        self._stop()
        return {}


def read_load_order(body: bytes, store: Path) -> LoadOrder:
    """Read the body of a load; ProtocolError(MALFORMED) also when the directory is outside `store`."""
    fields = Fields.from_json(body, "load")
    directory = Path(fields.text("directory")).resolve()
    if not directory.is_relative_to(store):
        raise ProtocolError(Code.MALFORMED, f"load.directory is {directory}; expected one in {store}", role="load")
    return LoadOrder(
        slot=fields.text("slot", pattern=NAME),
        version=fields.text("version", pattern=NAME),
        manifest=fields.text("manifest", pattern=SHA256_HEX),
        path=directory / fields.text("main", pattern=FILE_NAME),
    )


def _error(status: int, code: Code, message: str) -> Response:
    return Response(status, to_json_bytes({"error": message, "code": str(code)}))
