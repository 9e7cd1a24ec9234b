import json
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner

from controller.cli.errors import ExitCode
from controller.cli.main import run
from tests.support.fake_controller import FakeController


def a_release(**changes: Any) -> dict[str, Any]:
    return {
        "id": "rl_1",
        "model": "digits",
        "version": 2,
        "kind": "release",
        "state": "proposed",
        "stale": False,
        "proposed_by": "ada",
        "proposed_at": "2026-01-31T12:00:00Z",
        "ended_at": None,
        "role": "prod-digits",
        "role_version": 3,
        "expires": "2026-05-01T12:00:00Z",
        "signatures": {"threshold": 2, "needed": 1, "signed": ["a" * 64], "may_sign": ["b" * 64]},
        "changes": {
            "added": [
                {"path": "prod/digits/2/int8/manifest.json", "sha256": "c" * 64, "length": 9, "custom": {"floor": 2}}
            ],
            "changed": [],
            "removed": [],
        },
        "document": "",
        "manifests": {},
        **changes,
    }


@pytest.fixture(autouse=True)
def _empty_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, controller: FakeController) -> None:
    """No installation, no root and no desk on this machine."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("EDGEFLEET_RELEASE_ROOT", "EDGEFLEET_DESK", "EDGEFLEET_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)


def key_file(folder: Path) -> str:
    path = folder / "release.pem"
    path.write_bytes(CryptoSigner.generate_ed25519().private_bytes)
    path.chmod(0o600)
    return f"file2:{path}"


def test_releases_are_listed_with_how_many_have_signed(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    controller.answer("GET", "/releases", {"items": [a_release(), a_release(id="rl_2", stale=True)]})
    assert run(["release", "list"]) == ExitCode.OK
    shown = capsys.readouterr().out
    assert "1 of 2" in shown
    assert "stale: propose it again" in shown


def test_a_release_is_shown_with_what_it_adds_and_who_may_sign(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    controller.answer("GET", "/releases/rl_1", a_release())
    assert run(["release", "show", "rl_1"]) == ExitCode.OK
    shown = capsys.readouterr().out
    assert "prod/digits/2/int8/manifest.json cccccccccccc floor 2" in shown
    assert "b" * 64 in shown


def test_a_proposal_says_which_command_signs_it(controller: FakeController, capsys: pytest.CaptureFixture[str]) -> None:
    controller.answer("POST", "/models/digits/versions/2/release", a_release(), 201)
    asked = ["--variant", "int8", "--floor", "2", "--hardware", "camera"]
    assert run(["release", "propose", "digits", "2", *asked]) == ExitCode.OK
    assert controller.received[-1].json == {"variants": ["int8"], "floor": 2, "hardware": ["camera"]}
    assert "1 signature missing: edgefleet release sign digits 2 --key URI" in capsys.readouterr().err


def test_a_release_is_cancelled(controller: FakeController) -> None:
    controller.answer("POST", "/releases/rl_1:cancel", a_release(state="cancelled"))
    assert run(["release", "cancel", "rl_1"]) == ExitCode.OK


@pytest.mark.parametrize(
    ("command", "path", "kind", "version"),
    [
        (["withdraw", "digits", "2"], "/models/digits/versions/2:withdraw", "withdraw", 2),
        (["renew", "digits"], "/models/digits:renew-release", "renew", None),
    ],
)
def test_without_a_key_a_change_is_only_proposed(
    controller: FakeController,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    path: str,
    kind: str,
    version: int | None,
) -> None:
    controller.answer("POST", path, a_release(kind=kind, version=version), 201)
    assert run(["release", *command]) == ExitCode.OK
    assert f"edgefleet release {' '.join(command)} --key URI" in capsys.readouterr().err


def test_verifying_what_nobody_proposed_is_not_found(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    controller.answer("GET", "/releases", {"items": [a_release(state="published")]})
    assert run(["release", "verify", "digits", "2"]) == ExitCode.NOT_FOUND
    assert "edgefleet release propose digits 2" in capsys.readouterr().err


def test_signing_without_a_key_is_refused_before_anything_is_proposed(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["release", "sign", "digits", "2"]) == ExitCode.USAGE
    assert "--key URI" in capsys.readouterr().err
    assert controller.received == []


def test_signing_without_a_root_of_ones_own_is_refused(
    controller: FakeController, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    controller.answer("GET", "/releases", {"items": [a_release()]})
    controller.answer("GET", "/releases/rl_1", a_release())
    assert run(["release", "sign", "digits", "2", "--key", key_file(tmp_path)]) == ExitCode.USAGE
    assert "not one that the controller sends" in capsys.readouterr().err


def test_another_open_proposal_is_named(
    controller: FakeController, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    controller.answer("GET", "/releases", {"items": [a_release(kind="withdraw", version=1)]})
    assert run(["release", "sign", "digits", "2", "--key", key_file(tmp_path)]) == ExitCode.CONFLICT
    assert "rl_1, the withdraw of digits 1" in capsys.readouterr().err


@pytest.mark.parametrize("uri", ["nothing:here", "file2:missing.pem", "release.pem"])
def test_a_key_that_cannot_be_opened_is_told(
    controller: FakeController, capsys: pytest.CaptureFixture[str], uri: str
) -> None:
    assert run(["release", "sign", "digits", "2", "--key", uri]) == ExitCode.ERROR
    assert "key_store" in capsys.readouterr().err


def test_a_list_in_json_is_the_documents_of_the_api(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    controller.answer("GET", "/releases", {"items": [a_release()]})
    assert run(["release", "list", "--output", "json"]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["items"][0]["id"] == "rl_1"
