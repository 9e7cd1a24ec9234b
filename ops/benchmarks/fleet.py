"""A server with a fleet to measure: the device API on SQLite, with devices whose sessions are open."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from controller.store import migrate
from controller.trust.sessions import AuthenticatedDevice
from controller.use_cases.create_model import create_model
from controller.use_cases.issue_assignments import issue_assignments
from controller.use_cases.set_pin import set_pin
from controller.wiring import Services
from tests.support.device_server import ServerProcess, services_at
from tests.support.fleet import Fleet

DEVICES = 1000


@dataclass(frozen=True)
class Measured:
    """A running server, and what its devices show."""

    server: ServerProcess
    services: Services
    database_file: Path
    tokens: list[str]
    etags: list[str]


@contextmanager
def measured_server() -> Iterator[Measured]:
    """Start a server in a process of its own whose devices all run a pinned version."""
    with tempfile.TemporaryDirectory(prefix="edgefleet-bench-") as folder:
        file = Path(folder) / "controller.db"
        url = f"sqlite:///{file}"
        migrate.upgrade(url)
        services = services_at(Path(folder), url)
        now = services.clock()
        create_model(services.database, "digits", "", now=now)
        fleet = Fleet(services.database, services.director, now)
        fleet.publish(1)
        set_pin(services.database, "digits", 1, "all", now=now)
        ids = [fleet.enrol(f"cam-{number}") for number in range(DEVICES)]
        issued = issue_assignments(services.database, services.director, ids, None, poll_s=300, now=now)
        tokens = [services.sessions.token_for(AuthenticatedDevice(device_id), now) for device_id in ids]
        etags = [f'"{issued.of[device_id].counter}"' for device_id in ids]
        with ServerProcess(Path(folder), url) as server:
            yield Measured(server, services, file, tokens, etags)
        services.database.engine.dispose()
