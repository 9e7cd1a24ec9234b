from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from controller.artifacts.graph.sessions import Session
from controller.artifacts.steps import external_data, palette
from controller.artifacts.steps.external_data import MODEL_FILE, PAGE_BYTES, WEIGHTS_FILE
from controller.artifacts.steps.interface import tell_nobody
from controller.artifacts.steps.parameters import ExternalData, Palette
from controller.domain.errors import InvalidInput
from tests.support.digits import digits
from tests.support.networks import digits_network


def laid_out(directory: Path, source: onnx.ModelProto, parameters: ExternalData) -> list[Path]:
    applied = external_data.apply(source, parameters, None, tell_nobody)
    return external_data.write(applied.model, directory, parameters)


def test_two_files_answer_exactly_as_one(tmp_path: Path) -> None:
    source = digits_network()
    paths = laid_out(tmp_path, source, ExternalData())
    assert paths == [tmp_path / MODEL_FILE, tmp_path / WEIGHTS_FILE]
    inputs = {"image": digits()[0][:50]}
    expected = Session(source.SerializeToString()).run(inputs)["scores"]
    np.testing.assert_array_equal(Session(paths[0]).run(inputs)["scores"], expected)


def test_large_tensors_lie_at_pages_of_the_second_file_and_small_ones_in_the_first(tmp_path: Path) -> None:
    paths = laid_out(tmp_path, digits_network(), ExternalData())
    read = onnx.load(paths[0], load_external_data=False)
    infos = {t.name: ExternalDataInfo(t) for t in read.graph.initializer if uses_external_data(t)}
    assert infos.keys() == {"w1", "w2", "w3"}
    assert {info.location for info in infos.values()} == {WEIGHTS_FILE}
    assert [info.offset for info in infos.values()] == [0, 4 * PAGE_BYTES, 6 * PAGE_BYTES]
    assert paths[1].stat().st_size == 6 * PAGE_BYTES + 32 * 10 * 4
    assert paths[0].stat().st_size < 2000


def test_the_step_keeps_the_weights_in_the_graph_and_tells_what_will_move() -> None:
    source = digits_network()
    applied = external_data.apply(source, ExternalData(bytes_min=8000), None, tell_nobody)
    assert (applied.facts["layout"], applied.facts["tensors"], applied.facts["bytes"]) == ("external", 2, 6144 * 4)
    assert [layer["name"] for layer in applied.facts["layers"]] == ["w1", "w2"]
    assert applied.model == source


def test_weights_stored_as_single_numbers_or_half_bytes_move_too(tmp_path: Path) -> None:
    source = palette.apply(digits_network(), Palette(), None, tell_nobody).model
    last = next(tensor for tensor in source.graph.initializer if tensor.name == "w3")
    numbers = onnx.numpy_helper.to_array(last)
    last.CopyFrom(onnx.helper.make_tensor("w3", onnx.TensorProto.FLOAT, numbers.shape, numbers.reshape(-1).tolist()))
    paths = laid_out(tmp_path, source, ExternalData())
    read = onnx.load(paths[0], load_external_data=False)
    assert {t.name for t in read.graph.initializer if uses_external_data(t)} == {"w1_index", "w2_index", "w3"}


def test_writing_again_replaces_the_files_with_the_same_bytes(tmp_path: Path) -> None:
    first = [path.read_bytes() for path in laid_out(tmp_path, digits_network(), ExternalData())]
    second = [path.read_bytes() for path in laid_out(tmp_path, digits_network(), ExternalData())]
    assert first == second


def test_a_file_of_the_same_name_in_the_working_directory_is_no_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, elsewhere = tmp_path / "target", tmp_path / "elsewhere"
    target.mkdir()
    elsewhere.mkdir()
    (elsewhere / WEIGHTS_FILE).write_bytes(b"other")
    monkeypatch.chdir(elsewhere)
    assert laid_out(target, digits_network(), ExternalData())[1].stat().st_size > PAGE_BYTES
    assert (elsewhere / WEIGHTS_FILE).read_bytes() == b"other"


def test_a_model_of_small_tensors_is_refused() -> None:
    with pytest.raises(InvalidInput, match="1000000 bytes and more, and this model has none") as refused:
        external_data.apply(digits_network(), ExternalData(bytes_min=1_000_000), None, tell_nobody)
    assert refused.value.code == "recipe_inapplicable"
