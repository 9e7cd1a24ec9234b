"""One seed, played from the first enrolment until everything has ended and come to rest."""

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import islice
from random import Random

from sqlalchemy import Engine

from controller.domain.ids import DeviceId
from controller.domain.rollout import OPEN_STATES
from controller.trust.director import Director
from tests.simulation.agenda import Agenda
from tests.simulation.api_process import ApiProcess
from tests.simulation.final_invariants import AT_THE_END
from tests.simulation.identifiers import seeded_identifiers
from tests.simulation.invariants import AFTER_EVERY_STEP
from tests.simulation.observation import Observation, count_outcomes, observe
from tests.simulation.operators import Operators
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
    """A rule did not hold. The text says which, in which seed, and what came before."""

    def __init__(self, invariant: str, seed: int, breach: str, trace: list[str]) -> None:
        """Take the rule's name and the sentence that it yielded."""
        self.invariant = invariant
        last = "\n".join(trace[-TRACE_LINES:])
        super().__init__(f"seed {seed}, step {len(trace)}: {invariant}: {breach}\n{last}")


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
        while not self._operators.have_started_everything or _has_open_rollouts(before):
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
                self._agenda.after(delay_s, f"dv_{number} enrols", partial(self._enrol, number, character, random))
        for worker in self._workers:
            worker.start()
        self._operators.start()
        self._world.intruders = [
            *(step for process in self._processes for step in process.steps),
            *(step for worker in self._workers for step in worker.steps),
            *self._operators.steps,
        ]

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
        return observe(self._world.database, self._setting.versions, self._agenda.now)


def play(seed: int, engine: Engine, director: Director, use_cases: UseCases | None = None) -> Played:
    """Play one seed on an empty database; whatever goes wrong says which seed it was."""
    with seeded_identifiers(Random(f"{seed}:identifiers")):
        simulation = Simulation(seed, engine, director, use_cases or UseCases())
        try:
            return simulation.play()
        except Exception as error:
            error.add_note(f"to see it again: EDGEFLEET_SIMULATION_SEED={seed} ./run test tests/simulation")
            raise
        finally:
            simulation.close()


def _has_open_rollouts(look: Observation) -> bool:
    return any(rollout.state in OPEN_STATES for rollout in look.rollouts.values())


def _happened(end: Observation) -> Counter[str]:
    found = Counter(kind for history in end.histories.values() for kind in history)
    found.update(str(outcome.state) for outcome in end.outcomes.values())
    return found
