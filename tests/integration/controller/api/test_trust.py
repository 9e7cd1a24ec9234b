"""The state of trust over HTTP, and the line that an installation with a single operator always shows."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from controller.api.app import create_app
from controller.trust.ceremonies.trust_report import NOTICE
from controller.wiring import Services
from tests.support.device_server import services_at, serving


@pytest.fixture
def services(state_dir: Path, sqlite_url: str) -> Iterator[Services]:
    services = services_at(state_dir, sqlite_url)
    yield services
    services.database.engine.dispose()


def _ask(services: Services, path: str) -> httpx.Response:
    with serving(create_app(services)) as client:
        return client.get(path, headers={"authorization": f"Bearer {services.operator_token}"})


def _separated(services: Services) -> Services:
    return replace(services, settings=services.settings.model_copy(update={"single_operator": False}))


def test_the_report_shows_roles_and_what_needs_somebody(services: Services) -> None:
    report = _ask(services, "/api/v1/trust").json()

    roles = {role["role"]: role for role in report["roles"]}
    assert {"image-root", "image-targets", "director-root", "director", "device-ca"} <= set(roles)
    assert roles["image-root"]["keys"][0]["where"] == "beside the controller"
    codes = [warning["code"] for warning in report["warnings"]]
    assert codes == ["single_operator", "unencrypted_keys", "signer_not_separate"]
    assert len(report["pin"]) == 32


def test_every_answer_of_a_single_operator_says_so(services: Services) -> None:
    paths = ("/api/v1/trust", "/api/v1/overview", "/healthz", "/api/v1/none")
    with serving(create_app(services)) as client:
        assert {client.get(path).headers["edgefleet-custody"] for path in paths} == {"single-operator"}
    with serving(create_app(_separated(services))) as client:
        assert [path for path in paths if "edgefleet-custody" in client.get(path).headers] == []


def test_the_pages_of_a_single_operator_show_it_to_whoever_is_let_in(services: Services) -> None:
    with serving(create_app(services)) as client:
        shown = client.get("/", params={"token": services.operator_token}, follow_redirects=True)
        assert NOTICE in shown.text
        # The part that the page fetches again and again is not where it stands, so it stays.
        assert NOTICE not in client.get("/", params={"part": "overview"}).text
    with serving(create_app(_separated(services))) as client:
        shown = client.get("/", params={"token": services.operator_token}, follow_redirects=True)
        assert "Fleet" in shown.text
        assert NOTICE not in shown.text
