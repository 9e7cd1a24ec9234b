"""The report over HTTP and on the command line: who may have it, in which forms."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from controller.api.app import create_app
from controller.cli.errors import ExitCode
from controller.cli.main import run
from controller.wiring import Services
from tests.support.compressed_versions import store_version, variant_rows
from tests.support.device_server import services_at, serving

REPORT = "/api/v1/models/digits/versions/1/report"
PAGE = "/models/digits/versions/1"


@pytest.fixture
def services(state_dir: Path, sqlite_url: str) -> Iterator[Services]:
    services = services_at(state_dir, sqlite_url)
    store_version(services.database, variant_rows(), services.clock())
    yield services
    services.database.engine.dispose()


@pytest.fixture
def api(services: Services) -> Iterator[httpx.Client]:
    """A client that shows the operator's token."""
    with serving(create_app(services)) as client:
        client.headers["authorization"] = f"Bearer {services.operator_token}"
        yield client


def test_a_report_is_for_operators_alone(api: httpx.Client) -> None:
    del api.headers["authorization"]
    assert api.get(REPORT).status_code == 401
    assert api.get(PAGE).status_code == 401


def test_a_report_is_json_and_a_file_that_stands_alone(api: httpx.Client) -> None:
    document = api.get(REPORT).json()
    assert [one["recipe"] for one in document["variants"][:2]] == ["structured-int8", "fp32"]
    kept = api.get(REPORT, params={"format": "html"})
    assert kept.headers["content-type"] == "text/html; charset=utf-8"
    assert kept.headers["content-disposition"] == 'attachment; filename="digits-v1-report.html"'
    assert "<title>Pareto chart</title>" in kept.text
    assert "<script" not in kept.text


@pytest.mark.parametrize("path", ["/models/digits/versions/2", "/models/faces/versions/1"])
def test_what_is_not_there_is_named_by_the_api_and_missing_as_a_page(
    api: httpx.Client, services: Services, path: str
) -> None:
    answer = api.get(f"/api/v1{path}/report")
    assert answer.status_code == 404
    assert answer.json()["code"] in {"version_unknown", "model_unknown"}
    page = api.get(path, params={"token": services.operator_token}, follow_redirects=True)
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")


def test_another_form_is_refused(api: httpx.Client) -> None:
    assert api.get(REPORT, params={"format": "pdf"}).status_code == 422


def test_the_command_shows_the_report_and_writes_it_as_a_page(
    api: httpx.Client,
    services: Services,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("EDGEFLEET_SERVER", str(api.base_url))
    monkeypatch.setenv("EDGEFLEET_TOKEN", services.operator_token)
    monkeypatch.delenv("EDGEFLEET_TOKEN_FILE", raising=False)
    assert run(["report", "digits"]) == ExitCode.OK
    shown = capsys.readouterr().out
    assert "5.0 kB 5.2x" in shown
    assert "89.50 % (86.50 to 92.50)" in shown
    kept = tmp_path / "report.html"
    assert run(["report", "digits", "1", "--out", str(kept)]) == ExitCode.OK
    asked_later = api.get(REPORT, params={"format": "html"}).text
    assert without_ages(kept.read_text()) == without_ages(asked_later)


def without_ages(page: str) -> str:
    """Return a page without how long ago things were, which changes while one looks."""
    return re.sub(r">\d+ \w+ ago<", "><", page)
