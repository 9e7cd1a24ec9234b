import json
from pathlib import Path

import pytest

from controller.cli.errors import ExitCode
from controller.cli.main import run
from controller.trust.approvals import open_approval
from controller.trust.custody.key_uris import generate_key_file
from tests.support.fake_controller import FakeController
from tests.unit.controller.cli.documents import rollout

HIT = {"device": "dv_1", "name": "camera-1", "stage": "health", "code": "E_HEALTH_COMMAND", "message": "0 of 50"}


@pytest.mark.parametrize("verb", ["pause", "resume", "abort"])
def test_steering_posts_the_verb_to_the_rollout(controller: FakeController, verb: str) -> None:
    controller.answer("POST", f"/rollouts/ro_1:{verb}", rollout())
    assert run(["rollout", verb, "ro_1"]) == ExitCode.OK


def test_a_dry_run_starts_nothing_and_says_so(controller: FakeController, capsys: pytest.CaptureFixture[str]) -> None:
    left_out = {"needs opset 21; the profile's runtime ends at 17": 2}
    controller.answer("POST", "/rollouts", rollout(incompatible=left_out), 201)
    assert run(["rollout", "create", "digits", "2", "-g", "all", "--dry-run", "--watch"]) == ExitCode.OK
    assert controller.received[-1].query == {"validate_only": "true"}
    captured = capsys.readouterr()
    assert "nothing was started" in captured.err
    assert "2 devices are left out: needs opset 21" in captured.out


def test_watching_prints_each_change_once_where_there_is_no_terminal(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    for state in ("running", "running", "succeeded"):
        controller.answer("GET", "/rollouts/ro_1", rollout(state))
    assert run(["rollout", "get", "ro_1", "--watch", "--exit-status"]) == ExitCode.OK
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "running, stage 2/3" in lines[0]
    assert "succeeded" in lines[1]


def test_watching_as_json_leaves_one_document_on_stdout(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    controller.answer("GET", "/rollouts/ro_1", rollout())
    controller.answer("GET", "/rollouts/ro_1", rollout("succeeded"))
    assert run(["rollout", "get", "ro_1", "--watch", "-o", "json"]) == ExitCode.OK
    captured = capsys.readouterr()
    assert json.loads(captured.out)["state"] == "succeeded"
    assert "running" in captured.err


def test_an_aborted_rollout_fails_only_the_caller_who_asked_for_its_status(controller: FakeController) -> None:
    controller.answer("GET", "/rollouts/ro_1", rollout("aborted", hit_devices=[HIT]))
    assert run(["rollout", "get", "ro_1"]) == ExitCode.OK
    assert run(["rollout", "get", "ro_1", "--exit-status"]) == ExitCode.NOT_COMPLETED


def test_a_created_rollout_that_is_watched_to_its_abortion_exits_accordingly(controller: FakeController) -> None:
    controller.answer("POST", "/rollouts", rollout(), 201)
    controller.answer("GET", "/rollouts/ro_1", rollout("aborted", hit_devices=[HIT]))
    arguments = ["rollout", "create", "digits", "2", "--group", "all", "--watch"]
    assert run(arguments) == ExitCode.NOT_COMPLETED


def test_watching_longer_than_the_timeout_says_what_it_waits_for(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    controller.answer("GET", "/rollouts/ro_1", rollout())
    assert run(["rollout", "get", "ro_1", "--watch", "--timeout", "0"]) == ExitCode.STILL_RUNNING
    assert "1 more needed" in capsys.readouterr().err


@pytest.mark.parametrize("stages", ["17,50,100", "17%,50%,100%", "17, 50, 100"])
def test_stages_may_be_written_in_several_ways(controller: FakeController, stages: str) -> None:
    controller.answer("POST", "/rollouts", rollout(), 201)
    assert run(["rollout", "create", "digits", "2", "--group", "all", "--stages", stages]) == ExitCode.OK
    assert controller.received[-1].json["stages"] == [17.0, 50.0, 100.0]


def test_stages_that_are_no_numbers_are_a_wrong_call(controller: FakeController) -> None:
    with pytest.raises(SystemExit) as ended:
        run(["rollout", "create", "digits", "2", "--group", "all", "--stages", "some,all"])
    assert ended.value.code == ExitCode.USAGE


def test_a_rollout_that_is_only_proposed_says_how_another_person_starts_it(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    controller.answer("POST", "/rollouts", rollout("proposed"), 201)
    assert run(["rollout", "create", "digits", "2", "-g", "all"]) == ExitCode.OK
    captured = capsys.readouterr()
    assert "another person starts it: edgefleet rollout approve ro_1" in captured.err
    assert "now" not in captured.out


def test_approving_posts_to_the_rollout_and_shows_both_persons(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    controller.answer("POST", "/rollouts/ro_1:approve", rollout(proposed_by="alice", approved_by="bob"))
    assert run(["rollout", "approve", "ro_1"]) == ExitCode.OK
    assert controller.received[-1].body == b""
    assert "proposed by alice, approved by bob" in capsys.readouterr().out


def test_approving_with_a_key_sends_a_statement_that_the_key_has_signed(
    controller: FakeController, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEFLEET_KEY_PASSPHRASE", "correct horse")
    key = tmp_path / "bob.pem"
    signer = generate_key_file(key, passphrase="correct horse")
    controller.answer("GET", "/rollouts/ro_1", rollout("proposed"))
    controller.answer("GET", "/rollouts/ro_1/manifests", {"items": ["a" * 64]})
    controller.answer("POST", "/rollouts/ro_1:approve", rollout())
    assert run(["rollout", "approve", "ro_1", "--key", f"encfile:{key}", "--valid-days", "30"]) == ExitCode.OK
    envelope, said = open_approval(controller.received[-1].json["approval"])
    envelope.verify([signer.public_key], 1)
    assert (said.rollout, said.manifests) == ("ro_1", ("a" * 64,))
    assert "approving digits 1 -> 2 on all until" in capsys.readouterr().err


def test_a_key_that_cannot_be_used_approves_nothing(
    controller: FakeController, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    controller.answer("GET", "/rollouts/ro_1", rollout("proposed"))
    controller.answer("GET", "/rollouts/ro_1/manifests", {"items": ["a" * 64]})
    assert run(["rollout", "approve", "ro_1", "--key", f"encfile:{tmp_path / 'none.pem'}"]) != ExitCode.OK
    assert [asked.method for asked in controller.received] == ["GET", "GET"]
    assert "none.pem" in capsys.readouterr().err
