"""Reading an ONNX file that nobody vouches for, with a reason for every refusal.

Codes: `not_onnx`, `truncated_onnx`, `external_data`, `unreadable_text`, `too_many_parts`, `unknown_operator`,
`unsupported_opset`, `invalid_onnx`. The field of each is the artifact of the request.

Every message of the file is looked at, wherever it lies: in functions, in the graphs inside nodes, in sparse
tensors, in what is kept for training. Whatever a place is for, the runtime or a step may come to read it.
"""

from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePosixPath
from typing import Any

import onnx
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]

from controller.artifacts.graph.stripping import graphs_of
from controller.domain.errors import InvalidInput

ARTIFACT_FIELD = "/artifact_sha256"
HOW_TO_EXPORT = "export the model again, for example with torch.onnx.export or skl2onnx"
PARTS_MAX = 50_000
"""Nodes and weights of a model, each call of a function counted as all that it stands for. Loading takes time with
their square: the largest networks have some ten thousand, and fifty times as many would keep a job for minutes."""
NAME_MAX = 1024
"""Characters of any name in the file."""
_REMARKS = frozenset({"doc_string", "value"})
"""Texts that are no names: they may have lines, and any length."""
_ELEMENT_TYPES = frozenset(onnx.TensorProto.DataType.values())
_IR_VERSION_TAG = 0x08
_LENGTH_DELIMITED = 2
_VARINT = 0
_VARINT_BYTES_MAX = 10
"""A number goes on while its bytes have the highest bit: without a bound a file of such bytes is one number."""
_TOLD_MAX = 80
"""Characters of a name that words quote."""
_FunctionKey = tuple[str, str, str]
"""Domain, name and overload."""
_Fields = list[tuple[Any, Any]]
"""What a message holds: descriptor and value of each field that is set."""


def refused(code: str, detail: str) -> InvalidInput:
    """Return the refusal of an artifact."""
    return InvalidInput(detail, code=code, field=ARTIFACT_FIELD)


def read_model(path: Path) -> onnx.ModelProto:
    """Return the model, complete in one file and accepted by ONNX's own checker; InvalidInput otherwise."""
    model = _parse(path.read_bytes())
    for message, fields in _messages(model):
        _refuse_texts(fields)
        if isinstance(message, onnx.TensorProto):
            _refuse_tensor(message)
    _refuse_too_many(model)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise _refusal_of(str(error)) from error
    return model


def tensors_of(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor of a graph: weights, constants, and those of the graphs inside its nodes."""
    for inner in graphs_of(graph):
        yield from inner.initializer
        for attribute in (attribute for node in inner.node for attribute in node.attribute):
            yield from (attribute.t, *attribute.tensors)
    for sparse in sparse_tensors_of(graph):
        yield from (sparse.values, sparse.indices)


def sparse_tensors_of(graph: onnx.GraphProto) -> Iterator[onnx.SparseTensorProto]:
    """Yield every sparse tensor of a graph and of the graphs inside its nodes."""
    for inner in graphs_of(graph):
        yield from inner.sparse_initializer
        for attribute in (attribute for node in inner.node for attribute in node.attribute):
            if attribute.HasField("sparse_tensor"):
                yield attribute.sparse_tensor
            yield from attribute.sparse_tensors


def _parse(raw: bytes) -> onnx.ModelProto:
    if not raw or raw[0] != _IR_VERSION_TAG:
        raise refused("not_onnx", f"the file is not an ONNX model: it begins with {raw[:8]!r}; {HOW_TO_EXPORT}")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(raw)
    except DecodeError as error:
        if _ends_early(raw):
            told = f"the ONNX file is cut off after {len(raw)} bytes; upload it again"
            raise refused("truncated_onnx", told) from error
        if "MaxDepth" in str(error):
            told = "the model's graphs lie too deep inside each other to be read"
            raise refused("invalid_onnx", f"{told}; {HOW_TO_EXPORT}") from error
        raise refused("not_onnx", f"the file is not an ONNX model: {error}; {HOW_TO_EXPORT}") from error
    if not model.HasField("graph"):
        raise refused("truncated_onnx", "the ONNX file holds no graph: it is cut off, or not a model; upload it again")
    return model


def _ends_early(raw: bytes) -> bool:
    # Walks the outermost fields only: a length that reaches beyond the end is the mark of a cut.
    place = 0
    while place < len(raw):
        tag, place = _varint(raw, place)
        value, place = _varint(raw, place)
        if tag & 7 == _LENGTH_DELIMITED:
            place += value
        elif tag & 7 != _VARINT:
            return False
    return place > len(raw)


def _varint(raw: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift, byte in enumerate(raw[place : place + _VARINT_BYTES_MAX]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value, place + shift + 1
    return value, max(place + _VARINT_BYTES_MAX, len(raw) + 1)


def _messages(message: Message) -> Iterator[tuple[Message, _Fields]]:
    """Yield a message after every one inside it, each with what it holds."""
    fields: _Fields = message.ListFields()
    for field, value in fields:
        if field.message_type is not None:
            for inner in [value] if isinstance(value, Message) else value:
                yield from _messages(inner)
    yield message, fields


def _refuse_texts(fields: _Fields) -> None:
    # Names end up in words, on terminals, in databases and in manifests, none of which can have all that a file can.
    for field, value in fields:
        if field.type != field.TYPE_STRING:
            continue
        for text in [value] if isinstance(value, str | bytes) else value:
            if isinstance(text, bytes):  # how protobuf hands out what is not UTF-8
                raise refused("unreadable_text", f"the {field.name} {text[:_TOLD_MAX]!r} is not UTF-8; {HOW_TO_EXPORT}")
            if field.name not in _REMARKS and (len(text) > NAME_MAX or not text.isprintable()):
                raise refused(
                    "unreadable_text",
                    f"the model has the {field.name} {text[:_TOLD_MAX]!r} of {len(text)} characters; names have at "
                    f"most {NAME_MAX} and nothing but visible characters and spaces: rename it",
                )


def _refuse_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_type not in _ELEMENT_TYPES:
        told = f"the tensor {tensor.name!r} has the element type {tensor.data_type}, which ONNX does not know"
        raise refused("invalid_onnx", f"{told}; {HOW_TO_EXPORT}")
    if tensor.data_location != onnx.TensorProto.EXTERNAL and not tensor.external_data:
        return
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    path = PurePosixPath(location)
    outside = " outside its own folder" if path.is_absolute() or ".." in path.parts else ""
    raise refused(
        "external_data",
        f"the weights of {tensor.name!r} lie in another file{outside}, {location[:_TOLD_MAX]!r}; save the model as one "
        "file: onnx.save(onnx.load(path), new_path, save_as_external_data=False)",
    )


def _refuse_too_many(model: onnx.ModelProto) -> None:
    weights = [tensor for tensor in tensors_of(model.graph) if tensor.data_type]
    found = _parts(model.graph.node, _unfolded(model.functions)) + len(weights)
    if found > PARTS_MAX:
        told = str(found) if found < 10**12 else "more than 10^12"
        raise refused(
            "too_many_parts",
            f"the model has {told} nodes and weights; at most {PARTS_MAX} can be worked on: split it, or let the "
            "exporter fold constants",
        )


def _unfolded(functions: Iterable[onnx.FunctionProto]) -> dict[_FunctionKey, int]:
    """Return of how many nodes each function consists when the functions that it calls are put in their place."""
    by_key = {(function.domain, function.name, function.overload): function for function in functions}
    calls = {key: {_key(node) for node in _nodes(function.node)} & by_key.keys() for key, function in by_key.items()}
    parts: dict[_FunctionKey, int] = {}
    try:
        for key in TopologicalSorter(calls).static_order():
            parts[key] = _parts(by_key[key].node, parts)
    except CycleError as error:
        told = f"the function {error.args[1][0][1]!r} calls itself, which would never end"
        raise refused("invalid_onnx", f"{told}; {HOW_TO_EXPORT}") from error
    return parts


def _parts(nodes: Iterable[onnx.NodeProto], functions: Mapping[_FunctionKey, int]) -> int:
    return sum(functions.get(_key(node), 1) for node in _nodes(nodes))


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner.node)


def _key(node: onnx.NodeProto) -> _FunctionKey:
    return node.domain, node.op_type, node.overload


def _refusal_of(told: str) -> InvalidInput:
    reason = told.strip().splitlines()[0]
    if "No Op registered" in told or "No opset import" in told:
        return refused("unknown_operator", f"the model uses an operator that ONNX does not know: {reason}")
    if "ir_version" in told:
        return refused("unsupported_opset", f"the file's format is too new: {reason}; export for an older opset")
    return refused("invalid_onnx", f"ONNX's checker refuses the model: {reason}; {HOW_TO_EXPORT}")
