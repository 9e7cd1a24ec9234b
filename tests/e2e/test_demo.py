"""The first command of the README, as a newcomer runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.processes import with_in_environment

AGENTS = 4
MARK = "EDGEFLEET_TEST_DEMO_IN"
"""A variable that every process of the demo inherits, with a folder that only this demo has."""


def test_the_demo_keeps_every_promise_and_leaves_no_process_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "controller.cli.main", "demo", "--once", "--json", "--agents", str(AGENTS)]
    told = {**os.environ, MARK: str(tmp_path)}
    # Deeper than the address of a Unix socket may be long: a checkout lies anywhere.
    folder = tmp_path.joinpath(*["deep-" * 6] * 5)
    folder.mkdir(parents=True)
    ended = subprocess.run(command, cwd=folder, env=told, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-5000:]
    result = json.loads(ended.stdout.splitlines()[-1])
    assert result["ok"] is True
    assert result["agents"] == AGENTS
    assert result["dropped_requests"] == 0
    better, worse = result["rollouts"]
    assert (better["version"], better["state"], better["hit_devices"]) == (2, "succeeded", [])
    assert (worse["version"], worse["state"]) == (3, "aborted")
    assert worse["hit_devices"]
    assert list(result["versions"].values()) == ["2"] * AGENTS
    for version, on_devices in result["accuracy"]["devices"].items():
        assert result["accuracy"]["source"][version] - on_devices <= 0.01
    assert with_in_environment(str(tmp_path)) == []
