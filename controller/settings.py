"""Every setting of the controller: one frozen object, read once from a TOML file and the environment.

Precedence: environment (`EDGEFLEET_DATABASE_URL`) over the file named by `EDGEFLEET_CONFIG` over the default.
The defaults are the embedded wiring: SQLite, a queue inside one child process, a directory for everything.
"""

import os
from ipaddress import ip_network
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)


class Settings(BaseSettings):
    """The controller's settings. Each field's description is its documentation (`docs/reference/settings.md`)."""

    model_config = SettingsConfigDict(env_prefix="EDGEFLEET_", frozen=True, extra="forbid")

    state_dir: Path = Field(
        Path(".edgefleet"),
        description="Folder of this installation: keys, artifacts, signed metadata, an SQLite database.",
    )
    database_url: str = Field(
        "",
        description="SQLAlchemy URL, `postgresql://user@host/name` in production. Empty: SQLite inside `state_dir`.",
    )
    broker_url: str = Field(
        "",
        description="Celery broker, `redis://host:6379/0` in production. Empty: an in-process queue in one child of "
        "the server.",
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8600, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    public_url: str = Field("", description="How devices and people reach the controller. Empty: `http://HOST:PORT`.")
    operator_token: str = Field(
        "",
        description="Token that the operator API and the pages ask for. Empty: one is made at the first start and kept "
        "in `state_dir/operator.token`.",
    )
    artifact_bytes_max: int = Field(
        2 * 1024**3, gt=0, description="Largest upload in bytes; larger ones are refused before they fill the disk."
    )
    disk_reserve_bytes: int = Field(
        256 * 1024**2, ge=0, description="Free bytes that an upload must leave on the artifact disk."
    )
    accuracy_drop_max: float = Field(
        0.01,
        ge=0,
        le=1,
        description="The promise: how much accuracy a variant may lose against its source (0.01 is one point).",
    )
    job_timeout_s: float = Field(
        1800.0, gt=0, description="How long one compression or evaluation may run before its process is ended."
    )
    inspection_timeout_s: float = Field(
        60.0, gt=0, description="How long the inspection of an upload may run: somebody waits for its answer."
    )
    job_memory_bytes: int = Field(
        4 * 1024**3, gt=0, description="Address space of one compression or evaluation process."
    )
    lease_s: float = Field(
        60.0, gt=0, description="How long a worker may be silent about a job before another takes it over."
    )
    sweep_s: float = Field(1.0, gt=0, description="How often unfinished work is looked for and rollouts are advanced.")
    poll_s: float = Field(300.0, ge=0.05, le=86_400, description="How often devices are asked to poll, in seconds.")
    single_operator: bool | None = Field(
        None,
        description="One person is everybody: every key lies beside the controller, thresholds are 1, nobody approves "
        "what another proposed. Said on every page. Empty: yes in the embedded wiring, no with an external broker.",
    )
    signer_socket: str = Field(
        "",
        description="Unix socket of the signer process (`edgefleet signer start`). Empty: `server start` runs a signer "
        "of its own in the embedded wiring; other processes sign by themselves.",
    )
    signer_dir: Path | None = Field(
        None, description="Folder of the signer: online keys and journal. Empty: `state_dir/signer`."
    )
    signer_user: str = Field(
        "",
        description="Account that the signer becomes when root starts it, so that whoever takes over the controller "
        "cannot read the online keys. Empty: the account that starts it.",
    )
    signer_clients: str = Field(
        "",
        pattern=r"^[0-9, ]*$",
        description="Accounts, as numbers separated by commas, that may ask the signer besides its own and root: that "
        "of the controller.",
    )
    device_audiences: str = Field(
        "",
        description="Origins under which devices reach the controller, comma-separated, `https://fleet.example.org`: a "
        "device signs for the one it talks to, so nobody in between can pass its answer on. Empty: not checked.",
    )
    trusted_proxies: str = Field(
        "",
        description="Networks of the proxies in front of the controller, comma-separated (`10.0.0.0/24`, `::1/128`), "
        "and `unix:` for its own Unix socket. What they say of their clients is believed; nobody else's word is.",
    )
    client_certificates: str = Field(
        "off",
        pattern="^(off|required)$",
        description="`required`: a device opens a session only with its client certificate, which a trusted proxy has "
        "asked for and passes on in the header Client-Cert (RFC 9440).",
    )
    log_format: str = Field(
        "console", pattern="^(console|json)$", description="`console` for people, `json` for machines."
    )
    log_level: str = Field(
        "INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Least severe line that is logged."
    )

    @model_validator(mode="before")
    @classmethod
    def _place_defaults(cls, values: dict[str, object]) -> dict[str, object]:
        if not values.get("database_url"):
            state_dir = Path(str(values.get("state_dir") or cls.model_fields["state_dir"].default))
            values = {**values, "database_url": f"sqlite:///{(state_dir / 'controller.db').resolve()}"}
        return values

    @model_validator(mode="after")
    def _wirings_do_not_mix(self) -> Self:
        if self.broker_url and self.is_sqlite:
            raise ValueError(
                "broker_url is set but database_url is SQLite: several machines cannot share an SQLite file; "
                "set database_url to a PostgreSQL URL, or leave broker_url empty"
            )
        return self

    @model_validator(mode="after")
    def _proxies_can_be_read(self) -> Self:
        for part in filter(None, (part.strip() for part in self.trusted_proxies.split(","))):
            try:
                _ = part == "unix:" or ip_network(part)
            except ValueError as error:
                raise ValueError(f"trusted_proxies: {error}; write networks, such as 10.0.0.0/24, or unix:") from error
        if self.client_certificates == "required" and not self.trusted_proxies.strip():
            raise ValueError(
                "client_certificates is `required` but trusted_proxies is empty: the controller sees no certificates "
                "itself; name the proxy that asks for them"
            )
        return self

    @property
    def is_sqlite(self) -> bool:
        """Tell whether the database is the embedded one."""
        return self.database_url.startswith("sqlite")

    @property
    def is_embedded(self) -> bool:
        """Tell whether the queue lives in a child of the server."""
        return not self.broker_url

    @property
    def artifacts_dir(self) -> Path:
        """Where artifacts are kept by digest."""
        return self.state_dir / "artifacts"

    @property
    def keys_dir(self) -> Path:
        """Where the session secret is kept, and the offline keys of an installation with a single operator."""
        return self.state_dir / "keys"

    @property
    def signer_state_dir(self) -> Path:
        """Where the signer keeps the online keys and its journal."""
        return self.signer_dir or self.state_dir / "signer"

    @property
    def is_single_operator(self) -> bool:
        """Tell whether one person is everybody."""
        return self.is_embedded if self.single_operator is None else self.single_operator

    @property
    def tuf_dir(self) -> Path:
        """Where signed metadata is written and served from."""
        return self.state_dir / "tuf"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments over environment over the TOML file; neither .env nor secret files are read."""
        del dotenv_settings, file_secret_settings
        config = os.environ.get("EDGEFLEET_CONFIG")
        sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings)
        if config:
            if not Path(config).is_file():
                raise ValueError(f"EDGEFLEET_CONFIG names {config}, which is not a file")
            sources = (*sources, TomlConfigSettingsSource(settings_cls, toml_file=config))
        return sources
