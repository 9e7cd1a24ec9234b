"""Tensors of the Open Inference Protocol: datatypes both ways, and one tensor from and to JSON.

This is the place where another encoding of tensors (the binary extension) joins: everything else of the
package handles arrays.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from device_agent.protocol.manifest import TensorSpec
from device_agent.serving.errors import ModelFailed, misfit

Array = npt.NDArray[Any]

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    **{f"UINT{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    "BYTES": np.dtype(object),
}
"""Protocol datatype to array dtype."""

_RUNTIME_NAMES = {"float16": "FP16", "float": "FP32", "double": "FP64", "string": "BYTES", "bool": "BOOL"}
_JSON_KINDS = {"b": ("b", "true or false"), "i": ("iu", "whole numbers"), "u": ("iu", "whole numbers of 0 or more")}
_NUMBERS = frozenset({int, float, bool})
_DIMENSIONS_MAX = 32
_FLOAT_KINDS = ("fiu", "numbers")


def datatype_of(runtime_type: str) -> str | None:
    """Return the datatype of an onnxruntime type such as `tensor(float)`; None where there is none."""
    name = runtime_type.removeprefix("tensor(").removesuffix(")")
    datatype = _RUNTIME_NAMES.get(name, name.upper())
    return datatype if datatype in DTYPES else None


def wire_bytes(array: Array) -> int:
    """Return how many bytes a tensor has on any wire: its elements, or the UTF-8 of its strings."""
    if array.dtype.kind == "O":
        return sum(len(text.encode()) for text in array.flat)
    return array.nbytes


def decode_tensor(tensor: dict[str, Any], spec: TensorSpec, where: str) -> Array:
    """Return the array of a JSON tensor (`shape`, `datatype`, `data`) that fits `spec`.

    `data` may be flat in row-major order or nested in the form of the shape. Numbers are never converted in a
    way that changes them silently: no text, no null, no fraction in an integer, nothing out of range.
    Raises RequestRefused(400) naming `where`, the value and what is expected.
    """
    datatype = tensor.get("datatype")
    if datatype != spec.datatype:
        raise misfit(f"{where}.datatype", datatype, f"{spec.datatype!r} for input {spec.name!r}")
    shape = _read_shape(tensor.get("shape"), spec, where)
    if "data" not in tensor:
        parameters = tensor.get("parameters")
        binary = isinstance(parameters, dict) and "binary_data_size" in parameters
        raise misfit(f"{where}.data", None, "JSON values" + (", not binary data" if binary else ""))
    array = _array_of(tensor["data"], spec.datatype, f"{where}.data")
    if array.size != math.prod(shape) or (array.ndim > 1 and array.shape != tuple(shape)):
        raise misfit(f"{where}.data", tensor["data"], f"{math.prod(shape)} values for shape {shape}, not {array.size}")
    try:
        return array.reshape(shape)
    except (ValueError, OverflowError) as error:  # an empty tensor of a size that no array has
        raise misfit(f"{where}.shape", shape, "sizes that an array can have") from error


def _read_shape(shape: object, spec: TensorSpec, where: str) -> list[int]:
    if isinstance(shape, list) and len(shape) == len(spec.shape):
        for size, fixed in zip(shape, spec.shape, strict=True):
            if type(size) is not int or size < 0 or 0 <= fixed != size:
                break
        else:
            return shape
    raise misfit(f"{where}.shape", shape, f"{list(spec.shape)} for input {spec.name!r} (-1 is any size)")


def _array_of(data: object, datatype: str, where: str) -> Array:
    if not isinstance(data, list):
        raise misfit(where, data, f"a list of {datatype} values")
    dtype = DTYPES[datatype]
    if dtype.kind == "O":
        return _text_array(data, where)
    kinds, words = _JSON_KINDS.get(dtype.kind, _FLOAT_KINDS)
    if not _is_numeric(data, _DIMENSIONS_MAX):
        raise misfit(where, data, f"{words} within {datatype}")
    try:
        natural = np.array(data)
    except ValueError as error:
        raise misfit(where, data, "a flat list, or lists nested in the form of the shape") from error
    if natural.size and natural.dtype.kind not in kinds:
        raise misfit(where, data, f"{words} within {datatype}")
    return _narrowed(natural, dtype, datatype, where)


def _is_numeric(data: list[Any], dimensions: int) -> bool:
    """Say whether a list holds numbers alone, or lists of them.

    An array of texts has room for the longest of them in every place: one long text among many short ones would make
    terabytes of a small request. So no array is made before this is known.
    """
    try:
        sum(data)  # by far the quickest way to look at every element of a flat list
    except (TypeError, OverflowError):
        return dimensions > 0 and all(
            _is_numeric(item, dimensions - 1) if type(item) is list else type(item) in _NUMBERS for item in data
        )
    return True


def _narrowed(natural: Array, dtype: np.dtype[Any], datatype: str, where: str) -> Array:
    if not natural.size or dtype.kind == "b":
        return natural.astype(dtype)
    least, most = natural.min(), natural.max()
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    for extreme in (least, most):
        if not limits.min <= extreme <= limits.max:
            raise misfit(where, extreme.item(), f"values from {limits.min} to {limits.max} ({datatype})")
    return natural.astype(dtype)


def _text_array(data: list[Any], where: str) -> Array:
    array = np.array(data, dtype=object)
    if not all(isinstance(text, str) for text in array.flat):
        raise misfit(where, data, "a flat list of strings, or lists nested in the form of the shape")
    return array


def encode_tensor(name: str, datatype: str, array: Array) -> dict[str, Any]:
    """Return the JSON form of one output, its data flat in row-major order.

    Raises ModelFailed for numbers that JSON has no form for: a model that answers NaN has failed.
    """
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ModelFailed(f"output {name!r} holds values that are not finite numbers")
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "data": array.ravel().tolist()}
