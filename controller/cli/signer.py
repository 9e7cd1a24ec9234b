"""`edgefleet signer`: the process that holds the online keys. Like `server`, it is no client of the API."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import App

from controller.cli.errors import CommandFailed, ExitCode
from controller.cli.server import read_settings

if TYPE_CHECKING:
    from controller.settings import Settings

app = App(name="signer")

MODULE = "controller.trust.signer"


@app.command
def start(*, socket: Path | None = None, user: str | None = None) -> None:
    """Start the signer, which signs for the controller what it finds in order, and keep it running.

    `server start` runs one by itself in the embedded wiring. Elsewhere start it once, with an account of its own, and
    name its socket to the controller: EDGEFLEET_SIGNER_SOCKET. Its folder is EDGEFLEET_SIGNER_DIR; it must be able to
    read the controller's signed metadata below EDGEFLEET_STATE_DIR.

    Parameters
    ----------
    socket
        Where to listen; EDGEFLEET_SIGNER_SOCKET, else signer.sock in the state folder.
    user
        Account to become when root starts it; EDGEFLEET_SIGNER_USER, else the account that starts it.
    """
    settings = read_settings()
    path = socket or Path(settings.signer_socket or settings.state_dir / "signer.sock")
    account = user or settings.signer_user
    if user and os.geteuid() != 0:
        raise CommandFailed(f"--user {user} needs root; this is uid {os.geteuid()}", ExitCode.USAGE)
    command = command_of(settings, path.absolute(), account, tied=False)
    # It becomes the signer, so that nothing else lies in the memory that holds the keys.
    os.execv(command[0], command)  # noqa: S606


def command_of(settings: "Settings", socket: Path, user: str, *, tied: bool) -> list[str]:
    """Return the command line of the signer process; with `tied` it ends with its standard input."""
    command = [sys.executable, "-m", MODULE, "--socket", str(socket)]
    command += ["--directory", str(settings.signer_state_dir.absolute()), "--tuf", str(settings.tuf_dir.absolute())]
    command += ["--log-format", settings.log_format]
    if user:
        command += ["--user", user]
    if settings.signer_clients:
        command += ["--clients", settings.signer_clients]
    return [*command, "--tied"] if tied else command
