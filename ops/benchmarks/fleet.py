"""A server with a fleet to measure: the device API on SQLite, with devices whose sessions are open."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from controller.store import migrate
from controller.trust.identity.sessions import AuthenticatedDevice
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
    ids: list[str]
    keys_pem: list[str]
    """The devices' private keys, which sign reports."""
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
        fleet = Fleet(services.database, services.director, now, repository=services.image_repository)
        fleet.publish(1)
        set_pin(services.database, "digits", 1, "all", now=now)
        keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(DEVICES)]
        ids = [fleet.enrol(f"cam-{number}", public_key_pem=_public(key)) for number, key in enumerate(keys)]
        issued = issue_assignments(services.database, services.director, ids, None, poll_s=300.0, now=now)
        tokens = [services.sessions.token_for(AuthenticatedDevice(device_id), now) for device_id in ids]
        etags = [f'"{issued.of[device_id].counter}"' for device_id in ids]
        with ServerProcess(Path(folder), url) as server:
            yield Measured(server, services, file, list(ids), list(map(_private, keys)), tokens, etags)
        services.database.engine.dispose()


def _public(key: ec.EllipticCurvePrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _private(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
