"""The slots of the inference process: which model answers now, and how it is replaced without a gap.

Who serves changes on the event loop alone, by one assignment to a dictionary, so a request sees either the
old model or the new one. The rest of a switch surrounds that moment:

 1. load and warm up the new model in a thread; when that fails, nothing has changed
 2. switch: requests from here on go to the new model
 3. drain: wait until the old model has answered what it holds
 4. free the old model in a thread, and give its memory back to the system
"""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from device_agent.serving.counters import CounterBook, ModelCounters
from device_agent.serving.errors import RequestRefused
from device_agent.serving.session import LoadedModel, load_model

DRAIN_S = 30.0


@dataclass(frozen=True)
class LoadOrder:
    """What the agent wants served: a verified model directory and the artifact in it to load."""

    slot: str
    version: str
    manifest: str
    """sha256 of the manifest, which names the directory."""
    path: Path
    """The main artifact."""


class Occupant:
    """A model in its slot. Inside `with occupant:` the model stays in memory, whatever is loaded meanwhile."""

    def __init__(self, order: LoadOrder, model: LoadedModel, counters: ModelCounters) -> None:
        self.order = order
        self.model = model
        self.counters = counters
        self._in_flight = 0
        self._leaving = False
        self._drained = asyncio.Event()
        self._drained.set()

    def __enter__(self) -> "Occupant":
        self._in_flight += 1
        self._drained.clear()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self.counters.retired = self._leaving
            self._drained.set()

    async def retire(self, drain_s: float) -> None:
        """Wait for the last request and free the model.

        A request that takes longer than `drain_s` keeps the model until it is answered.
        """
        self._leaving = True
        self.counters.retired = not self._in_flight
        try:
            await asyncio.wait_for(self._drained.wait(), drain_s)
        except TimeoutError:
            return
        await asyncio.to_thread(self.model.close)


class Slots:
    """All slots of the process. Belongs to the event loop: no method is for other threads."""

    def __init__(self, counters: CounterBook, *, threads: int = 1, drain_s: float = DRAIN_S) -> None:
        self.threads = threads
        """How many threads answer one request."""
        self._counters = counters
        self._drain_s = drain_s
        self._occupants: dict[str, Occupant] = {}
        # One load at a time, so that the peak of memory is that of one.
        self._changing = asyncio.Lock()

    def __iter__(self) -> Iterator[Occupant]:
        return iter(list(self._occupants.values()))

    def find(self, slot: str, version: str | None = None) -> Occupant:
        """Return what serves the slot; RequestRefused(404) when nothing does, or not in this version."""
        occupant = self._occupants.get(slot)
        if occupant is None:
            raise RequestRefused(404, f"model {slot!r} is not served here; served: {sorted(self._occupants)}")
        if version is not None and version != occupant.order.version:
            raise RequestRefused(
                404, f"version {version!r} of model {slot!r} is not served here; served: {occupant.order.version!r}"
            )
        return occupant

    async def load(self, order: LoadOrder) -> LoadedModel:
        """Bring a model into service; return it when the one before has answered its last request.

        A manifest that the slot serves already is left as it is. Raises LoadError, with the slot unchanged.
        """
        async with self._changing:
            current = self._occupants.get(order.slot)
            if current and current.order == order:
                return current.model
            model = await asyncio.to_thread(load_model, order.path, threads=self.threads)
            counters = self._counters.open(order.slot, order.manifest, time.monotonic())
            self._occupants[order.slot] = Occupant(order, model, counters)
            if current:
                await current.retire(self._drain_s)
            return model

    async def unload(self, slot: str) -> None:
        """Take the slot out of service; a slot that serves nothing is left as it is."""
        async with self._changing:
            current = self._occupants.pop(slot, None)
            if current:
                await current.retire(self._drain_s)
