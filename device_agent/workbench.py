"""What the workers of a device share."""

from dataclasses import dataclass
from random import Random

from device_agent.acquisition import Acquisition
from device_agent.health import HealthCommand
from device_agent.journal import Journal
from device_agent.placement import Placement
from device_agent.polling import Backoff
from device_agent.slots import ModelStore


@dataclass(frozen=True)
class Workbench:
    """The parts of the device that every slot works with."""

    journal: Journal
    store: ModelStore
    acquisition: Acquisition
    placement: Placement
    health: HealthCommand
    selftest_timeout_s: float
    memory_bytes: int
    """What a model may use at its peak, the bound of a self-test."""
    retries: Backoff
    """Waits between attempts at an assignment that failed without being refused."""
    random: Random
