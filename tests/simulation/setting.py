"""What is there before the first rollout: a model with versions in two variants, groups by site, a pin, devices."""

from collections.abc import Callable, Mapping
from random import Random

from sqlalchemy import insert, select, update

from controller.domain.ids import DeviceId, VersionId
from controller.store import tables
from controller.store.database import Database
from controller.trust.director import Director
from controller.use_cases.create_group import create_group
from controller.use_cases.create_model import create_model
from controller.use_cases.set_pin import set_pin
from device_agent.protocol.messages import FailureStage
from tests.simulation.agenda import Agenda
from tests.simulation.scenario import Character, Scenario
from tests.simulation.virtual_device import SLOT, Controller, VirtualDevice
from tests.support.fleet import START, Fleet, profile

PRECISIONS = {"camera": ("int8", "fp32"), "sensor": ("fp32",)}
"""What each profile runs, best first."""


def is_released(number: int) -> bool:
    """Tell whether a version is released, so that a rollout of it needs two persons."""
    return number % 2 == 0


class Setting:
    """The catalogue and the fleet of one scenario."""

    def __init__(self, scenario: Scenario, database: Database, director: Director, agenda: Agenda) -> None:
        """Write the catalogue, the groups and the pin; nobody is enrolled yet."""
        self._scenario = scenario
        self._agenda = agenda
        self._fleet = Fleet(database, director, model=SLOT)
        create_model(database, SLOT, "", now=START)
        self.numbers = {manifest: n for n in scenario.failure_shares for manifest in self._publish(n)}
        """The version that each manifest belongs to, by its number."""
        for site in "ab":
            create_group(database, f"site-{site}", f"site={site}", None, now=START)
        if scenario.is_pinned:
            set_pin(database, SLOT, 1, "all", now=START)

    @property
    def versions(self) -> Mapping[str, VersionId]:
        """The version that each manifest belongs to."""
        return {manifest: VersionId(f"ve_{number}") for manifest, number in self.numbers.items()}

    def enrol(self, name: str, character: Character, choose_controller: Callable[[], Controller]) -> VirtualDevice:
        """Add a device; it does nothing before it is started."""
        self._fleet.now = self._agenda.now
        machine = profile(character.profile, precisions=PRECISIONS[character.profile])
        device_id = self._fleet.enrol(name, machine, site=character.label)
        random = Random(f"{self._scenario.seed}:{device_id}")
        return VirtualDevice(
            device_id,
            character,
            self._fate(device_id),
            self._agenda,
            self._fleet.director.root,
            choose_controller,
            random,
        )

    def _fate(self, device_id: DeviceId) -> Callable[[str], FailureStage | None]:
        return lambda manifest: self._scenario.fate(device_id, manifest, self.numbers[manifest])

    def _publish(self, number: int) -> tuple[str, str]:
        """Publish a version in fp32 and int8; return their manifests."""
        plain = self._fleet.publish(number)
        small = plain[::-1]
        with self._fleet.database.writing() as tx:
            row = dict(
                tx.execute(select(tables.variant).where(tables.variant.c.manifest_sha256 == plain)).one()._mapping
            )
            changed = {"id": f"{row['id']}_int8", "recipe": "int8", "manifest_sha256": small, "wire_bytes": 300}
            runtime = {**row["runtime"], "precision": "int8"}
            target = f"dev/{SLOT}/{number}/int8/manifest.json"
            tx.execute(insert(tables.variant).values({**row, **changed, "runtime": runtime, "target": target}))
            if is_released(number):
                of_version = tables.variant.c.version_id == row["version_id"]
                tx.execute(update(tables.variant).where(of_version).values(released_at=self._fleet.now))
        return plain, small
