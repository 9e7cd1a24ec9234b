"""Addresses and socket files of the inference process."""

import socket
from pathlib import Path

import pytest

from device_agent.serving.sockets import address_of, listen_tcp, listen_unix


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:70000", "127.0.0.1:-1"])
def test_an_address_in_another_form_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="expected HOST:PORT"):
        listen_tcp(address)


def test_port_0_takes_a_free_one_that_the_address_tells() -> None:
    with listen_tcp("127.0.0.1:0") as listening:
        host, _, port = address_of(listening).rpartition(":")

        socket.create_connection((host, int(port)), timeout=30).close()


def test_a_file_left_by_a_dead_process_is_replaced_and_the_socket_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "serving.sock"
    path.write_text("left over")

    with listen_unix(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))

    assert list(tmp_path.iterdir()) == []


def test_the_socket_of_a_successor_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "serving.sock"

    with listen_unix(path):
        path.unlink()
        path.write_text("of the successor")

    assert path.read_text() == "of the successor"
