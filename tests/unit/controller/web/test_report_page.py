import asyncio
import json
import re
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from controller.domain.catalog import VariantState
from controller.store.views.report import report_of
from controller.web.pages import COOKIE
from controller.web.report_page import budget_words, make_router, overall_share, report_html, settings
from tests.support.compressed_versions import variant_row, variant_rows, version_document

TOKEN = "flt_operator"
ADDRESS = "/models/digits/versions/1"
CANDIDATE = {"wire_bytes": 5_000, "memory_bytes": 1, "latency_us": 80.0, "value": 0.9, "drop": 0.005, "error": None}
SEARCH: dict[str, Any] = {
    "id": "se_1",
    "budget": {"size": 20_000.0, "latency": None, "memory": None, "drop": 0.02, "prefer": "size"},
    "profile": "controller",
    "thorough": True,
    "state": "done",
    "explanation": "structured-int8: smallest of 3",
    "chosen": "structured-int8",
    "candidates": [
        {**CANDIDATE, "recipe": recipe, "state": "aside", "metric": "accuracy", "exceeds": exceeds}
        | {"is_on_front": front, "is_chosen": recipe == "structured-int8"}
        for recipe, front, exceeds in (
            ("fp16", False, ["size 30 kB of 20 kB"]),
            ("structured-int8", True, []),
            ("slim", True, []),
        )
    ],
}


def a_report(**changes: Any) -> dict[str, Any]:
    return report_of(version_document(variant_rows()), [SEARCH]) | changes


def get(path: str, found: dict[str, Any] | None, *, token: str = TOKEN, **query: str) -> httpx.Response:
    app = FastAPI()
    app.include_router(make_router(lambda _request, _name, _number: found, lambda _request, shown: shown == TOKEN))

    async def ask() -> httpx.Response:
        cookies = {COOKIE: token}
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://controller", cookies=cookies) as client:
            return await client.get(path, params=query or None)

    return asyncio.run(ask())


@pytest.fixture
def page() -> str:
    return get(ADDRESS, a_report()).text


def test_a_stranger_sees_nothing_of_a_report() -> None:
    answer = get(ADDRESS, a_report(), token="wrong")
    assert answer.status_code == 401
    assert "structured-int8" not in answer.text


def test_the_token_leads_back_to_the_page_that_was_asked_for() -> None:
    answer = get(f"{ADDRESS}?token={TOKEN}", a_report(), token="")
    assert (answer.status_code, answer.headers["location"]) == (303, ADDRESS)


def test_a_version_that_is_not_there_is_said_to_be_missing() -> None:
    assert get(ADDRESS, None).status_code == 404


def test_the_page_shows_sizes_accuracy_with_its_interval_and_latency(page: str) -> None:
    for told in (
        "5.2\N{MULTIPLICATION SIGN}",
        "89.50 %",
        "86.50 to 92.50",
        "+0.50",
        "80.0 µs",
        "750.0 kB",
        "at most 2 points lost",
    ):
        assert told in page, told


def test_the_page_shows_steps_layers_and_lineage(page: str) -> None:
    for told in (
        "6570 parameters became 2778",
        "1. prune_structured",
        "64 \N{MULTIPLICATION SIGN} 64",
        "50.0 %",
        "recipe</span> structured",
    ):
        assert told in page, told
    assert "fraction 0.5" in page
    assert "seed" not in page


def test_the_page_shows_why_the_search_chose_and_what_the_others_lack(page: str) -> None:
    for told in (
        "structured-int8: smallest of 3",
        "size 30 kB of 20 kB",
        "size ≤ 20.0 kB, drop ≤ 2 points, prefer size",
    ):
        assert told in page, told
    assert page.count("<title>Pareto chart</title>") == 1


def test_the_page_shows_what_fell_and_how_far_work_is(page: str) -> None:
    assert "10.5 points lost" in page
    assert "the child was killed after 60 s" in page
    assert 'value="0.75"' in page
    assert "waits for a worker" in page


def test_what_people_and_workers_wrote_is_shown_as_text(page: str) -> None:
    assert "a &lt;first&gt; try" in page
    assert "rounding &lt;w1&gt;" in page


def test_the_part_that_refreshes_is_the_main_part_of_the_page(page: str) -> None:
    part = get(ADDRESS, a_report(), part="report").text
    assert "<html" not in part
    assert part.strip() in page
    assert 'data-part="report"' in page


def test_a_page_about_finished_work_stops_asking() -> None:
    assert "data-ended" in get(ADDRESS, a_report(at_work=False)).text
    assert "data-ended" not in get(ADDRESS, a_report(at_work=True)).text


@pytest.mark.parametrize("kind", ["html", "json"])
def test_the_report_can_be_kept_as_a_file(kind: str) -> None:
    answer = get(ADDRESS, a_report(), format=kind)
    assert answer.headers["content-disposition"] == f'attachment; filename="digits-v1-report.{kind}"'
    assert "structured-int8" in answer.text


def test_the_json_file_is_the_report() -> None:
    assert json.loads(get(ADDRESS, a_report(), format="json").text) == json.loads(json.dumps(a_report()))


def test_the_file_stands_alone() -> None:
    kept = report_html(a_report())
    assert "<style>" in kept
    assert "--ground" in kept
    assert "<script" not in kept
    assert re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', kept) == []
    assert "default-src 'none'" in kept


def test_no_element_has_a_style_of_its_own_which_the_page_forbids(page: str) -> None:
    assert "style=" not in page


def test_a_version_that_waits_for_everything_says_so() -> None:
    page = report_html(report_of(version_document([variant_row("int8", VariantState.QUEUED)]), []))
    assert "Nothing is made yet" in page
    assert "<svg" not in page


def test_a_version_of_which_nothing_stands_says_so() -> None:
    rows = [variant_row("int8", VariantState.FAILED, error="no memory left")]
    page = report_html(report_of(version_document(rows), []))
    assert "No variant stands" in page
    assert "no memory left" in page


def test_an_opaque_version_and_one_without_evaluation_have_a_page() -> None:
    opaque = version_document([variant_row("opaque", VariantState.PUBLISHED, wire_bytes=26_000)])
    assert "26.0 kB" in report_html(report_of({**opaque, "inspection": None, "promise": None}, []))
    unproven = dict.fromkeys(("metric", "value", "source_value", "agreement"))
    row = variant_row("int8", VariantState.PUBLISHED, file_bytes=6_000, evaluation=_golden_only() | unproven)
    assert "32 golden rows prove the model" in report_html(report_of(version_document([row]), []))


def test_budgets_settings_and_shares_are_told_in_words() -> None:
    budget = {"size": None, "latency": 1000.0, "memory": 8e6, "drop": None, "prefer": "latency"}
    assert budget_words(budget) == "latency ≤ 1.00 ms, memory ≤ 8.0 MB, prefer latency"
    assert settings({"bound": "sigma", "value": None, "per_channel": True, "hidden": [8]}) == (
        "bound sigma, per_channel true, hidden [8]"
    )
    assert overall_share({"number": 2, "of": 4, "share": 0.5}) == 0.375


def _golden_only() -> dict[str, Any]:
    return {"samples": 0, "golden_rows": 32, "absolute_tolerance": 0.01, "relative_tolerance": 0.001}
