from pathlib import Path

import pytest

from controller.cli.errors import ExitCode
from controller.cli.main import run
from tests.support.fake_controller import FakeController


def shown_token(controller: FakeController) -> str | None:
    return controller.received[-1].headers.get("authorization")


def test_the_token_of_the_environment_is_shown(controller: FakeController) -> None:
    controller.answer("GET", "/models", {"items": []})
    assert run(["model", "list"]) == ExitCode.OK
    assert shown_token(controller) == "Bearer flt_operator"


def test_a_token_file_wins_over_the_environment(controller: FakeController, tmp_path: Path) -> None:
    controller.answer("GET", "/models", {"items": []})
    (tmp_path / "token").write_text("flt_file\n")
    assert run(["model", "list", "--token-file", "token"]) == ExitCode.OK
    assert shown_token(controller) == "Bearer flt_file"


def test_a_server_started_in_this_folder_left_its_token_here(
    controller: FakeController, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGEFLEET_TOKEN")
    controller.answer("GET", "/models", {"items": []})
    (tmp_path / ".edgefleet").mkdir()
    (tmp_path / ".edgefleet/operator.token").write_text("flt_local\n")
    assert run(["model", "list"]) == ExitCode.OK
    assert shown_token(controller) == "Bearer flt_local"


def test_without_any_token_none_is_sent(controller: FakeController, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEFLEET_TOKEN")
    controller.answer("GET", "/models", {"items": []})
    assert run(["model", "list"]) == ExitCode.OK
    assert shown_token(controller) is None


def test_a_token_file_that_cannot_be_read_is_named(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["model", "list", "--token-file", "nowhere"]) == ExitCode.ERROR
    assert "nowhere cannot be read: No such file" in capsys.readouterr().err
