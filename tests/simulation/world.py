"""What all simulated processes share: the database and the clock, and that they never run alone.

Every process is a plain function call, and between any two transactions of one process another one may act, or the
process may be killed. Nothing runs in parallel, so the same seed gives the same order every time.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from random import Random

from sqlalchemy import Connection, Engine

from controller.store.database import Database
from controller.trust.director import Director
from tests.simulation.agenda import Agenda
from tests.simulation.use_cases import UseCases

INTERRUPTED_SHARE = 0.15
"""Share of the moments between two transactions in which another process acts."""
KILLED_SHARE = 0.01
"""Share of the same moments in which the process is killed."""
DEPTH_MAX = 2
"""How many processes may wait for each other at most."""

Step = tuple[str, Callable[[], None]]
"""What a process can do, with its name for the trace."""


class ProcessKilledError(Exception):
    """A process of the controller ended between two transactions."""


class SharedDatabase(Database):
    """A database on which others may act before every transaction that writes."""

    def __init__(self, engine: Engine, others: Callable[[], None]) -> None:
        """`others` is called before each transaction, and may raise."""
        super().__init__(engine)
        self._others = others
        self.was_written = False
        """Set by every commit of a change; whoever has looked at the database resets it."""

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Let others act, then open a transaction."""
        self._others()
        with super().writing() as tx:
            before = _changes(tx)
            yield tx
            changed = _changes(tx) != before
        self.was_written |= changed


class World:
    """The clock, the database, and the processes of the controller as steps that they may take at any moment."""

    def __init__(self, engine: Engine, director: Director, agenda: Agenda, use_cases: UseCases, random: Random) -> None:
        """Nobody acts between transactions before `intruders` names who could."""
        self.agenda = agenda
        self.director = director
        self.use_cases = use_cases
        self.database = SharedDatabase(engine, self.let_others_act)
        self.intruders: Sequence[Step] = ()
        self.trace: list[str] = []
        self._random = random
        self._depth = 0

    def now(self, skew_s: float = 0.0) -> datetime:
        """Return the time on a clock that is this much ahead."""
        return self.agenda.now + timedelta(seconds=skew_s)

    def run(self, what: str, action: Callable[[], None]) -> None:
        """Do one step of a process, which may be killed in the middle of it."""
        self.trace.append(f"{self.agenda.now:%d %H:%M:%S} {'  ' * self._depth}{what}")
        try:
            action()
        except ProcessKilledError:
            self.trace.append(f"{'  ' * self._depth}killed: {what}")

    def let_others_act(self) -> None:
        """Between two transactions of a process: usually nothing, sometimes another process, sometimes the end."""
        if not self.intruders or self._depth >= DEPTH_MAX:
            return
        chance = self._random.random()
        if chance < KILLED_SHARE:
            raise ProcessKilledError
        if chance < KILLED_SHARE + INTERRUPTED_SHARE:
            self._depth += 1
            try:
                self.run(*self._random.choice(self.intruders))
            finally:
                self._depth -= 1


def _changes(tx: Connection) -> int:
    """Return how many rows SQLite has ever changed over this connection."""
    driver = tx.connection.driver_connection
    assert driver
    changes: int = driver.total_changes
    return changes
