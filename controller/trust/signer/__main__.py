"""The signer process: `python -m controller.trust.signer --socket PATH --directory DIR --tuf DIR`.

It holds the online keys and needs nothing of the controller: no database, no broker, no web. The passphrase of its keys
comes from the environment; nothing secret is on its command line.
"""

import argparse
import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import structlog
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root

from controller.trust.custody.key_uris import configured_passphrase
from controller.trust.custody.keys import give_to_owner_of
from controller.trust.errors import TrustError
from controller.trust.signer.accounts import account_named, become, give_folder, keep_memory_private
from controller.trust.signer.addresses import listen_at
from controller.trust.signer.server import CONNECTIONS_MAX, SignerServer, uids_from
from controller.trust.signer.verbs import open_local_signer

EXIT_FAILED = 1
PREDECESSOR_S = 5.0
_LOCK = "serving.lock"


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal, or with `--tied` until standard input ends. Return the exit code."""
    options = _options(arguments)
    _configure_logs(options.log_format)
    try:
        return _serve(options)
    except (TrustError, OSError) as error:
        print(f"edgefleet signer: {error}", file=sys.stderr, flush=True)
        return EXIT_FAILED


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="controller.trust.signer", description="The signer process.")
    parser.add_argument("--socket", type=Path, required=True, help="where to listen")
    parser.add_argument("--directory", type=Path, required=True, help="folder of keys, journal and approvers")
    parser.add_argument("--tuf", type=Path, required=True, help="folder of the published metadata")
    parser.add_argument("--user", help="account to become, where root starts it")
    parser.add_argument("--clients", type=uids_from, default=frozenset(), help="uids that may ask, besides its own")
    parser.add_argument("--tied", action="store_true", help="end when standard input does")
    parser.add_argument("--log-format", choices=("console", "json"), default="console")
    return parser.parse_args(arguments)


def _serve(options: argparse.Namespace) -> int:
    passphrase = configured_passphrase()
    account = account_named(options.user) if options.user else None
    if account and os.geteuid() == 0:
        give_folder(options.directory, account)
    options.directory.mkdir(parents=True, exist_ok=True)
    # Held until the process ends: one server a folder, so that a socket that is left over may be removed.
    lock = (options.directory / _LOCK).open("wb")
    if not _locked(lock):
        print(f"edgefleet signer: another signer serves {options.directory}", file=sys.stderr, flush=True)
        return EXIT_FAILED
    give_to_owner_of(options.directory, options.directory / _LOCK)
    options.socket.parent.mkdir(parents=True, exist_ok=True)
    options.socket.unlink(missing_ok=True)
    listening = listen_at(options.socket, CONNECTIONS_MAX)
    _rehearse()
    if account and os.geteuid() == 0:
        os.chown(options.socket, account.pw_uid, account.pw_gid)
        become(account)
    keep_memory_private()
    signer = open_local_signer(options.directory, options.tuf, passphrase)
    signer.open_keys()
    server = SignerServer(signer, listening, {0, os.geteuid(), *options.clients})
    _end_in_order(server, tied=options.tied)
    print(f"edgefleet signer listens on {options.socket} (uid {os.geteuid()})", file=sys.stderr, flush=True)
    server.serve()
    # In another account's folder the file stays; the next signer removes it.
    with suppress(OSError):
        options.socket.unlink()
    return 0


def _rehearse() -> None:
    """Have loaded what the libraries load at their first use: the account to become may not be able to read it."""
    Metadata[Root].from_bytes(Metadata(Root()).to_bytes())
    signer = CryptoSigner.generate_ecdsa()
    signer.public_key.verify_signature(signer.sign(b""), b"")


def _locked(lock: BinaryIO) -> bool:
    # A predecessor that was killed with its server may take a moment to end.
    ends = time.monotonic() + PREDECESSOR_S
    while time.monotonic() < ends:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            return True
    return False


def _end_in_order(server: SignerServer, *, tied: bool) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    if tied:
        threading.Thread(target=_stop_with_input, args=(server,), daemon=True).start()


def _stop_with_input(server: SignerServer) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    server.stop()


def _configure_logs(log_format: str) -> None:
    final = structlog.processors.JSONRenderer() if log_format == "json" else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([structlog.processors.format_exc_info] if log_format == "json" else []),
            final,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


if __name__ == "__main__":
    sys.exit(main())
