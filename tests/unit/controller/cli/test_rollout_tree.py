import io
from typing import Any

from rich.console import Console

from controller.cli.rollout_tree import line, tree
from tests.unit.controller.cli.documents import rollout


def drawn(document: dict[str, Any]) -> str:
    page = io.StringIO()
    Console(file=page, width=120).print(tree(document))
    return page.getvalue()


def marks(document: dict[str, Any]) -> list[str]:
    return [words.split()[-1] for words in drawn(document).splitlines() if " healthy  " in words]


def test_a_running_rollout_marks_what_is_behind_at_hand_and_ahead() -> None:
    assert marks(rollout()) == ["passed", "now", "waits"]


def test_a_rollout_that_succeeded_passed_every_stage() -> None:
    assert marks(rollout("succeeded", stage=3)) == ["passed", "passed", "passed"]


def test_an_aborted_rollout_marks_the_stage_that_stopped_it() -> None:
    assert marks(rollout("aborted", stage=1)) == ["stopped", "waits", "waits"]


def test_every_hit_device_is_named_with_its_reason() -> None:
    hit = {"name": "camera-1", "stage": "health", "code": "E_HEALTH_COMMAND", "message": "0 of 50 [right]"}
    assert "camera-1: E_HEALTH_COMMAND in health: 0 of 50 [right]" in drawn(rollout("aborted", hit_devices=[hit]))


def test_a_silent_device_has_no_code_to_show() -> None:
    hit = {"name": "camera-1", "stage": None, "code": None, "message": None}
    assert "camera-1: fell silent" in drawn(rollout("aborted", hit_devices=[hit]))


def test_a_first_rollout_comes_from_no_version() -> None:
    assert line(rollout(from_version=None)).startswith("digits version 2 on all: running, stage 2/3")


def test_a_reverting_rollout_counts_the_devices_that_are_not_back() -> None:
    assert "1 not back yet" in line(rollout("reverting", not_back=1))
