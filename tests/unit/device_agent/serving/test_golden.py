"""Reading golden tensors from files that may hold anything."""

from pathlib import Path

import numpy as np
import pytest

from device_agent.serving.errors import LoadError
from device_agent.serving.golden import read_golden
from tests.support.onnx_models import write_golden


def test_inputs_and_outputs_are_told_apart_by_their_prefix(tmp_path: Path) -> None:
    path = tmp_path / "golden.npz"
    write_golden(path, inputs={"a:b": np.array([1.0])}, outputs={"scores": np.array([2.0])})

    golden = read_golden(path)

    assert golden.inputs.keys() == {"a:b"}
    assert golden.outputs.keys() == {"scores"}


def test_a_missing_file_is_a_load_error(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"golden\.npz"):
        read_golden(tmp_path / "golden.npz")


def test_an_array_under_another_name_is_a_load_error(tmp_path: Path) -> None:
    path = tmp_path / "golden.npz"
    np.savez(path, stray=np.array([1.0]))

    with pytest.raises(LoadError, match="stray"):
        read_golden(path)


def test_pickled_objects_are_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "golden.npz"
    write_golden(path, inputs={"a": np.array([{"code": "would run"}], dtype=object)}, outputs={})

    with pytest.raises(LoadError, match="allow_pickle=False"):
        read_golden(path)


def test_damage_is_a_load_error(tmp_path: Path) -> None:
    path = tmp_path / "golden.npz"
    write_golden(path, inputs={"a": np.arange(1000.0)}, outputs={})
    whole = path.read_bytes()
    damaged = [whole[:40], whole[: len(whole) // 2], whole[:60] + bytes(40) + whole[100:], b"", b"text"]

    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(LoadError):
            read_golden(path)


def test_a_single_array_file_is_a_load_error(tmp_path: Path) -> None:
    path = tmp_path / "golden.npz"
    with path.open("wb") as file:
        np.save(file, np.arange(3))

    with pytest.raises(LoadError):
        read_golden(path)
