"""`edgefleet server`: the controller's own processes. The only commands here that are no client of the API."""

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from cyclopts import App

from controller.cli.errors import CommandFailed, ExitCode
from controller.cli.render import notices

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from controller.settings import Settings
    from controller.worker.supervisor import Supervisor

app = App(name="server")

KEEP_ALIVE_S = 75
"""Longer than the idle time of common proxies, so that it is they who close a connection."""
GRACEFUL_SHUTDOWN_S = 10
BACKLOG = 2048
SIGNER_START_S = 30.0


@app.command
def start(
    *,
    host: str | None = None,
    port: int | None = None,
    workers: int = 1,
    state_dir: Path | None = None,
) -> None:
    """Start the controller: API, pages, and in the embedded wiring also its worker.

    Every other setting comes from the environment (EDGEFLEET_...) or the file that EDGEFLEET_CONFIG names.

    Parameters
    ----------
    host
        Address to listen on; 127.0.0.1 unless set.
    port
        Port to listen on; 8600 unless set. 0 takes a free one and prints it.
    workers
        How many API processes; more than one needs PostgreSQL and a broker.
    state_dir
        Folder for keys, artifacts and the embedded database; .edgefleet unless set.
    """
    _override(host=host, port=port, state_dir=state_dir)
    settings = read_settings()
    if workers > 1 and settings.is_embedded:
        raise CommandFailed(
            "the embedded wiring has one API process; --workers needs EDGEFLEET_DATABASE_URL and EDGEFLEET_BROKER_URL",
            ExitCode.USAGE,
        )
    listening = _listen(settings.host, settings.port)
    address = f"http://{settings.host}:{listening.getsockname()[1]}"
    if not settings.public_url:
        _override(public_url=address)
    _serve(read_settings(), listening, address, workers)


@app.command
def migrate() -> None:
    """Bring the database to the tables that this release needs. `server start` does so by itself."""
    _migrate(read_settings())
    notices().print("the database is current")


def _override(**flags: object) -> None:
    # Flags travel as environment, so that API processes and the worker read the very same settings.
    os.environ.update({f"EDGEFLEET_{name.upper()}": str(value) for name, value in flags.items() if value is not None})


def read_settings() -> "Settings":
    """Return the controller's settings; CommandFailed names the one that does not fit."""
    from pydantic import ValidationError

    from controller.settings import Settings

    try:
        return Settings()  # type: ignore[call-arg]
    except ValidationError as error:
        told = "; ".join(
            f"{'.'.join(map(str, found['loc'])) or 'settings'}: {found['msg']}" for found in error.errors()
        )
        raise CommandFailed(f"the settings cannot be used: {told}", ExitCode.INVALID) from error
    except ValueError as error:
        raise CommandFailed(str(error), ExitCode.INVALID) from error


def _listen(host: str, port: int) -> socket.socket:
    try:
        # Bound here and handed on: a free port that is only looked up may be gone when it is used.
        return socket.create_server((host, port), backlog=BACKLOG)
    except OSError as error:
        raise CommandFailed(f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}") from error


def application() -> "ASGIApp":
    """Return the application of one API process of the production wiring; it sends its tasks through the broker."""
    from controller.api.app import create_app
    from controller.wiring import services_from_environment
    from controller.worker.app import CeleryTaskQueue, create_celery

    return create_app(services_from_environment(CeleryTaskQueue(create_celery(read_settings().broker_url))))


def _serve(settings: "Settings", listening: socket.socket, address: str, workers: int) -> None:
    from controller.wiring import operator_token

    # uvicorn raises the signal again when it has ended; by default that would end this process before its worker.
    signal.signal(signal.SIGTERM, _end)
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    _migrate(settings)
    with ExitStack() as stack:
        app = _application_of(stack, settings)
        _print_welcome(settings, address, operator_token(settings))
        stack.enter_context(_announced(settings.state_dir / "server.json", address))
        _run(app, listening, workers)


def _migrate(settings: "Settings") -> None:
    from sqlalchemy.exc import OperationalError

    from controller.store.migrate import MigrationError, upgrade

    try:
        upgrade(settings.database_url)
    except OperationalError as error:
        raise CommandFailed(f"the database cannot be used: {str(error.orig).strip()}") from error
    except MigrationError as error:
        raise CommandFailed(str(error)) from error


def _end(_signal: int, _frame: object) -> NoReturn:
    sys.exit(ExitCode.OK)


def _application_of(stack: ExitStack, settings: "Settings") -> "ASGIApp | str":
    from controller.trust.errors import TrustError
    from controller.wiring import require_root

    try:
        if settings.is_embedded:
            return _embedded(stack, settings)
        require_root(settings)
    except TrustError as error:
        raise CommandFailed(f"{error.code}: {error}") from error
    return "controller.cli.server:application"


def _embedded(stack: ExitStack, settings: "Settings") -> "ASGIApp":
    from controller.api.app import create_app
    from controller.wiring import services_from_environment
    from controller.worker.supervisor import Supervisor

    if not settings.signer_socket:
        _start_signer(stack, settings)
    supervisor = Supervisor()
    app = create_app(services_from_environment(supervisor))
    supervisor.start()
    stack.callback(supervisor.stop)
    return app


def _start_signer(stack: ExitStack, settings: "Settings") -> None:
    """Run the signer as a child of its own, and have this process and the worker ask it."""
    from controller.cli.signer import command_of
    from controller.worker.supervisor import Supervisor

    socket_path = settings.state_dir.resolve() / "signer.sock"
    child = Supervisor(command=command_of(settings, socket_path, settings.signer_user, tied=True), name="signer")
    child.start()
    stack.callback(child.stop)
    _wait_for_signer(child, socket_path)
    _override(signer_socket=socket_path)


def _wait_for_signer(child: "Supervisor", socket_path: Path) -> None:
    from controller.trust.errors import SignerUnavailable
    from controller.trust.signer.client import RemoteSigner

    signer = RemoteSigner(socket_path)
    ends = time.monotonic() + SIGNER_START_S
    while time.monotonic() < ends and not child.failures:
        try:
            signer.journal_head()
        except SignerUnavailable:
            time.sleep(0.05)
        else:
            signer.close()
            return
    raise CommandFailed("the signer did not start; its own line above says why")


@contextmanager
def _announced(file: Path, address: str) -> Iterator[None]:
    written = file.with_suffix(".json.new")
    written.write_text(json.dumps({"url": address, "pid": os.getpid()}) + "\n")
    written.replace(file)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def _print_welcome(settings: "Settings", address: str, token: str) -> None:
    from controller.trust.ceremonies.trust_report import single_operator_notice

    console = notices()
    console.print(f"edgefleet controller on {address}", style="bold", soft_wrap=True)
    if console.is_terminal:
        console.print(f"  page   {address}/?token={token}", soft_wrap=True)
        console.print(f"  token  export EDGEFLEET_SERVER={address} EDGEFLEET_TOKEN={token}", soft_wrap=True)
    else:
        # What is no terminal is a log, and a log is read by many.
        where = "as configured" if settings.operator_token else f"in {settings.state_dir.resolve() / 'operator.token'}"
        console.print(f"  token  {where}", soft_wrap=True)
    where = "embedded: SQLite and one worker" if settings.is_embedded else "external database and broker"
    console.print(f"  state  {settings.state_dir.resolve()} ({where})", soft_wrap=True)
    notice = single_operator_notice(settings.is_single_operator)
    if notice:
        console.print(f"  trust  {notice}", style="dim", soft_wrap=True)


def _run(app: "ASGIApp | str", listening: socket.socket, workers: int) -> None:
    import uvicorn
    from uvicorn.supervisors import Multiprocess

    config = uvicorn.Config(
        app,
        factory=isinstance(app, str),
        workers=workers,
        loop="uvloop",
        http="httptools",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_S,
        access_log=False,
        log_config=None,  # the application has set up the logs
        server_header=False,
        proxy_headers=False,  # whose word is believed is a setting of ours, `trusted_proxies`
    )
    if workers > 1:
        Multiprocess(config, sockets=[listening]).run()
    else:
        uvicorn.Server(config).run(sockets=[listening])
