"""Puts an agent together from its settings and its identity: the one place that knows every part."""

import logging
import secrets
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from random import Random

from device_agent.acquisition import Acquisition
from device_agent.agent import AgentParts
from device_agent.anchors import DIRECTOR_ROOT_FILE, IMAGE_ROOT_FILE, newest_anchor
from device_agent.certificate import CertificateKeeper
from device_agent.clock import DeviceClock
from device_agent.content_keys import ContentKeys
from device_agent.controller_client import ControllerClient
from device_agent.controller_link import ControllerLink
from device_agent.director_trust import DirectorTrust, director_root_fetcher
from device_agent.downloader import Downloader, DownloadLimits
from device_agent.health import HealthCommand
from device_agent.identity import CERTIFICATE_FILE, KEY_FILE, Identity, encryption_key
from device_agent.image_client import ImageRepository
from device_agent.journal import Journal, JournalDamagedError, open_journal, salvage_floors, salvage_record
from device_agent.placement import Placement
from device_agent.polling import Backoff
from device_agent.protocol.assignment import Recipient
from device_agent.protocol.channels import Channel
from device_agent.protocol.profile import DeviceProfile
from device_agent.reports import ReportSpool
from device_agent.serving_client import ServingClient
from device_agent.serving_process import ServingProcess
from device_agent.settings import Settings
from device_agent.slots import ModelStore
from device_agent.time_question import TimeQuestion, time_asker
from device_agent.transport import Pace, Transport
from device_agent.workbench import Workbench

_log = logging.getLogger(__name__)
JOURNAL_FILE = "state"
SOCKET_FILE = "serving.sock"
_SPOOL_FILE = "reports.sqlite"
_ANSWER_S = 10.0
_RETRY_CAP_S = 3600.0


def build_parts(
    settings: Settings,
    identity: Identity,
    profile: DeviceProfile,
    transport: Transport,
    random: Random,
    clock: DeviceClock | None = None,
) -> AgentParts:
    """Return the parts of an agent that works in `settings.state_dir`; `clock` is the machine's unless given."""
    state_dir, clock = settings.state_dir, clock or DeviceClock()
    store = ModelStore(state_dir, settings.download.reserve_bytes)
    journal = open_or_salvage(state_dir / JOURNAL_FILE, store)
    spool = ReportSpool(state_dir / _SPOOL_FILE, _boot_id(), settings.reports.items_max, identity.device)
    image_root = newest_anchor(identity.image_root, settings.anchors_dir, IMAGE_ROOT_FILE)
    director_root = newest_anchor(identity.director_root, settings.anchors_dir, DIRECTOR_ROOT_FILE)
    director = DirectorTrust(state_dir / "director-metadata", director_root, image_root)
    asker = time_asker(transport, identity.controller_url)
    time = TimeQuestion(asker, lambda: director.root, clock, lambda: journal.record)
    serving = _serving_process(settings, store, profile, random)
    acquisition = Acquisition(
        open_repository=_repository_opener(settings, identity, transport, image_root, director),
        downloader=_downloader(settings, identity, transport, random),
        store=store,
        journal=journal,
        clock=clock,
        time=time,
        profile=profile,
        limits=_limits(settings),
        random=random,
        content_keys=ContentKeys(identity.device, encryption_key(state_dir)),
    )
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
        recipient=Recipient(identity.device, profile.name, Channel(settings.channel)),
        journal=journal,
        store=store,
        spool=spool,
        serving=serving,
        link=ControllerLink(client, identity, spool, settings.polling, random),
        director=director,
        fetch_director_root=director_root_fetcher(transport, identity.controller_url),
        clock=clock,
        time=time,
        certificate=CertificateKeeper(state_dir / CERTIFICATE_FILE, identity),
        bench=bench,
        report_interval_s=settings.reports.interval_s,
    )


def _serving_process(settings: Settings, store: ModelStore, profile: DeviceProfile, random: Random) -> ServingProcess:
    return ServingProcess(
        serving_client(settings),
        state_dir=settings.state_dir,
        socket_path=settings.state_dir / SOCKET_FILE,
        models=store.models,
        listen=settings.inference.listen,
        threads=profile.threads,
        random=random,
    )


def serving_client(settings: Settings) -> ServingClient:
    """Return the client of the serving process that works in this state directory."""
    return ServingClient(settings.state_dir / SOCKET_FILE, answer_s=_ANSWER_S, load_s=settings.inference.load_timeout_s)


def client_certificate(settings: Settings) -> tuple[str, str] | None:
    """Return the files of the certificate to show on HTTPS and of its key; None where none is shown, or there."""
    files = (settings.state_dir / CERTIFICATE_FILE, settings.state_dir / KEY_FILE)
    if not settings.client_certificate:
        return None
    if not all(path.exists() for path in files):
        _log.warning("client_certificate is true, and there is no %s: the controller issued none", files[0])
        return None
    return str(files[0]), str(files[1])


def open_or_salvage(path: Path, store: ModelStore) -> Journal:
    """Open the journal; when its record is damaged, put it aside and go on with the models that are intact."""
    try:
        return open_journal(path)
    except JournalDamagedError as error:
        _log.error("the state record %s is damaged (%s); going on with the models that are intact", path, error)
    path.replace(path.with_name(path.name + ".damaged"))
    journal = open_journal(path)
    models = [(manifest.model, name, manifest.version) for name, manifest in store.intact_manifests()]
    journal.commit(salvage_record(models, salvage_floors(path)))
    return journal


def _limits(settings: Settings) -> DownloadLimits:
    download = settings.download
    return DownloadLimits(
        tries=download.tries,
        backoff=Backoff(settings.polling.retry_base_s, settings.polling.retry_cap_s),
        pace=Pace(download.deadline_s, download.minimum_bytes_s, download.grace_s),
    )


def _downloader(settings: Settings, identity: Identity, transport: Transport, random: Random) -> Downloader:
    url = f"{identity.controller_url.rstrip('/')}/artifacts/sha256"
    return Downloader(transport, url, _limits(settings), random)


def _repository_opener(
    settings: Settings, identity: Identity, transport: Transport, image_root: bytes, director: DirectorTrust
) -> Callable[[datetime], ImageRepository]:
    url, cache = f"{identity.controller_url.rstrip('/')}/tuf", settings.state_dir / "image-metadata"

    def open_repository(now: datetime) -> ImageRepository:
        return ImageRepository(transport, url, cache, image_root, now, foreign_keys=director.keys)

    return open_repository


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return secrets.token_hex(16)
