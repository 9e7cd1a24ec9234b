"""What a device keeps, held in memory: the agent's own journal, spool and store, each without its files.

The agent's recovery, reporter and spool run on these as they are.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from device_agent.journal import Journal, Record
from device_agent.lifecycle import Found
from device_agent.protocol.messages import LifecycleItem, ReportItem
from device_agent.reports import ReportSpool
from device_agent.slots import ModelStore


class MemoryJournal(Journal):
    """A journal whose commits are durable at once, and after which the power may go."""

    def __init__(self, committed: Callable[[], None]) -> None:
        """`committed` is called after every commit and may raise."""
        super().__init__(Path(), Record())
        self._committed = committed

    def commit(self, record: Record) -> None:
        """Keep the record."""
        self.record = record
        self._committed()


class MemoryStore(ModelStore):
    """A store that has every model it is asked for, intact unless it is said to be damaged."""

    def __init__(self) -> None:
        """Begin without damage."""
        self.damaged: set[str] = set()

    def inspect(self, manifest: str | None) -> Found:
        """Tell how the model is."""
        if manifest is None:
            return Found.ABSENT
        return Found.DAMAGED if manifest in self.damaged else Found.INTACT

    def discard(self, manifest: str) -> None:
        """Delete a model; it can be fetched again."""
        self.damaged.discard(manifest)


class MemorySpool(ReportSpool):
    """The agent's spool on a database in memory. It also remembers everything that was ever put in."""

    def __init__(self, device: str) -> None:
        """Begin empty."""
        super().__init__(Path(":memory:"), "boot", items_max=10_000, device=device)
        self.said: list[LifecycleItem] = []

    def add(self, items: Sequence[ReportItem]) -> None:
        """Keep the items."""
        super().add(items)
        self.said += [item for item in items if isinstance(item, LifecycleItem)]
