"""What one seed stands for: the fleet, its links, the versions and how they fail, and what the operators want."""

from dataclasses import dataclass
from random import Random

from controller.domain.gates import GatePolicy
from device_agent.protocol.messages import FailureStage

MINUTE_S, HOUR_S, DAY_S = 60.0, 3_600.0, 86_400.0

FAILURE_SHARES = (0.0, 0.05, 0.3, 1.0)
"""On how many devices a version may fail: never, rarely, often, always."""

FAILURES = (FailureStage.BEHAVIOUR, FailureStage.LOAD, FailureStage.HEALTH, FailureStage.RUNTIME)
"""Where a candidate fails that is itself to blame. RUNTIME takes the whole device down whenever it is on trial."""

STAGES = ((100,), (10, 100), (50, 100), (10, 30, 100), (5, 25, 50, 100))


@dataclass(frozen=True)
class Character:
    """How one device behaves, and how good its link is."""

    label: str
    """The value of its label `site`."""
    profile: str
    """`camera` runs int8 and fp32, `sensor` fp32 alone."""
    poll_s: float
    hears: bool = True
    """False for a device that never polls again once it is enrolled."""
    speaks: bool = True
    """False for a device whose reports never leave it."""
    lost_share: float = 0.0
    """Share of requests, of answers, and of acknowledgements that are lost."""
    late_share: float = 0.0
    """Share of reports of which a copy arrives again, up to hours later."""
    online_s: float | None = None
    """Mean time between offline spells; None for a device that is always in reach."""
    power_cycle_s: float | None = None
    """Mean time between power cuts; None for a device that stays up."""
    hiccup_share: float = 0.0
    """Share of downloads that fail for a reason that is not the candidate's fault."""


@dataclass(frozen=True)
class Scenario:
    """Everything about a run that is decided before it begins."""

    seed: int
    characters: tuple[Character, ...]
    latecomers: int
    """How many of them enrol only while rollouts are on their way."""
    failure_shares: dict[int, float]
    """By version number."""
    is_pinned: bool
    """Version 1 is pinned before the first rollout."""
    rollouts: int
    steering_s: float
    """Mean time between interventions of an operator."""
    patience_s: float | None
    """After how long an operator aborts a rollout; None where every rollout must end without one."""

    @classmethod
    def from_seed(cls, seed: int) -> "Scenario":
        """Draw a scenario; the same seed gives the same one."""
        random = Random(f"{seed}:scenario")
        # Small fleets more often: they show as much in less time.
        devices = 5 + round(35 * random.random() ** 2)
        all_answer = random.random() < 0.4
        draw = _answering if all_answer else _any_character
        rollouts = random.randint(1, 3)
        return cls(
            seed=seed,
            characters=tuple(draw(random) for _ in range(devices)),
            latecomers=random.choice((0, 0, devices // 4)),
            failure_shares={number: _failure_share(random, number) for number in range(1, rollouts + 2)},
            is_pinned=random.random() < 0.8,
            rollouts=rollouts,
            steering_s=random.choice((2, 8, 48)) * HOUR_S,
            patience_s=None if all_answer else random.choice((6, 24)) * HOUR_S,
        )

    def fate(self, device_id: str, manifest: str, version: int) -> FailureStage | None:
        """Tell in which part of its work a device always gives this manifest up; None where it is sound."""
        random = Random(f"{self.seed}:{device_id}:{manifest}")
        return random.choice(FAILURES) if random.random() < self.failure_shares[version] else None


def draw_gate(random: Random) -> GatePolicy:
    """Draw a gate that an operator might ask for."""
    success, failure = random.choice(((1.0, 0.0), (0.9, 0.1), (0.8, 0.2), (0.5, 0.5), (0.3, 0.3)))
    soak_s = random.uniform(0.5, 10) * MINUTE_S
    return GatePolicy(success, failure, soak_s, soak_s + random.uniform(0.5, 3) * HOUR_S)


def _failure_share(random: Random, number: int) -> float:
    # The version that everything goes back to is a good one as a rule, or no rollout would have much to lose.
    return random.choice((0.0, 0.0, 0.05)) if number == 1 else random.choice(FAILURE_SHARES)


def _answering(random: Random) -> Character:
    flaky = random.random() < 0.3
    return Character(
        label=random.choice("ab"),
        profile=random.choice(("camera", "sensor")),
        poll_s=random.uniform(5, 30) * MINUTE_S,
        lost_share=random.uniform(0, 0.4) if flaky else 0.0,
        late_share=random.uniform(0, 0.4) if flaky else 0.0,
        online_s=random.uniform(1, 12) * HOUR_S if random.random() < 0.2 else None,
        power_cycle_s=random.uniform(1, 12) * HOUR_S if random.random() < 0.2 else None,
        hiccup_share=random.choice((0.0, 0.0, 0.1)),
    )


def _any_character(random: Random) -> Character:
    character = _answering(random)
    kind = random.random()
    changed = {"hears": kind > 0.06, "speaks": not 0.06 < kind < 0.12}
    return Character(**{**vars(character), **changed})
