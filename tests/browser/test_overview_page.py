"""The first page in a real browser, on the real application."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from controller.api.app import create_app
from controller.domain.gates import GatePolicy
from controller.domain.ids import DeviceId
from controller.domain.rollout import OPEN_STATES, RolloutEvent
from controller.store.rollouts import rollouts_in
from controller.use_cases.create_rollout import RolloutRequest, create_rollout
from controller.use_cases.set_pin import set_pin
from controller.use_cases.steer_rollout import steer_rollout
from device_agent.protocol.messages import LifecycleState
from tests.support.device_server import services_at, serving
from tests.support.fleet import Fleet

CONTRAST = """() => {
  const channel = v => v / 255 <= .03928 ? v / 255 / 12.92 : ((v / 255 + .055) / 1.055) ** 2.4;
  const luminance = c => .2126 * channel(c[0]) + .7152 * channel(c[1]) + .0722 * channel(c[2]);
  const numbers = text => text.match(/[\\d.]+/g).map(Number);
  const behind = element => {
    for (; element; element = element.parentElement) {
      const color = numbers(getComputedStyle(element).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
    return matchMedia('(prefers-color-scheme: dark)').matches ? [18, 18, 18] : [255, 255, 255];
  };
  const hasText = element => [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
  return [...document.querySelectorAll('body *')].filter(element => {
    if (!hasText(element) || !element.checkVisibility()) return false;
    const pair = [luminance(numbers(getComputedStyle(element).color)), luminance(behind(element))];
    return (Math.max(...pair) + .05) / (Math.min(...pair) + .05) < 4.5;
  }).map(element => element.outerHTML.slice(0, 80));
}"""
"""Text whose contrast to what is behind it is below 4.5 to 1 (WCAG 2.2, success criterion 1.4.3)."""


DEVICES = tuple(DeviceId(f"dv_cam-{number}") for number in range(3))


@pytest.fixture
def fleet(sqlite_url: str, tmp_path: Path) -> Iterator[Fleet]:
    """Three devices on version 1, and a rollout to version 2 that has just begun."""
    services = services_at(tmp_path / "state", sqlite_url)
    fleet = Fleet(services.database, services.director, services.clock(), repository=services.image_repository)
    Fleet.create(services.database)
    fleet.publish(1)
    fleet.publish(2)
    for number in range(3):
        fleet.enrol(f"cam-{number}")
    set_pin(services.database, "digits", 1, "all", now=fleet.now)
    fleet.healthy(*DEVICES)
    request = RolloutRequest("digits", 2, "all", (33, 100), GatePolicy(1.0, 0.0, 1.0, 60.0))
    create_rollout(services.database, request, now=fleet.now)
    yield fleet
    services.database.engine.dispose()


@pytest.fixture
def address(fleet: Fleet, sqlite_url: str, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Where the page is, and the operator's token."""
    services = services_at(tmp_path / "state", sqlite_url)
    with serving(create_app(services)) as http:
        yield str(http.base_url).rstrip("/"), services.operator_token
    services.database.engine.dispose()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    yield page
    page.close()


def rollouts_of(fleet: Fleet) -> list[str]:
    with fleet.database.reading() as tx:
        return [rollout.id for rollout in rollouts_in(tx, OPEN_STATES)]


def enter(page: Page, address: tuple[str, str]) -> None:
    url, token = address
    page.goto(f"{url}/?token={token}")


def test_without_the_token_the_page_says_how_to_get_in_and_shows_nothing(page: Page, address: tuple[str, str]) -> None:
    answer = page.goto(address[0])
    assert answer
    assert answer.status == 401
    expect(page.get_by_text("operator.token")).to_be_visible()
    expect(page.get_by_text("digits")).to_have_count(0)


def test_the_token_lets_in_and_does_not_stay_in_the_address(page: Page, address: tuple[str, str]) -> None:
    enter(page, address)
    assert page.url == f"{address[0]}/"
    expect(page.get_by_role("heading", name="digits 1 → 2 on all")).to_be_visible()


def test_the_page_shows_fleet_rollout_and_events_and_follows_what_happens(
    page: Page, address: tuple[str, str], fleet: Fleet
) -> None:
    enter(page, address)
    table = page.get_by_role("group", name="Fleet by version")
    row = table.get_by_role("row").filter(has=page.get_by_role("rowheader", name="digits"))
    expect(row).to_contain_text("100 %")
    expect(page.get_by_text("0 of 1 healthy")).to_be_visible()
    expect(page.get_by_role("cell", name="rollout.created")).to_be_visible()
    runs = {device: fleet.runs(device) for device in DEVICES}
    (admitted,) = [device for device, manifest in runs.items() if [*runs.values()].count(manifest) == 1]
    fleet.report(admitted, LifecycleState.HEALTHY)
    expect(page.get_by_text("1 of 1 healthy")).to_be_visible()


def test_a_change_appears_without_a_reload_and_is_told_to_who_cannot_see_it(
    page: Page, address: tuple[str, str], fleet: Fleet
) -> None:
    enter(page, address)
    page.evaluate("window.loadedOnce = true")
    expect(page.locator("#news")).to_have_text("")
    (rollout,) = rollouts_of(fleet)
    steer_rollout(fleet.database, rollout, RolloutEvent.PAUSE, now=fleet.now)
    expect(page.get_by_role("heading", name="digits 1 → 2 on all paused")).to_be_visible()
    expect(page.get_by_role("status").filter(has_text="digits 1 → 2 on all paused")).to_have_count(1)
    assert page.evaluate("window.loadedOnce")


def test_a_refresh_leaves_focus_and_sideways_scrolling_where_they_were(page: Page, address: tuple[str, str]) -> None:
    page.set_viewport_size({"width": 260, "height": 800})
    enter(page, address)
    table = page.get_by_role("group", name="Fleet by version")
    table.focus()
    table.evaluate("table => { table.scrollLeft = 10; table.dataset.swapped = 'not yet'; }")
    expect(table).not_to_have_attribute("data-swapped", "not yet")
    expect(table).to_be_focused()
    assert table.evaluate("table => table.scrollLeft") == 10


def test_a_page_that_can_no_longer_be_fresh_says_so_until_it_is_again(page: Page, address: tuple[str, str]) -> None:
    enter(page, address)
    page.route("**/?part=overview", lambda route: route.abort())
    warning = page.get_by_role("status").filter(has_text="The server does not answer")
    expect(warning).to_be_visible()
    page.unroute("**/?part=overview")
    expect(warning).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(page: Page, address: tuple[str, str], scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    enter(page, address)
    assert page.evaluate(CONTRAST) == []


def test_a_phone_shows_the_page_without_scrolling_sideways(page: Page, address: tuple[str, str]) -> None:
    page.set_viewport_size({"width": 390, "height": 1000})
    enter(page, address)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    message = page.get_by_role("cell", name="digits version 2 to group all")
    expect(message).to_be_in_viewport()


def test_the_page_asks_nobody_but_its_own_server(page: Page, address: tuple[str, str]) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    enter(page, address)
    expect(page.get_by_role("heading", name="Fleet 3 devices")).to_be_visible()
    assert {url.startswith(address[0]) for url in asked} == {True}
