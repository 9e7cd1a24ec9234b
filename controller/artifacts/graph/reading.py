"""Reading an ONNX file that nobody vouches for, with a reason for every refusal.

Codes: `not_onnx`, `truncated_onnx`, `external_data`, `unknown_operator`, `unsupported_opset`, `invalid_onnx`. The
field of each is the artifact of the request.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from controller.domain.errors import InvalidInput

ARTIFACT_FIELD = "/artifact_sha256"
HOW_TO_EXPORT = "export the model again, for example with torch.onnx.export or skl2onnx"
_IR_VERSION_TAG = 0x08
_LENGTH_DELIMITED = 2
_VARINT = 0


def refused(code: str, detail: str) -> InvalidInput:
    """Return the refusal of an artifact."""
    return InvalidInput(detail, code=code, field=ARTIFACT_FIELD)


def read_model(path: Path) -> onnx.ModelProto:
    """Return the model, complete in one file and accepted by ONNX's own checker; InvalidInput otherwise."""
    raw = path.read_bytes()
    model = _parse(raw)
    _refuse_external_data(model)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise _refusal_of(str(error)) from error
    return model


def tensors_of(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor of a graph: weights, constants, and those of the graphs inside its nodes."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for inner in (attribute.g, *attribute.graphs):
            yield from tensors_of(inner)


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
    value = shift = 0
    while place < len(raw):
        byte = raw[place]
        place += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, place
    return value, len(raw) + 1


def _refuse_external_data(model: onnx.ModelProto) -> None:
    for tensor in tensors_of(model.graph):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        path = PurePosixPath(location)
        outside = " outside its own folder" if path.is_absolute() or ".." in path.parts else ""
        raise refused(
            "external_data",
            f"the weights of {tensor.name!r} lie in another file{outside}, {location!r}; save the model as one file: "
            "onnx.save(onnx.load(path), new_path, save_as_external_data=False)",
        )


def _refusal_of(told: str) -> InvalidInput:
    reason = told.strip().splitlines()[0]
    if "No Op registered" in told or "No opset import" in told:
        return refused("unknown_operator", f"the model uses an operator that ONNX does not know: {reason}")
    if "ir_version" in told:
        return refused("unsupported_opset", f"the file's format is too new: {reason}; export for an older opset")
    return refused("invalid_onnx", f"ONNX's checker refuses the model: {reason}; {HOW_TO_EXPORT}")
