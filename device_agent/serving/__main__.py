"""Run the inference process: `python -m device_agent.serving --listen HOST:PORT --control SOCKET --store DIR`.

It starts with empty slots and serves what its agent loads over the control socket, until SIGTERM, SIGINT or
`/control/stop`; then it answers what has arrived and exits with 0.
"""

import argparse
import asyncio
import logging
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from device_agent.serving.control import Control
from device_agent.serving.counters import CounterBook
from device_agent.serving.http_server import HttpServer
from device_agent.serving.open_inference import OpenInference
from device_agent.serving.slots import DRAIN_S, Slots
from device_agent.serving.sockets import address_of, listen_tcp, listen_unix

_log = logging.getLogger("device_agent.serving")


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m device_agent.serving", description="Serve models on this device.")
    parser.add_argument("--listen", required=True, metavar="HOST:PORT", help="public address; port 0 takes a free one")
    parser.add_argument("--control", required=True, type=Path, metavar="SOCKET", help="Unix socket of the agent")
    parser.add_argument(
        "--store", required=True, type=Path, metavar="DIR", help="directory that models are loaded from"
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads that answer one request")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        public = listen_tcp(options.listen)
    except (OSError, ValueError) as error:
        parser.error(f"cannot listen on {options.listen}: {error}")
    asyncio.run(serve(public, options.control, options.store, options.threads))


async def serve(public: socket.socket, control_path: Path, store: Path, threads: int) -> None:
    """Serve the public socket and a control socket at `control_path` until told to stop."""
    stopping = asyncio.Event()
    counters = CounterBook()
    slots = Slots(counters, threads=threads)
    address = address_of(public)
    with ThreadPoolExecutor(1, thread_name_prefix="inference") as pool:
        inference = OpenInference(slots, pool)
        control = Control(slots, counters, store=store, address=address, stop=stopping.set)
        public_server, control_server = HttpServer(inference.handle), HttpServer(control.handle)
        await public_server.listen(public)
        with listen_unix(control_path) as control_socket:
            await control_server.listen(control_socket)
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, stopping.set)
            _log.info("serving on %s, controlled at %s", address, control_path)
            await stopping.wait()
            _log.info("stopping")
            inference.ready = False
            await public_server.stop(drain_s=DRAIN_S)
            await control_server.stop(drain_s=DRAIN_S)


if __name__ == "__main__":
    main()
