"""Puts an agent together from its settings and its identity: the one place that knows every part."""

import logging
import secrets
from datetime import datetime
from pathlib import Path
from random import Random

from device_agent.acquisition import Acquisition
from device_agent.agent import AgentParts
from device_agent.clock import DeviceClock
from device_agent.controller_client import ControllerClient
from device_agent.controller_link import ControllerLink
from device_agent.director_trust import ROOT_BYTES_MAX, DirectorTrust, FetchRoot
from device_agent.downloader import Downloader, DownloadLimits
from device_agent.health import HealthCommand
from device_agent.identity import Identity
from device_agent.image_client import ImageRepository
from device_agent.journal import Journal, JournalDamagedError, open_journal, salvage_record
from device_agent.placement import Placement
from device_agent.polling import Backoff
from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.profile import DeviceProfile
from device_agent.reports import ReportSpool
from device_agent.serving_client import ServingClient
from device_agent.serving_process import ServingProcess
from device_agent.settings import Settings
from device_agent.slot_worker import Workbench
from device_agent.slots import ModelStore
from device_agent.transport import Pace, Transport

_log = logging.getLogger(__name__)
JOURNAL_FILE = "state"
SOCKET_FILE = "serving.sock"
_SPOOL_FILE = "reports.sqlite"
_ANSWER_S = 10.0
_RETRY_CAP_S = 3600.0


def build_parts(
    settings: Settings, identity: Identity, profile: DeviceProfile, transport: Transport, random: Random
) -> AgentParts:
    """Return the parts of an agent that works in `settings.state_dir`."""
    state_dir, clock = settings.state_dir, DeviceClock()
    store = ModelStore(state_dir, settings.download.reserve_bytes)
    journal = open_or_salvage(state_dir / JOURNAL_FILE, store)
    spool = ReportSpool(state_dir / _SPOOL_FILE, _boot_id(), settings.reports.items_max)
    serving = ServingProcess(
        serving_client(settings),
        state_dir=state_dir,
        socket_path=state_dir / SOCKET_FILE,
        models=store.models,
        listen=settings.inference.listen,
        threads=profile.threads,
        random=random,
    )
    acquisition = _acquisition(settings, identity, profile, transport, random, store, journal, clock)
    bench = Workbench(
        journal=journal,
        store=store,
        acquisition=acquisition,
        placement=Placement(store, serving.client),
        health=HealthCommand(settings.health.command, settings.health.interval_s, settings.health.timeout_s),
        selftest_timeout_s=settings.inference.selftest_timeout_s,
        memory_bytes=profile.memory_bytes,
        retries=Backoff(settings.polling.retry_base_s, _RETRY_CAP_S),
        random=random,
    )
    client = ControllerClient(transport, identity.controller_url)
    return AgentParts(
        device=identity.device,
        journal=journal,
        store=store,
        spool=spool,
        serving=serving,
        link=ControllerLink(client, identity, spool, settings.polling, random),
        director=DirectorTrust(state_dir / "director-metadata", identity.director_root, identity.image_root),
        fetch_director_root=_director_root_fetcher(transport, identity.controller_url),
        clock=clock,
        bench=bench,
        report_interval_s=settings.reports.interval_s,
    )


def serving_client(settings: Settings) -> ServingClient:
    """Return the client of the serving process that works in this state directory."""
    return ServingClient(settings.state_dir / SOCKET_FILE, answer_s=_ANSWER_S, load_s=settings.inference.load_timeout_s)


def open_or_salvage(path: Path, store: ModelStore) -> Journal:
    """Open the journal; when its record is damaged, put it aside and go on with the models that are intact."""
    try:
        return open_journal(path)
    except JournalDamagedError as error:
        _log.error("the state record %s is damaged (%s); going on with the models that are intact", path, error)
    path.replace(path.with_name(path.name + ".damaged"))
    journal = open_journal(path)
    models = [(manifest.model, name, manifest.version) for name, manifest in store.intact_manifests()]
    journal.commit(salvage_record(models))
    return journal


def _acquisition(
    settings: Settings,
    identity: Identity,
    profile: DeviceProfile,
    transport: Transport,
    random: Random,
    store: ModelStore,
    journal: Journal,
    clock: DeviceClock,
) -> Acquisition:
    download, url = settings.download, identity.controller_url.rstrip("/")
    limits = DownloadLimits(
        tries=download.tries,
        backoff=Backoff(settings.polling.retry_base_s, settings.polling.retry_cap_s),
        pace=Pace(download.deadline_s, download.minimum_bytes_s, download.grace_s),
    )

    def open_repository(now: datetime) -> ImageRepository:
        cache = settings.state_dir / "image-metadata"
        return ImageRepository(transport, f"{url}/tuf", cache, identity.image_root, now)

    return Acquisition(
        open_repository=open_repository,
        downloader=Downloader(transport, f"{url}/artifacts/sha256", limits, random),
        store=store,
        journal=journal,
        clock=clock,
        profile=profile,
        limits=limits,
        random=random,
    )


def _director_root_fetcher(transport: Transport, controller_url: str) -> FetchRoot:
    def fetch(version: int) -> bytes | None:
        url = f"{controller_url.rstrip('/')}/tuf/director/{version}.root.json"
        answer = transport.call("GET", url, bytes_max=ROOT_BYTES_MAX)
        if answer.status in {403, 404}:
            return None
        if answer.status != 200:
            raise ProtocolError(Code.HTTP, f"status {answer.status} for {url}", role="director-root")
        return answer.body

    return fetch


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return secrets.token_hex(16)
