"""The routes around compression over HTTP, on both databases: what they answer and how refusals look."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import onnx
import pytest

from controller.api.app import create_app
from controller.wiring import Services
from tests.support.device_server import services_at, serving
from tests.support.digits import digits_evaluation
from tests.support.networks import digits_network

MODEL = "/api/v1/models/digits"
VERSION = f"{MODEL}/versions/1"
SMALL = {"name": "small", "steps": [{"step": "prune_structured", "parameters": {"fraction": 0.5}}]}


@pytest.fixture
def services(state_dir: Path, database_url: str) -> Iterator[Services]:
    services = services_at(state_dir, database_url)
    yield services
    services.database.engine.dispose()


@pytest.fixture
def api(services: Services) -> Iterator[httpx.Client]:
    """A client that shows the operator's token; no worker takes up what it asks for."""
    with serving(create_app(services)) as client:
        client.headers["authorization"] = f"Bearer {services.operator_token}"
        client.timeout = httpx.Timeout(60.0)
        yield client


def uploaded(api: httpx.Client, tmp_path: Path) -> dict[str, Any]:
    model, evaluation = tmp_path / "m.onnx", tmp_path / "e.npz"
    onnx.save(digits_network(), model)
    digits_evaluation(evaluation)
    digests = [api.post("/api/v1/uploads", content=path.read_bytes()).json()["sha256"] for path in (model, evaluation)]
    return {"artifact_sha256": digests[0], "evaluation_sha256": digests[1]}


def test_a_version_is_made_searched_watched_and_cancelled(api: httpx.Client, tmp_path: Path) -> None:
    api.post("/api/v1/models", json={"name": "digits"})
    promise = {"metric": "accuracy", "drop_max": 0.02, "rule": "interval"}
    wanted = {**uploaded(api, tmp_path), "recipes": ["fp32"], "promise": promise}
    version = api.post(f"{MODEL}/versions", json=wanted)
    assert version.status_code == 201
    assert version.json()["promise"] == promise

    asked = api.post(f"{VERSION}/variants", json={"recipes": ["int8", "structured-50"]})
    assert asked.status_code == 202
    assert [variant["recipe"] for variant in asked.json()["variants"]] == ["fp32", "int8", "structured-50"]
    assert api.get(f"{VERSION}/variants/int8/logs").json() == {"items": []}
    cancelled = api.post(f"{VERSION}/variants/int8/cancel").json()["variants"]
    assert {variant["recipe"]: variant["state"] for variant in cancelled}["int8"] == "cancelled"

    search = api.post(f"{VERSION}/searches", json={"budget": "size<=20kB", "recipes": ["fp32"]})
    assert (search.status_code, search.json()["state"]) == (202, "running")
    search_id = search.json()["id"]
    assert api.post(f"{VERSION}/searches", json={"budget": ""}).json()["code"] == "searching"
    assert [found["id"] for found in api.get(f"{VERSION}/searches").json()["items"]] == [search_id]
    assert api.post(f"/api/v1/searches/{search_id}/cancel").json()["state"] == "cancelled"
    assert api.post(f"/api/v1/searches/{search_id}/cancel").json()["code"] == "search_ended"

    for path in ("variants/int3/logs", "variants/int3/cancel"):
        refused = api.request("GET" if path.endswith("logs") else "POST", f"{VERSION}/{path}")
        assert (refused.status_code, refused.json()["code"]) == (404, "variant_unknown")


@pytest.mark.parametrize(
    ("change", "code", "pointer"),
    [
        ({"promise": {"metric": "beauty"}}, "metric_unknown", "/promise/metric"),
        ({"promise": {"rule": "hope"}}, "promise_invalid", "/promise/rule"),
        ({"promise": {"drop_max": -1}}, "invalid_input", "/promise/drop_max"),
        ({"calibration_sha256": "0" * 64}, "artifact_unknown", "/calibration_sha256"),
        ({"evaluation_sha256": None, "recipes": ["distil"]}, "calibration_missing", "/recipes"),
    ],
)
def test_a_version_whose_promise_or_data_do_not_fit_is_refused_with_the_field(
    api: httpx.Client, tmp_path: Path, change: dict[str, Any], code: str, pointer: str
) -> None:
    api.post("/api/v1/models", json={"name": "digits"})
    refused = api.post(f"{MODEL}/versions", json={**uploaded(api, tmp_path), **change})
    assert refused.status_code == 422
    assert (refused.json()["code"], refused.json()["errors"][0]["pointer"]) == (code, pointer)
    assert api.get(f"{MODEL}/versions").json()["items"] == []


def test_an_own_recipe_is_created_numbered_and_listed_beside_those_that_are_built_in(api: httpx.Client) -> None:
    assert api.post("/api/v1/recipes", json=SMALL).json()["version"] == 1
    assert api.post("/api/v1/recipes", json=SMALL).json()["version"] == 2
    listed = {recipe["name"]: recipe for recipe in api.get("/api/v1/recipes").json()["items"]}
    assert (listed["small"]["version"], listed["small"]["built_in"], listed["small"]["calibrates"]) == (2, False, True)
    assert listed["int8"]["built_in"]
    assert api.get("/api/v1/recipes/small").json() == listed["small"]


def test_a_recipe_that_does_not_fit_is_refused_with_the_place(api: httpx.Client) -> None:
    bad = {"name": "x", "steps": [{"step": "clip", "parameters": {"bits": 99}}]}
    refused = api.post("/api/v1/recipes", json=bad)
    assert (refused.status_code, refused.json()["code"]) == (422, "recipe_invalid")
    assert refused.json()["errors"][0]["pointer"] == "/steps/0/parameters"
    assert api.post("/api/v1/recipes", json={"name": "int8"}).status_code == 409
    assert api.get("/api/v1/recipes/none").json()["code"] == "recipe_unknown"


def test_the_schema_of_recipes_is_served_for_editors(api: httpx.Client) -> None:
    assert api.get("/api/v1/schemas/recipe.json").json()["$schema"].startswith("https://json-schema.org/")
