"""Simulated operators: they start rollouts one after the other, meddle with them, and look after what they left.

What one of them proposes another approves when they look after it.
"""

from collections.abc import Callable
from random import Random

from controller.domain.errors import Conflict, InvalidInput
from controller.domain.rollout import OPEN_STATES, Rollout, RolloutEvent, RolloutState
from controller.store import rollouts
from controller.use_cases.create_rollout import RolloutRequest
from tests.simulation.scenario import HOUR_S, STAGES, Scenario, draw_gate
from tests.simulation.setting import is_released
from tests.simulation.virtual_device import SLOT
from tests.simulation.world import Step, World

PAUSE_S = 2 * HOUR_S
"""After how long a pause is taken for forgotten, and ended."""
ROUND_S = HOUR_S
"""How often somebody looks after the open rollouts at least."""
STEERING = (RolloutEvent.PAUSE, RolloutEvent.PAUSE, RolloutEvent.RESUME, RolloutEvent.ABORT)
GROUPS = ("all", "all", "site-a", "site-b")


class Operators:
    """The people at the command line."""

    def __init__(self, world: World, scenario: Scenario, random: Random) -> None:
        """Nothing happens before `start`."""
        self._world = world
        self._scenario = scenario
        self._random = random
        self._created = 0
        self._is_retired = False

    @property
    def steps(self) -> tuple[Step, ...]:
        """What they may do while a process is in the middle of something."""
        return (("an operator steers", self._steer),)

    def start(self) -> None:
        """Begin to work."""
        self._after(self._random.uniform(0, 3) * HOUR_S, "creates a rollout", self._create)
        self._after(self._random.expovariate(1 / self._scenario.steering_s), "steers", self._keep_steering)
        self._after(ROUND_S, "looks after the rollouts", self._look_after)

    @property
    def have_started_everything(self) -> bool:
        """Tell whether every rollout of the scenario was started."""
        return self._created == self._scenario.rollouts

    def retire(self) -> None:
        """Leave everything as it is."""
        self._is_retired = True

    def _create(self) -> None:
        if self.have_started_everything:
            return
        self._after(self._random.uniform(0.5, 4) * HOUR_S, "creates a rollout", self._create)
        newest = self._created + 2
        # With patience alone, because devices that have refused a version before can hold its rollout for ever.
        again = self._scenario.patience_s and self._random.random() < 0.2
        version = self._random.randint(1, newest) if again else newest
        group, stages = self._random.choice(GROUPS), self._random.choice(STAGES)
        request = RolloutRequest(SLOT, version, group, stages, draw_gate(self._random))
        create, two_persons = self._world.use_cases.create_rollout, is_released(version)
        now = self._world.now()
        if self._is_accepted(lambda: create(self._world.database, request, now=now, two_persons=two_persons)):
            self._created += 1

    def _keep_steering(self) -> None:
        self._after(self._random.expovariate(1 / self._scenario.steering_s), "steers", self._keep_steering)
        self._steer()

    def _steer(self) -> None:
        if self._is_retired:
            return
        found = self._open()
        if self._random.random() < 0.2:
            group, set_pin = self._random.choice(GROUPS), self._world.use_cases.set_pin
            self._is_accepted(lambda: set_pin(self._world.database, SLOT, 1, group, now=self._world.now()))
        elif found:
            self._send(self._random.choice(found), self._random.choice(STEERING))

    def _look_after(self) -> None:
        self._after(ROUND_S, "looks after the rollouts", self._look_after)
        now, patience_s = self._world.now(), self._scenario.patience_s
        for rollout in self._open():
            if patience_s and (now - rollout.created_at).total_seconds() > patience_s:
                self._send(rollout, RolloutEvent.ABORT)
            elif rollout.state is RolloutState.PROPOSED:
                self._approve(rollout)
            elif rollout.state is RolloutState.PAUSED and (now - rollout.state_since).total_seconds() > PAUSE_S:
                self._send(rollout, RolloutEvent.RESUME)

    def _open(self) -> list[Rollout]:
        with self._world.database.reading() as tx:
            return rollouts.rollouts_in(tx, OPEN_STATES)

    def _send(self, rollout: Rollout, event: RolloutEvent) -> None:
        steer = self._world.use_cases.steer_rollout
        self._is_accepted(lambda: steer(self._world.database, rollout.id, event, now=self._world.now()))

    def _approve(self, rollout: Rollout) -> None:
        approve, by = self._world.use_cases.approve_rollout, {"actor": "approver", "token_id": "another"}
        self._is_accepted(lambda: approve(self._world.database, rollout.id, now=self._world.now(), **by))

    def _is_accepted(self, request: Callable[[], object]) -> bool:
        try:
            request()
        except (Conflict, InvalidInput):
            return False
        return True

    def _after(self, delay_s: float, what: str, action: Callable[[], None]) -> None:
        self._world.agenda.after(delay_s, f"an operator {what}", action)
