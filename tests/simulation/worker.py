"""A simulated worker: sweeps at its own pace, sometimes twice, sometimes not for a long while."""

from random import Random

from tests.simulation.scenario import HOUR_S, MINUTE_S
from tests.simulation.world import Step, World

GAP_MAX_S = 4 * HOUR_S
"""The longest time without any worker."""


class Worker:
    """One of several workers that do the same periodic tasks."""

    def __init__(self, name: str, world: World, random: Random) -> None:
        """Nothing happens before `start`."""
        self.name = name
        self._world = world
        self._random = random
        self._skew_s = random.uniform(-20, 20)

    @property
    def steps(self) -> tuple[Step, ...]:
        """What it may do while another process is in the middle of something."""
        return (
            (f"{self.name} marks silent devices", self._mark_silent),
            (f"{self.name} advances rollouts", self._advance_rollouts),
        )

    def start(self) -> None:
        """Begin to sweep."""
        self._plan()

    def _plan(self) -> None:
        rests = self._random.random() < 0.02
        delay_s = self._random.uniform(0, GAP_MAX_S) if rests else self._random.uniform(0, 40 * MINUTE_S)
        self._world.agenda.after(delay_s, f"{self.name} sweeps", self._sweep)

    def _sweep(self) -> None:
        self._plan()
        for _ in range(self._random.choice((1, 1, 1, 2))):
            for _name, step in self._random.sample(self.steps, 2):
                step()

    def _mark_silent(self) -> None:
        most = self._random.choice((3, 5000))
        self._world.use_cases.mark_silent(self._world.database, now=self._world.now(self._skew_s), outcomes_max=most)

    def _advance_rollouts(self) -> None:
        self._world.use_cases.advance_rollouts(self._world.database, now=self._world.now(self._skew_s))
