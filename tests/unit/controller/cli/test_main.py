import subprocess
import sys

import pytest

from controller.cli.errors import ExitCode
from controller.cli.main import run
from tests.support.fake_controller import FakeController


@pytest.mark.parametrize(
    ("status", "exit_code"),
    [
        (401, ExitCode.NOT_ALLOWED),
        (404, ExitCode.NOT_FOUND),
        (409, ExitCode.CONFLICT),
        (413, ExitCode.INVALID),
        (422, ExitCode.INVALID),
        (503, ExitCode.ERROR),
    ],
)
def test_a_refusal_becomes_one_line_and_the_exit_code_of_its_status(
    controller: FakeController, capsys: pytest.CaptureFixture[str], status: int, exit_code: ExitCode
) -> None:
    controller.refuse("GET", "/models/digits", status, "some_code", "the reason", "/name")
    assert run(["model", "get", "digits"]) == exit_code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("edgefleet: some_code: the reason [/name]")
    assert captured.err.count("\n") == 1


def test_a_refused_token_is_told_where_tokens_come_from(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    controller.refuse("GET", "/models", 401, "operator_token_needed", "this needs a token")
    assert run(["model", "list"]) == ExitCode.NOT_ALLOWED
    assert "EDGEFLEET_TOKEN" in capsys.readouterr().err


def test_a_controller_that_does_not_answer_is_named_with_the_way_to_start_one(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["model", "list", "--server", "http://127.0.0.1:1"]) == ExitCode.ERROR
    assert "nothing answers at http://127.0.0.1:1" in capsys.readouterr().err


def test_something_else_than_a_controller_is_recognised(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    controller.answer("GET", "/models/digits", ["not", "an", "object"])
    assert run(["model", "get", "digits"]) == ExitCode.ERROR
    assert "is this an edgefleet controller?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["model", "create"], ["model", "list", "--bogus"], ["modle"], ["model", "list", "-o", "yaml"]],
)
def test_a_wrong_call_exits_with_the_usage_code(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(arguments)
    assert ended.value.code == ExitCode.USAGE


def test_help_imports_neither_the_http_client_nor_any_part_of_the_controller() -> None:
    program = (
        "import sys\n"
        "from controller.cli.main import run\n"
        "run(['--help'])\n"
        "loaded = {name for name in sys.modules if name.startswith('controller.')}\n"
        "assert loaded == {'controller.cli', 'controller.cli.main', 'controller.cli.errors'}, loaded\n"
        "assert not {'httpx', 'onnx', 'sqlalchemy', 'uvicorn', 'pydantic'} & set(sys.modules)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "rollout" in ended.stdout


def test_a_reader_that_has_seen_enough_is_no_error(controller: FakeController) -> None:
    models = [{"name": f"model-{number}", "notes": "x" * 200, "created_at": None} for number in range(2000)]
    controller.answer("GET", "/models", {"items": models})
    command = f"{sys.executable} -m controller.cli.main model list -o json | head -n 1; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert ended.stdout.splitlines() == ["{", "0"]
    assert ended.stderr == ""
