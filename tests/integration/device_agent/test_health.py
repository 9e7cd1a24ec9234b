"""The soak with real commands: what it tells them, and what ends it."""

import sys
from pathlib import Path

from device_agent.failure import Failure
from device_agent.health import Candidate, HealthCommand, Soak
from device_agent.protocol.messages import FailureStage
from tests.support.waiting import wait_until

CANDIDATE = Candidate("digits", "3", "a" * 64, "http://127.0.0.1:1")


class Clock:
    """A clock that the test moves; commands run in real time."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def soak(script: str | None, clock: Clock, *, soak_s: float = 60.0, timeout_s: float = 60.0) -> Soak:
    command = (sys.executable, "-c", script) if script else ()
    return Soak(CANDIDATE, HealthCommand(command, interval_s=10.0, timeout_s=timeout_s), soak_s, clock)


def failure_of(soak: Soak) -> Failure:
    verdict = wait_until(soak.poll, what="the verdict")
    assert isinstance(verdict, Failure)
    return verdict


def test_without_a_command_a_soak_is_its_time(tmp_path: Path) -> None:
    clock = Clock()
    watched = soak(None, clock)
    clock.now = 59.9
    assert watched.poll() is False
    clock.now = 60
    assert watched.poll() is True


def test_the_command_is_told_what_to_look_at_and_must_succeed_even_in_the_shortest_soak(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    script = (
        f"import os; open({str(seen)!r}, 'w').write("
        "' '.join(v for k, v in sorted(os.environ.items()) if k.startswith('EDGEFLEET_')))"
    )
    watched = soak(script, Clock(), soak_s=0)
    assert watched.poll() is False
    assert wait_until(watched.poll, what="the first success") is True
    assert seen.read_text() == f"http://127.0.0.1:1 {'a' * 64} digits 3"


def test_a_failing_command_ends_the_soak_with_the_end_of_its_output() -> None:
    failure = failure_of(soak("import sys; print('x' * 5000, flush=True); sys.exit('accuracy is 0.1')", Clock()))
    assert (failure.stage, failure.code, failure.refuses) == (FailureStage.HEALTH, "E_HEALTH_COMMAND", True)
    assert failure.message.startswith("health command ended with status 1: ")
    assert failure.message.endswith("accuracy is 0.1")
    assert len(failure.message) < 600


def test_a_command_that_hangs_is_ended_with_its_family(tmp_path: Path) -> None:
    script = "import subprocess; subprocess.run(['sleep', '3600'])"
    failure = failure_of(soak(script, Clock(), timeout_s=0.5))
    assert "took longer than 0.5 s" in failure.message


def test_a_command_that_does_not_exist_is_a_failure() -> None:
    watched = Soak(CANDIDATE, HealthCommand(("/nowhere/check",), 10.0, 10.0), 60.0)
    failure = watched.poll()
    assert isinstance(failure, Failure)
    assert "cannot be started" in failure.message


def test_the_command_runs_again_after_its_interval_and_a_later_failure_counts(tmp_path: Path) -> None:
    clock, sick = Clock(), tmp_path / "sick"
    watched = soak(f"import os, sys; sys.exit(os.path.exists({str(sick)!r}))", clock)
    wait_until(lambda: watched.poll() is False and watched._check is None, what="the first run to end")
    sick.touch()
    assert watched.poll() is False
    clock.now = 10
    assert failure_of(watched).code == "E_HEALTH_COMMAND"


def test_a_soak_that_is_stopped_ends_its_running_command(tmp_path: Path) -> None:
    watched = soak("import time; time.sleep(3600)", Clock())
    watched.poll()
    assert watched._check
    pid = watched._check.pid
    watched.stop()
    assert not Path(f"/proc/{pid}").exists()
