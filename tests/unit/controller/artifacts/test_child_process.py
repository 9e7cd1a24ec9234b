"""Confined children: what they find comes back, what they must not do ends them, nothing outlives its parent."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.artifacts import jobs
from controller.artifacts.child_process import (
    NO_HEARTBEAT,
    OUTPUT_BYTES_MAX,
    Heartbeat,
    Limits,
    run_confined,
    run_job,
)
from controller.artifacts.confinement import TOLD_MAX
from controller.artifacts.errors import JobFailed
from controller.domain.errors import InvalidInput
from tests.support.onnx_models import linear_model
from tests.support.waiting import wait_until

LIMITS = Limits(timeout_s=60.0, memory_bytes=2 * 1024**3)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that children can run as the module `job_under_test`."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "job_under_test.py"


def run(module: Path, code: str, limits: Limits = LIMITS, heartbeat: Heartbeat = NO_HEARTBEAT) -> dict[str, object]:
    head = "import sys\nfrom controller.artifacts.confinement import answer\n"
    module.write_text(head + code)
    return run_job(module.stem, ["argument"], limits, heartbeat)


def test_the_result_comes_back_whatever_else_is_printed(module: Path) -> None:
    code = "def work():\n    print('noise')\n    return {'arguments': sys.argv[1:]}\nanswer(work)\n"
    assert run(module, code) == {"arguments": ["argument"]}


def test_a_refusal_keeps_its_code_and_field(module: Path) -> None:
    code = (
        "from controller.domain.errors import InvalidInput\n"
        "def work(): raise InvalidInput('no', code='not_onnx', field='/artifact_sha256')\n"
        "answer(work)\n"
    )
    with pytest.raises(InvalidInput) as refusal:
        run(module, code)
    assert (refusal.value.code, refusal.value.field, refusal.value.detail) == ("not_onnx", "/artifact_sha256", "no")


def test_the_words_of_a_refusal_are_bounded_and_cannot_command_a_terminal(module: Path) -> None:
    code = (
        "from controller.domain.errors import InvalidInput\n"
        "def work(): raise InvalidInput('\\x1b[2Jno\\n\\0' + 'x' * 10_000_000, code='not_onnx')\n"
        "answer(work)\n"
    )
    with pytest.raises(InvalidInput) as refusal:
        run(module, code)
    assert refusal.value.detail == "?[2Jno??" + "x" * (TOLD_MAX - 8) + "..."


def test_an_answer_longer_than_any_honest_one_is_told_as_such(module: Path) -> None:
    with pytest.raises(JobFailed, match=f"its answer is longer than {OUTPUT_BYTES_MAX} bytes"):
        run(module, "answer(lambda: {'answer': 'x' * 5_000_000})\n")


def test_a_fault_in_the_child_is_told_by_its_last_line(module: Path) -> None:
    with pytest.raises(JobFailed, match="ZeroDivisionError"):
        run(module, "answer(lambda: 1 / 0)\n")


def test_work_that_takes_more_memory_than_allowed_is_refused(module: Path) -> None:
    with pytest.raises(InvalidInput) as refusal:
        run(module, "answer(lambda: {'size': len(bytes(4 * 1024**3))})\n")
    assert refusal.value.code == "too_much_memory"


def test_a_child_that_is_killed_is_told_by_its_signal(module: Path) -> None:
    with pytest.raises(JobFailed, match="SIGKILL"):
        run(module, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")


def test_a_child_that_takes_too_long_is_ended(module: Path) -> None:
    with pytest.raises(JobFailed, match=r"after 0\.5 s"):
        run(module, "import time\ntime.sleep(3600)\n", Limits(0.5, LIMITS.memory_bytes))


def test_a_heart_that_stops_ends_the_child(module: Path) -> None:
    def beat() -> None:
        raise ConnectionError("the claim is lost")

    with pytest.raises(ConnectionError):
        run(module, "import time\ntime.sleep(3600)\n", heartbeat=Heartbeat(beat, every_s=0.05))


def test_the_output_of_a_talkative_child_is_not_read_without_end(module: Path) -> None:
    module.write_text("print('x' * 10_000_000)\n")
    assert len(run_confined(module.stem, [], LIMITS, NO_HEARTBEAT).output) < 5_000_000


def test_a_child_dies_with_a_killed_parent(module: Path, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    module.write_text(f"import os, time\nopen({str(pid_file)!r}, 'w').write(f'{{os.getpid()}}\\n')\ntime.sleep(3600)\n")
    code = (
        "from controller.artifacts.child_process import *\n"
        f"run_confined('job_under_test', [], Limits(60.0, {LIMITS.memory_bytes}), NO_HEARTBEAT)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    child = wait_until(lambda: pid_file.exists() and pid_file.read_text().strip(), what="the child to run")
    parent.kill()
    parent.wait()
    wait_until(lambda: not _is_running(child), what="the child to die")


def test_an_upload_that_kills_its_inspection_is_refused(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    linear_model(model)
    with pytest.raises(InvalidInput) as refusal:
        jobs.inspect(model, None, Limits(timeout_s=0.01, memory_bytes=LIMITS.memory_bytes))
    assert (refusal.value.code, refusal.value.field) == ("inspection_failed", "/artifact_sha256")


def _is_running(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


class TestProgress:
    def test_what_a_child_says_arrives_while_it_runs(self, module: Path) -> None:
        told: list[tuple[float, str]] = []

        def hear(share: float, words: str) -> None:
            told.append((share, words))
            if len(told) == 1:
                (module.parent / "heard").touch()

        code = (
            "import pathlib, time\n"
            "from controller.artifacts.progress import tell\n"
            f"heard = pathlib.Path({str(module.parent / 'heard')!r})\n"
            "def work():\n"
            "    tell(0.25, 'first')\n"
            "    while not heard.exists(): time.sleep(0.01)\n"
            "    tell(2.0, 'last')\n"
            "    return {}\n"
            "answer(work)\n"
        )
        run(module, code, heartbeat=Heartbeat(lambda: None, 60.0, told=hear))
        assert told == [(0.25, "first"), (1.0, "last")]

    def test_what_is_no_progress_is_passed_over(self, module: Path) -> None:
        told: list[str] = []
        code = (
            "import os\n"
            "def work():\n"
            "    os.write(int(os.environ['EDGEFLEET_PROGRESS_FD']), b'nonsense\\n[0.5, \"words\"]\\n[[]]\\n{}\\n')\n"
            "    return {}\n"
            "answer(work)\n"
        )
        run(module, code, heartbeat=Heartbeat(lambda: None, 60.0, told=lambda _share, words: told.append(words)))
        assert told == ["words"]

    def test_a_child_that_closes_its_pipe_is_still_waited_for(self, module: Path) -> None:
        beats: list[int] = []
        code = (
            "import os, time\n"
            "def work():\n"
            "    os.close(int(os.environ['EDGEFLEET_PROGRESS_FD']))\n"
            "    time.sleep(0.5)\n"
            "    return {'done': True}\n"
            "answer(work)\n"
        )
        assert run(module, code, heartbeat=Heartbeat(lambda: beats.append(1), 0.1)) == {"done": True}
        assert len(beats) > 1

    def test_the_end_of_what_a_child_printed_is_handed_over_also_when_it_was_ended(self, module: Path) -> None:
        printed: list[str] = []

        def refuse(_share: float, _words: str) -> None:
            raise ConnectionError("the claim is lost")

        code = (
            "import sys, time\n"
            "from controller.artifacts.progress import tell\n"
            "def work():\n"
            "    print('a complaint', file=sys.stderr, flush=True)\n"
            "    tell(0.1, 'begun')\n"
            "    time.sleep(60)\n"
            "answer(work)\n"
        )
        with pytest.raises(ConnectionError):
            run(module, code, heartbeat=Heartbeat(lambda: None, 60.0, told=refuse, printed=printed.append))
        assert printed == ["a complaint\n"]
