"""Inference requests against a signature, and the responses to them."""

import json
from typing import Any

import numpy as np
import pytest

from device_agent.protocol.manifest import TensorSpec
from device_agent.serving.errors import RequestRefused
from device_agent.serving.inference_messages import (
    InferenceRequest,
    Signature,
    describe,
    parse_inference,
    render_inference,
)
from device_agent.serving.tensors import Array

SIGNATURE = Signature(
    inputs={"a": TensorSpec("a", "FP32", (-1, 2)), "b": TensorSpec("b", "INT64", (1,))},
    outputs={"label": TensorSpec("label", "INT64", (-1,)), "score": TensorSpec("score", "FP32", (-1, 2))},
)
A = {"name": "a", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
B = {"name": "b", "datatype": "INT64", "shape": [1], "data": [3]}


def parse(document: Any, headers: dict[str, str] | None = None) -> InferenceRequest:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return parse_inference(headers or {}, raw, SIGNATURE)


def refusal(document: Any, headers: dict[str, str] | None = None) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        parse(document, headers)
    return caught.value


def test_a_request_names_its_inputs_in_any_order_and_gets_all_outputs_by_default() -> None:
    request = parse({"id": "r1", "inputs": [B, A], "parameters": {"anything": 1}})

    assert request.feeds["a"].tolist() == [[1.0, 2.0]]
    assert request.feeds["b"].tolist() == [3]
    assert request.outputs == ["label", "score"]
    assert request.id == "r1"


@pytest.mark.parametrize("outputs", [None, []])
def test_no_wanted_outputs_are_all_outputs(outputs: object) -> None:
    assert parse({"inputs": [A, B], "outputs": outputs}).outputs == ["label", "score"]


def test_wanted_outputs_come_in_the_order_of_the_client() -> None:
    wanted = [{"name": "score", "parameters": {"binary_data": False}}, {"name": "label"}]

    assert parse({"inputs": [A, B], "outputs": wanted}).outputs == ["score", "label"]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b"", "request is not JSON"),
        (b"\xff{}", "request is not JSON"),
        (b'{"inputs": [NaN]}', "NaN is not JSON"),
        (b"[" * 100_000, "request is not JSON"),
        ([], "request is []; expected an object with inputs"),
        ({}, "inputs is None; expected a list of tensors for ['a', 'b']"),
        ({"inputs": {}}, "inputs is {}; expected a list"),
        ({"inputs": [A]}, "inputs is ['a']; expected every input: ['a', 'b']"),
        ({"inputs": [A, B, A]}, "inputs[2].name is 'a'; expected each input once"),
        ({"inputs": [A, {**B, "name": "z"}]}, "inputs[1].name is 'z'; expected one of 'a', 'b'"),
        ({"inputs": [A, {**B, "name": ["b"]}]}, "inputs[1].name is ['b']; expected one of 'a', 'b'"),
        ({"inputs": [A, 5]}, "inputs[1] is 5; expected an object with a name"),
        ({"inputs": [A, B], "outputs": "score"}, "outputs is 'score'; expected a list of outputs"),
        ({"inputs": [A, B], "outputs": [{"name": "z"}]}, "outputs[0].name is 'z'; expected one of 'label', 'score'"),
        ({"inputs": [A, B], "outputs": [{"name": "label"}] * 2}, "outputs is ['label', 'label']; expected each output"),
        ({"inputs": [A, B], "id": 5}, "id is 5; expected a string"),
    ],
)
def test_a_request_that_does_not_fit_is_refused_with_the_field_and_what_is_expected(
    document: object, message: str
) -> None:
    refused = refusal(document)

    assert refused.status == 400
    assert message in str(refused)


def test_long_values_are_cut_in_messages() -> None:
    assert len(str(refusal({"inputs": "x" * 10_000}))) < 200


def test_a_compressed_body_is_refused_as_such() -> None:
    assert refusal({"inputs": [A, B]}, {"content-encoding": "gzip"}).status == 415


def test_a_body_with_binary_tensors_is_refused_as_such() -> None:
    assert "binary tensors" in str(refusal({"inputs": [A, B]}, {"inference-header-content-length": "10"}))


def test_a_response_names_the_version_that_answered_and_returns_the_id() -> None:
    request = InferenceRequest({}, ["score", "label"], "r1")
    results: list[Array] = [np.array([[0.5, 0.25]], np.float32), np.array([1], np.int64)]

    assert json.loads(render_inference("digits", "3", request, results, SIGNATURE)) == {
        "model_name": "digits",
        "model_version": "3",
        "id": "r1",
        "outputs": [
            {"name": "score", "datatype": "FP32", "shape": [1, 2], "data": [0.5, 0.25]},
            {"name": "label", "datatype": "INT64", "shape": [1], "data": [1]},
        ],
    }


def test_a_response_has_an_id_only_when_the_request_had_one() -> None:
    body = render_inference("digits", "3", InferenceRequest({}, [], None), [], SIGNATURE)

    assert "id" not in json.loads(body)


def test_metadata_lists_tensors_with_free_dimensions_as_minus_one() -> None:
    assert describe(SIGNATURE.inputs) == [
        {"name": "a", "datatype": "FP32", "shape": [-1, 2]},
        {"name": "b", "datatype": "INT64", "shape": [1]},
    ]
