"""The inference process as the agent runs it: switching under load, its sockets, and its end."""

import contextlib
import functools
import http.client
import json
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.onnx_models import MAIN_FILE, golden_rows, linear_model, linear_weights, model_directory
from tests.support.serving_process import ServingProcess, call, serving_process
from tests.support.waiting import wait_until

INFER = "/v2/models/digits/infer"


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[ServingProcess]:
    with serving_process(tmp_path) as process:
        yield process


def request_for(rows: np.ndarray[Any, Any]) -> bytes:
    tensor = {"name": "x", "datatype": "FP32", "shape": list(rows.shape), "data": rows.ravel().tolist()}
    return json.dumps({"inputs": [tensor]}).encode()


class Client(threading.Thread):
    """Asks without a pause until told to stop, and checks each answer against the version that it names."""

    def __init__(self, serving: ServingProcess, *, rows: int, keep_alive: bool, seed: int) -> None:
        super().__init__()
        self.done = threading.Event()
        self.faults: list[str] = []
        self.answered: Counter[str] = Counter()
        self._serving = serving
        self._keep_alive = keep_alive
        self._inputs = golden_rows(rows, seed=seed)
        self._raw = request_for(self._inputs)

    def run(self) -> None:
        connection = self._serving.connect()
        while not self.done.is_set():
            if not self._keep_alive:
                # The next request opens a new one.
                connection.close()
            try:
                answer = call(connection, "POST", INFER, self._raw)
            except (OSError, http.client.HTTPException) as error:
                self.faults.append(f"failed: {error!r}")
                connection.close()
                continue
            self._check(answer.status, answer.json)
        connection.close()

    def _check(self, status: int, document: dict[str, Any]) -> None:
        if status != 200:
            self.faults.append(f"{status}: {document}")
            return
        version = document["model_version"]
        self.answered[version] += 1
        got = np.reshape(document["outputs"][0]["data"], (len(self._inputs), 3))
        wanted = self._inputs @ linear_weights() + float(version)
        if not np.allclose(got, wanted, rtol=1e-4, atol=1e-4):
            self.faults.append(f"version {version} answered {got[0]}, not {wanted[0]}")


def answers(clients: list[Client]) -> int:
    return sum(client.answered.total() for client in clients)


def _answered_more_than(count: int, clients: list[Client]) -> bool:
    return answers(clients) > count


def test_no_request_fails_or_gets_a_wrong_answer_while_models_are_switched(serving: ServingProcess) -> None:
    models = {version: model_directory(serving.store, bias=float(version), version=version) for version in (1, 2, 3)}
    assert serving.load(*models[1], version=1).status == 200
    # Small requests are answered on the event loop, the one with 1,500 rows in the pool.
    kinds = [(1, True), (7, True), (1, False), (1500, True)]
    clients = [
        Client(serving, rows=rows, keep_alive=keep_alive, seed=seed) for seed, (rows, keep_alive) in enumerate(kinds)
    ]
    for client in clients:
        client.start()

    for switch in range(1, 25):
        version = switch % 3 + 1
        assert serving.load(*models[version], version=version).status == 200
        wait_until(functools.partial(_answered_more_than, answers(clients) + 4, clients), what="answers")
    for client in clients:
        client.done.set()
    for client in clients:
        client.join()

    assert [client.faults for client in clients] == [[], [], [], []]
    assert {version for client in clients for version in client.answered} == {"1", "2", "3"}
    windows = serving.control("POST", "/control/collect").json["slots"]
    assert sum(window["requests"] for window in windows) == answers(clients)
    assert sum(window["errors"] for window in windows) == 0


def test_a_load_tells_time_and_memory_and_the_status_what_is_served(serving: ServingProcess) -> None:
    directory, digest = model_directory(serving.store, bias=3.0, version=3)

    loaded = serving.load(directory, digest, version=3)
    serving.call("POST", INFER, request_for(golden_rows(1)))
    status = serving.status()

    assert loaded.status == 200
    assert loaded.json["load_s"] > 0
    assert loaded.json["memory_bytes"] >= 0
    assert status["pid"] == serving.process.pid
    assert status["slots"] == {"digits": {"version": "3", "manifest": digest, "requests": 1, "errors": 0}}


def test_a_model_that_cannot_be_loaded_leaves_the_old_one_serving(serving: ServingProcess) -> None:
    serving.load(*model_directory(serving.store, bias=1.0, version=1), version=1)
    directory, digest = model_directory(serving.store, bias=2.0, version=2)
    (directory / MAIN_FILE).write_bytes(b"damage")

    refused = serving.load(directory, digest, version=2)

    assert (refused.status, refused.json["code"]) == (422, "E_LOAD")
    assert serving.call("POST", INFER, request_for(golden_rows(1))).json["model_version"] == "1"


def test_counters_are_handed_out_once(serving: ServingProcess) -> None:
    directory, digest = model_directory(serving.store)
    serving.load(directory, digest, version=1)
    for _ in range(3):
        serving.call("POST", INFER, request_for(golden_rows(2)))

    (first,) = serving.control("POST", "/control/collect").json["slots"]
    (second,) = serving.control("POST", "/control/collect").json["slots"]

    assert (first["slot"], first["manifest"]) == ("digits", digest)
    assert (first["requests"], first["errors"], first["input_bytes"]) == (3, 0, 3 * 2 * 4 * 4)
    assert first["latency"]["count"] == 3
    assert second["requests"] == 0


def test_an_unloaded_slot_is_not_found(serving: ServingProcess) -> None:
    serving.load(*model_directory(serving.store), version=1)

    assert serving.control("POST", "/control/unload", {"slot": "digits"}).status == 200
    assert serving.call("GET", "/v2/models/digits").status == 404


def test_the_public_port_has_no_control(serving: ServingProcess) -> None:
    assert serving.call("POST", "/control/stop").status in (404, 405)
    assert serving.status()["slots"] == {}


def test_the_control_socket_is_for_its_user_alone(serving: ServingProcess) -> None:
    assert stat.S_IMODE(serving.socket_path.stat().st_mode) == 0o600


def test_a_new_process_takes_the_path_of_one_that_was_killed(tmp_path: Path) -> None:
    with serving_process(tmp_path) as killed:
        killed.process.kill()
        killed.process.wait()
        assert killed.socket_path.exists()

        successor = ServingProcess(tmp_path)
        try:
            wait_until(lambda: _status_or_none(successor), what="the successor's status")
            assert successor.status()["pid"] == successor.process.pid
        finally:
            successor.process.kill()
            successor.process.wait()


def _status_or_none(serving: ServingProcess) -> object:
    with contextlib.suppress(OSError):
        return serving.status()
    return None


def test_a_stop_order_ends_the_process_and_leaves_no_socket(serving: ServingProcess) -> None:
    assert serving.control("POST", "/control/stop").status == 200

    assert serving.process.wait(timeout=60) == 0
    assert not serving.socket_path.exists()


def test_sigterm_lets_a_request_that_has_begun_finish(serving: ServingProcess) -> None:
    serving.load(*model_directory(serving.store), version=1)
    body = request_for(golden_rows(1))
    host, _, port = serving.status()["address"].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(
            f"POST {INFER} HTTP/1.1\r\ncontent-length: {len(body)}\r\nexpect: 100-continue\r\n\r\n".encode()
        )
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        serving.process.send_signal(signal.SIGTERM)
        wait_until(lambda: _refused(host, int(port)), what="the public port to close")
        connection.sendall(body)
        received = b"".join(iter(lambda: connection.recv(1 << 16), b""))

    assert received.startswith(b"HTTP/1.1 200 OK")
    assert b"connection: close" in received
    assert serving.process.wait(timeout=60) == 0


def _refused(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=60).close()
    except ConnectionError:
        return True
    return False


def test_an_address_that_cannot_be_had_is_a_clear_error(tmp_path: Path) -> None:
    address = "203.0.113.1:0"
    arguments = ["--listen", address, "--control", str(tmp_path / "s"), "--store", str(tmp_path)]
    finished = subprocess.run(
        [sys.executable, "-m", "device_agent.serving", *arguments], capture_output=True, text=True, timeout=60
    )

    assert finished.returncode == 2
    assert f"cannot listen on {address}" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_the_self_test_proves_a_directory_and_refuses_another_model_in_it(tmp_path: Path) -> None:
    directory, _ = model_directory(tmp_path)
    command = [sys.executable, "-m", "device_agent.serving.selftest", str(directory)]

    proven = subprocess.run(command, capture_output=True, text=True, timeout=60)
    linear_model(directory / MAIN_FILE, bias=1.0)
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert proven.returncode == 0, proven.stderr
    assert json.loads(proven.stdout)["ok"] is True
    assert refused.returncode == 3
    assert json.loads(refused.stdout)["code"] == "E_BEHAVIOUR"
