"""One tensor from JSON and to JSON: what fits, and how everything else is refused."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

from device_agent.protocol.manifest import TensorSpec
from device_agent.serving.errors import ModelFailed, RequestRefused
from device_agent.serving.tensors import DTYPES, Array, datatype_of, decode_tensor, encode_tensor, wire_bytes


def decode(datatype: str, data: Any, shape: Any = None, *, spec_shape: tuple[int, ...] = (-1,)) -> Array:
    tensor = {"name": "x", "datatype": datatype, "shape": [len(data)] if shape is None else shape, "data": data}
    return decode_tensor(tensor, TensorSpec("x", datatype, spec_shape), "inputs[0]")


def refusal(tensor: dict[str, Any], spec: TensorSpec) -> str:
    with pytest.raises(RequestRefused) as caught:
        decode_tensor(tensor, spec, "inputs[0]")
    assert caught.value.status == 400
    return str(caught.value)


PAIRS = TensorSpec("x", "FP32", (-1, 2))


def tensor_with(**fields: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0], **fields}


@given(
    st.sampled_from([name for name in DTYPES if name != "BYTES"]).flatmap(
        lambda name: numpy_strategies.arrays(
            DTYPES[name],
            numpy_strategies.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4),
            elements={"allow_nan": False, "allow_infinity": False} if name.startswith("FP") else None,
        )
    )
)
def test_every_array_of_finite_values_survives_the_way_to_json_and_back(array: Array) -> None:
    datatype = next(name for name, dtype in DTYPES.items() if dtype == array.dtype)

    wire = json.loads(json.dumps(encode_tensor("x", datatype, array)))
    # Numbers from 2**63 on lose nothing only among themselves: JSON promises 2**53.
    if datatype == "UINT64":
        wire["data"] = [number % 2**53 for number in wire["data"]]
        array = array % np.uint64(2**53)
    decoded = decode_tensor(wire, TensorSpec("x", datatype, (-1,) * array.ndim), "inputs[0]")

    assert decoded.dtype == array.dtype
    np.testing.assert_array_equal(decoded, array)


def test_data_may_be_flat_or_nested() -> None:
    flat = decode("FP32", [1, 2, 3, 4], [2, 2], spec_shape=(-1, 2))
    nested = decode("FP32", [[1, 2], [3, 4]], [2, 2], spec_shape=(-1, 2))

    np.testing.assert_array_equal(flat, nested)


def test_strings_are_bytes_tensors_measured_in_utf_8() -> None:
    array = decode("BYTES", ["a", "é"])

    assert array.tolist() == ["a", "é"]
    assert wire_bytes(array) == 3


def test_a_scalar_has_an_empty_shape_and_one_value() -> None:
    assert decode("INT64", [7], [], spec_shape=()).item() == 7


def test_an_empty_batch_is_a_batch() -> None:
    assert decode("FP32", [], [0, 2], spec_shape=(-1, 2)).shape == (0, 2)


def test_another_datatype_is_refused_by_name() -> None:
    message = refusal(tensor_with(datatype="FP64"), PAIRS)

    assert message == "inputs[0].datatype is 'FP64'; expected 'FP32' for input 'x'"


@pytest.mark.parametrize("shape", [[2], [1, 3], [1, 1, 2], [-1, 2], [1.0, 2], [True, 2], ["1", 2], "1x2", None, {}])
def test_a_shape_that_does_not_fit_is_refused(shape: object) -> None:
    assert refusal(tensor_with(shape=shape), PAIRS) == (
        f"inputs[0].shape is {shape!r}; expected [-1, 2] for input 'x' (-1 is any size)"
    )


@pytest.mark.parametrize("data", [[1.0], [1.0, 2.0, 3.0], [], [[1.0], [2.0]]])
def test_data_of_another_count_or_form_is_refused(data: object) -> None:
    assert f"inputs[0].data is {data!r}; expected 2 values for shape [1, 2]" in refusal(tensor_with(data=data), PAIRS)


@pytest.mark.parametrize(
    "data",
    [None, 1.0, "12", {"0": 1}, ["1", "2"], [1.0, None], [True, False], [[1.0], [2.0, 3.0]], [1e39, 0], [1e999, 0]],
)
def test_data_that_is_not_of_the_datatype_is_refused_not_converted(data: object) -> None:
    assert "inputs[0].data" in refusal(tensor_with(data=data), PAIRS)


@pytest.mark.parametrize(
    ("datatype", "value"),
    [("INT64", 1.5), ("UINT8", 256), ("UINT8", -1), ("INT8", 128), ("INT32", True), ("BOOL", 1), ("BYTES", 1)],
)
def test_a_value_beyond_its_datatype_is_refused_not_wrapped(datatype: str, value: object) -> None:
    spec = TensorSpec("x", datatype, (-1,))

    assert "inputs[0].data" in refusal(tensor_with(datatype=datatype, shape=[1], data=[value]), spec)


def test_an_empty_tensor_of_an_impossible_size_is_refused() -> None:
    message = refusal(tensor_with(shape=[0, 10**30], data=[]), TensorSpec("x", "FP32", (-1, -1)))

    assert "inputs[0].shape" in message


def test_binary_data_is_refused_in_words() -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}

    assert refusal(tensor, PAIRS) == "inputs[0].data is None; expected JSON values, not binary data"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_output_that_json_cannot_express_is_a_failure_of_the_model(value: float) -> None:
    with pytest.raises(ModelFailed, match="output 'scores' holds values that are not finite"):
        encode_tensor("scores", "FP32", np.array([1.0, value], np.float32))


@pytest.mark.parametrize(
    ("runtime_type", "datatype"),
    [
        ("tensor(float)", "FP32"),
        ("tensor(double)", "FP64"),
        ("tensor(float16)", "FP16"),
        ("tensor(uint8)", "UINT8"),
        ("tensor(int64)", "INT64"),
        ("tensor(bool)", "BOOL"),
        ("tensor(string)", "BYTES"),
        ("tensor(bfloat16)", None),
        ("seq(map(int64,tensor(float)))", None),
    ],
)
def test_types_of_the_runtime_have_a_datatype_or_none(runtime_type: str, datatype: str | None) -> None:
    assert datatype_of(runtime_type) == datatype
