"""No secret of an installation is anywhere but where it is kept: not in logs, tables, refusals or process lists."""

import base64
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from controller.cli.client import Client
from controller.trust.custody.key_uris import file_uri, open_signer
from device_agent.controller_client import ControllerClient, Session
from device_agent.identity import load_identity
from device_agent.transport import Transport
from tests.support.agents import AgentProcess, Reached
from tests.support.installation import PROGRAM, Installation, add_version, an_installation, wait_for_variants
from tests.support.onnx_models import linear_evaluation, linear_model
from tests.support.running_fleet import version_on
from tests.support.waiting import wait_until

PASSPHRASE = "correct horse battery staple 7391"
PEM_LINE = 60
"""A whole line of a PEM body has 64 characters; shorter ones might be found by chance."""

Secrets = dict[str, list[bytes]]
"""What must not be found, in every form in which it might be, by what it is."""


def test_no_secret_leaves_the_place_where_it_is_kept(tmp_path: Path) -> None:
    with process_lists() as lists, an_installation(tmp_path / "site", EDGEFLEET_KEY_PASSPHRASE=PASSPHRASE) as site:
        tokens: dict[str, str] = {"operator token": site.operator_token}
        with site.client() as client:
            tokens |= {"enrolment token": str(client.post("/tokens", {"uses": 1})["token"])}
            made = client.post("/operators", {"name": "amy", "role": "viewer", "scopes": [], "ttl_days": 1})
            tokens |= {"made token": str(made["token"])}
            agent = AgentProcess(Reached(site.url, lambda: tokens["enrolment token"]), tmp_path)
            try:
                publish_and_release(site, client, tmp_path)
                agent.start()
                client.put("/pins", {"model": "digits", "version": 1, "group": "all", "soak_s": 0})
                wait_until(lambda: version_on(agent) == "1", timeout_s=120, what="the device to answer")
                wait_until(lambda: client.items("/devices")["items"][0]["slots"], what="the device's reports")
                tokens |= {"session token": session_token(agent)}
                refusals = refused_requests(site, tokens)
            finally:
                agent.end()
        secrets = secrets_of(site, agent, tmp_path, tokens)
        places = {
            "logs": b"".join(path.read_bytes() for path in tmp_path.rglob("*.log")),
            "tables": dump_of(site.state_dir),
            "refusals": b"\n".join(refusals),
            "process lists": b"\n".join(sorted(lists)),
        }
    check_that_the_search_finds(secrets, places, tmp_path)
    assert len(secrets) > 15, sorted(secrets)
    assert {place: found for place, content in places.items() if (found := found_in(content, secrets))} == {}


def publish_and_release(site: Installation, client: Client, folder: Path) -> None:
    """Publish a version, make an offline key with the passphrase, and sign a release as the single operator."""
    client.post("/models", {"name": "digits"})
    linear_evaluation(folder / "evaluation.npz")
    linear_model(folder / "model.onnx", bias=1)
    version = add_version(client, "digits", folder / "model.onnx", folder / "evaluation.npz", ["fp32"])
    wait_for_variants(client, version)
    command(site, folder, "key", "generate", str(folder / "alice.pem"))
    command(site, folder, "release", "sign", "digits", "1", "--yes")
    assert client.get("/models/digits/versions/1")["release"] == "released"


def command(site: Installation, folder: Path, *arguments: str) -> None:
    """Type `edgefleet ARGUMENTS` on the controller's host; what it prints is a log as well."""
    told = {
        "EDGEFLEET_SERVER": site.url,
        "EDGEFLEET_TOKEN": site.operator_token,
        "EDGEFLEET_STATE_DIR": str(site.state_dir),
        "EDGEFLEET_KEY_PASSPHRASE": PASSPHRASE,
        "HOME": str(folder),
    }
    with (folder / "commands.log").open("ab") as log:
        subprocess.run(
            [sys.executable, "-m", PROGRAM, *arguments], env={**os.environ, **told}, stdout=log, stderr=log, check=True
        )


def session_token(agent: AgentProcess) -> str:
    """Open one more session as the device does."""
    identity = load_identity(agent.state)
    assert identity is not None
    session = ControllerClient(Transport(), identity.controller_url).open_session(identity)
    assert isinstance(session, Session), session
    return session.token


def refused_requests(site: Installation, tokens: Mapping[str, str]) -> list[bytes]:
    """Ask with secrets that are slightly wrong, or where no such secret helps; return what was answered.

    A value that does not fit its field is told to whoever sent it, so none of them is sent as a name or a number.
    """
    answers = []
    with httpx.Client(base_url=site.url) as client:
        for token in tokens.values():
            for path in ("/api/v1/devices", "/device/v1/assignment", "/api/v1/operators", "/nothing"):
                wrong = {"Authorization": f"Bearer {token}x"}
                answers += [client.get(path, headers=wrong), client.post(path, headers=wrong, json={"token": token})]
            answers.append(client.get("/", params={"token": f"{token}x"}))
            answers.append(client.post("/device/v1/enrol", json={"token": token, "csr_pem": token}))
            answers.append(client.post("/device/v1/session", json={"payload": token, "token": token}))
            right = {"Authorization": f"Bearer {site.operator_token}"}
            answers.append(client.post("/api/v1/tokens", headers=right, content=b'{"uses": 1, ' + token.encode()))
    refused = [answer for answer in answers if answer.status_code >= 400]
    assert len(refused) > 30
    return [answer.content for answer in refused]


def secrets_of(site: Installation, agent: AgentProcess, folder: Path, tokens: Mapping[str, str]) -> Secrets:
    """Collect every secret there is, each in every form in which somebody might write it."""
    found: Secrets = {"passphrase": [PASSPHRASE.encode()]}
    for name, token in tokens.items():
        found[name] = [token.encode()]
    for name in ("enrolment token", "made token"):
        found[f"secret of the {name}"] = [tokens[name].split("_")[2].encode()]
    found["session secret"] = forms((site.state_dir / "keys" / "session-secret").read_bytes())
    for top in (site.state_dir, agent.state, folder):
        for path in sorted(top.rglob("*")):
            if path.is_file() and path.stat().st_size < 8192 and b"PRIVATE KEY" in (raw := path.read_bytes()):
                found[str(path.relative_to(folder))] = [*pem_lines(raw), *seed_forms(path, raw)]
    content = site.state_dir / "signer" / "keys"
    for path in content.rglob("*"):
        if path.is_file() and "content" in path.name:
            found[path.name] = forms(path.read_bytes())
    return found


def pem_lines(raw: bytes) -> list[bytes]:
    """Return the whole lines of a PEM body."""
    return [line for line in raw.splitlines() if len(line) >= PEM_LINE and not line.startswith(b"-")]


def seed_forms(path: Path, raw: bytes) -> list[bytes]:
    """Return the private number behind a PEM file, in every form."""
    if b"ENCRYPTED" in raw:
        raw = open_signer(file_uri(path), PASSPHRASE).private_bytes  # type: ignore[attr-defined]
    key: Any = load_pem_private_key(raw, None)
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    if isinstance(key, EllipticCurvePrivateKey):
        seed = key.private_numbers().private_value.to_bytes(32, "big")
    else:
        seed = key.private_bytes_raw()
    return [*forms(seed), *forms(der), *pem_lines(pem)]


def forms(secret: bytes) -> list[bytes]:
    """Return bytes as they are, in hexadecimal and in base64."""
    written = [base64.b64encode(secret), base64.urlsafe_b64encode(secret)]
    return [secret, secret.hex().encode(), secret.hex().upper().encode(), *(text.rstrip(b"=") for text in written)]


def dump_of(state_dir: Path) -> bytes:
    """Return every table of every database: as SQL, and each value of bytes as it is."""
    parts = []
    for path in sorted(path for path in state_dir.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            if file.read(16) != b"SQLite format 3\0":
                continue
        with closing(sqlite3.connect(path)) as connection:
            parts += [line.encode() for line in connection.iterdump()]
            for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                for row in connection.execute(f'SELECT * FROM "{table}"'):
                    parts += [value for value in row if isinstance(value, bytes)]
    assert any(b"INSERT INTO" in part and b"operator_token" in part for part in parts)
    return b"\n".join(parts)


@contextmanager
def process_lists() -> Iterator[set[bytes]]:
    """Look at the command lines of all processes, again and again while the block runs; yield what was seen."""
    seen: set[bytes] = set()
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.05):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):
                    seen.add(path.read_bytes())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def found_in(content: bytes, secrets: Secrets) -> list[str]:
    """Return the names of the secrets that a place holds."""
    return sorted(name for name, written in secrets.items() if any(form in content for form in written))


def check_that_the_search_finds(secrets: Secrets, places: Mapping[str, bytes], folder: Path) -> None:
    """Plant each secret, in each form, behind what a place really holds: a search that finds nothing proves nothing."""
    planted = folder / "planted.txt"
    for name, written in secrets.items():
        assert written, name
        for form in written:
            assert len(form) >= 16, (name, form)
            planted.write_bytes(places["refusals"] + form + b"\n")
            assert name in found_in(planted.read_bytes(), secrets), name
    for place, marks in {
        "logs": b"request",
        "tables": b"INSERT",
        "refusals": b"code",
        "process lists": b"signer",
    }.items():
        assert marks in places[place], place
