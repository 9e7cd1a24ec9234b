import asyncio
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from controller.web.pages import COOKIE, ago, make_router, stage_rows
from tests.unit.controller.cli.documents import rollout

TOKEN = "flt_operator"
NOW = datetime.now(UTC)
EMPTY: dict[str, Any] = {"devices": 0, "models": [], "versions": [], "rollouts": [], "events": []}
BUSY: dict[str, Any] = {
    "devices": 6,
    "models": [
        {
            "model": "digits",
            "versions": [
                {"version": 2, "devices": 4, "soaking": 1, "failed": 0},
                {"version": None, "devices": 2, "soaking": 0, "failed": 2},
            ],
        }
    ],
    "versions": [
        {
            "model": "digits",
            "number": 3,
            "notes": "better",
            "created_at": NOW,
            "variants": 5,
            "published": 2,
            "at_work": 1,
        }
    ],
    "rollouts": [
        rollout(
            "aborted",
            stage=1,
            created_at=NOW,
            state_since=NOW,
            hit_devices=[
                {"name": "camera-1", "stage": "health", "code": "E_HEALTH_COMMAND", "message": "<b>0 of 50</b>"},
                {"name": "camera-2", "stage": None, "code": None, "message": None},
            ],
        ),
        rollout(id="ro_2", from_version=None, created_at=NOW, state_since=NOW),
    ],
    "events": [{"at": NOW, "actor": "operator", "kind": "pin.set", "subject": "pi_1", "message": "digits 2 to all"}],
}


class Browser:
    """Asks for pages and keeps cookies, without a server in between."""

    def __init__(self, facts: dict[str, Any], cookies: dict[str, str]) -> None:
        self._app = FastAPI()
        self._app.include_router(make_router(lambda _request: facts, lambda _request, shown: shown == TOKEN))
        self._cookies = httpx.Cookies(cookies)

    def get(self, path: str, **query: str) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://controller", cookies=self._cookies
            ) as client:
                answer = await client.get(path, params=query)
                self._cookies = client.cookies
                return answer

        return asyncio.run(ask())


@pytest.fixture
def stranger() -> Browser:
    return Browser(BUSY, {})


@pytest.fixture
def operator() -> Browser:
    return Browser(BUSY, {COOKIE: TOKEN})


def test_a_stranger_is_told_how_to_get_in_and_nothing_else(stranger: Browser) -> None:
    answer = stranger.get("/")
    assert answer.status_code == 401
    assert "edgefleet server start" in answer.text
    assert "digits" not in answer.text


def test_the_token_becomes_a_cookie_that_scripts_cannot_read_and_leaves_the_address(stranger: Browser) -> None:
    answer = stranger.get("/", token=TOKEN)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert stranger.get("/").status_code == 200


@pytest.mark.parametrize("token", ["wrong", "", TOKEN[:-1], "flt_öperator"])
def test_a_wrong_token_lets_nobody_in(stranger: Browser, token: str) -> None:
    answer = stranger.get("/", token=token)
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


def test_who_shows_no_cookie_is_not_even_asked_about() -> None:
    app = FastAPI()
    app.include_router(make_router(lambda _request: BUSY, lambda _request, _shown: True))
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://controller")
    assert asyncio.run(client.get("/")).status_code == 401


def test_a_cookie_whose_token_was_revoked_lets_nobody_in(stranger: Browser) -> None:
    assert Browser(BUSY, {COOKIE: "flt_revoked"}).get("/").status_code == 401
    assert "set-cookie" not in stranger.get("/", token="flt_revoked").headers


def test_pages_are_never_kept_by_caches_and_load_nothing_from_elsewhere(operator: Browser) -> None:
    headers = operator.get("/").headers
    assert headers["cache-control"] == "no-store"
    assert headers["content-security-policy"].startswith("default-src 'self'")
    assert headers["referrer-policy"] == "no-referrer"


def test_the_overview_names_versions_stages_hit_devices_and_events(operator: Browser) -> None:
    page = operator.get("/").text
    assert "67 %" in page
    assert "camera-1: E_HEALTH_COMMAND in health" in page
    assert "2 of 3 devices healthy, 1 more needed" in page
    assert "digits 2 to all" in page


def test_the_overview_leads_to_the_report_of_every_version(operator: Browser) -> None:
    page = operator.get("/").text
    assert '<a href="/models/digits/versions/3">digits version 3</a>' in page
    assert "2 of 5 published, 1 at work" in page
    assert '<a href="/models/digits/versions/2">2</a>' in page


def test_what_devices_say_is_shown_as_text(operator: Browser) -> None:
    page = operator.get("/").text
    assert "&lt;b&gt;0 of 50&lt;/b&gt;" in page
    assert "<b>" not in page


def test_the_part_that_refreshes_is_the_main_part_of_the_page(operator: Browser) -> None:
    part = operator.get("/", part="overview").text
    assert "<html" not in part
    assert part.strip() in operator.get("/").text


def test_every_progress_bar_says_its_value_in_words(operator: Browser) -> None:
    class Bars(HTMLParser):
        names: list[str | None]

        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            if tag == "progress":
                self.names.append(dict(attributes).get("aria-label"))

    bars = Bars()
    bars.names = []
    bars.feed(operator.get("/").text)
    assert len(bars.names) == 2 + 3 + 3
    assert all(bars.names)


def test_an_empty_fleet_says_what_to_do_next() -> None:
    page = Browser(EMPTY, {COOKIE: TOKEN}).get("/").text
    assert "edgefleet token create" in page
    assert "edgefleet rollout create" in page
    assert "edgefleet model create" in page
    assert "edgefleet version upload" in page


@pytest.mark.parametrize(("name", "kind"), [("page.css", "text/css"), ("refresh.js", "text/javascript")])
def test_style_and_script_are_our_own_files(stranger: Browser, name: str, kind: str) -> None:
    answer = stranger.get(f"/static/{name}")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(kind)


@pytest.mark.parametrize("name", ["pages.py", "..%2Fpages.py", "page.css.map"])
def test_no_other_file_is_served(stranger: Browser, name: str) -> None:
    assert stranger.get(f"/static/{name}").status_code == 404


def test_a_stage_is_passed_at_hand_stopped_or_waiting() -> None:
    assert [row["mark"] for row in stage_rows(rollout())] == ["passed", "now", "waits"]
    assert [row["mark"] for row in stage_rows(rollout("aborted"))] == ["passed", "stopped", "waits"]
    assert [row["mark"] for row in stage_rows(rollout("succeeded", stage=3))] == ["passed"] * 3
    assert [row["mark"] for row in stage_rows(rollout("proposed", stage=1))] == ["waits"] * 3


def test_a_stage_never_shows_more_healthy_devices_than_it_has() -> None:
    rows = stage_rows(rollout("succeeded", stage=3, counts={"taken": 0, "healthy": 6, "failed": 0, "silent": 0}))
    assert [row["healthy"] for row in rows] == [1, 3, 6]


@pytest.mark.parametrize(
    ("passed", "words"),
    [(timedelta(seconds=-3), "0 s ago"), (timedelta(seconds=42), "42 s ago"), (timedelta(hours=5), "5 h ago")],
)
def test_a_moment_is_told_by_its_age(passed: timedelta, words: str) -> None:
    assert ago(NOW - passed, NOW) == words
    assert ago((NOW - passed).isoformat(), NOW) == words
