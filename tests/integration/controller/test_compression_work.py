"""Asking for variants, searching with a budget, cancelling, own recipes: on a real database with real jobs."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from controller.domain.catalog import VariantState
from controller.domain.errors import Conflict, InvalidInput, NotFound
from controller.domain.ids import VersionId
from controller.domain.search import SearchState
from controller.store import tables
from controller.store.database import Database, open_engine
from controller.store.job_results import logs_of
from controller.store.variants import LeaseLost
from controller.store.views import searches as search_views
from controller.use_cases.ask_for_variants import ask_for_variants
from controller.use_cases.cancel_work import cancel_search, cancel_variant
from controller.use_cases.compress_variant import compress_variant
from controller.use_cases.known_recipes import create_recipe, known_recipes
from controller.use_cases.search_variants import advance_searches, start_search
from controller.use_cases.sweep import sweep
from controller.use_cases.variant_work import Workshop
from device_agent.protocol.manifest import parse_manifest
from tests.support.digits import HELD_OUT, digits, digits_evaluation
from tests.support.networks import digits_network
from tests.support.waiting import wait_until
from tests.support.workshops import NOW, CollectedTasks, add, add_opaque, events_of, open_workshop, variant_rows

SMALL = {"name": "small", "steps": [{"step": "prune_structured", "parameters": {"fraction": 0.5}}]}


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    engine = open_engine(sqlite_url)
    yield Database(engine)
    engine.dispose()


@pytest.fixture
def tasks() -> CollectedTasks:
    return CollectedTasks()


@pytest.fixture
def shop(database: Database, tmp_path: Path, tasks: CollectedTasks) -> Workshop:
    return open_workshop(database, tmp_path, tasks)


@pytest.fixture
def version_id(shop: Workshop, tmp_path: Path) -> VersionId:
    """Version 1 of `digits`: its variant fp32 is queued, there is data to judge by and to learn from."""
    model, evaluation, calibration = (tmp_path / name for name in ("m.onnx", "e.npz", "c.npz"))
    onnx.save(digits_network(), model)
    digits_evaluation(evaluation)
    np.savez(calibration, inputs=digits()[0][:-HELD_OUT])
    return add(shop, model, evaluation, calibration, recipes=["fp32"])


def run_search(shop: Workshop, tasks: CollectedTasks, search_id: str) -> dict[str, Any]:
    """Sweep and work until the search has ended and nothing waits any more; return the search as people see it."""
    while True:
        advance_searches(shop.database, now=NOW)
        sweep(shop.database, tasks, {}, now=NOW)
        if not tasks.waiting:
            with shop.database.reading() as tx:
                return search_views.search(tx, search_id)  # type: ignore[arg-type]
        tasks.run_all(shop)


class TestSearching:
    def test_cheap_recipes_come_first_and_the_smallest_that_keeps_the_budget_is_published(
        self, shop: Workshop, tasks: CollectedTasks, version_id: VersionId
    ) -> None:
        recipes = ["fp32", "int8", "structured-50-int8", "distil-int8"]
        search_id = start_search(shop.database, "digits", 1, "size<=12kB,drop<=2pt", recipes=recipes, now=NOW)
        found = run_search(shop, tasks, search_id)

        assert (found["state"], found["chosen"]) == (SearchState.DONE, "int8")
        assert "2 dearer recipes were not tried" in found["explanation"]
        candidates = {candidate["recipe"]: candidate for candidate in found["candidates"]}
        assert candidates.keys() == {"fp32", "int8"}
        assert candidates["fp32"]["exceeds"][0].startswith("size ")
        assert candidates["int8"]["latency_us"] > 0
        assert candidates["int8"]["is_on_front"]
        states = {name: row.state for name, row in variant_rows(shop.database, version_id).items()}
        assert states == {"fp32": VariantState.PUBLISHED, "int8": VariantState.PUBLISHED}
        assert found["explanation"] in events_of(shop.database, version_id)

    def test_a_search_that_only_looks_publishes_nothing_and_says_what_missed_the_budget(
        self, shop: Workshop, tasks: CollectedTasks, version_id: VersionId
    ) -> None:
        search_id = start_search(shop.database, "digits", 1, "size<=1kB", recipes=["int8"], publish=False, now=NOW)
        found = run_search(shop, tasks, search_id)
        assert (found["state"], found["chosen"]) == (SearchState.DONE, None)
        assert found["explanation"].startswith("nothing keeps the budget; closest is int8: size ")
        assert variant_rows(shop.database, version_id)["int8"].state == VariantState.ASIDE

        # What was set aside is published when it is asked for, without being made again.
        ask_for_variants(shop.database, tasks, "digits", 1, ["int8"], now=NOW)
        done = self._done(shop, version_id)
        tasks.run_all(shop)
        assert variant_rows(shop.database, version_id)["int8"].state == VariantState.PUBLISHED
        assert self._done(shop, version_id) == done

    def test_a_candidate_that_an_earlier_search_refused_is_judged_by_the_limit_of_this_one(
        self, shop: Workshop, tasks: CollectedTasks, version_id: VersionId
    ) -> None:
        for drop, chosen in (("0pt", None), ("20pt", "pruned-50")):
            search_id = start_search(
                shop.database, "digits", 1, f"drop<={drop}", recipes=["pruned-50"], publish=False, now=NOW
            )
            found = run_search(shop, tasks, search_id)
            assert found["chosen"] == chosen
        assert variant_rows(shop.database, version_id)["pruned-50"].state == VariantState.ASIDE
        assert self._done(shop, version_id, "pruned-50") == ["prune_magnitude", "pack", "evaluate", "measure"]

    @staticmethod
    def _done(shop: Workshop, version_id: VersionId, recipe: str = "int8") -> list[str]:
        with shop.database.reading() as tx:
            logs = logs_of(tx, variant_rows(shop.database, version_id)[recipe].id)
        return [log["job"] for log in logs if log["outcome"] == "done"]

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"budget": "size<1"}, "budget_invalid"),
            ({"profile": "toaster"}, "profile_unknown"),
            ({"recipes": ["int3"]}, "recipe_unknown"),
        ],
    )
    @pytest.mark.usefixtures("version_id")
    def test_a_search_that_does_not_fit_is_refused(self, shop: Workshop, change: dict[str, Any], code: str) -> None:
        wanted = {"budget": "", "now": NOW, **change}
        with pytest.raises(InvalidInput) as refusal:
            start_search(shop.database, "digits", 1, **wanted)
        assert refusal.value.code == code

    def test_one_version_is_searched_once_at_a_time_and_a_cancelled_search_cancels_its_candidates(
        self, shop: Workshop, version_id: VersionId
    ) -> None:
        search_id = start_search(shop.database, "digits", 1, "", recipes=["int8"], now=NOW)
        with pytest.raises(Conflict, match="being searched already"):
            start_search(shop.database, "digits", 1, "", now=NOW)
        advance_searches(shop.database, now=NOW)
        cancel_search(shop.database, search_id, now=NOW)
        assert variant_rows(shop.database, version_id)["int8"].state == VariantState.CANCELLED
        with pytest.raises(Conflict, match="has ended"):
            cancel_search(shop.database, search_id, now=NOW)
        with shop.database.reading() as tx, pytest.raises(NotFound):
            search_views.search(tx, "se_nothing")  # type: ignore[arg-type]


class TestAsking:
    def test_a_new_recipe_is_followed_and_one_that_was_followed_is_left_alone(
        self, shop: Workshop, tasks: CollectedTasks, version_id: VersionId
    ) -> None:
        tasks.run_all(shop)
        before = variant_rows(shop.database, version_id)["fp32"]
        ask_for_variants(shop.database, tasks, "digits", 1, ["fp32", "slim"], now=NOW)
        tasks.run_all(shop)
        rows = variant_rows(shop.database, version_id)
        assert rows["fp32"] == before
        assert rows["slim"].state == VariantState.PUBLISHED

    def test_an_opaque_version_cannot_be_compressed(
        self, shop: Workshop, tasks: CollectedTasks, tmp_path: Path
    ) -> None:
        add_opaque(shop, tmp_path)
        with pytest.raises(Conflict, match="is opaque"):
            ask_for_variants(shop.database, tasks, "digits", 1, ["int8"], now=NOW)

    def test_a_recipe_that_learns_is_refused_where_there_is_nothing_to_learn_from(
        self, shop: Workshop, tasks: CollectedTasks, tmp_path: Path
    ) -> None:
        model = tmp_path / "m.onnx"
        onnx.save(digits_network(), model)
        add(shop, model, recipes=["fp32"])
        with pytest.raises(InvalidInput, match="int8-static learns from inputs") as refusal:
            ask_for_variants(shop.database, tasks, "digits", 1, ["int8-static"], now=NOW)
        assert refusal.value.code == "calibration_missing"


class TestCancelling:
    def test_work_in_hand_ends_soon_and_asking_again_goes_on_from_what_is_finished(
        self, shop: Workshop, tasks: CollectedTasks, version_id: VersionId
    ) -> None:
        tasks.waiting.clear()
        slow = {"step": "distil", "parameters": {"hidden": [512, 512], "epochs": 2000, "augment": 64}}
        create_recipe(shop.database, {"name": "slow", "steps": [slow]}, now=NOW)
        ask_for_variants(shop.database, tasks, "digits", 1, ["slow"], now=NOW)
        variant_id = variant_rows(shop.database, version_id)["slow"].id
        ended: list[object] = []
        worker = threading.Thread(target=lambda: ended.append(compress_variant(shop, variant_id)))
        worker.start()
        wait_until(lambda: variant_rows(shop.database, version_id)["slow"].progress, what="progress")
        progress = variant_rows(shop.database, version_id)["slow"].progress
        assert (progress["job"], progress["number"], progress["of"]) == ("distil", 1, 2)

        cancel_variant(shop.database, "digits", 1, "slow", now=NOW)
        worker.join(timeout=60)
        assert ended == [None]
        row = variant_rows(shop.database, version_id)["slow"]
        assert (row.state, row.progress, row.lease_owner) == (VariantState.CANCELLED, None, None)
        with shop.database.reading() as tx:
            (log,) = logs_of(tx, variant_id)
        assert log["outcome"] == "broke off"
        assert LeaseLost.__name__ in log["text"]

        ask_for_variants(shop.database, tasks, "digits", 1, ["slow"], now=NOW)
        assert variant_rows(shop.database, version_id)["slow"].state == VariantState.QUEUED

    @pytest.mark.usefixtures("version_id")
    def test_what_is_published_cannot_be_cancelled_and_an_unknown_variant_is_named(
        self, shop: Workshop, tasks: CollectedTasks
    ) -> None:
        tasks.run_all(shop)
        with pytest.raises(Conflict, match="no work on variant fp32 to cancel: a variant that is published"):
            cancel_variant(shop.database, "digits", 1, "fp32", now=NOW)
        with pytest.raises(NotFound, match="no variant 'int3'; the version has fp32"):
            cancel_variant(shop.database, "digits", 1, "int3", now=NOW)


class TestRecipes:
    def test_a_changed_recipe_is_a_new_version_and_the_newest_is_used(self, shop: Workshop) -> None:
        create_recipe(shop.database, SMALL, now=NOW)
        changed = create_recipe(shop.database, {**SMALL, "description": "changed"}, now=NOW)
        assert changed.version == 2
        with shop.database.reading() as tx:
            assert known_recipes(tx)["small"] == changed

    def test_the_name_of_a_built_in_recipe_is_taken(self, shop: Workshop) -> None:
        with pytest.raises(Conflict, match="int8 is built in"):
            create_recipe(shop.database, {"name": "int8"}, now=NOW)

    def test_a_recipe_that_does_not_fit_is_not_written(self, shop: Workshop) -> None:
        with pytest.raises(InvalidInput):
            create_recipe(shop.database, {"name": "x", "steps": [{"step": "squeeze"}]}, now=NOW)
        with shop.database.reading() as tx:
            assert tx.execute(tables.recipe.select()).first() is None


def test_weights_in_a_second_file_are_judged_measured_proven_and_signed_with_the_graph(
    shop: Workshop, tasks: CollectedTasks, version_id: VersionId, tmp_path: Path
) -> None:
    tasks.waiting.clear()
    apart = {"name": "apart", "steps": [{"step": "external_data", "parameters": {"bytes_min": 0}}]}
    create_recipe(shop.database, apart, now=NOW)
    ask_for_variants(shop.database, tasks, "digits", 1, ["apart"], now=NOW)
    tasks.run_all(shop)
    row = variant_rows(shop.database, version_id)["apart"]
    assert (row.state, row.error) == (VariantState.PUBLISHED, None)
    assert row.evaluation["agreement"] == 1.0
    target = tmp_path / "tuf" / "targets" / Path(row.target).parent / f"{row.manifest_sha256}.manifest.json"
    manifest = parse_manifest(target.read_bytes())
    assert [entry.name for entry in manifest.artifacts] == ["model.onnx", "weights.bin", "golden.npz"]
    assert manifest.wire_bytes == row.wire_bytes


def test_equal_work_of_two_versions_is_done_once(shop: Workshop, tasks: CollectedTasks, tmp_path: Path) -> None:
    model, evaluation = tmp_path / "m.onnx", tmp_path / "e.npz"
    onnx.save(digits_network(), model)
    digits_evaluation(evaluation)
    for _ in range(2):
        last = add(shop, model, evaluation, recipes=["int8"])
        tasks.run_all(shop)
    row = variant_rows(shop.database, last)["int8"]
    assert row.state == VariantState.PUBLISHED
    assert [step["reused"] for step in row.facts["steps"]] == [True]
    with shop.database.reading() as tx:
        logs = logs_of(tx, row.id)
    assert {log["outcome"] for log in logs} == {"remembered"}
    assert [log["job"] for log in logs] == ["quantize_dynamic", "pack", "evaluate", "measure"]


def test_a_recipe_that_learns_from_evaluation_data_is_judged_on_the_other_half(
    shop: Workshop, tasks: CollectedTasks, tmp_path: Path
) -> None:
    model, evaluation = tmp_path / "m.onnx", tmp_path / "e.npz"
    onnx.save(digits_network(), model)
    digits_evaluation(evaluation)
    version_id = add(shop, model, evaluation, recipes=["fp32", "structured-50"])
    tasks.run_all(shop)
    rows = variant_rows(shop.database, version_id)
    assert rows["fp32"].evaluation["samples"] == HELD_OUT
    assert abs(rows["structured-50"].evaluation["samples"] - HELD_OUT / 2) <= 5
