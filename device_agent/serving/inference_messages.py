"""Inference requests and responses of the Open Inference Protocol V2 (REST), as values. No I/O.

Source: Open Inference Protocol, "Inference Request JSON Object" and "Inference Response JSON Object".
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Never

from device_agent.protocol.manifest import TensorSpec
from device_agent.serving.errors import RequestRefused, misfit
from device_agent.serving.tensors import Array, decode_tensor, encode_tensor


@dataclass(frozen=True)
class Signature:
    """The tensors that a model takes and gives, by name, in the model's order."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """A request that fits the signature of its model."""

    feeds: dict[str, Array]
    outputs: list[str]
    """Names of the outputs to answer with; all of them where the client named none."""
    id: str | None


def _refuse_constant(constant: str) -> Never:
    # JSON has no NaN and no Infinity (RFC 8259 section 6), though Python's reader takes them.
    raise ValueError(f"{constant} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_refuse_constant)
_encoder = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def to_json_bytes(document: dict[str, Any]) -> bytes:
    """Return compact UTF-8 JSON; ValueError for numbers that JSON does not have."""
    return _encoder.encode(document).encode()


def parse_inference(headers: Mapping[str, str], body: bytes, signature: Signature) -> InferenceRequest:
    """Read a request against the signature of the model that shall answer it.

    Raises RequestRefused: 415 for a compressed body, else 400 naming the field, its value and what is expected.
    """
    if headers.get("content-encoding", "identity") != "identity":
        raise RequestRefused(415, f"content-encoding is {headers['content-encoding']!r}; expected none")
    if "inference-header-content-length" in headers:
        raise RequestRefused(400, "binary tensors are not supported; send the values as JSON in `data`")
    try:
        document = _decoder.decode(body.decode())
    except (ValueError, RecursionError) as error:
        raise RequestRefused(400, f"request is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise misfit("request", document, "an object with inputs")
    request_id = document.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise misfit("id", request_id, "a string")
    feeds = _read_inputs(document.get("inputs"), signature.inputs)
    return InferenceRequest(feeds, _read_outputs(document.get("outputs"), signature.outputs), request_id)


def _read_inputs(tensors: object, specs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    if not isinstance(tensors, list):
        raise misfit("inputs", tensors, f"a list of tensors for {list(specs)}")
    feeds: dict[str, Array] = {}
    for index, tensor in enumerate(tensors):
        where = f"inputs[{index}]"
        spec = _named(tensor, where, specs)
        if spec.name in feeds:
            raise misfit(f"{where}.name", spec.name, "each input once")
        feeds[spec.name] = decode_tensor(tensor, spec, where)
    if len(feeds) != len(specs):
        raise misfit("inputs", list(feeds), f"every input: {list(specs)}")
    return feeds


def _read_outputs(wanted: object, specs: Mapping[str, TensorSpec]) -> list[str]:
    # Clients send an empty list, or none at all, when they want everything.
    if not wanted and (wanted is None or isinstance(wanted, list)):
        return list(specs)
    if not isinstance(wanted, list):
        raise misfit("outputs", wanted, f"a list of outputs out of {list(specs)}")
    names = [_named(output, f"outputs[{index}]", specs).name for index, output in enumerate(wanted)]
    if len(set(names)) != len(names):
        raise misfit("outputs", names, "each output once")
    return names


def _named(item: object, where: str, specs: Mapping[str, TensorSpec]) -> TensorSpec:
    if not isinstance(item, dict):
        raise misfit(where, item, "an object with a name")
    name = item.get("name")
    spec = specs.get(name) if isinstance(name, str) else None
    if spec is None:
        raise misfit(f"{where}.name", name, "one of " + ", ".join(map(repr, specs)))
    return spec


def render_inference(
    model: str, version: str, request: InferenceRequest, results: list[Array], signature: Signature
) -> bytes:
    """Return the body that answers `request`; `results` are in the order of `request.outputs`.

    Raises ModelFailed where an output cannot be expressed.
    """
    outputs = [
        encode_tensor(name, signature.outputs[name].datatype, array)
        for name, array in zip(request.outputs, results, strict=True)
    ]
    document: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": outputs}
    if request.id is not None:
        document["id"] = request.id
    return to_json_bytes(document)


def describe(specs: Mapping[str, TensorSpec]) -> list[dict[str, Any]]:
    """Return tensors in the form of the model metadata response."""
    return [{"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)} for spec in specs.values()]
