"""The command line of the device: `edgefleet-agent run | status`."""

import argparse
import fcntl
import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from random import SystemRandom

from device_agent.agent import Agent
from device_agent.controller_client import ControllerClient
from device_agent.enrolment import obtain_identity
from device_agent.errors import AgentError, AlreadyRunningError
from device_agent.logs import configure_logs
from device_agent.profile_detection import detect_profile
from device_agent.protocol.channels import Channel
from device_agent.settings import Settings, load_settings
from device_agent.status import format_status, read_status
from device_agent.stopping import StopSignal
from device_agent.transport import Transport
from device_agent.wiring import build_parts, client_certificate

_log = logging.getLogger("device_agent")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 0, or 2 with one line on standard error that says what to do."""
    options = _parser().parse_args(arguments)
    try:
        settings = load_settings(options.config, os.environ, tuple(options.set))
        return int(options.command(settings, options))
    except AgentError as error:
        sys.stderr.write(f"edgefleet-agent: {error}\n")
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edgefleet-agent", description="Run models on this device for its fleet.")
    parser.add_argument("--version", action="version", version=f"edgefleet-agent {metadata.version('edgefleet')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command, about in (
        ("run", _run, "poll, update, serve and report until SIGTERM"),
        ("status", _status, "show what this device is and runs"),
    ):
        sub = commands.add_parser(name, help=about, description=about)
        sub.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML")
        sub.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="overrides one setting")
        sub.set_defaults(command=command)
        if command is _status:
            sub.add_argument("--json", action="store_true", help="one JSON object")
    return parser


def _run(settings: Settings, _options: argparse.Namespace) -> int:
    configure_logs(settings.log)
    stop = StopSignal()
    stop.listen()
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    with _only_agent_in(settings.state_dir):
        # What the agent starts, the health command too, works there and finds its own files wherever the agent began.
        os.chdir(settings.state_dir)
        stated = settings.profile
        channel = Channel(settings.channel)
        profile = detect_profile(stated.name, stated.precisions, stated.memory_bytes, stated.threads, channel)
        random = SystemRandom()
        transport = Transport(ca_file=settings.ca_file or None)
        client = ControllerClient(transport, settings.controller_url)
        identity = obtain_identity(settings, profile, client, random=random, stop=stop)
        if identity:
            _log.info("device %s with profile %s at %s", identity.device, profile.name, identity.controller_url)
            transport = Transport(ca_file=settings.ca_file or None, client_certificate=client_certificate(settings))
            Agent(build_parts(settings, identity, profile, transport, random)).run(stop)
    return 0


def _status(settings: Settings, options: argparse.Namespace) -> int:
    status = read_status(settings)
    sys.stdout.write((json.dumps(status) if options.json else format_status(status)) + "\n")
    return 0


@contextmanager
def _only_agent_in(state_dir: Path) -> Iterator[None]:
    with (state_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunningError(state_dir) from None
        yield


if __name__ == "__main__":
    sys.exit(main())
