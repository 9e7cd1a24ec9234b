"""Damaged bodies for every route that takes one, over HTTP: each is answered, and never with 500."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.api.app import create_app
from tests.support.device_server import services_at, serving
from tests.support.hostile_bytes import mangled

BODIES = {
    "POST /api/v1/models": b'{"name": "digits"}',
    "POST /api/v1/models/digits/versions": b'{"artifact_sha256": "a", "format": "onnx", "recipes": ["fp32"]}',
    "POST /api/v1/recipes": b'{"name": "small", "description": "", "steps": [{"step": "optimize", "parameters": {}}]}',
    "POST /api/v1/groups": b'{"name": "g", "selector": "site=a"}',
    "PUT /api/v1/pins": b'{"model": "digits", "version": 1, "group": "all", "soak_s": 0}',
    "POST /api/v1/rollouts": b'{"model": "digits", "version": 1, "group": "all", "stages": [25, 100], "gate": {}}',
    "POST /api/v1/tokens": b'{"uses": 1, "ttl_s": 60, "labels": {"a": "b"}, "serial": "x"}',
    "POST /api/v1/operators": b'{"name": "amy", "role": "viewer", "scopes": [], "network": "10.0.0.0/8"}',
    "POST /api/v1/models/digits/versions/1/release": b'{"variants": null, "floor": 1, "hardware": ["camera"]}',
    "POST /api/v1/releases/rl_1/signatures": b'{"keyid": "ab", "sig": "cd"}',
    "POST /device/v1/enrol": b'{"token": "eft_1_2_3", "csr_pem": "x", "name": "a", "profile": {}, "labels": {}}',
    "POST /device/v1/session": b'{"payload": "e30=", "payloadType": "a", "signatures": [{"keyid": "a", "sig": "aa"}]}',
    "POST /device/v1/reports": b'{"schema": 1, "batch": "b", "items": []}',
    "POST /device/v1/certificate": b'{"payload": "e30=", "payloadType": "a", "signatures": []}',
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path, state_dir: Path) -> Iterator[httpx.Client]:
    """An operator's connection to a controller whose database is this module's alone."""
    database = tmp_path_factory.mktemp("fuzz") / "controller.db"
    database.write_bytes(sqlite_template.read_bytes())
    services = services_at(state_dir, f"sqlite:///{database}")
    with serving(create_app(services)) as connected:
        connected.headers["authorization"] = f"Bearer {services.operator_token}"
        yield connected
    services.database.engine.dispose()


@pytest.mark.parametrize("route", BODIES)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_a_damaged_body_is_answered(client: httpx.Client, route: str, data: st.DataObject) -> None:
    method, path = route.split(" ")
    body = data.draw(mangled(BODIES[route]))
    answer = client.request(method, path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code < 500, answer.text


@pytest.mark.parametrize("route", BODIES)
def test_a_body_that_is_nested_deep_is_answered(client: httpx.Client, route: str) -> None:
    method, path = route.split(" ")
    for depth in (300, 950, 990, 5000):
        body = b'{"name": ' + b"[" * depth + b"]" * depth + b"}"
        answer = client.request(method, path, content=body, headers={"content-type": "application/json"})
        assert answer.status_code < 500, answer.text


@pytest.mark.parametrize("number", ["9007199254740992", "1e308", "-1e308", "NaN", "Infinity", "1" + "0" * 400])
@pytest.mark.parametrize(("route", "field"), [("tokens", "ttl_s"), ("operators", "ttl_days")])
def test_a_span_of_time_that_there_is_not_is_refused(client: httpx.Client, route: str, field: str, number: str) -> None:
    body = f'{{"name": "amy", "role": "viewer", "{field}": {number}}}'
    answer = client.post(f"/api/v1/{route}", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422), answer.text
