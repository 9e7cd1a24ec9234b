"""The commands around compression: searching, recipes, making variants; against scripted answers."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.cli.errors import ExitCode
from controller.cli.main import run
from controller.cli.scatter import scatter
from tests.support.fake_controller import FakeController
from tests.unit.controller.cli.documents import version

SEARCHES = "/models/digits/versions/1/searches"
VARIANTS = "/models/digits/versions/1/variants"
RECIPE = {
    "name": "small",
    "version": 2,
    "description": "half of it",
    "steps": [{"step": "prune_structured", "parameters": {"fraction": 0.5}}],
    "built_in": False,
    "calibrates": True,
}


def candidate(recipe: str, **changes: Any) -> dict[str, Any]:
    known = {
        "recipe": recipe,
        "state": "aside",
        "progress": None,
        "final": True,
        "error": None,
        "value": 0.98,
        "metric": "accuracy",
        "drop": 0.0,
        "drop_ci": [-0.01, 0.01],
        "wire_bytes": 10_000.0,
        "memory_bytes": 500_000.0,
        "latency_us": 20.0,
        "exceeds": [],
        "is_on_front": True,
        "is_chosen": False,
    }
    return {**known, **changes}


def search(state: str = "done", *candidates: dict[str, Any], chosen: str | None = None) -> dict[str, Any]:
    return {
        "id": "se_1",
        "state": state,
        "publish": True,
        "chosen": chosen,
        "explanation": f"{chosen}: smallest" if chosen else "nothing keeps the budget",
        "candidates": list(candidates),
    }


def test_a_search_is_watched_to_its_end_and_shown_with_the_front_and_the_reason(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    at_work = candidate("int8", final=False, progress={"job": "pack", "share": 0.5, "words": ""})
    chosen = candidate("int8", is_chosen=True, state="published", value=0.97, drop=0.01)
    others = [
        candidate("fp32", wire_bytes=40_000.0),
        candidate("distil", error="agrees too little", latency_us=None, is_on_front=False),
        candidate("slim", exceeds=["size 40 kB of 20 kB"], is_on_front=False),
    ]
    controller.answer("POST", SEARCHES, search("running"), 202)
    controller.answer("GET", "/searches/se_1", search("running", at_work))
    controller.answer("GET", "/searches/se_1", search("done", {**chosen, "final": False}, chosen="int8"))
    controller.answer("GET", "/searches/se_1", search("done", *others, chosen, chosen="int8"))
    assert run(["compress", "digits", "1", "--budget", "size<=20kB"]) == ExitCode.OK

    shown = capsys.readouterr().out
    first = next(line for line in shown.splitlines() if "int8" in line)
    assert "chosen" in first
    assert "+1.00 points (-1.00 points to +1.00 points)" in first
    assert "agrees too little" in shown
    assert "size 40 kB of 20 kB" in shown
    assert "\n * int8\n" in shown
    assert shown.rstrip().endswith("int8: smallest")
    asked = controller.received[0].json
    assert asked == {
        "budget": "size<=20kB",
        "profile": "controller",
        "thorough": False,
        "publish": True,
        "recipes": None,
    }


def test_a_search_that_finds_nothing_ends_with_code_3(controller: FakeController) -> None:
    controller.answer("POST", SEARCHES, search("done", candidate("int8", exceeds=["size"])), 202)
    assert run(["compress", "digits", "1", "--recipe", "int8", "--no-publish"]) == ExitCode.NOT_COMPLETED
    assert controller.received[0].json["recipes"] == ["int8"]


def test_a_search_that_takes_too_long_is_left_to_itself(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    controller.answer("POST", SEARCHES, search("running"), 202)
    assert run(["compress", "digits", "1", "--timeout", "0"]) == ExitCode.STILL_RUNNING
    assert "search se_1 still runs" in capsys.readouterr().err


def test_searches_are_listed_shown_and_cancelled_by_their_id(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {**search("done", candidate("int8", is_chosen=True), chosen="int8"), "profile": "camera"}
    controller.answer("GET", SEARCHES, {"items": [found]})
    controller.answer("GET", "/searches/se_1", found)
    controller.answer("POST", "/searches/se_1/cancel", {**found, "state": "cancelled"})
    assert [run(["search", *words]) for words in (["list", "digits", "1"], ["get", "se_1"], ["cancel", "se_1"])] == [
        0
    ] * 3
    listed = capsys.readouterr().out.splitlines()[1]
    assert all(word in listed for word in ("se_1", "done", "camera", "int8"))


def test_points_of_a_chart_lie_where_their_figures_are() -> None:
    lines = scatter([(1000, 0.9, "small", True), (100_000, 1.0, "large", False)], x="bytes", y="value").plain
    rows = lines.splitlines()
    assert rows[1] == "|" + " " * 63 + "b"
    assert rows[12] == "|*"


def test_a_chart_of_equal_points_is_drawn_in_the_middle() -> None:
    rows = scatter([(1000, 0.9, "one", False)], x="bytes", y="value").plain.splitlines()
    assert "a" in "".join(rows[6:8])


class TestRecipes:
    def test_a_recipe_is_read_from_yaml_and_its_number_is_the_controllers(
        self, controller: FakeController, tmp_path: Path
    ) -> None:
        file = tmp_path / "small.yaml"
        file.write_text("name: small\nversion: 7\nsteps:\n  - step: palette\n    parameters: {entries: 8}\n")
        controller.answer("POST", "/recipes", RECIPE, 201)
        assert run(["recipe", "create", str(file)]) == ExitCode.OK
        assert controller.received[0].json == {
            "name": "small",
            "steps": [{"step": "palette", "parameters": {"entries": 8}}],
        }

    @pytest.mark.parametrize(("text", "told"), [("a: [", "is not YAML"), ("- 1", "holds no mapping")])
    def test_a_file_that_is_no_recipe_is_refused_before_anything_is_sent(
        self, controller: FakeController, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, told: str
    ) -> None:
        file = tmp_path / "bad.yaml"
        file.write_text(text)
        assert run(["recipe", "create", str(file)]) == ExitCode.INVALID
        assert told in capsys.readouterr().err
        assert controller.received == []

    def test_what_is_shown_can_be_created_again(
        self, controller: FakeController, capsys: pytest.CaptureFixture[str]
    ) -> None:
        controller.answer("GET", "/recipes/small", RECIPE)
        assert run(["recipe", "get", "small"]) == ExitCode.OK
        shown = yaml.safe_load(capsys.readouterr().out)
        assert shown == {key: RECIPE[key] for key in ("name", "version", "description", "steps")}

    def test_a_list_says_what_a_recipe_does_and_needs(
        self, controller: FakeController, capsys: pytest.CaptureFixture[str]
    ) -> None:
        controller.answer("GET", "/recipes", {"items": [RECIPE]})
        assert run(["recipe", "list"]) == ExitCode.OK
        line = capsys.readouterr().out.splitlines()[1]
        assert all(word in line for word in ("small", "prune_structured", "needed", "operator", "half of it"))

    def test_the_schema_is_printed_as_it_is(
        self, controller: FakeController, capsys: pytest.CaptureFixture[str]
    ) -> None:
        controller.answer("GET", "/schemas/recipe.json", {"$schema": "draft"})
        assert run(["recipe", "schema"]) == ExitCode.OK
        assert json.loads(capsys.readouterr().out) == {"$schema": "draft"}


class TestVariants:
    def test_recipes_are_asked_for_and_awaited(self, controller: FakeController) -> None:
        controller.answer("POST", VARIANTS, version("processing", number=1), 202)
        controller.answer("GET", "/models/digits/versions/1", version(number=1))
        assert run(["variant", "make", "digits", "1", "int8", "--wait"]) == ExitCode.OK
        assert controller.received[0].json == {"recipes": ["int8"]}

    def test_a_variant_that_was_awaited_and_refused_ends_with_code_3(self, controller: FakeController) -> None:
        controller.answer("POST", VARIANTS, version("failed", number=1), 202)
        assert run(["variant", "make", "digits", "1", "int8", "--wait"]) == ExitCode.NOT_COMPLETED

    def test_a_variant_is_cancelled_by_its_name(self, controller: FakeController) -> None:
        controller.answer("POST", f"{VARIANTS}/int8/cancel", version(number=1))
        assert run(["variant", "cancel", "digits", "1", "int8"]) == ExitCode.OK

    def test_a_log_shows_each_run_with_its_outcome(
        self, controller: FakeController, capsys: pytest.CaptureFixture[str]
    ) -> None:
        log = {"job": "clip", "attempt": 2, "outcome": "done", "seconds": 1.25, "text": "first\nsecond"}
        controller.answer("GET", f"{VARIANTS}/int8/logs", {"items": [log]})
        assert run(["variant", "log", "digits", "1", "int8"]) == ExitCode.OK
        assert capsys.readouterr().out == "clip, attempt 2: done after 1.2 s\n  first\n  second\n"
