import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from controller.cli.errors import ExitCode
from controller.cli.main import run
from controller.trust.ceremonies import single_operator
from controller.trust.ceremonies.offline_documents import read_in_force
from controller.trust.ceremonies.role_changes import Trust
from controller.trust.custody.keys import OFFLINE, KeyName, KeyStore
from controller.trust.signer.verbs import open_local_signer, system_clock
from tests.support.fake_controller import FakeController

REPORT: dict[str, Any] = {
    "custody": "single-operator",
    "notice": "single operator: every key lies beside this controller",
    "pin": "ab" * 16,
    "roles": [
        {
            "role": "image-root",
            "document": "image-root",
            "version": 1,
            "threshold": 1,
            "expires_at": "2027-03-01T12:00:00Z",
            "renewed_by": "itself",
            "keys": [{"keyid": "c0ffee" * 10, "scheme": "ed25519", "name": "alice", "where": "beside the controller"}],
        }
    ],
    "warnings": [
        {
            "code": "single_operator",
            "subject": "installation",
            "message": "one person decides",
            "remedy": "hold a ceremony",
        }
    ],
}
PASSPHRASE = "correct horse battery"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = tmp_path_factory.mktemp("made") / "state"
    signer = open_local_signer(state / "signer", state / "tuf")
    single_operator.ensure(state / "tuf", state / "keys" / "offline", signer, system_clock())
    return state


@pytest.fixture
def state(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the state folder of a single operator, in which commands run."""
    shutil.copytree(made, tmp_path / ".edgefleet")
    monkeypatch.chdir(tmp_path)
    for name in ("EDGEFLEET_STATE_DIR", "EDGEFLEET_KEY_PASSPHRASE", "EDGEFLEET_SINGLE_OPERATOR", "EDGEFLEET_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / ".edgefleet"


def _trust(state: Path) -> Trust:
    present = read_in_force(state / "tuf")
    assert present
    return present.trust


def _keyids(state: Path, role: str) -> list[str]:
    return [key.keyid for key in _trust(state).role(role).keys]


def test_list_shows_roles_and_the_pin_of_the_installation(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    controller.answer("GET", "/trust", REPORT)

    assert run(["key", "list"]) == ExitCode.OK

    shown = capsys.readouterr()
    assert "1 of 1" in shown.out
    assert "c0ffeec0ffeec0ff (alice)" in shown.out
    assert REPORT["pin"] in shown.err


def test_list_as_json_is_what_the_api_answers(controller: FakeController, capsys: pytest.CaptureFixture[str]) -> None:
    controller.answer("GET", "/trust", REPORT)

    assert run(["key", "list", "-o", "json"]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out) == REPORT


def test_doctor_says_what_to_do_and_ends_with_3_when_something_needs_somebody(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    controller.answer("GET", "/trust", REPORT)
    controller.answer("GET", "/trust", {**REPORT, "warnings": []})

    assert run(["key", "doctor"]) == ExitCode.NOT_COMPLETED
    assert "hold a ceremony" in capsys.readouterr().out
    assert run(["key", "doctor"]) == ExitCode.OK


def test_a_new_key_is_encrypted_and_its_public_half_lies_beside_it(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEFLEET_KEY_PASSPHRASE", PASSPHRASE)

    assert run(["key", "generate", "alice.key", "--name", "alice"]) == ExitCode.OK

    fingerprint = capsys.readouterr().out.strip()
    public = json.loads(Path("alice.key.pub").read_text())
    assert (public["keyid"], public["x-edgefleet-name"]) == (fingerprint, "alice")
    assert Path("alice.key").read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY")
    assert Path("alice.key").stat().st_mode & 0o777 == 0o600
    assert run(["key", "public", "alice.key", "again.pub"]) == ExitCode.OK
    assert json.loads(Path("again.pub").read_text())["keyval"] == public["keyval"]


def test_a_key_on_p256_says_so(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEFLEET_KEY_PASSPHRASE", PASSPHRASE)

    assert run(["key", "generate", "ci.key", "--p256"]) == ExitCode.OK
    assert json.loads(Path("ci.key.pub").read_text())["scheme"] == "ecdsa-sha2-nistp256"


def test_a_key_without_a_passphrase_is_made_only_on_demand(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["key", "generate", "open.key"]) == ExitCode.USAGE
    assert "--no-passphrase" in capsys.readouterr().err
    assert not Path("open.key").exists()

    assert run(["key", "generate", "open.key", "--no-passphrase"]) == ExitCode.OK
    assert Path("open.key").read_text().startswith("-----BEGIN PRIVATE KEY")


def test_a_key_that_exists_is_never_replaced(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.key").write_text("mine")

    assert run(["key", "generate", "a.key", "--no-passphrase"]) == ExitCode.ERROR
    assert Path("a.key").read_text() == "mine"


def test_a_private_key_is_not_taken_for_a_public_one(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["key", "generate", "a.key", "--no-passphrase"])

    assert run(["key", "role", "prod-digits", "--threshold", "1", "--key", "a.key"]) == ExitCode.ERROR
    assert "is a private key" in capsys.readouterr().err


def test_a_single_operator_delegates_a_release_role_at_once(state: Path) -> None:
    run(["key", "generate", "rita.key", "--no-passphrase"])

    assert run(["key", "role", "prod-digits", "--threshold", "1", "--key", "rita.key.pub"]) == ExitCode.OK

    assert _keyids(state, "prod-digits") == [json.loads(Path("rita.key.pub").read_text())["keyid"]]


def test_a_role_that_would_be_too_weak_is_refused_and_nothing_changes(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = _keyids(state, "image-root")
    run(["key", "generate", "a.key", "--no-passphrase"])

    assert run(["key", "role", "image-root", "--threshold", "2", "--key", "a.key.pub"]) == ExitCode.INVALID
    assert "E_LINT_THRESHOLD" in capsys.readouterr().err
    assert _keyids(state, "image-root") == before
    assert not (state / "ceremonies").exists()


@pytest.mark.parametrize("name", sorted(OFFLINE))
def test_a_single_operator_replaces_an_offline_key_at_once(state: Path, name: KeyName) -> None:
    role = "prod-digits" if name is KeyName.RELEASE else name
    signer = open_local_signer(state / "signer", state / "tuf")
    offline = state / "keys" / "offline"
    single_operator.ensure_release_role(state / "tuf", offline, signer, "digits", system_clock())
    before = _keyids(state, role)

    assert run(["key", "rotate", name]) == ExitCode.OK

    keys = KeyStore(offline, OFFLINE)
    assert _keyids(state, role) == [keys.signer(name).public_key.keyid] != before
    assert keys.pending(name) is None
    assert run(["key", "rotate", name]) == ExitCode.OK


def test_a_single_operator_replaces_all_keys_of_the_signer_in_one_ceremony(state: Path) -> None:
    names = ["image-snapshot", "image-timestamp", "image-dev", "image-bins", "director", "attestation"]
    before = {path.name: path.read_bytes() for path in (state / "signer" / "keys").glob("*.pem")}

    assert run(["key", "rotate", *names]) == ExitCode.OK

    after = {path.name: path.read_bytes() for path in (state / "signer" / "keys").glob("*.pem")}
    assert {name for name in after if after[name] != before.get(name)} == {f"{name}.pem" for name in names}
    assert len(list((state / "ceremonies").iterdir())) == 1
    assert run(["key", "reissue"]) == ExitCode.OK


def test_revoking_the_only_key_of_a_role_says_what_to_do(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["key", "revoke", _keyids(state, "image-root")[0]]) == ExitCode.INVALID
    assert "--replacement" in capsys.readouterr().err


def test_a_fingerprint_that_is_too_short_names_no_key(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["key", "revoke", _keyids(state, "image-root")[0][:4]]) == ExitCode.USAGE


@pytest.mark.parametrize("arguments", [["rotate"], ["rotate", "image"], ["ceremony", "start"]])
def test_a_command_that_does_not_say_what_it_wants_is_refused(state: Path, arguments: list[str]) -> None:
    assert run(["key", *arguments]) == ExitCode.USAGE


def test_giving_the_roots_to_people_begins_with_the_local_signature(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for who in ("alice", "bob", "carol"):
        run(["key", "generate", f"{who}.key", "--no-passphrase"])
    keys = [part for who in ("alice", "bob", "carol") for part in ("--key", f"{who}.key.pub")]
    assert run(["key", "role", "image-root", "--threshold", "2", *keys, "--folder", "stick"]) == ExitCode.OK
    assert _trust(state).image_root.version == 1
    assert run(["key", "ceremony", "status", "stick"]) == ExitCode.NOT_COMPLETED
    assert "image-root (present): 1 of 1, complete" in capsys.readouterr().out

    shutil.copytree("stick", "copy")
    assert run(["key", "ceremony", "sign", "stick", "--key", "alice.key", "--yes"]) == ExitCode.OK
    assert run(["key", "ceremony", "finish", "stick"]) == ExitCode.CONFLICT
    assert run(["key", "ceremony", "sign", "copy", "--key", "carol.key", "--yes"]) == ExitCode.OK
    assert run(["key", "ceremony", "collect", "stick", "copy"]) == ExitCode.OK
    assert run(["key", "ceremony", "finish", "stick"]) == ExitCode.OK
    assert _trust(state).role("image-root").threshold == 2


def test_nobody_is_asked_where_nobody_is_there(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for who in ("alice", "bob", "carol"):
        run(["key", "generate", f"{who}.key", "--no-passphrase"])
    keys = [part for who in ("alice", "bob", "carol") for part in ("--key", f"{who}.key.pub")]
    run(["key", "role", "image-root", "--threshold", "2", *keys, "--folder", "stick"])

    assert run(["key", "ceremony", "sign", "stick", "--key", "alice.key"]) == ExitCode.USAGE
    assert "--yes" in capsys.readouterr().err


@pytest.mark.parametrize(
    "plan",
    [
        "[]",
        "image-root: 1",
        "{",
        "image-root: {threshold: two, keys: []}\nimage-targets: {}\ndirector-root: {}",
        "image-root: {threshold: 1, keys: [none.pub]}\nimage-targets: {}\ndirector-root: {}\nowner: me",
    ],
)
def test_a_plan_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plan.yaml").write_text(plan)

    assert run(["key", "ceremony", "start", "--plan", "plan.yaml", "--folder", "stick"]) == ExitCode.INVALID
    assert not Path("stick").exists()


def test_an_installation_that_has_its_trust_takes_no_plan(state: Path) -> None:
    Path("plan.yaml").write_text("image-root: 1")

    assert run(["key", "ceremony", "start", "--plan", "plan.yaml"]) == ExitCode.CONFLICT


def test_an_installation_without_trust_says_how_to_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    assert run(["key", "rotate", "director"]) == ExitCode.CONFLICT
    assert "ceremony start --plan" in capsys.readouterr().err
