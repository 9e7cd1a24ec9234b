"""The README's first command, as a newcomer runs it."""

import json
import subprocess
import sys
from pathlib import Path


def test_the_demo_keeps_every_promise_and_leaves_no_process_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "controller.cli.main", "demo", "--once", "--json", "--agents", "4"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["ok"] is True
    assert result["dropped_requests"] == 0
    assert [(one["version"], one["state"]) for one in result["rollouts"]] == [(2, "succeeded"), (3, "aborted")]
    assert set(result["versions"].values()) == {"2"}
    for version, accuracy in result["accuracy"]["devices"].items():
        assert abs(accuracy - result["accuracy"]["source"][version]) < 0.01
    left = [line for line in _processes() if str(tmp_path) in line]
    assert left == []


def _processes() -> list[str]:
    lines = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:  # it ended while we looked
            continue
    return lines
