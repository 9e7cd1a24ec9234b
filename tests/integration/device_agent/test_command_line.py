"""The device's command line, and what its processes import."""

import json
import subprocess
import sys
from pathlib import Path

REQUIRED = ["--set", "controller_url=http://c", "--set", "name=cam-1"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "device_agent", *arguments], capture_output=True, text=True)


def test_the_version_is_shown() -> None:
    assert run("--version").stdout.startswith("edgefleet-agent ")


def test_the_status_of_a_machine_that_never_ran_is_shown_to_people_and_machines(tmp_path: Path) -> None:
    arguments = ["status", *REQUIRED, "--set", f"state_dir={tmp_path}"]
    assert "not enrolled" in run(*arguments).stdout
    status = json.loads(run(*arguments, "--json").stdout)
    assert (status["device"], status["slots"], status["serving"]) == (None, {}, None)


def test_a_bad_setting_ends_with_status_2_and_one_line() -> None:
    ended = run("run", *REQUIRED, "--set", "state_dir=x", "--set", "polling.interval_s=-3")
    assert ended.returncode == 2
    assert ended.stderr == "edgefleet-agent: E_SETTINGS: polling.interval_s is -3; make it a number\n"


def test_a_machine_without_token_is_told_so_and_logs_can_be_json(tmp_path: Path) -> None:
    ended = run("run", *REQUIRED, "--set", f"state_dir={tmp_path}", "--set", "log.format=json")
    assert ended.returncode == 2
    assert "set it to a one-time token" in ended.stderr


def test_the_updater_imports_neither_the_engine_nor_the_controller() -> None:
    code = (
        "import sys, device_agent.__main__; "
        "print(sorted({name.split('.')[0] for name in sys.modules} & "
        "{'numpy', 'onnxruntime', 'onnx', 'controller', 'asyncio', 'pydantic', 'httpx'}))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
