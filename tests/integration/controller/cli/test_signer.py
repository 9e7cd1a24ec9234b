import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from controller.cli.errors import ExitCode
from controller.trust.custody.keys import KeyName
from controller.trust.signer.client import RemoteSigner
from tests.support.waiting import wait_until

COMMAND = [sys.executable, "-m", "controller.cli.main"]


def environment(state_dir: Path, **settings: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("EDGEFLEET_")}
    return {**clean, "EDGEFLEET_STATE_DIR": str(state_dir), **settings}


def running(part: str) -> list[int]:
    """Return the processes with this on their command line."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if part in file.read_bytes().decode(errors="replace").replace("\0", " "):
                found.append(int(file.parent.name))
        except OSError:
            continue
    return found


@contextmanager
def a_server(state_dir: Path, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    with (state_dir.parent / "log").open("ab") as log:
        server = subprocess.Popen(
            [*COMMAND, "server", "start", "--port", "0"],
            env=environment(state_dir, **settings),
            stdout=log,
            stderr=log,
        )
    try:
        yield server
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def url_of(state_dir: Path) -> str:
    announcement = state_dir / "server.json"
    wait_until(announcement.exists, timeout_s=120, what="the server to announce itself")
    url = str(json.loads(announcement.read_text())["url"])
    wait_until(lambda: answers(url), timeout_s=60, what="the server to be ready")
    return url


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").is_success
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("folder", ["state", "state" + "-long" * 40])
def test_a_server_has_its_signer_in_a_process_of_its_own_which_ends_with_it(tmp_path: Path, folder: str) -> None:
    state_dir = tmp_path / folder
    part = f"controller.trust.signer --socket {state_dir}"
    with a_server(state_dir) as server:
        url_of(state_dir)
        [first] = running(part)
        assert not (state_dir / "keys" / "director.pem").exists()
        os.kill(first, signal.SIGKILL)
        [second] = wait_until(lambda: [pid for pid in running(part) if pid != first], what="the next signer")
        client = RemoteSigner(state_dir / "signer.sock")
        wait_until(lambda: "signer listens" in log_of(tmp_path).partition("it is started again")[2], what="its socket")
        assert client.public_key(KeyName.DIRECTOR)
        server.kill()
        wait_until(lambda: not Path(f"/proc/{second}").exists(), what="the signer to end with its server")


def log_of(folder: Path) -> str:
    return (folder / "log").read_text()


def test_a_passphrase_encrypts_every_key_and_a_wrong_one_stops_the_server(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    with a_server(state_dir, EDGEFLEET_KEY_PASSPHRASE="correct horse battery"):
        url_of(state_dir)
        keys = list(state_dir.rglob("*.pem"))
        assert len(keys) >= 11
        assert all(key.read_text().startswith("-----BEGIN ENCRYPTED") for key in keys)
        assert not running("correct horse")
    with a_server(state_dir, EDGEFLEET_KEY_PASSPHRASE="wrong horse battery") as server:
        assert server.wait(60) == ExitCode.ERROR
    assert "edgefleet: the signer did not start" in log_of(tmp_path)
    assert "does not open with this passphrase" in log_of(tmp_path)
    assert "horse" not in log_of(tmp_path)


def test_a_signer_that_was_started_alone_says_where_it_listens(tmp_path: Path) -> None:
    path = tmp_path / "socket" / "signer.sock"
    with (tmp_path / "log").open("wb") as log:
        command = [*COMMAND, "signer", "start", "--socket", str(path)]
        process = subprocess.Popen(command, env=environment(tmp_path / "state"), stdout=log, stderr=log)
    try:
        wait_until(lambda: f"signer listens on {path}" in log_of(tmp_path), what="the signer to listen")
        assert RemoteSigner(path).newest_versions() == {}
    finally:
        process.terminate()
        assert process.wait(30) == ExitCode.OK
    assert not path.exists()


def test_without_a_root_of_trust_and_a_single_operator_the_server_names_the_remedy(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    with a_server(state_dir, EDGEFLEET_SINGLE_OPERATOR="false") as server:
        assert server.wait(60) == ExitCode.ERROR
    assert "edgefleet key ceremony start" in log_of(tmp_path)
    assert "Traceback" not in log_of(tmp_path)


if os.geteuid() == 0:

    def test_a_server_of_root_has_its_signer_become_another_account(tmp_path: Path) -> None:
        for folder in (tmp_path, *tmp_path.parents):
            if folder.name.startswith(("test_", "popen-", "pytest-")):  # closed to other accounts
                folder.chmod(0o755)
        state_dir = tmp_path / "state"
        with a_server(state_dir, EDGEFLEET_SIGNER_USER="nobody"):
            url_of(state_dir)
            [signer] = running(f"controller.trust.signer --socket {state_dir}")
            assert "Uid:\t65534" in Path(f"/proc/{signer}/status").read_text()
            assert {path.stat().st_uid for path in (state_dir / "signer").rglob("*")} == {65534}
