"""The runbooks of docs/how-to/recover.md that concern database and releases, rehearsed against the whole controller."""

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from securesystemslib.signer import CryptoSigner

from controller.cli.errors import ExitCode
from controller.cli.main import run
from controller.store import releases
from controller.trust.custody.key_uris import generate_key_file
from controller.trust.custody.public_keys import write_public_key
from controller.trust.errors import SignerRefused
from controller.use_cases.verify_audit import anchor_audit
from device_agent.protocol.assignment import VALIDITY, SlotAssignment
from device_agent.protocol.channels import Channel
from device_agent.protocol.manifest import in_channel
from tests.support.agents import AgentProcess, Reached, an_agent
from tests.support.attacks import Group, plays
from tests.support.device_server import ServerProcess
from tests.support.rehearsals import Bootstrap, Published, WatchingDevice, now
from tests.support.release_installation import MODEL, ReleaseInstallation, hand_in, propose
from tests.support.signers import GOOD
from tests.support.waiting import wait_until


@pytest.fixture
def typed(installation: ReleaseInstallation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands find the installation in the environment."""
    for name in ("EDGEFLEET_KEY_PASSPHRASE", "EDGEFLEET_KEY_PASSPHRASE_FILE", "EDGEFLEET_RELEASE_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EDGEFLEET_STATE_DIR", str(installation.services.settings.state_dir))
    monkeypatch.setenv("EDGEFLEET_DATABASE_URL", installation.services.settings.database_url)
    monkeypatch.setenv("EDGEFLEET_TOKEN", installation.services.operator_token)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EDGEFLEET_POLL_S", "0.2")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)


def command(*arguments: str | Path) -> None:
    assert run([str(argument) for argument in arguments]) == ExitCode.OK, arguments


# A release key is stolen.


def release(client: httpx.Client, installation: ReleaseInstallation, number: int) -> None:
    """Release a version with both people's keys; nobody looks at it."""
    proposed = propose(client, number)
    for person in installation.keys:
        answer = hand_in(client, proposed, installation.sign(stored(installation, proposed["id"]), person))
        assert answer.status_code == 200, answer.text


def stored(installation: ReleaseInstallation, release_id: str) -> bytes:
    """Return the draft of a proposal."""
    with installation.services.database.reading() as tx:
        return releases.release_by_id(tx, release_id).document


def assign(installation: ReleaseInstallation, number: int, later_s: int) -> bytes:
    """Have the signer assign a released version."""
    row = installation.variant(number)
    target = in_channel(row.target, Channel.PROD)
    slot = SlotAssignment(target, row.manifest_bytes, row.manifest_sha256, 0.0, "pin pi_1", number)
    moment = (now() + timedelta(seconds=later_s)).replace(microsecond=0)
    wanted = replace(
        GOOD,
        counter=int(moment.timestamp()),
        issued=moment,
        expires=moment + VALIDITY,
        slots={MODEL: slot},
        channel=Channel.PROD,
    )
    return installation.services.signer.sign_assignments([wanted.to_payload()])[0]


def device_at(client: httpx.Client, installation: ReleaseInstallation, path: Path) -> WatchingDevice:
    first = [installation.root, installation.services.director_root]
    served = Published(str(client.base_url).rstrip("/"), *map(Bootstrap, first))
    return WatchingDevice(served, path, channel=Channel.PROD, silence_s=5)  # type: ignore[arg-type]


@plays(
    Group.CONTROLLER,
    "stolen release keys release a version, and sign again after they were replaced",
    "E_SIG_THRESHOLD",
)
def test_stolen_release_keys_are_replaced_and_what_they_released_is_withdrawn(
    installation: ReleaseInstallation,
    client: httpx.Client,
    typed: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EDGEFLEET_SERVER", str(client.base_url))
    (tmp_path / "root.json").write_bytes(installation.root)
    device = device_at(client, installation, tmp_path / "device")
    release(client, installation, 1)
    assert device.follow(assign(installation, 1, 0)) == "accepted"
    release(client, installation, 2)  # by the thief, who has an operator's token too

    fresh = ("carol", "dora")
    for who in fresh:
        made: CryptoSigner = generate_key_file(tmp_path / f"{who}.pem")  # type: ignore[assignment]
        write_public_key(tmp_path / f"{who}.pub", made.public_key, who)
    kept = assign(installation, 1, 1)
    command("key", "role", f"prod-{MODEL}", "--threshold", "2", "--key", "carol.pub", "--key", "dora.pub")
    assert device.follow(kept) == "E_SIG_THRESHOLD[delegated]"
    with pytest.raises(SignerRefused, match="is not published"):
        assign(installation, 1, 1)
    assert device.active == installation.variant(1).manifest_sha256

    (seen,) = (installation.tuf_dir / "metadata").glob("2.prod-*.json")
    known = hashlib.sha256(seen.read_bytes()).hexdigest()
    for who in fresh:
        monkeypatch.setenv("EDGEFLEET_DESK", str(tmp_path / f"desk-{who}"))
        command(
            "release", "withdraw", MODEL, "2", "--yes", "--key", f"file2:{who}.pem", "--root", "root.json",
            "--published", known,
        )  # fmt: skip
    assert device.follow(assign(installation, 1, 2)) == "accepted"
    assert client.get(f"/api/v1/models/{MODEL}/versions/2").json()["release"] == "no"

    proposed = propose(client, 2)
    answer = hand_in(client, proposed, installation.sign(stored(installation, proposed["id"]), "alice"))
    assert (answer.status_code, answer.json()["code"]) == (422, "E_SIG_THRESHOLD")


# The database is restored, and the published files with it.


def test_a_restored_database_is_followed_again_by_devices_that_had_seen_more(
    installation: ReleaseInstallation,
    typed: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = installation.services.settings
    database, tuf = settings.state_dir / "controller.db", settings.tuf_dir
    with ServerProcess(settings.state_dir, settings.database_url) as server:
        monkeypatch.setenv("EDGEFLEET_SERVER", server.url)
        with an_agent(Reached(server.url, enrolment_token), tmp_path, enrolled=False) as agent:  # type: ignore[arg-type]
            versions = {installation.variant(number).manifest_sha256: number for number in (1, 2)}

            def runs(number: int) -> None:
                pin(number)
                wait_for(agent, versions, number)

            runs(1)
            with sqlite3.connect(database) as source, sqlite3.connect(tmp_path / "backup.db") as backup:
                source.backup(backup)
            shutil.copytree(tuf, tmp_path / "tuf")
            runs(2)
            anchor_audit(installation.services.database, installation.services.signer, now=now())

            server.kill()
            for suffix in ("", "-wal", "-shm"):
                Path(f"{database}{suffix}").unlink(missing_ok=True)
            shutil.copy(tmp_path / "backup.db", database)
            shutil.rmtree(tuf)
            shutil.copytree(tmp_path / "tuf", tuf)
            server.start()

            wait_until(lambda: "E_ROLLBACK[assignment]" in agent.log.read_text(), what="the refusal")
            assert running(agent, versions) == 2
            capsys.readouterr()
            assert run(["audit", "verify"]) == ExitCode.NOT_COMPLETED
            assert "are missing" in capsys.readouterr().out

            command("key", "reissue")
            wait_for(agent, versions, 1)  # what the restored database says
            runs(2)


def enrolment_token() -> str:
    return _post("tokens", {"uses": 1})["token"]


def pin(version: int) -> None:
    command("pin", "set", MODEL, str(version), "--group", "all", "--soak", "0")


def _post(path: str, body: Mapping[str, object]) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {os.environ['EDGEFLEET_TOKEN']}"}
    answer = httpx.post(f"{os.environ['EDGEFLEET_SERVER']}/api/v1/{path}", json=body, headers=headers)
    assert answer.is_success, answer.text
    return dict(answer.json())


def running(agent: AgentProcess, versions: Mapping[str, int]) -> int | None:
    """Return the version that the device's serving process answers with."""
    return versions.get(agent.serving().get("slots", {}).get(MODEL, ""))


def wait_for(agent: AgentProcess, versions: Mapping[str, int], number: int) -> None:
    wait_until(lambda: running(agent, versions) == number, timeout_s=60, what=f"version {number}", every_s=0.1)
