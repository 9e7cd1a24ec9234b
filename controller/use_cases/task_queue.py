"""How a use case asks for work to be done later. A message is a hint: whoever loses it loses only time."""

from typing import Protocol


class TaskQueue(Protocol):
    """Sends a named task with ids. Called after the commit; must not raise when the broker is away."""

    def send(self, task: str, *ids: str) -> None:
        """Ask a worker to run the task soon."""
