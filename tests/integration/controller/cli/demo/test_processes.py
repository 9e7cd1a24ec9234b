import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from controller.cli.demo.processes import Processes
from controller.cli.errors import CommandFailed
from tests.support.waiting import wait_until


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def pid_in(file: Path) -> int:
    return int(wait_until(lambda: file.exists() and file.read_text(), what="the child to say its id"))


@pytest.fixture
def modules(tmp_path: Path) -> dict[str, str]:
    """Programs to be started with `python -m`: one that stays, one that ends at once."""
    (tmp_path / "stays.py").write_text(
        "import os, pathlib, time\n"
        "pathlib.Path('pid.new').write_text(str(os.getpid()))\n"
        "os.rename('pid.new', 'pid')\n"
        "time.sleep(600)\n"
    )
    (tmp_path / "ends.py").write_text("raise SystemExit('no reason to stay')\n")
    return {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path.cwd()}"}


def test_leaving_the_context_ends_every_process(tmp_path: Path, modules: dict[str, str]) -> None:
    with Processes(tmp_path / "logs") as processes:
        processes.start("one", "stays", environment=modules, directory=tmp_path)
        pid = pid_in(tmp_path / "pid")
        assert runs(pid)
    assert not runs(pid)


def test_a_process_that_died_is_reported_with_the_end_of_its_log(tmp_path: Path, modules: dict[str, str]) -> None:
    with Processes(tmp_path / "logs") as processes:
        processes.start("one", "ends", environment=modules, directory=tmp_path)
        with pytest.raises(CommandFailed, match=r"one ended with status 1(.|\n)*no reason to stay"):
            processes.wait_for("something that never comes", lambda: None, timeout_s=60)


def test_waiting_ends_at_its_deadline_and_names_what_it_waited_for(tmp_path: Path) -> None:
    with Processes(tmp_path / "logs") as processes, pytest.raises(CommandFailed, match="waiting for spring"):
        processes.wait_for("spring", lambda: None, timeout_s=0)


def test_processes_end_with_their_parent_however_it_ends(tmp_path: Path, modules: dict[str, str]) -> None:
    parent = (
        "import pathlib, time\n"
        "from controller.cli.demo.processes import Processes\n"
        "with Processes(pathlib.Path('logs')) as processes:\n"
        "    processes.start('one', 'stays', environment={}, directory=pathlib.Path())\n"
        "    time.sleep(600)\n"
    )
    environment = {**os.environ, **modules}
    started = subprocess.Popen([sys.executable, "-c", parent], cwd=tmp_path, env=environment)
    try:
        pid = pid_in(tmp_path / "pid")
    finally:
        started.send_signal(signal.SIGKILL)
        started.wait()
    wait_until(lambda: not runs(pid), what="the orphan to end")
