"""The composition root: builds every part once, from settings, and hands them over as Services.

Nothing else reads settings, opens an engine, loads keys or asks for the time.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from controller.artifacts.blob_store import BlobStore
from controller.artifacts.child_process import Limits
from controller.logs import configure_logs
from controller.settings import Settings
from controller.store.database import Database, open_engine
from controller.trust.ceremonies import single_operator
from controller.trust.custody.keys import session_secret
from controller.trust.director import Director, open_director
from controller.trust.durable_files import exclusive, write_durably
from controller.trust.errors import TrustMissing
from controller.trust.identity.sessions import Sessions
from controller.trust.images.image_repository import ImageRepository
from controller.trust.images.root_chain import RootChain
from controller.trust.signer.client import RemoteSigner
from controller.trust.signer.interface import OnlineSigner
from controller.trust.signer.verbs import open_local_signer
from controller.use_cases.task_queue import TaskQueue

Clock = Callable[[], datetime]


@dataclass(frozen=True)
class Services:
    """Every part of the controller that talks to the world."""

    settings: Settings
    database: Database
    blobs: BlobStore
    signer: OnlineSigner
    image_repository: ImageRepository
    director: Director
    director_root: bytes
    """Exact bytes of the director's first root, which devices start their trust from."""
    sessions: Sessions
    operator_token: str
    tasks: TaskQueue
    clock: Clock

    @property
    def is_single_operator(self) -> bool:
        """Whether one person is everybody, which pages and commands say permanently."""
        return self.settings.is_single_operator

    @property
    def limits(self) -> Limits:
        """What one compression, evaluation or measuring process may use."""
        return Limits(self.settings.job_timeout_s, self.settings.job_memory_bytes)

    @property
    def inspection_limits(self) -> Limits:
        """What the inspection of an upload may use, within a request."""
        return Limits(self.settings.inspection_timeout_s, self.settings.job_memory_bytes, "inspection_timeout_s")


class NoQueue:
    """Sends nothing: the sweep finds the work by itself."""

    def send(self, task: str, *ids: str) -> None:
        """Do nothing."""


def system_clock() -> datetime:
    """Return the present moment, aware, in UTC."""
    return datetime.now(UTC)


def build(settings: Settings, tasks: TaskQueue | None = None, clock: Clock = system_clock) -> Services:
    """Build the services. Safe in several processes at once: what is missing is made by whoever is first."""
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    now = clock()
    signer = open_signer(settings, clock)
    image_repository = ImageRepository(settings.tuf_dir, signer, single_operator=settings.is_single_operator)
    director_dir = settings.tuf_dir / "director"
    if settings.is_single_operator:
        single_operator.ensure(settings.tuf_dir, settings.keys_dir / "offline", signer, now)
    else:
        require_root(settings)
    director = open_director(director_dir, signer, now)
    return Services(
        settings=settings,
        database=Database(open_engine(settings.database_url)),
        blobs=BlobStore(settings.artifacts_dir, reserve_bytes=settings.disk_reserve_bytes),
        signer=signer,
        image_repository=image_repository,
        director=director,
        director_root=RootChain(director_dir).first_bytes(),
        sessions=Sessions(session_secret(settings.keys_dir)),
        operator_token=operator_token(settings),
        tasks=tasks or NoQueue(),
        clock=clock,
    )


def require_root(settings: Settings) -> None:
    """Raise TrustMissing where no ceremony has brought a root of trust yet; a single operator needs none."""
    if not settings.is_single_operator and not RootChain(settings.tuf_dir / "metadata").exists():
        raise TrustMissing(
            f"no root of trust is installed in {settings.tuf_dir}: make one with `edgefleet key ceremony start`, or "
            f"run a small installation with EDGEFLEET_SINGLE_OPERATOR=true"
        )


def open_signer(settings: Settings, clock: Clock = system_clock) -> OnlineSigner:
    """Return the signer: the process behind `signer_socket`, or the same verbs in this process where none is named."""
    if settings.signer_socket:
        return RemoteSigner(Path(settings.signer_socket))
    return open_local_signer(settings.signer_state_dir, settings.tuf_dir, clock=clock)


def operator_token(settings: Settings) -> str:
    """Return the operator's token: the configured one, or the one kept in the state folder, made when missing."""
    if settings.operator_token:
        return settings.operator_token
    path = settings.state_dir / "operator.token"
    with exclusive(settings.state_dir):
        if not path.exists():
            write_durably(path, f"flt_{secrets.token_hex(32)}\n".encode(), mode=0o600)
    return _read_token(path)


def _read_token(path: Path) -> str:
    return path.read_text().strip()


def services_from_environment(tasks: TaskQueue | None = None) -> Services:
    """Read the settings, set up the logs and build the services: how every process of the controller begins."""
    settings = Settings()  # type: ignore[call-arg]  # the plugin-free type checker sees no defaults
    configure_logs(settings.log_format, settings.log_level)
    return build(settings, tasks)
