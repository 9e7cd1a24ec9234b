"""The operator API over HTTP, on both databases: who may ask, what is answered, how refusals look."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from controller.api.app import create_app
from controller.wiring import Services
from tests.support.device_server import services_at, serving

DIGEST = hashlib.sha256(b"some bytes").hexdigest()


@pytest.fixture
def services(state_dir: Path, database_url: str) -> Iterator[Services]:
    services = services_at(state_dir, database_url)
    yield services
    services.database.engine.dispose()


@pytest.fixture
def api(services: Services) -> Iterator[httpx.Client]:
    """A client that shows the operator's token."""
    with serving(create_app(services)) as client:
        client.headers["authorization"] = f"Bearer {services.operator_token}"
        yield client


def refusal(answer: httpx.Response, status: int, code: str) -> dict[str, object]:
    """Check that the answer is a problem document; return it."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, object] = answer.json()
    assert (document["status"], document["code"]) == (status, code)
    return document


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic eDp5"])
def test_nobody_passes_without_the_operators_token(api: httpx.Client, header: str | None) -> None:
    del api.headers["authorization"]
    answer = api.get("/api/v1/models", headers={"authorization": header} if header else {})
    refusal(answer, 401, "operator_token_needed")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_created_model_is_listed_and_its_name_cannot_be_taken_again(api: httpx.Client) -> None:
    assert api.post("/api/v1/models", json={"name": "digits"}).status_code == 201
    assert [model["name"] for model in api.get("/api/v1/models").json()["items"]] == ["digits"]
    refusal(api.post("/api/v1/models", json={"name": "digits"}), 409, "model_name_taken")


def test_a_name_that_is_not_safe_in_a_path_is_refused_with_its_field(api: httpx.Client) -> None:
    document = refusal(api.post("/api/v1/models", json={"name": "../x"}), 422, "bad_name")
    assert document["errors"] == [{"pointer": "/name", "detail": document["detail"]}]


def test_a_field_that_is_missing_or_unknown_is_named(api: httpx.Client) -> None:
    document = refusal(api.post("/api/v1/models", json={"nmae": "digits"}), 422, "invalid_input")
    assert isinstance(document["errors"], list)
    assert {error["pointer"] for error in document["errors"]} == {"/name", "/nmae"}


def test_every_answer_carries_the_request_id_and_so_does_its_problem(api: httpx.Client) -> None:
    answer = api.get("/api/v1/models/none", headers={"x-request-id": "trace-0123456789"})
    assert refusal(answer, 404, "model_unknown")["request_id"] == "trace-0123456789"
    assert answer.headers["x-request-id"] == "trace-0123456789"


def test_an_upload_is_stored_once_under_its_digest_and_served_in_ranges(api: httpx.Client) -> None:
    for _ in range(2):
        answer = api.post("/api/v1/uploads", content=b"some bytes")
        assert (answer.status_code, answer.json()) == (201, {"sha256": DIGEST, "size_bytes": 10})
    whole = api.get(f"/artifacts/sha256/{DIGEST}")
    assert (whole.content, whole.headers["etag"]) == (b"some bytes", f'"sha256-{DIGEST}"')
    part = api.get(f"/artifacts/sha256/{DIGEST}", headers={"range": "bytes=5-"})
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"bytes", "bytes 5-9/10")
    same = api.get(f"/artifacts/sha256/{DIGEST}", headers={"if-none-match": whole.headers["etag"]})
    assert same.status_code == 304


def test_artifacts_and_signed_files_need_no_token_and_nothing_else_is_served(api: httpx.Client) -> None:
    del api.headers["authorization"]
    assert api.get("/tuf/metadata/timestamp.json").headers["cache-control"] == "public, max-age=30"
    assert "immutable" in api.get("/tuf/director/1.root.json").headers["cache-control"]
    for path in (
        "/tuf/../keys/director.pem",
        "/tuf/%2e%2e/operator.token",
        "/tuf/metadata",
        "/tuf/metadata/9.root.json",
    ):
        refusal(api.get(path), 404, "file_unknown" if path.startswith(("/tuf/m", "/tuf/%")) else "not_found")
    refusal(api.get(f"/artifacts/sha256/{'0' * 64}"), 404, "artifact_unknown")


def test_a_group_is_a_selector_or_a_list_and_says_how_many_devices_match(api: httpx.Client) -> None:
    made = api.post("/api/v1/groups", json={"name": "lyon", "selector": "site=lyon"})
    assert (made.status_code, made.json()["devices"], made.json()["members"]) == (201, 0, None)
    assert [group["name"] for group in api.get("/api/v1/groups").json()["items"]] == ["all", "lyon"]
    refusal(api.post("/api/v1/groups", json={"name": "lyon", "selector": ""}), 409, "group_name_taken")
    refusal(api.post("/api/v1/groups", json={"name": "x", "selector": "a b"}), 422, "bad_selector")
    refusal(api.post("/api/v1/groups", json={"name": "x"}), 422, "invalid_input")
    refusal(api.post("/api/v1/groups", json={"name": "x", "members": ["ghost"]}), 422, "device_unknown")


def test_the_text_of_an_enrolment_token_is_shown_once(api: httpx.Client) -> None:
    made = api.post("/api/v1/tokens", json={"labels": {"site": "lyon"}, "uses": 2}).json()
    assert made["token"].startswith(f"eft_{made['id']}_")
    (listed,) = api.get("/api/v1/tokens").json()["items"]
    assert (listed["id"], listed["uses_left"]) == (made["id"], 2)
    assert made["token"].split("_")[2] not in str(listed)
    refusal(api.post("/api/v1/tokens", json={"uses": 0}), 422, "invalid_input")


def test_a_rule_on_a_variant_is_set_replaced_listed_and_released(api: httpx.Client) -> None:
    api.post("/api/v1/models", json={"name": "digits"})
    rules = "/api/v1/models/digits/variant-rules"
    made = api.put(f"{rules}/int8", json={"kind": "pin"})
    assert made.status_code == 200
    shown = {"model": "digits", "variant": "int8", "kind": "pin", "group": "all", "versions": 0}
    assert made.json() | shown == made.json()
    replaced = api.put(f"{rules}/int8", json={"kind": "forbid", "group": "all"}).json()
    assert (replaced["id"], replaced["kind"]) == (made.json()["id"], "forbid")
    assert api.get(rules).json() == {"items": [replaced]}
    assert api.delete(f"{rules}/int8", params={"group": "all"}).status_code == 204
    assert api.get(rules).json() == {"items": []}
    refusal(api.delete(f"{rules}/int8"), 404, "variant_rule_unknown")
    refusal(api.put(f"{rules}/int8", json={"kind": "prefer"}), 422, "invalid_input")
    refusal(api.put(f"{rules}/In t8", json={"kind": "pin"}), 422, "bad_name")
    refusal(api.put(f"{rules}/int8", json={"kind": "pin", "group": "none"}), 404, "group_unknown")
    refusal(api.get("/api/v1/models/none/variant-rules"), 404, "model_unknown")


def test_what_does_not_exist_is_named(api: httpx.Client) -> None:
    refusal(api.put("/api/v1/pins", json={"model": "none", "version": 1}), 404, "model_unknown")
    refusal(api.delete("/api/v1/pins/pi_none"), 404, "pin_unknown")
    refusal(api.get("/api/v1/devices/none"), 404, "device_unknown")
    refusal(api.get("/api/v1/rollouts/ro_none"), 404, "rollout_unknown")
    refusal(api.post("/api/v1/rollouts/ro_none:pause"), 404, "rollout_unknown")
    refusal(api.get("/api/v1/nothing"), 404, "not_found")


def test_a_page_token_or_size_that_is_not_one_is_refused(api: httpx.Client) -> None:
    refusal(api.get("/api/v1/devices", params={"page_token": "%%%"}), 400, "bad_query")
    refusal(api.get("/api/v1/devices", params={"page_size": 0}), 400, "bad_query")


def test_the_overview_of_an_empty_fleet_is_empty(api: httpx.Client) -> None:
    empty = {"devices": 0, "models": [], "versions": [], "rollouts": [], "events": []}
    assert api.get("/api/v1/overview").json() == empty


def test_probes_answer_without_a_token(api: httpx.Client) -> None:
    del api.headers["authorization"]
    assert api.get("/livez").json() == {"status": "alive"}
    assert api.get("/readyz").json()["status"] == "ready"
    assert set(api.get("/version").json()) == {"version"}


def test_the_schema_describes_every_route(api: httpx.Client) -> None:
    paths = api.get("/openapi.json").json()["paths"]
    assert {"/api/v1/rollouts", "/api/v1/rollouts/{rollout_id}:abort", "/device/v1/assignment"} <= set(paths)
