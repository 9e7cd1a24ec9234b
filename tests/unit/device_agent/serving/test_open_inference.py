"""The public protocol: paths, statuses and bodies, on a real model."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from onnx import TensorProto, helper

from device_agent.serving.counters import CounterBook
from device_agent.serving.http_messages import Request
from device_agent.serving.open_inference import INLINE_BODY_BYTES_MAX, OpenInference
from device_agent.serving.slots import LoadOrder, Slots
from tests.support.onnx_models import golden_rows, linear_model, linear_weights, write_model

ROW = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1.0, 2.0, 3.0, 4.0]}
INFER = "/v2/models/digits/infer"


class Outcome(NamedTuple):
    status: int
    json: dict[str, Any]
    window: dict[str, Any]


def ask(model: Path, method: str, path: str, document: object = None, *, stopping: bool = False) -> Outcome:
    """Send one request to a process that serves `model` as version 3 of digits."""

    async def scenario() -> Outcome:
        counters = CounterBook()
        slots = Slots(counters)
        await slots.load(LoadOrder("digits", "3", "a" * 64, model))
        with ThreadPoolExecutor(1) as pool:
            api = OpenInference(slots, pool)
            api.ready = not stopping
            body = b"" if document is None else json.dumps(document).encode()
            response = await api.handle(Request(method, path, {}, body))
        return Outcome(response.status, json.loads(response.body), counters.collect(0.0)[0])

    return asyncio.run(scenario())


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    linear_model(path, bias=1.0)
    return path


def test_inference_answers_with_the_version_and_counts_the_request(model: Path) -> None:
    outcome = ask(model, "POST", INFER, {"id": "7", "inputs": [ROW]})

    assert outcome.status == 200
    assert outcome.json["model_name"] == "digits"
    assert outcome.json["model_version"] == "3"
    assert outcome.json["id"] == "7"
    (scores,) = outcome.json["outputs"]
    np.testing.assert_allclose(scores["data"], np.array([1, 2, 3, 4]) @ linear_weights() + 1.0)
    assert (outcome.window["requests"], outcome.window["errors"], outcome.window["input_bytes"]) == (1, 0, 16)


def test_a_large_request_is_answered_as_a_small_one_is(model: Path) -> None:
    rows = golden_rows(2000)
    tensor = {**ROW, "shape": list(rows.shape), "data": rows.ravel().tolist()}
    assert len(json.dumps(tensor)) > INLINE_BODY_BYTES_MAX

    outcome = ask(model, "POST", INFER, {"inputs": [tensor]})

    assert outcome.status == 200
    got = np.reshape(outcome.json["outputs"][0]["data"], (2000, 3))
    np.testing.assert_allclose(got, rows @ linear_weights() + 1.0, rtol=1e-4, atol=1e-5)
    assert outcome.window["input_bytes"] == rows.nbytes


@pytest.mark.parametrize("path", ["/v2/models/digits/versions/3/infer", "/v2/models/%64igits/infer", f"{INFER}/"])
def test_the_served_version_may_be_named_and_names_may_be_quoted(model: Path, path: str) -> None:
    assert ask(model, "POST", path, {"inputs": [ROW]}).status == 200


def test_a_request_that_does_not_fit_is_not_counted_against_the_model(model: Path) -> None:
    outcome = ask(model, "POST", INFER, {"inputs": [{**ROW, "shape": [1, 5]}]})

    assert outcome.status == 400
    assert outcome.json == {"error": "inputs[0].shape is [1, 5]; expected [-1, 4] for input 'x' (-1 is any size)"}
    assert (outcome.window["requests"], outcome.window["errors"]) == (0, 0)


def test_a_model_that_answers_nan_has_failed_and_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    graph = helper.make_graph(
        [helper.make_node("Log", ["x"], ["y"])],
        "log",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 4])],
    )
    write_model(path, graph)

    outcome = ask(path, "POST", INFER, {"inputs": [{**ROW, "data": [1, 1, 1, -1]}]})

    assert outcome.status == 500
    assert outcome.json == {"error": "output 'y' holds values that are not finite numbers"}
    assert (outcome.window["requests"], outcome.window["errors"]) == (1, 1)


@pytest.mark.parametrize("path", ["/v2/models/digits", "/v2/models/digits/versions/3"])
def test_model_metadata_names_platform_versions_and_tensors(model: Path, path: str) -> None:
    assert ask(model, "GET", path).json == {
        "name": "digits",
        "versions": ["3"],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, 3]}],
    }


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/digits/ready", {"name": "digits", "ready": True}),
        ("/v2/models/digits/versions/3/ready", {"name": "digits", "ready": True}),
    ],
)
def test_health_is_told_by_status_and_body(model: Path, path: str, document: object) -> None:
    outcome = ask(model, "GET", path)

    assert (outcome.status, outcome.json) == (200, document)


def test_server_metadata_names_the_server_and_its_extensions(model: Path) -> None:
    outcome = ask(model, "GET", "/v2")

    assert outcome.json["name"] == "edgefleet"
    assert outcome.json["extensions"] == []
    assert outcome.json["version"]


def test_a_stopping_process_is_alive_and_not_ready(model: Path) -> None:
    assert ask(model, "GET", "/v2/health/ready", stopping=True).status == 503
    assert ask(model, "GET", "/v2/health/live", stopping=True).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v2/models/faces/infer", 404),
        ("POST", "/v2/models/digits/versions/9/infer", 404),
        ("GET", "/v2/models/faces", 404),
        ("GET", "/v2/models/digits/versions/9/ready", 404),
        ("GET", "/v2/models", 404),
        ("GET", "/control/status", 404),
        ("GET", "/", 404),
        ("GET", INFER, 405),
        ("POST", "/v2/health/live", 405),
    ],
)
def test_what_is_not_there_is_refused_with_an_error_body(model: Path, method: str, path: str, status: int) -> None:
    outcome = ask(model, method, path, {"inputs": [ROW]} if method == "POST" else None)

    assert outcome.status == status
    assert list(outcome.json) == ["error"]
