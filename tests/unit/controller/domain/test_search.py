"""Which recipes a search tries next, when it stops, what it chooses and why."""

import pytest

from controller.domain.errors import InvalidInput
from controller.domain.search import Budget, Candidate, choose, excess, nearest_miss, pareto_front, parse_budget, plan

TIERS = [["fp32", "int8"], ["structured"], ["distil"]]


def made(
    recipe: str, *, value: float = 0.98, wire: float = 1000.0, memory: float = 100.0, latency: float = 10.0
) -> Candidate:
    return Candidate(recipe, True, None, value, 0.98 - value, wire, memory, latency)


def test_a_budget_is_read_with_its_units() -> None:
    assert parse_budget("size<=200kB, latency<=1.5ms,memory<=8MiB,drop<=1pt,prefer=latency") == Budget(
        200e3, 1500.0, 8 * 2**20, 0.01, "latency"
    )
    assert parse_budget("") == Budget()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("size<200kB", "'size<200kB'"),
        ("size<=200", "units of size are B"),
        ("latency<=1kB", "units of latency are us"),
        ("colour<=3", "limits are size"),
        ("size<=1kB,size<=2kB", "named twice"),
        ("prefer=beauty", "prefer one of size"),
    ],
)
def test_a_part_of_a_budget_that_does_not_fit_is_named_with_what_would(text: str, told: str) -> None:
    with pytest.raises(InvalidInput, match=told) as refusal:
        parse_budget(text)
    assert (refusal.value.code, refusal.value.field) == ("budget_invalid", "/budget")


class TestWhatIsTriedNext:
    def test_a_search_begins_with_its_cheapest_recipes(self) -> None:
        assert plan(Budget(), TIERS, [], thorough=False).ask == ("fp32", "int8")

    def test_what_is_there_already_is_not_asked_for_again(self) -> None:
        assert plan(Budget(), TIERS, [made("int8")], thorough=False).ask == ("fp32",)

    def test_a_tier_is_awaited_before_the_next_begins(self) -> None:
        waiting = plan(Budget(size=1.0), TIERS, [made("fp32"), Candidate("int8", False)], thorough=False)
        assert (waiting.ask, waiting.finished) == ((), False)
        assert "waiting for int8" in waiting.explanation

    def test_the_next_tier_is_tried_when_nothing_keeps_the_budget(self) -> None:
        assert plan(Budget(size=10.0), TIERS, [made("fp32"), made("int8")], thorough=False).ask == ("structured",)

    def test_a_search_stops_at_the_first_tier_that_keeps_the_budget_and_says_what_it_spared(self) -> None:
        ended = plan(Budget(size=500.0), TIERS, [made("fp32"), made("int8", wire=400.0)], thorough=False)
        assert (ended.finished, ended.chosen) == (True, "int8")
        assert "2 dearer recipes were not tried" in ended.explanation

    def test_a_thorough_search_tries_everything(self) -> None:
        found = [made("fp32"), made("int8", wire=400.0)]
        assert plan(Budget(size=500.0), TIERS, found, thorough=True).ask == ("structured",)
        everything = [*found, made("structured", wire=300.0), made("distil", wire=20.0)]
        assert plan(Budget(size=500.0), TIERS, everything, thorough=True).chosen == "distil"

    def test_recipes_that_are_not_to_be_chosen_from_do_not_count(self) -> None:
        found = [made("fp32"), made("int8", wire=400.0), made("foreign", wire=1.0)]
        assert plan(Budget(size=500.0), TIERS, found, thorough=False).chosen == "int8"

    def test_what_was_made_before_of_a_dearer_tier_is_not_called_untried(self) -> None:
        found = [made("fp32"), made("int8", wire=400.0), made("structured", wire=300.0)]
        ended = plan(Budget(size=500.0), TIERS, found, thorough=False)
        assert ended.chosen == "structured"
        assert "1 dearer recipes were not tried" in ended.explanation

    def test_a_search_that_finds_nothing_names_the_nearest_miss(self) -> None:
        found = [made("fp32"), made("int8", wire=250.0), made("structured", wire=240.0, value=0.9), made("distil")]
        ended = plan(Budget(size=200.0, drop=0.01), TIERS, found, thorough=False)
        assert (ended.finished, ended.chosen) == (True, None)
        assert ended.explanation == "nothing keeps the budget; closest is int8: size 250 B of 200 B"


class TestWhatIsChosen:
    def test_the_smallest_that_keeps_the_budget_is_chosen(self) -> None:
        found = [made("a", wire=300.0), made("b", wire=200.0), made("c", wire=10.0, value=0.5)]
        chosen = choose(Budget(drop=0.01), found)
        assert chosen is not None
        assert chosen.recipe == "b"

    @pytest.mark.parametrize(("prefer", "recipe"), [("size", "a"), ("latency", "b"), ("memory", "c"), ("value", "d")])
    def test_the_budget_says_what_is_preferred(self, prefer: str, recipe: str) -> None:
        found = [made("a", wire=1.0), made("b", latency=1.0), made("c", memory=1.0), made("d", value=0.99)]
        chosen = choose(Budget(prefer=prefer), found)
        assert chosen is not None
        assert chosen.recipe == recipe

    def test_equal_candidates_are_told_apart_by_name(self) -> None:
        chosen = choose(Budget(), [made("b"), made("a")])
        assert chosen is not None
        assert chosen.recipe == "a"

    def test_a_candidate_that_the_class_cannot_run_exceeds_every_budget(self) -> None:
        unfit = Candidate("big", True, None, 0.98, 0.0, 10.0, 10.0, 1.0, "needs 10 MB of 5 MB")
        assert excess(Budget(), unfit) == ("needs 10 MB of 5 MB",)
        assert choose(Budget(), [unfit]) is None

    def test_without_any_measured_candidate_the_errors_are_pointed_to(self) -> None:
        failed = Candidate("int8", True, "recipe_inapplicable")
        assert "see their errors" in nearest_miss(Budget(), [failed])


def test_the_front_holds_what_no_other_beats() -> None:
    small, accurate = made("small", wire=1.0, value=0.9), made("accurate", wire=9.0, value=0.99)
    beaten = made("beaten", wire=9.0, value=0.95)
    twin = made("twin", wire=1.0, value=0.9)
    assert [one.recipe for one in pareto_front([beaten, accurate, small, twin])] == ["small", "twin", "accurate"]


def test_a_failed_candidate_is_not_on_the_front() -> None:
    assert pareto_front([Candidate("int8", True, "refused", 0.5, 0.4, 1.0, 1.0, 1.0)]) == []
