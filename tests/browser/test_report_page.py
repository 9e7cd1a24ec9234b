"""The report of a version in a real browser, on the real application."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import update

from controller.api.app import create_app
from controller.domain.catalog import VariantState
from controller.store import tables
from controller.wiring import Services
from tests.browser.test_overview_page import CONTRAST
from tests.support.compressed_versions import store_version, variant_rows
from tests.support.device_server import services_at, serving

PATH = "/models/digits/versions/1"


@pytest.fixture
def services(sqlite_url: str, tmp_path: Path) -> Iterator[Services]:
    services = services_at(tmp_path / "state", sqlite_url)
    store_version(services.database, variant_rows(), services.clock())
    yield services
    services.database.engine.dispose()


@pytest.fixture
def address(services: Services) -> Iterator[str]:
    """Where the application is."""
    with serving(create_app(services)) as http:
        yield str(http.base_url).rstrip("/")


@pytest.fixture
def page(browser: Browser, address: str, services: Services) -> Iterator[Page]:
    """The report, signed in."""
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    page.goto(f"{address}{PATH}?token={services.operator_token}")
    yield page
    page.close()


def change(services: Services, recipe: str, **values: object) -> None:
    with services.database.writing() as tx:
        tx.execute(update(tables.variant).where(tables.variant.c.recipe == recipe).values(**values))


def test_the_report_shows_variants_charts_the_choice_and_what_fell(page: Page, address: str) -> None:
    assert page.url == f"{address}{PATH}"
    expect(page.get_by_role("heading", name="digits version 1")).to_be_visible()
    table = page.get_by_role("group", name="Variants")
    row = table.get_by_role("row").filter(has=page.get_by_role("rowheader", name="structured-int8"))
    for told in ("published", "6.0 kB", "5.0 kB", "89.50 %", "86.50 to 92.50", "80.0 µs"):
        expect(row).to_contain_text(told)
    for chart in ("Sizes", "Accuracy with 95 % intervals", "Latency on controller", "Pareto chart"):
        drawn = page.get_by_role("img", name=chart)
        expect(drawn).to_be_visible()
        assert drawn.evaluate("chart => chart.getBoundingClientRect().height") > 60
    expect(page.get_by_text("structured-int8: the smallest of 3 that keep the budget")).to_be_visible()
    expect(page.get_by_text("the child was killed after 60 s", exact=True)).to_be_visible()


def test_details_show_steps_layers_and_lineage(page: Page) -> None:
    details = page.locator("#variant-structured-int8")
    expect(details.get_by_text("1. prune_structured").last).not_to_be_visible()
    details.locator("summary").click()
    expect(details.get_by_role("cell", name="6570 parameters became 2778")).to_be_visible()
    expect(details.get_by_role("img", name="What each step bought")).to_be_visible()
    expect(details.get_by_role("img", name="Layers")).to_be_visible()
    expect(details.get_by_text("manifest signed")).to_be_visible()


def test_work_is_followed_and_what_was_opened_stays_open(page: Page, services: Services) -> None:
    bar = page.get_by_role("progressbar", name="int8")
    expect(bar).to_be_visible()
    expect(page.get_by_text("rounding <w1>")).to_be_visible()
    page.locator("#variant-fp16 summary").click()
    moved = {"job": "quantize_dynamic", "share": 1.0, "words": "rounding the last", "number": 2, "of": 2}
    change(services, "int8", progress=moved)
    expect(page.get_by_text("rounding the last")).to_be_visible()
    expect(page.locator("#variant-fp16")).to_have_attribute("open", "")


def test_a_report_that_ended_is_asked_for_no_more(page: Page, services: Services) -> None:
    for recipe in ("int8", "slim"):
        change(services, recipe, state=VariantState.CANCELLED, progress=None)
    expect(page.locator("[data-ended]")).to_have_count(1)
    expect(page.get_by_role("heading", name="At work")).to_have_count(0)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate("() => new Promise(done => setTimeout(done, 2500))")
    assert asked == []


def test_the_overview_leads_to_the_report_and_the_report_back(page: Page, address: str) -> None:
    page.get_by_role("link", name="Edgefleet").click()
    assert page.url == f"{address}/"
    page.get_by_role("link", name="digits version 1").click()
    assert page.url == f"{address}{PATH}"


def test_the_report_can_be_kept_and_stands_alone(page: Page, browser: Browser, tmp_path: Path) -> None:
    with page.expect_download() as kept:
        page.get_by_role("link", name="HTML").click()
    assert kept.value.suggested_filename == "digits-v1-report.html"
    file = tmp_path / "kept.html"
    kept.value.save_as(file)
    alone, asked = browser.new_page(), []
    alone.on("request", lambda request: asked.append(request.url))
    alone.goto(file.as_uri())
    expect(alone.get_by_role("img", name="Pareto chart")).to_be_visible()
    background = alone.evaluate("getComputedStyle(document.querySelector('.chart .wire')).fill")
    assert background != "rgb(0, 0, 0)"  # which is what a chart without its styles has
    assert {url for url in asked if not url.startswith("data:")} == {file.as_uri()}
    alone.close()


def test_nothing_on_the_page_breaks_its_own_rules(page: Page) -> None:
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.reload()
    expect(page.get_by_role("img", name="Sizes")).to_be_visible()
    assert said == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert page.evaluate(CONTRAST) == []


def test_a_phone_shows_the_report_without_scrolling_sideways(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
