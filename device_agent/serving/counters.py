"""What the models of this process have answered: counts and latencies, never an input or an output.

Each (slot, manifest) in service has its own counters, from the moment it is loaded. `collect` hands out what
came since the last collect; what a replaced model answered to its end is still handed out once.
"""

from dataclasses import dataclass, field
from typing import Any

from device_agent.protocol.histogram import Histogram


@dataclass
class _Window:
    since_s: float
    requests: int = 0
    errors: int = 0
    input_bytes: int = 0
    latency: Histogram = field(default_factory=Histogram)


class ModelCounters:
    """Counts of one model in one slot. Requests that were refused as malformed are nobody's: not counted."""

    def __init__(self, slot: str, manifest: str, now_s: float) -> None:
        self.slot = slot
        self.manifest = manifest
        self.requests = 0
        """Proper requests since the model was loaded, failed ones included."""
        self.errors = 0
        """Those that the model could not answer."""
        self.retired = False
        """True once the model is out of service and has answered its last request."""
        self._window = _Window(now_s)

    def record(self, latency_s: float, *, input_bytes: int, failed: bool) -> None:
        """Count one request. The latency of a failure is not one of the model, and is left out."""
        window = self._window
        self.requests += 1
        window.requests += 1
        if failed:
            self.errors += 1
            window.errors += 1
        else:
            window.input_bytes += input_bytes
            window.latency.add(latency_s)

    def collect(self, now_s: float) -> dict[str, Any]:
        """Return the window in the form of the control endpoint, and begin a new one."""
        window, self._window = self._window, _Window(now_s)
        return {
            "slot": self.slot,
            "manifest": self.manifest,
            "window_s": now_s - window.since_s,
            "requests": window.requests,
            "errors": window.errors,
            "input_bytes": window.input_bytes,
            "latency": window.latency.to_json(),
        }


class CounterBook:
    """All counters of the process, in the order in which their models were loaded."""

    def __init__(self) -> None:
        self._entries: list[ModelCounters] = []

    def open(self, slot: str, manifest: str, now_s: float) -> ModelCounters:
        """Begin to count for a model that comes into service."""
        entry = ModelCounters(slot, manifest, now_s)
        self._entries.append(entry)
        return entry

    def collect(self, now_s: float) -> list[dict[str, Any]]:
        """Return the windows of all models since the last collect, and forget the retired ones."""
        windows = [entry.collect(now_s) for entry in self._entries]
        self._entries = [entry for entry in self._entries if not entry.retired]
        return windows
