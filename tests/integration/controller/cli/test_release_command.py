"""`edgefleet release sign` against a real controller over HTTP, with key files of two people."""

import json
from pathlib import Path

import httpx
import pytest

from controller.cli.errors import ExitCode
from controller.cli.main import run
from controller.trust.ceremonies import single_operator
from controller.trust.custody.keys import KeyName
from controller.trust.custody.public_keys import write_public_key
from tests.support.release_installation import MODEL, ReleaseInstallation, delegate, propose


@pytest.fixture
def machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, installation: ReleaseInstallation, client: httpx.Client
) -> Path:
    """A signer's machine with the ceremony's root in `root.json` and both people's keys in files."""
    home = tmp_path / "signer"
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("EDGEFLEET_SERVER", str(client.base_url))
    monkeypatch.setenv("EDGEFLEET_TOKEN", installation.services.operator_token)
    for name in ("EDGEFLEET_RELEASE_ROOT", "EDGEFLEET_DESK", "EDGEFLEET_STATE_DIR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    (home / "root.json").write_bytes(installation.root)
    for person, signer in installation.keys.items():
        (home / f"{person}.pem").write_bytes(signer.private_bytes)
        (home / f"{person}.pem").chmod(0o600)
    return home


def sign(person: str, *more: str) -> int:
    return run(["release", "sign", MODEL, "1", "--key", f"file2:{person}.pem", *more])


def test_two_people_sign_with_a_command_each_and_the_second_publishes(
    machine: Path, installation: ReleaseInstallation, client: httpx.Client, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sign("alice", "--root", "root.json", "--yes") == ExitCode.OK
    told = capsys.readouterr().err
    assert "ok       evaluation  fp32" in told
    assert "1 of 2 signatures still missing" in told
    assert "attestation key is the controller's own word" in told

    write_public_key(machine / "attestation.pub", installation.services.signer.public_key(KeyName.ATTESTATION))
    assert run(["release", "verify", MODEL, "1", "--attestation-key", "attestation.pub"]) == ExitCode.OK
    told = capsys.readouterr().err
    assert "nothing was signed" in told
    assert "attestation key is the controller's own word" not in told

    assert sign("bob", "--yes", "--output", "json") == ExitCode.OK
    # The server of this test logs to the same stream.
    document = json.loads(capsys.readouterr().out.partition("{\n")[2].join(["{", ""]))
    assert document["release"]["state"] == "published"
    assert document["report"]["passed"] is True
    assert document["signed_by"] == installation.keys["bob"].public_key.keyid
    assert (machine / ".edgefleet" / "desk").is_dir()
    shown = client.get(f"/api/v1/models/{MODEL}/versions/1").json()
    assert (shown["release"], shown["variants"][0]["released_at"] is not None) == ("released", True)


def test_a_version_that_does_not_pass_is_not_signed_and_the_reasons_are_printed(
    machine: Path, installation: ReleaseInstallation, client: httpx.Client, capsys: pytest.CaptureFixture[str]
) -> None:
    path = installation.services.blobs.path(installation.manifest(1).artifacts[0].sha256)
    path.write_bytes(b"other bytes")
    assert sign("alice", "--root", "root.json", "--yes") == ExitCode.NOT_COMPLETED
    told = capsys.readouterr().err
    assert "refused  artifacts   fp32          E_DESK_ARTIFACT" in told
    assert "nothing is signed" in told
    (release,) = client.get("/api/v1/releases").json()["items"]
    assert release["signatures"]["signed"] == []


def test_nothing_is_signed_without_being_asked_where_nobody_can_answer(
    machine: Path, client: httpx.Client, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sign("alice", "--root", "root.json") == ExitCode.USAGE
    assert "give --yes" in capsys.readouterr().err


def test_a_single_operator_signs_and_withdraws_with_what_the_state_folder_holds(
    machine: Path,
    installation: ReleaseInstallation,
    client: httpx.Client,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = installation.services.settings
    local = single_operator.release_signer(settings.keys_dir / "offline")
    delegate(installation.services, MODEL, {"operator": local}, threshold=1)
    monkeypatch.setenv("EDGEFLEET_STATE_DIR", str(settings.state_dir))
    assert run(["release", "sign", MODEL, "1", "--yes"]) == ExitCode.OK
    assert "is published" in capsys.readouterr().err
    assert run(["release", "withdraw", MODEL, "1", "--yes"]) == ExitCode.OK
    assert client.get(f"/api/v1/models/{MODEL}/versions/1").json()["release"] == "no"


def test_a_floor_that_was_not_proposed_is_refused(
    machine: Path, client: httpx.Client, capsys: pytest.CaptureFixture[str]
) -> None:
    propose(client)
    assert sign("alice", "--root", "root.json", "--floor", "1", "--yes") == ExitCode.NOT_COMPLETED
    assert "E_DESK_TERMS" in capsys.readouterr().err
