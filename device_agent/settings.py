"""The agent's settings: one frozen object, read once, from a TOML file, the environment and the command line.

Later sources win: defaults, the file, `EDGEFLEET_AGENT_*`, `--set`. A field `interval_s` of the table `polling` is
`[polling] interval_s = 300` in the file, `EDGEFLEET_AGENT_POLLING_INTERVAL_S` in the environment and
`--set polling.interval_s=300` on the command line. In the last two, lists and tables are written as JSON. A value that
does not fit, or a name that does not exist, stops the agent with the field, the value and the remedy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from device_agent.errors import SettingsError
from device_agent.protocol.channels import Channel
from device_agent.protocol.manifest import NAME
from device_agent.protocol.profile import THREADS_MAX
from device_agent.settings_reading import Tables, at_least, read_environment, read_file, read_pairs, read_table

ENVIRONMENT_PREFIX = "EDGEFLEET_AGENT_"


@dataclass(frozen=True)
class ProfileSettings:
    """`[profile]`: the class of machine. Engine, architecture and operator set are found out by the agent itself."""

    name: str = "generic"
    """Devices with equal profile names are expected to behave alike."""
    precisions: tuple[str, ...] = ("fp32", "int8")
    """What the class runs, best first; the order decides between variants that were not measured for the class."""
    memory_bytes: int = field(default=512 * 1024**2, metadata=at_least(1024**2))
    """What one model may use at its peak."""
    threads: int = field(default=1, metadata=at_least(1))
    """How many threads of the inference process answer one request."""


@dataclass(frozen=True)
class InferenceSettings:
    """`[inference]`: the local endpoint of the Open Inference Protocol."""

    listen: str = "127.0.0.1:8700"
    """HOST:PORT; port 0 takes a free one, which `edgefleet-agent status` shows."""
    load_timeout_s: float = field(default=120.0, metadata=at_least(1))
    """Most seconds to load and warm up a model and drain the one before it."""
    selftest_timeout_s: float = field(default=60.0, metadata=at_least(1))
    """Most seconds for a candidate's golden inputs, including the start of the engine."""


@dataclass(frozen=True)
class HealthSettings:
    """`[health]`: the operator's own check of a candidate during the soak."""

    command: tuple[str, ...] = ()
    """Program and arguments; status 0 means healthy. None is run when empty.

    It runs in the state directory, so give paths in full. It finds EDGEFLEET_SLOT, EDGEFLEET_VERSION,
    EDGEFLEET_MANIFEST and EDGEFLEET_INFERENCE_URL in its environment."""
    interval_s: float = field(default=10.0, metadata=at_least(0.05))
    """Seconds from the end of one run to the beginning of the next."""
    timeout_s: float = field(default=30.0, metadata=at_least(0.1))
    """A run that takes longer counts as failed."""


@dataclass(frozen=True)
class PollingSettings:
    """`[polling]`: how often the agent talks to the controller."""

    interval_s: float = field(default=300.0, metadata=at_least(0.05))
    """Seconds between polls until the controller asks for something else."""
    minimum_s: float = field(default=10.0, metadata=at_least(0.05))
    """The controller cannot make the agent poll more often than this."""
    maximum_s: float = field(default=86_400.0, metadata=at_least(0.05))
    """The controller cannot make the agent poll less often than this."""
    first_poll_spread_s: float = field(default=60.0, metadata=at_least(0))
    """The first poll after a start comes at a random moment within this time, so that a site does not poll as one."""
    retry_base_s: float = field(default=5.0, metadata=at_least(0.01))
    """Bound of the random wait after a first failure; it doubles with every further one."""
    retry_cap_s: float = field(default=300.0, metadata=at_least(0.01))
    """Largest bound of that wait."""


@dataclass(frozen=True)
class ReportSettings:
    """`[reports]`: what the agent tells the controller."""

    interval_s: float = field(default=300.0, metadata=at_least(0.1))
    """Seconds between two windows of serving counts. What happens to an assignment is reported at once."""
    items_max: int = field(default=5000, metadata=at_least(10))
    """How many reports are kept while the controller cannot be reached; then the oldest go."""


@dataclass(frozen=True)
class DownloadSettings:
    """`[download]`: the bounds of downloads."""

    tries: int = field(default=20, metadata=at_least(1))
    """Attempts in a row without any progress after which a download is given up and reported."""
    minimum_bytes_s: float = field(default=1000.0, metadata=at_least(0))
    """A slower link is cut and tried again."""
    grace_s: float = field(default=20.0, metadata=at_least(0))
    """Seconds of reading before the rate is judged."""
    deadline_s: float = field(default=6 * 3600.0, metadata=at_least(1))
    """Most seconds of reading for one attempt."""
    reserve_bytes: int = field(default=64 * 1024**2, metadata=at_least(0))
    """Bytes to leave free on the disk; a model that does not fit beside them is not begun."""


@dataclass(frozen=True)
class LogSettings:
    """`[log]`: what the agent writes to standard error."""

    format: str = "text"
    """`text` for people, `json` for machines."""
    level: str = "info"
    """`debug`, `info`, `warning` or `error`."""


@dataclass(frozen=True)
class Settings:
    """Everything an operator can decide about an agent."""

    controller_url: str
    """Base URL of the controller."""
    state_dir: Path
    """Where the agent keeps its identity, its models and its state; one agent per directory."""
    name: str
    """The device's name, as operators see it."""
    enrolment_token: str = ""
    """The one-time token; needed once, before the device has an identity."""
    enrolment_token_file: str = ""
    """A file that holds the token, so that it need not stand in the settings."""
    ca_file: str = ""
    """Certificate authorities to trust for HTTPS instead of the system's (PEM)."""
    client_certificate: bool = False
    """Show the device's certificate (`device.crt`) on HTTPS, for proxies that ask for one."""
    serial: str = ""
    """The machine's serial number, for enrolment tokens that are bound to one."""
    channel: str = "prod"
    """`prod`: only versions that release keys outside the controller have signed. `dev`: also what the controller
    alone has signed; for test benches and development."""
    anchors_dir: str = ""
    """Folder of the agent's package with newer trust anchors (`image-root.json`, `director-root.json`); trust starts
    there instead of at the documents of the enrolment, so that a device long offline has few rotations to follow."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """`[labels]`: what groups select devices by."""
    profile: ProfileSettings = ProfileSettings()
    inference: InferenceSettings = InferenceSettings()
    health: HealthSettings = HealthSettings()
    polling: PollingSettings = PollingSettings()
    reports: ReportSettings = ReportSettings()
    download: DownloadSettings = DownloadSettings()
    log: LogSettings = LogSettings()

    def read_token(self) -> str:
        """Return the enrolment token; SettingsError when there is none to read."""
        if self.enrolment_token:
            return self.enrolment_token
        if not self.enrolment_token_file:
            raise SettingsError("enrolment_token", "", "this machine has not enrolled yet; set it to a one-time token")
        try:
            return Path(self.enrolment_token_file).read_text().strip()
        except OSError as error:
            raise SettingsError(
                "enrolment_token_file", self.enrolment_token_file, f"cannot be read: {error}"
            ) from error


def load_settings(file: Path | None, environment: Mapping[str, str], pairs: tuple[str, ...] = ()) -> Settings:
    """Return the settings from all sources; SettingsError names the first field that does not fit."""
    tables: Tables = read_file(file) if file else {}
    read_environment(tables, Settings, environment, ENVIRONMENT_PREFIX)
    read_pairs(tables, Settings, pairs)
    settings = read_table(Settings, tables)
    _check(settings)
    # The agent works in its state directory; what was relative to the caller's must stay what it was.
    return replace(
        settings,
        state_dir=settings.state_dir.absolute(),
        enrolment_token_file=_absolute(settings.enrolment_token_file),
        ca_file=_absolute(settings.ca_file),
        anchors_dir=_absolute(settings.anchors_dir),
    )


def _absolute(path: str) -> str:
    return str(Path(path).absolute()) if path else ""


def _check(settings: Settings) -> None:
    if not settings.controller_url.startswith(("http://", "https://")):
        raise SettingsError(
            "controller_url", settings.controller_url, "give a URL that begins with http:// or https://"
        )
    for name, value in (("name", settings.name), ("profile.name", settings.profile.name)):
        if not NAME.fullmatch(value):
            raise SettingsError(name, value, "use lower-case letters, digits, dots, dashes (at most 64 characters)")
    host, _, port = settings.inference.listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise SettingsError("inference.listen", settings.inference.listen, "give HOST:PORT; port 0 takes a free one")
    if settings.polling.minimum_s > settings.polling.maximum_s:
        raise SettingsError("polling.minimum_s", settings.polling.minimum_s, "make it at most polling.maximum_s")
    if settings.profile.threads > THREADS_MAX:
        raise SettingsError("profile.threads", settings.profile.threads, f"make it at most {THREADS_MAX}")
    for name, value, allowed in (
        ("channel", settings.channel, tuple(Channel)),
        ("log.format", settings.log.format, ("text", "json")),
        ("log.level", settings.log.level, ("debug", "info", "warning", "error")),
    ):
        if value not in allowed:
            raise SettingsError(name, value, f"use one of {', '.join(allowed)}")
