"""The serving process under supervision: started, found again, replaced when dead or stuck."""

import os
import signal
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from device_agent.errors import ServingUnavailableError
from device_agent.serving_client import LoadRefused, LoadRequest, ServingClient
from device_agent.serving_process import ServingProcess
from tests.support.onnx_models import model_directory
from tests.support.waiting import wait_until

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Site:
    """A state directory, deeper than the address of a Unix socket may be long."""

    def __init__(self, directory: Path) -> None:
        self.state = directory.joinpath(*["deep-" * 6] * 5)
        self.models = self.state / "models"
        self.models.mkdir(parents=True)
        self.socket = self.state / "serving.sock"
        self._supervisors: list[ServingProcess] = []

    def supervisor(self, listen: str = "127.0.0.1:0", *, threads: int = 1) -> ServingProcess:
        """Return a supervisor as a newly started agent has it."""
        client = ServingClient(self.socket, answer_s=1.0, load_s=60.0)
        supervisor = ServingProcess(
            client,
            state_dir=self.state,
            socket_path=self.socket,
            models=self.models,
            listen=listen,
            threads=threads,
            random=Random(1),
        )
        self._supervisors.append(supervisor)
        return supervisor

    def end(self) -> None:
        """Stop the process, and wait for those that former agents have started."""
        self.supervisor().stop()
        for supervisor in self._supervisors:
            supervisor._reap(5.0)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.end()


def is_at_work(pid: int) -> bool:
    """Tell whether a process is there and has not ended."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and ") Z " not in stat.read_text()


def test_a_running_process_is_taken_over_by_the_next_agent(site: Site) -> None:
    first = site.supervisor().ensure()
    assert first
    assert site.supervisor().ensure() == first


def test_a_process_that_listens_elsewhere_is_replaced(site: Site) -> None:
    first = site.supervisor().ensure()
    assert first
    with socket.create_server(("127.0.0.1", 0)) as free:
        elsewhere = f"127.0.0.1:{free.getsockname()[1]}"
    second = site.supervisor(listen=elsewhere).ensure()
    assert second
    assert (second.address, first.pid == second.pid) == (elsewhere, False)
    assert not is_at_work(first.pid)


def test_a_process_with_another_number_of_threads_is_replaced(site: Site) -> None:
    first = site.supervisor().ensure()
    assert first
    second = site.supervisor(threads=2).ensure()
    assert second
    assert (first.threads, second.threads, first.pid == second.pid) == (1, 2, False)
    assert not is_at_work(first.pid)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_dead_or_stuck_process_is_replaced(site: Site, number: signal.Signals) -> None:
    supervisor = site.supervisor()
    first = supervisor.ensure()
    assert first
    os.kill(first.pid, number)
    second = wait_until(supervisor.ensure, what="another process")
    assert second.pid != first.pid
    assert not is_at_work(first.pid)


def test_a_process_of_a_former_agent_is_replaced_when_it_is_stuck(site: Site) -> None:
    first = site.supervisor().ensure()
    assert first
    successor = site.supervisor()
    assert successor.ensure() == first
    os.kill(first.pid, signal.SIGSTOP)
    second = wait_until(successor.ensure, what="another process")
    assert second.pid != first.pid


def test_models_are_loaded_counted_and_unloaded(site: Site) -> None:
    status = site.supervisor().ensure()
    assert status
    assert status.manifests == {}
    client = site.supervisor().client
    directory, digest = model_directory(site.models)
    assert client.load(LoadRequest("digits", "1", digest, directory, "model.onnx")) is None
    assert client.status().manifests == {"digits": digest}
    (item,) = client.collect(NOW)
    assert (item.slot, item.manifest, item.requests, item.at) == ("digits", digest, 0, NOW)
    refused = client.load(LoadRequest("digits", "2", digest, directory, "golden.npz"))
    assert isinstance(refused, LoadRefused)
    assert refused.code == "E_LOAD"
    assert client.status().manifests == {"digits": digest}
    client.unload("digits")
    assert client.status().manifests == {}


def test_a_process_that_is_not_there_is_unavailable(site: Site) -> None:
    with pytest.raises(ServingUnavailableError, match=r"serving\.sock"):
        site.supervisor().client.status()
