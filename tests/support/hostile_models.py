"""Models that mean harm, each small on disk. `x` is [rows, 4] unless told; every maker returns the bytes of a file.

FORBIDDEN are refused by what the file says, before anything runs. `unbounded` and `endless` are lawful: what they
need shows when they run, and the limits of a job are all that ends them.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FEATURES = 4
OPSET = 17
OWN = "own"
"""The domain of functions that a model defines itself."""
_WEIGHTS = np.linspace(-1, 1, FEATURES * FEATURES, dtype=np.float32).reshape(FEATURES, FEATURES)
_node = helper.make_node


def value(name: str, shape: Sequence[int | str] = ("rows", FEATURES), element: int = TensorProto.FLOAT) -> Any:
    """Describe an input, output or inner tensor."""
    return helper.make_tensor_value_info(name, element, list(shape))


def model(
    nodes: Sequence[onnx.NodeProto],
    weights: Sequence[onnx.TensorProto] = (),
    *,
    inputs: Sequence[Any] = (value("x"),),
    outputs: Sequence[Any] = (value("y"),),
    functions: Sequence[onnx.FunctionProto] = (),
    opset: int = OPSET,
) -> onnx.ModelProto:
    """Put a model together without asking the checker."""
    graph = helper.make_graph(list(nodes), "graph", list(inputs), list(outputs), list(weights))
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(OWN, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=list(functions))


def written(*parts: Any, **changes: Any) -> bytes:
    """Return such a model as a file."""
    return bytes(model(*parts, **changes).SerializeToString())


def relu(**changes: Any) -> onnx.ModelProto:
    """Return a good model, to be spoilt."""
    return model([_node("Relu", ["x"], ["y"])], **changes)


def with_weights(weights: onnx.TensorProto) -> bytes:
    """Return `x + weights`."""
    return written([_node("Add", ["x", weights.name], ["y"])], [weights])


def declared(dims: Sequence[int], *, element: int = TensorProto.FLOAT, content: bytes | None = b"1234") -> bytes:
    """Return a model whose weights say that they have these dimensions."""
    return with_weights(TensorProto(name="w", data_type=element, dims=dims, raw_data=content))


def elsewhere(location: str, *, marked: bool = True) -> onnx.TensorProto:
    """Return weights that lie in another file; unmarked, they only say where that would be."""
    tensor = numpy_helper.from_array(np.ones(FEATURES, np.float32), "w")
    if marked:
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def elsewhere_in_a_function() -> bytes:
    """Hide outside weights in the body of a function, with the runtime's mark for an address in its memory."""
    body = [_node("Constant", [], ["w"], value=elsewhere("*/_ORT_MEM_ADDR_/*")), _node("Add", ["a", "w"], ["b"])]
    function = helper.make_function(OWN, "F", ["a"], ["b"], body, [helper.make_opsetid("", OPSET)])
    return written([_node("F", ["x"], ["y"], domain=OWN)], functions=[function])


def elsewhere_in_a_sparse_constant() -> bytes:
    """Hide outside weights in the values of a sparse constant."""
    sparse = helper.make_sparse_tensor(elsewhere("/etc/passwd"), numpy_helper.from_array(np.arange(4)), [4])
    return written([_node("Constant", [], ["w"], sparse_value=sparse), _node("Add", ["x", "w"], ["y"])])


def elsewhere_in_training() -> bytes:
    """Hide outside weights among what is kept for training."""
    spoilt = relu()
    spoilt.training_info.add().algorithm.initializer.append(elsewhere("../key.pem"))
    return bytes(spoilt.SerializeToString())


def sparse(elements: int) -> bytes:
    """Return weights of so many elements of which one is written down."""
    one = numpy_helper.from_array(np.ones(1, np.float32), "w")
    spoilt = model([_node("ReduceMax", ["w"], ["m"], keepdims=0), _node("Add", ["x", "m"], ["y"])])
    stored = helper.make_sparse_tensor(one, numpy_helper.from_array(np.zeros(1, np.int64), "at"), [elements])
    spoilt.graph.sparse_initializer.append(stored)
    return bytes(spoilt.SerializeToString())


def unfolding(depth: int, *, in_a_circle: bool = False) -> bytes:
    """Return functions that each call the next one twice; the last is plain, or calls the first."""
    functions = []
    for number in range(depth):
        calls = [_node(f"F{number + 1}", [a], [b], domain=OWN) for a, b in (("a", "m"), ("m", "b"))]
        if number == depth - 1:
            calls = [_node("F0", ["a"], ["b"], domain=OWN) if in_a_circle else _node("Relu", ["a"], ["b"])]
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(OWN, 1)]
        functions.append(helper.make_function(OWN, f"F{number}", ["a"], ["b"], calls, opsets))
    return written([_node("F0", ["x"], ["y"], domain=OWN)], functions=functions)


def kinds_of_operators(count: int) -> bytes:
    """Return a chain of so many functions of its own."""
    functions, nodes, last = [], [], "x"
    for number in range(count):
        body = [_node("Relu", ["a"], ["b"])]
        functions.append(helper.make_function(OWN, f"F{number}", ["a"], ["b"], body, [helper.make_opsetid("", OPSET)]))
        nodes.append(_node(f"F{number}", [last], [last := f"t{number}"], domain=OWN))
    return written([*nodes, _node("Relu", [last], ["y"])], functions=functions)


def chain(length: int) -> bytes:
    """Return so many nodes one after the other."""
    names = ["x", *(f"t{number}" for number in range(length - 1)), "y"]
    return written([_node("Relu", [a], [b]) for a, b in itertools.pairwise(names)])


def nested(depth: int) -> bytes:
    """Return decisions inside decisions, written by hand: what reads the file could not have made it."""
    plain = helper.make_graph([_node("Relu", ["x"], ["y"])], "plain", [], [value("y")]).SerializeToString()
    inner = plain
    for _ in range(depth):
        node = onnx.NodeProto(input=["c"], output=["y"], op_type="If").SerializeToString()
        for name, graph in (("then_branch", inner), ("else_branch", plain)):
            branch = onnx.AttributeProto(name=name, type=onnx.AttributeProto.GRAPH).SerializeToString()
            node += _field(5, branch + _field(6, graph))
        inner = _field(1, node) + onnx.GraphProto(name="inner", output=[value("y")]).SerializeToString()
    inner += onnx.GraphProto(
        input=[value("x")], initializer=[numpy_helper.from_array(np.array(True), "c")]
    ).SerializeToString()
    opsets = [helper.make_opsetid("", OPSET)]
    return bytes(onnx.ModelProto(ir_version=8, opset_import=opsets).SerializeToString()) + _field(7, inner)


def _field(number: int, content: bytes) -> bytes:
    """Return a length-delimited field of protobuf's wire format."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*written, number])


def named(name: str) -> bytes:
    """Return a model whose input has this name."""
    return written([_node("Relu", [name], ["y"])], inputs=[value(name)])


def without_utf8(field: str) -> bytes:
    """Return a model with bytes that are no UTF-8 in this field of its node."""
    return written([_node("Relu", ["x"], ["y"], **{field: "TEXT"})]).replace(b"TEXT", b"\xff\xfe\xff\xfe")


def bare_blocks() -> bytes:
    """Return a node of packed weights that says nothing of their form."""
    node = _node("MatMulNBits", ["x", "packed", "scales"], ["y"], domain="com.microsoft")
    spoilt = model([node], [numpy_helper.from_array(np.ones(4, np.float32), name) for name in ("packed", "scales")])
    spoilt.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return bytes(spoilt.SerializeToString())


def blocks_of(rows: int, columns: int) -> bytes:
    """Return a node of packed weights that claims to stand for so many."""
    spoilt = onnx.ModelProto.FromString(bare_blocks())
    sizes = {"K": rows, "N": columns, "bits": 4, "block_size": 32}
    spoilt.graph.node[0].attribute.extend(helper.make_attribute(*size) for size in sizes.items())
    return bytes(spoilt.SerializeToString())


def constant_of(shape: Sequence[int]) -> bytes:
    """Return a model that makes a tensor of this shape out of nothing, and says so."""
    return written(
        [
            _node("Constant", [], ["shape"], value_ints=list(shape)),
            _node("ConstantOfShape", ["shape"], ["large"]),
            _node("ReduceMax", ["large"], ["m"], keepdims=0),
            _node("Add", ["x", "m"], ["y"]),
        ]
    )


def twice() -> bytes:
    """Return two nodes that make the same tensor."""
    return written([_node("Relu", ["x"], ["y"]), _node("Neg", ["x"], ["y"])])


def sums_of(*shapes: Sequence[int]) -> bytes:
    """Return a model that adds inputs `a`, `b` ... of these shapes."""
    inputs = [value(name, shape) for name, shape in zip("abcdef", shapes, strict=False)]
    return written([_node("Sum", [given.name for given in inputs], ["y"])], inputs=inputs)


def around(dims: Sequence[int]) -> bytes:
    """Return a good model that says of its inner tensor that it has these dimensions."""
    spoilt = onnx.ModelProto.FromString(chain(2))
    spoilt.graph.value_info.append(value("t0", dims))
    return bytes(spoilt.SerializeToString())


def circle(length: int) -> bytes:
    """Return nodes of which each takes what the next one makes, the last what the first does."""
    names = ["y", *(f"t{number}" for number in range(length - 1)), "y"]
    return written([_node("Relu", [b], [a]) for a, b in itertools.pairwise(names)])


_ONES = numpy_helper.from_array(np.ones(FEATURES, np.float32), "w")

FORBIDDEN: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "a node that feeds itself": (lambda: circle(1), "invalid_onnx", "topologically sorted"),
    "a circle of nodes": (lambda: circle(3), "invalid_onnx", "topologically sorted"),
    "a tensor made twice": (twice, "invalid_onnx", "multiple times"),
    "weights stored twice": (lambda: written([], [_ONES, _ONES]), "invalid_onnx", "not unique"),
    "an input that nobody gives": (
        lambda: written([_node("Add", ["x", "w"], ["y"])]),
        "invalid_onnx",
        "'w'",
    ),
    "weights larger than their data": (lambda: declared([2**40, 2**20]), "invalid_onnx", "too small"),
    "weights whose size overflows": (lambda: declared([2**62, 4]), "invalid_onnx", "overflow"),
    "weights of a negative size": (lambda: declared([-4]), "invalid_onnx", "Negative"),
    "weights without data": (lambda: declared([4], content=None), "invalid_onnx", "one and only one value"),
    "weights of an unknown type": (lambda: declared([1], element=99), "invalid_onnx", "element type 99"),
    "an input of absurd size": (
        lambda: relu(inputs=[value("x", (2**62, 2**62))], outputs=[value("y", (2**62, 2**62))]).SerializeToString(),
        "too_much_memory",
        "bytes of memory",
    ),
    "an inner tensor of absurd size": (
        lambda: around([2**50, 2**50]),
        "too_much_memory",
        "bytes of memory",
    ),
    "a constant of absurd size": (lambda: constant_of([2**40, 2**20]), "too_much_memory", "bytes of memory"),
    "sparse weights of absurd size": (lambda: sparse(2**60), "too_much_memory", "bytes of memory"),
    "packed weights of absurd size": (lambda: blocks_of(2**40, 2**40), "too_much_memory", "parameters"),
    "an input of a hundred dimensions": (
        lambda: relu(inputs=[value("x", [1] * 100)], outputs=[value("y", [1] * 100)]).SerializeToString(),
        "unsupported_signature",
        "100 dimensions",
    ),
    "an input with a long name": (lambda: named("x" * 300), "unsupported_signature", "a name of 300 characters"),
    "no outputs": (lambda: relu(outputs=[]).SerializeToString(), "unsupported_signature", "0 outputs"),
    "more inputs than can be named": (
        lambda: written(
            [_node("Sum", [f"x{number}" for number in range(300)], ["y"])],
            inputs=[value(f"x{number}") for number in range(300)],
        ),
        "unsupported_signature",
        "300 inputs",
    ),
    "an input that is a sequence": (
        lambda: relu(inputs=[helper.make_tensor_sequence_value_info("x", 1, None)]).SerializeToString(),
        "unsupported_signature",
        "'x'",
    ),
    "weights at a path of the machine": (
        lambda: with_weights(elsewhere("/etc/passwd")),
        "external_data",
        "outside its own folder",
    ),
    "weights in a folder above": (lambda: with_weights(elsewhere("a/../../b")), "external_data", "outside"),
    "weights beside the file": (lambda: with_weights(elsewhere("w.bin")), "external_data", "another file,"),
    "weights here that name a file": (lambda: with_weights(elsewhere("w.bin", marked=False)), "external_data", "w.bin"),
    "weights in memory, in a function": (elsewhere_in_a_function, "external_data", "_ORT_MEM_ADDR_"),
    "outside weights in a sparse constant": (elsewhere_in_a_sparse_constant, "external_data", "/etc/passwd"),
    "outside weights for training": (elsewhere_in_training, "external_data", "../key.pem"),
    "functions that unfold without end": (lambda: unfolding(60), "too_many_parts", "more than 10^12 nodes"),
    "functions that call each other": (lambda: unfolding(3, in_a_circle=True), "invalid_onnx", "calls itself"),
    "more nodes than can be worked on": (lambda: chain(50_001), "too_many_parts", "50001 nodes"),
    "more kinds of operators than can be named": (lambda: kinds_of_operators(1001), "too_many_parts", "1002 kinds"),
    "a thousand graphs inside each other": (lambda: nested(1000), "invalid_onnx", "too deep inside each other"),
    "one number without end": (lambda: b"\x08" + b"\xff" * 1_000_000, "truncated_onnx", "cut off after 1000001 bytes"),
    "a name that is no UTF-8": (lambda: without_utf8("name"), "unreadable_text", "not UTF-8"),
    "a remark that is no UTF-8": (lambda: without_utf8("doc_string"), "unreadable_text", "doc_string"),
    "a name that commands terminals": (lambda: named("x\x1b[2J"), "unreadable_text", r"x\x1b[2J"),
    "a name that databases cannot keep": (lambda: named("x\x00"), "unreadable_text", r"x\x00"),
    "a name of megabytes": (lambda: named("x" * 3_000_000), "unreadable_text", "3000000 characters"),
    "an operator set that never was": (
        lambda: written([], opset=-3, outputs=[value("x")]),
        "unsupported_opset",
        "-3",
    ),
}
"""What it is, to its maker, the code that refuses it, and a piece of the words that do."""


def unbounded(operator: str) -> bytes:
    """Return a lawful model that asks for terabytes when it runs: the size comes out of `x`, so nobody can foresee it.

    `operator` is one of UNBOUNDED.
    """
    size = [
        _node("MatMul", ["x", "weights"], ["h"]),
        _node("ReduceSum", ["x"], ["sum"], keepdims=0),
        _node("Mul", ["sum", "zero"], ["none"]),
        _node("Add", ["none", "size"], ["large"]),
        _node("Cast", ["large"], ["whole"], to=TensorProto.INT64),
        _node("Reshape", ["whole", "one"], ["count"]),
    ]
    weights = {
        "weights": _WEIGHTS,
        "zero": np.float32(0),
        "size": np.float32(2**40),
        "step": np.float32(1),
        "one": np.array([1]),
        "four": np.array([FEATURES]),
        "pads": np.array([1, 0, 0, 0]),
        "off_on": np.array([0, 1], np.float32),
    }
    end = [_node("ReduceMax", ["made"], ["m"], keepdims=0), _node("Add", ["h", "m"], ["y"])]
    stored = [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()]
    return written([*size, *UNBOUNDED[operator], *end], stored)


_JOIN = _node("Concat", ["count", "four"], ["shape"], axis=0)
UNBOUNDED = {
    "ConstantOfShape": [_JOIN, _node("ConstantOfShape", ["shape"], ["made"])],
    "Expand": [
        _node("Concat", ["count", "one", "four"], ["shape"], axis=0),
        _node("Expand", ["x", "shape"], ["made"]),
    ],
    "Tile": [_node("Concat", ["count", "one"], ["shape"], axis=0), _node("Tile", ["x", "shape"], ["made"])],
    "Range": [_node("Range", ["zero", "large", "step"], ["made"])],
    "Resize": [_JOIN, _node("Resize", ["x", "", "", "shape"], ["made"], mode="nearest")],
    "Pad": [_node("Mul", ["count", "pads"], ["shape"]), _node("Pad", ["x", "shape"], ["made"])],
    "OneHot": [_node("OneHot", ["four", "count", "off_on"], ["made"])],
}
"""Nodes that make `made` out of `count` [1] or `large` [], by the operator that allocates."""


def endless() -> bytes:
    """Return a lawful model that never answers: a loop without a count whose condition stays true."""
    return _loop(_node("Add", ["s", "s"], ["more"]))


def hoarding() -> bytes:
    """Return a lawful model that doubles a tensor until there is no memory left."""
    return _loop(_node("Concat", ["s", "s"], ["more"], axis=0))


def _loop(turn: onnx.NodeProto) -> bytes:
    body = helper.make_graph(
        [_node("Identity", ["go"], ["on"]), turn],
        "body",
        [value("i", (), TensorProto.INT64), value("go", (), TensorProto.BOOL), value("s")],
        [value("on", (), TensorProto.BOOL), value("more")],
    )
    nodes = [_node("MatMul", ["x", "weights"], ["h"]), _node("Loop", ["", "go_on", "h"], ["y"], body=body)]
    weights = [numpy_helper.from_array(_WEIGHTS, "weights"), numpy_helper.from_array(np.array(True), "go_on")]
    return written(nodes, weights)


def without_value() -> bytes:
    """Return a lawful model whose answers are no numbers."""
    return with_weights(numpy_helper.from_array(np.full(FEATURES, np.nan, np.float32), "w"))
