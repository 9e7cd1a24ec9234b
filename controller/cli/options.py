"""The options that every command of a noun takes: which controller, which token, which form of output."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from controller.cli.client import Client
from controller.cli.errors import CommandFailed

DEFAULT_SERVER = "http://127.0.0.1:8600"
LOCAL_TOKEN_FILE = Path(".edgefleet/operator.token")
"""Where `edgefleet server start` keeps the token; found when a command runs in the same folder."""


@Parameter(name="*")
@dataclass(frozen=True)
class Options:
    """Shared options, flattened into each command."""

    server: Annotated[str, Parameter(env_var="EDGEFLEET_SERVER")] = DEFAULT_SERVER
    """Address of the controller."""
    token_file: Annotated[Path | None, Parameter(env_var="EDGEFLEET_TOKEN_FILE")] = None
    """File with the operator's token. Else EDGEFLEET_TOKEN, else .edgefleet/operator.token in this folder."""
    output: Annotated[Literal["table", "json"], Parameter(name=["--output", "-o"])] = "table"
    """`table` for people; `json` for scripts, exactly as the REST API gives it."""

    def client(self) -> Client:
        """Open a client for the chosen controller."""
        return Client(self.server, self.token())

    def token(self) -> str | None:
        """Return the operator's token, None when there is none to be found."""
        if self.token_file is not None:
            return _read_token(self.token_file)
        from_environment = os.environ.get("EDGEFLEET_TOKEN", "").strip()
        if from_environment:
            return from_environment
        return _read_token(LOCAL_TOKEN_FILE) if LOCAL_TOKEN_FILE.is_file() else None


def _read_token(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError as error:
        raise CommandFailed(f"the token file {file} cannot be read: {error.strerror}") from error


DEFAULTS = Options()
