import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from controller.cli.errors import ExitCode
from tests.support.waiting import wait_until

COMMAND = [sys.executable, "-m", "controller.cli.main"]


def environment(**settings: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("EDGEFLEET_")}
    return {**clean, **settings}


def refused(tmp_path: Path, *arguments: str, **settings: str) -> tuple[int, str]:
    command = [*COMMAND, *arguments]
    ended = subprocess.run(command, cwd=tmp_path, env=environment(**settings), capture_output=True, text=True)
    return ended.returncode, ended.stderr


def children_named(pid: int, part: str) -> list[int]:
    """Return the process's children with this in their command line, whichever of its threads started them."""
    listed = [file.read_text().split() for file in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for ids in listed for child in ids if part in Path(f"/proc/{child}/cmdline").read_text()]


def test_a_server_announces_its_address_lets_the_operator_in_and_leaves_nothing_running(tmp_path: Path) -> None:
    command = [*COMMAND, "server", "start", "--port", "0"]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=log, stderr=log)
    announcement = tmp_path / ".edgefleet/server.json"
    try:
        wait_until(announcement.exists, what="the server to announce itself")
        address = json.loads(announcement.read_text())
        assert address["pid"] == server.pid
        token = (tmp_path / ".edgefleet/operator.token").read_text().strip()
        told = (tmp_path / "log").read_text()
        assert address["url"] in told
        assert token not in told, "a log is read by many"
        wait_until(lambda: answers(address["url"]), what="the server to be ready")
        listed = subprocess.run(
            [*COMMAND, "group", "list", "-o", "json"],
            cwd=tmp_path,
            env=environment(EDGEFLEET_SERVER=address["url"]),
            capture_output=True,
        )
        assert [group["name"] for group in json.loads(listed.stdout)["items"]] == ["all"]
        [worker] = wait_until(lambda: children_named(server.pid, "controller.worker"), what="the embedded worker")
    finally:
        server.send_signal(signal.SIGTERM)
        status = server.wait(60)
    assert status == ExitCode.OK
    assert not Path(f"/proc/{worker}").exists()
    assert not announcement.exists()


@pytest.mark.postgres
def test_several_api_processes_and_a_worker_share_a_database_and_a_broker(
    tmp_path: Path, postgres_url: str, redis_url: str
) -> None:
    shared = environment(
        EDGEFLEET_DATABASE_URL=postgres_url,
        EDGEFLEET_BROKER_URL=redis_url,
        EDGEFLEET_SWEEP_S="0.2",
        EDGEFLEET_SINGLE_OPERATOR="true",
    )
    (tmp_path / "engine.bin").write_bytes(b"engine")
    announcement = tmp_path / ".edgefleet/server.json"
    with ExitStack() as stack:
        for arguments in (("server", "start", "--port", "0", "--workers", "2"), ("worker", "start")):
            log = stack.enter_context((tmp_path / f"{arguments[0]}.log").open("wb"))
            started = subprocess.Popen([*COMMAND, *arguments], cwd=tmp_path, env=shared, stdout=log, stderr=log)
            stack.callback(started.wait, 60)
            stack.callback(started.send_signal, signal.SIGTERM)
            wait_until(announcement.exists, what="the server to announce itself")
        url = json.loads(announcement.read_text())["url"]
        wait_until(lambda: answers(url), what="the server to be ready")
        for arguments in (
            ("model", "create", "engine"),
            ("version", "upload", "engine", "engine.bin", "--wait", "--timeout", "60"),
        ):
            client = environment(EDGEFLEET_SERVER=url)
            ended = subprocess.run([*COMMAND, *arguments], cwd=tmp_path, env=client, capture_output=True, text=True)
            assert ended.returncode == ExitCode.OK, ended.stderr
    assert "published" in ended.stdout


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").is_success
    except httpx.TransportError:
        return False


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, told = refused(tmp_path, "server", "start", "--port", str(port))
    assert code == ExitCode.ERROR
    assert told == f"edgefleet: cannot listen on 127.0.0.1:{port}: Address already in use\n"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"EDGEFLEET_POLL_S": "often"}, "poll_s: Input should be a valid number"),
        ({"EDGEFLEET_BROKER_URL": "redis://nowhere:6379/0"}, "several machines cannot share an SQLite file"),
        ({"EDGEFLEET_CONFIG": "nowhere.toml"}, "EDGEFLEET_CONFIG names nowhere.toml, which is not a file"),
    ],
)
def test_settings_that_do_not_fit_stop_the_server_with_one_line(
    tmp_path: Path, settings: dict[str, str], words: str
) -> None:
    code, told = refused(tmp_path, "server", "start", "--port", "0", **settings)
    assert code == ExitCode.INVALID
    assert words in told
    assert told.count("\n") == 1


def test_a_database_that_cannot_be_reached_is_one_line(tmp_path: Path) -> None:
    settings = {"EDGEFLEET_DATABASE_URL": f"postgresql://nobody@/none?host={tmp_path}"}
    code, told = refused(tmp_path, "server", "migrate", **settings)
    assert code == ExitCode.ERROR
    assert "edgefleet: the database cannot be used: connection" in told
    assert "Traceback" not in told


def test_several_api_processes_need_the_production_wiring(tmp_path: Path) -> None:
    code, told = refused(tmp_path, "server", "start", "--workers", "2")
    assert code == ExitCode.USAGE
    assert "EDGEFLEET_BROKER_URL" in told


def test_a_separate_worker_needs_the_production_wiring(tmp_path: Path) -> None:
    code, told = refused(tmp_path, "worker", "start")
    assert code == ExitCode.USAGE
    assert "EDGEFLEET_BROKER_URL" in told
