"""One seed, played from the first enrolment until everything has ended and come to rest."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from random import Random

import pytest
from sqlalchemy import Engine

from controller.domain.ids import DeviceId
from controller.trust.director import Director
from controller.use_cases import identity
from tests.simulation.agenda import Agenda
from tests.simulation.api_process import ApiProcess
from tests.simulation.final_invariants import AT_THE_END
from tests.simulation.invariants import AFTER_EVERY_STEP
from tests.simulation.observation import Observation, count_outcomes, observe
from tests.simulation.people import Operators
from tests.simulation.scenario import DAY_S, Character, Scenario
from tests.simulation.setting import Setting
from tests.simulation.use_cases import UseCases
from tests.simulation.virtual_device import VirtualDevice
from tests.simulation.worker import Worker
from tests.simulation.world import World
from tests.support.fleet import START

SETTLING = (timedelta(hours=3), timedelta(hours=12))
"""How long everything is given, and may take, to come to rest once nothing goes wrong any more."""
TRACE_LINES = 40
"""How much of what came before a breach is shown."""


class InvariantBrokenError(AssertionError):
    """A rule did not hold. The text says which, in which seed, and how to see it again."""

    def __init__(self, invariant: str, seed: int, breach: str, trace: list[str]) -> None:
        """Take the rule's name and the sentence that it yielded."""
        self.invariant = invariant
        last = "\n".join(trace[-TRACE_LINES:])
        super().__init__(
            f"seed {seed}, step {len(trace)}: {invariant}: {breach}\n"
            f"again: EDGEFLEET_SIMULATION_SEED={seed} ./run test tests/simulation\n{last}"
        )


@dataclass(frozen=True)
class Played:
    """What a seed turned out to be."""

    trace: tuple[str, ...]
    """Every step of every process and device."""
    happened: Counter[str]
    """How often each event of a rollout and each state of an outcome came about."""


class Simulation:
    """One seed on one empty database."""

    def __init__(self, seed: int, engine: Engine, director: Director, use_cases: UseCases) -> None:
        """Set everything up; time stands still until `play`."""
        self.seed = seed
        self._agenda = Agenda(START)
        self._world = World(engine, director, self._agenda, use_cases, Random(f"{seed}:world"))
        self._scenario = Scenario.from_seed(seed)
        self._setting = Setting(self._scenario, self._world.database, director, self._agenda)
        self._devices: dict[DeviceId, VirtualDevice] = {}
        self._processes = [ApiProcess(f"api-{n}", self._world, Random(f"{seed}:api-{n}")) for n in range(2)]
        self._workers = [Worker(f"worker-{n}", self._world, Random(f"{seed}:worker-{n}")) for n in range(2)]
        self._operators = Operators(self._world, self._scenario, Random(f"{seed}:operators"))

    def play(self) -> Played:
        """Play to the end; InvariantBrokenError at the first breach."""
        self._begin()
        before = self._observe()
        while not self._operators.is_done():
            before = self._step(before)
        self._operators.retire()
        for device in self._devices.values():
            device.heal()
        least, most = (self._agenda.now + wait for wait in SETTLING)
        while self._agenda.now < least or (self._agenda.now < most and not self._is_quiet()):
            before = self._step(before)
        end = count_outcomes(self._world.database, self._observe())
        for invariant in AT_THE_END:
            for breach in islice(invariant(end, self._devices), 1):
                raise InvariantBrokenError(invariant.__name__, self.seed, breach, self._world.trace)
        return Played(tuple(self._world.trace), _happened(end))

    def close(self) -> None:
        """Let go of what the devices hold."""
        for device in self._devices.values():
            device.spool.close()

    def _begin(self) -> None:
        random = Random(f"{self.seed}:enrolments")
        late = len(self._scenario.characters) - self._scenario.latecomers
        for number, character in enumerate(self._scenario.characters):
            if number < late:
                self._enrol(number, character, random)
            else:
                delay_s = random.uniform(0, DAY_S)
                self._agenda.after(delay_s, f"{number} enrols", lambda n=number, c=character: self._enrol(n, c, random))
        for actor in (*self._workers, self._operators):
            actor.start()
        everyone = (*self._processes, *self._workers, self._operators)
        self._world.intruders = [step for actor in everyone for step in actor.steps]

    def _enrol(self, number: int, character: Character, random: Random) -> None:
        device = self._setting.enrol(f"{number}", character, lambda: random.choice(self._processes))
        self._devices[device.id] = device
        device.start()

    def _step(self, before: Observation) -> Observation:
        """Let one thing happen, and check every rule if the database has changed."""
        entry = self._agenda.take()
        self._world.run(entry.what, entry.action)
        if not self._world.database.was_written:
            return before
        after = self._observe()
        for invariant in AFTER_EVERY_STEP:
            for breach in islice(invariant(before, after, self._devices), 1):
                raise InvariantBrokenError(invariant.__name__, self.seed, breach, self._world.trace)
        return after

    def _is_quiet(self) -> bool:
        return all(device.is_at_rest for device in self._devices.values())

    def _observe(self) -> Observation:
        self._world.database.was_written = False
        return observe(self._world.database, self._devices, self._setting.versions, self._agenda.now)


def play(seed: int, engine: Engine, director: Director, use_cases: UseCases | None = None) -> Played:
    """Play one seed on an empty database; InvariantBrokenError at the first breach of a rule."""
    with _identifiers_from(Random(f"{seed}:identifiers")):
        simulation = Simulation(seed, engine, director, use_cases or UseCases())
        try:
            return simulation.play()
        finally:
            simulation.close()


class _Entropy:
    """Random bytes that a replay draws again."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def token_hex(self, count: int) -> str:
        return self._random.randbytes(count).hex()


class _Clock:
    """A clock that counts how often it was asked."""

    def __init__(self) -> None:
        self._asked = 0

    def time_ns(self) -> int:
        self._asked += 1
        return self._asked * 1_000_000


@contextmanager
def _identifiers_from(random: Random) -> Iterator[None]:
    """Replace the machine's clock and entropy where ids are made: a rollout's id decides who is in which stage."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identity, "secrets", _Entropy(random))
        patch.setattr(identity, "time", _Clock())
        yield


def _happened(end: Observation) -> Counter[str]:
    found = Counter(kind for history in end.histories.values() for kind in history)
    found.update(str(outcome.state) for outcome in end.outcomes.values())
    return found
