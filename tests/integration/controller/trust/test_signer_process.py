import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope
from tuf.api.metadata import Metadata, MetaFile, Targets, Timestamp

from controller.trust.custody.key_uris import configured_passphrase
from controller.trust.custody.keys import KeyName
from controller.trust.errors import KeyStoreError, SignerCode, SignerRefused, SignerUnavailable
from controller.trust.signer.addresses import connect_to
from controller.trust.signer.client import RemoteSigner
from controller.trust.signer.frames import receive_frame, send_frame
from controller.trust.signer.interface import StatementKind
from controller.trust.signer.verbs import open_local_signer
from tests.support.image_repositories import Place
from tests.support.signer_processes import SignerProcess
from tests.support.signers import at, fill
from tests.support.waiting import wait_until

NOBODY = 65534
NOW = datetime.now(UTC).replace(microsecond=0)
"""A process has a clock of its own, so these repositories are of today."""


ASK = """
import os, socket, sys
uid = int(sys.argv[1])
os.setgid(uid)
os.setuid(uid)
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[2])
body = b'{"verb":"journal_head","arguments":{}}'
try:
    connection.sendall(len(body).to_bytes(4, "big") + body)
    print("answered" if connection.recv(1) else "closed")
except (BrokenPipeError, ConnectionResetError):
    print("closed")
"""


@pytest.fixture(scope="module")
def filled() -> Iterator[Place]:
    """Yield a place that another account can reach, unlike the folders that pytest makes."""
    with tempfile.TemporaryDirectory(prefix="edgefleet-signer-") as folder:
        Path(folder).chmod(0o755)
        place = Place(Path(folder) / "filled")
        place.install(NOW)
        fill(place, NOW)
        yield place


@pytest.fixture
def place(filled: Place) -> Iterator[Place]:
    with tempfile.TemporaryDirectory(dir=filled.path.parent) as folder:
        Path(folder).chmod(0o755)
        yield filled.copy_to(Path(folder) / "place")


@pytest.fixture
def process(place: Place) -> Iterator[SignerProcess]:
    with SignerProcess(place) as process:
        yield process


def timestamp(version: int, snapshot: int = 1) -> bytes:
    signed = Timestamp(version, expires=NOW + timedelta(days=6), snapshot_meta=MetaFile(snapshot))
    return Metadata[Timestamp](signed).signed_bytes


def fresh() -> bytes:
    return at(datetime.now(UTC).replace(microsecond=0)).to_payload()


def refused(client: RemoteSigner, role: str, signed: bytes) -> str:
    with pytest.raises(SignerRefused) as found:
        client.sign_role(role, signed)
    return found.value.code


def test_every_verb_answers_through_the_socket_as_it_does_here(place: Place, process: SignerProcess) -> None:
    client = process.client()
    local = open_local_signer(place.path / "signer", place.directory)
    for name in (KeyName.DIRECTOR, KeyName.DEVICE_CA):
        assert client.public_key(name) == local.public_key(name)
        assert client.public_keys(name) == local.public_keys(name)
    signed = timestamp(2**40)
    assert client.sign_role("timestamp", signed) == local.sign_role("timestamp", signed)
    assert client.newest_versions() == local.newest_versions()
    payloads = [fresh() for _ in range(3)]
    for payload, raw in zip(payloads, client.sign_assignments(payloads), strict=True):
        envelope = Envelope.from_dict(json.loads(raw))
        assert envelope.payload == payload
        envelope.verify([local.public_key(KeyName.DIRECTOR)], 1)
    assert b"payload" in client.sign_time("nonce")
    pem = str(local.public_key(KeyName.DEVICE_CA).keyval["public"])
    assert client.issue_certificate("dv_1", pem).startswith(b"-----BEGIN CERTIFICATE")
    assert client.ca_certificate() == local.ca_certificate()
    statement = {"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://slsa.dev/provenance/v1"}
    raw = client.sign_statement(StatementKind.PROVENANCE, json.dumps({**statement, "subject": [{}]}).encode())
    assert b"in-toto" in raw
    client.anchor_audit(3, "a" * 64)
    assert client.audit_anchors() == [(3, "a" * 64)]
    assert client.journal_head() == local.journal_head()


def test_a_refusal_comes_back_as_itself(process: SignerProcess) -> None:
    client = process.client()
    assert refused(client, "root", b"{}") == SignerCode.VERB
    assert refused(client, "timestamp", b"{}") == SignerCode.CONTENT
    with pytest.raises(SignerRefused) as found:
        client.sign_assignments([at(NOW - timedelta(hours=1)).to_payload()])
    assert found.value.code == SignerCode.ROLLBACK


def test_assignments_beyond_one_frame_are_asked_for_in_several(process: SignerProcess) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    payloads = [replace(at(now), device=f"dv_{number}").to_payload() for number in range(4500)]
    assert len(process.client().sign_assignments(payloads)) == 4500


def test_a_signer_killed_between_its_journal_and_its_answer_signs_the_same_again_and_nothing_else(
    place: Place, process: SignerProcess
) -> None:
    client = process.client()
    first = client.sign_role("timestamp", timestamp(2**40))
    # The line is written before the answer is given; to whoever asked it looks as if nothing had happened.
    process.kill()
    with pytest.raises(SignerUnavailable):
        client.sign_role("timestamp", timestamp(2**40))
    process.start()
    assert client.sign_role("timestamp", timestamp(2**40)) == first
    assert refused(client, "timestamp", timestamp(2**40, snapshot=2)) == SignerCode.ROLLBACK
    assert client.newest_versions()["timestamp"] == 2**40


def test_a_signer_killed_while_many_ask_leaves_a_journal_that_opens(process: SignerProcess) -> None:
    stop = threading.Event()

    def ask(number: int) -> None:
        client, version = process.client(), 2**40
        while not stop.is_set():
            version += 1
            try:
                client.sign_role(f"bin-{number:02x}", a_bin(version))
            except SignerUnavailable:
                continue

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        head = process.client().journal_head()
        wait_until(lambda: process.client().journal_head() != head, what="the signer to sign")  # noqa: B023
        process.kill()
        process.start()
    stop.set()
    for thread in threads:
        thread.join()
    assert "line" not in process.said()


def a_bin(version: int) -> bytes:
    return Metadata[Targets](Targets(version, expires=NOW + timedelta(days=6))).signed_bytes


def test_a_database_restored_from_a_backup_gets_no_second_signature_under_a_used_version(
    process: SignerProcess,
) -> None:
    client = process.client()
    version = client.newest_versions()["snapshot"]
    assert refused(client, "timestamp", timestamp(1)) == SignerCode.ROLLBACK
    client.sign_role("timestamp", timestamp(client.newest_versions()["timestamp"] + 1))
    assert client.newest_versions()["snapshot"] == version


if os.geteuid() == 0:

    def test_a_signer_of_another_account_serves_root_and_those_that_are_named(place: Place) -> None:
        with SignerProcess(place, "--user", "nobody", "--clients", "12345") as process:
            status = Path(f"/proc/{process.pid}/status").read_text()
            assert f"Uid:\t{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}" in status
            assert process.client().sign_assignments([fresh()])
            folder = place.path / "signer"
            assert {path.stat().st_uid for path in (folder, *folder.rglob("*"))} == {NOBODY}
            assert folder.stat().st_mode & 0o777 == 0o700
            assert process.socket.stat().st_mode & 0o777 == 0o660
            place.online_keys.prepare_next(KeyName.DIRECTOR)
            assert len(process.client().public_keys(KeyName.DIRECTOR)) == 2
            process.socket.chmod(0o666)  # the socket's mode is not what keeps strangers out
            assert asked_as(12345, process.socket) == "answered"
            assert asked_as(54321, process.socket) == "closed"
        assert "its account may not ask" in process.said()

else:

    def test_another_account_needs_root(place: Place) -> None:
        assert "only root can start the signer as nobody" in SignerProcess(place, "--user", "nobody").fails()


def asked_as(uid: int, path: Path) -> str:
    """Ask for a public key as another account; say what became of it."""
    ended = subprocess.run([sys.executable, "-c", ASK, str(uid), str(path)], capture_output=True, text=True, check=True)
    return ended.stdout.strip()


def test_an_account_that_does_not_exist_is_named(place: Place) -> None:
    assert "there is no account gone" in SignerProcess(place, "--user", "gone").fails()


def test_a_wrong_passphrase_stops_the_signer_with_one_line_and_is_told_nowhere(place: Place) -> None:
    for key in (place.path / "signer" / "keys").glob("*.pem"):
        key.unlink()
    with SignerProcess(place, EDGEFLEET_KEY_PASSPHRASE="correct horse battery") as process:
        assert "correct" not in Path(f"/proc/{process.pid}/cmdline").read_text()
    said = SignerProcess(place, EDGEFLEET_KEY_PASSPHRASE="wrong horse battery").fails()
    assert "does not open with this passphrase" in said
    assert "horse" not in said
    assert "Traceback" not in said
    assert configured_passphrase() is None


def test_an_edited_journal_stops_the_signer_and_a_torn_one_does_not(place: Place) -> None:
    journal = place.path / "signer" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-9])
    with SignerProcess(place) as process:
        assert process.client().public_key(KeyName.DIRECTOR)
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join([*lines[:3], *lines[4:]]))
    assert "A journal that was edited proves nothing" in SignerProcess(place).fails()


def test_a_second_signer_process_on_the_folder_ends_by_itself(place: Place, process: SignerProcess) -> None:
    second = SignerProcess(place, socket=place.path / "other.sock")
    assert "another signer serves" in second.fails()
    assert process.client().journal_head()


def test_a_local_signer_beside_the_process_shares_its_versions(place: Place, process: SignerProcess) -> None:
    client, local = process.client(), open_local_signer(place.path / "signer", place.directory)
    client.sign_role("timestamp", timestamp(2**40))
    with pytest.raises(SignerRefused):
        local.sign_role("timestamp", timestamp(2**40, snapshot=2))
    local.sign_role("timestamp", timestamp(2**40 + 1))
    assert refused(client, "timestamp", timestamp(2**40 + 1, snapshot=2)) == SignerCode.ROLLBACK


def test_a_socket_in_a_folder_with_a_long_name_serves(place: Place) -> None:
    path = place.path / ("long-" * 40) / "signer.sock"
    with SignerProcess(place, socket=path) as process:
        assert process.client().journal_head()
        process.kill()
        process.start()
        assert process.client().journal_head()


def test_the_signer_ends_in_order_and_with_its_parent(place: Place) -> None:
    process = SignerProcess(place)
    process.start()
    assert process.stop() == 0
    assert not process.socket.exists()
    process.start()
    assert process.lose_parent() == 0


def test_nobody_behind_the_socket_is_told_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(SignerUnavailable, match="edgefleet signer start"):
        RemoteSigner(tmp_path / "nowhere.sock").journal_head()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=1, max_size=300), st.booleans())
def test_garbage_closes_its_connection_and_the_next_one_is_answered(
    process: SignerProcess, garbage: bytes, as_frame: bool
) -> None:
    with connect_to(process.socket, 5.0) as connection:
        connection.sendall(struct.pack(">I", len(garbage)) + garbage if as_frame else garbage)
        connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):  # what was not read makes of the end a reset
            assert receive_frame(connection, 15.0, 15.0) is None
    assert process.client().journal_head()


@pytest.mark.parametrize(
    "request_",
    [
        {"verb": "close", "arguments": {}},
        {"verb": "__class__", "arguments": {}},
        {"verb": ["sign_time"], "arguments": {}},
        {"verb": "sign_time", "arguments": {}},
        {"verb": "sign_time", "arguments": []},
        {"verb": "sign_time", "arguments": {"nonce": 7}},
        {"verb": "sign_time", "arguments": {"nonce": "x", "also": 1}},
        {"verb": "public_key", "arguments": {"name": "root"}},
        {"verb": "anchor_audit", "arguments": {"seq": True, "sha256": "a"}},
        {"verb": "sign_role", "arguments": {"role": "timestamp", "signed": "text", "keyids": []}},
    ],
    ids=str,
)
def test_an_unknown_verb_or_what_it_does_not_take_is_refused(process: SignerProcess, request_: object) -> None:
    with connect_to(process.socket, 5.0) as connection:
        for _ in range(2):  # the connection goes on
            send_frame(connection, request_)
            assert receive_frame(connection, 5.0, 5.0)["error"]["code"] == SignerCode.VERB


def test_more_connections_than_the_signer_holds_wait_for_their_turn(process: SignerProcess) -> None:
    held = [connect_to(process.socket, 5.0) for _ in range(64)]
    answers: list[str] = []
    waiting = threading.Thread(target=lambda: answers.append(process.client().journal_head()))
    waiting.start()
    waiting.join(0.5)
    assert answers == []
    for connection in held:
        connection.close()
    waiting.join(30)
    assert len(answers) == 1


def test_a_signer_whose_keys_are_open_to_others_does_not_start(place: Place) -> None:
    (place.path / "signer" / "keys" / "director.pem").chmod(0o644)
    assert "mode 0644" in SignerProcess(place).fails()
    with pytest.raises(KeyStoreError):
        open_local_signer(place.path / "signer", place.directory).open_keys()
