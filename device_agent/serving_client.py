"""The control of the serving process, as calls: HTTP over the Unix socket that it listens on.

A model that cannot be loaded is a value, because it is the candidate's fault. A serving process that does not
answer raises ServingUnavailableError, because then nothing is known about any model.
"""

import http.client
import json
import os
import socket
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from device_agent.errors import ServingUnavailableError
from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.fields import Fields
from device_agent.protocol.histogram import Histogram
from device_agent.protocol.messages import ServingItem


@dataclass(frozen=True)
class LoadRequest:
    """Which model a slot shall serve, and where it lies."""

    slot: str
    version: str
    manifest: str
    directory: Path
    main: str


@dataclass(frozen=True)
class LoadRefused:
    """The serving process could not load the model; what it served before is untouched."""

    code: str
    message: str


@dataclass(frozen=True)
class ServingStatus:
    """What the serving process is and what it serves: manifest by slot."""

    pid: int
    address: str
    threads: int
    """How many threads answer one request."""
    manifests: dict[str, str]

    @property
    def inference_url(self) -> str:
        """The base URL of the inference protocol."""
        return f"http://{self.address}"


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        # The address of a Unix socket holds about a hundred bytes; by way of its folder, deep directories are usable.
        folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            self.sock.connect(f"/proc/self/fd/{folder}/{self._path.name}")
        finally:
            os.close(folder)


class ServingClient:
    """Calls the serving process behind one socket."""

    def __init__(self, socket_path: Path, *, answer_s: float, load_s: float) -> None:
        """`answer_s` bounds every call but a load, `load_s` a load with its warm-up and drain."""
        self._path = socket_path
        self._answer_s = answer_s
        self._load_s = load_s

    def status(self) -> ServingStatus:
        """Return what the process serves."""
        fields = self._read(*self._call("GET", "/control/status"))
        slots = fields.named_children("slots", lambda slot: slot.text("manifest"))
        manifests = {name: manifest for name, manifest in slots.items() if manifest}
        # A process that an older agent has left behind does not say, and uses one.
        threads = 1 if fields.raw("threads") is None else fields.integer("threads")
        return ServingStatus(fields.integer("pid"), fields.text("address"), threads, manifests)

    def load(self, request: LoadRequest) -> LoadRefused | None:
        """Make the slot serve the model; None once it does and the model before it has been drained."""
        body = {**vars(request), "directory": str(request.directory)}
        status, raw = self._call("POST", "/control/load", body, timeout_s=self._load_s)
        if status == 200:
            return None
        fields = Fields.from_json(raw, "serving")
        return LoadRefused(fields.optional_text("code") or str(Code.LOAD), str(fields.raw("error"))[:1000])

    def unload(self, slot: str) -> None:
        """Make the slot serve nothing."""
        self._read(*self._call("POST", "/control/unload", {"slot": slot}))

    def collect(self, at: datetime) -> list[ServingItem]:
        """Return what was served since the last call, stamped with the given moment."""
        fields = self._read(*self._call("POST", "/control/collect", {}))
        return list(fields.children("slots", lambda slot: _serving_item(slot, at)))

    def stop(self) -> None:
        """Ask the process to drain and exit."""
        self._read(*self._call("POST", "/control/stop", {}))

    def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> tuple[int, bytes]:
        connection = _UnixConnection(self._path, timeout_s or self._answer_s)
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise ServingUnavailableError(f"{method} {path} on {self._path}: {error!r}") from error
        finally:
            connection.close()

    def _read(self, status: int, raw: bytes) -> Fields:
        if status != 200:
            raise ServingUnavailableError(f"status {status}: {raw[:200]!r}")
        try:
            return Fields.from_json(raw, "serving")
        except ProtocolError as error:
            raise ServingUnavailableError(str(error)) from error


def _serving_item(slot: Fields, at: datetime) -> ServingItem:
    return ServingItem(
        slot=slot.text("slot"),
        manifest=slot.text("manifest"),
        at=at,
        window_s=slot.number("window_s"),
        requests=slot.integer("requests"),
        errors=slot.integer("errors"),
        input_bytes=slot.integer("input_bytes"),
        latency=Histogram.read(slot.child("latency")),
    )
