"""Files that mean harm are refused by what they say, before any part of them runs."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from controller.artifacts.graph.facts import describe
from controller.artifacts.graph.reading import NAME_MAX, read_model
from controller.domain.errors import InvalidInput
from tests.support import hostile_models
from tests.support.hostile_models import FORBIDDEN


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


@pytest.mark.parametrize(("make", "code", "words"), FORBIDDEN.values(), ids=FORBIDDEN)
def test_a_model_that_means_harm_is_refused_with_a_code_and_short_plain_words(
    file: Path, make: Callable[[], bytes], code: str, words: str
) -> None:
    file.write_bytes(make())
    with pytest.raises(InvalidInput) as refusal:
        describe(read_model(file))
    assert (refusal.value.code, refusal.value.field) == (code, "/artifact_sha256")
    assert words in refusal.value.detail
    assert len(refusal.value.detail) < 600
    assert refusal.value.detail.isprintable()


@pytest.mark.parametrize(
    "make",
    [
        lambda: hostile_models.unfolding(8),
        lambda: hostile_models.kinds_of_operators(999),
        lambda: hostile_models.nested(20),
        lambda: hostile_models.named("x" * 256),
        lambda: hostile_models.named("données d'entrée"),
        lambda: hostile_models.sparse(100),
        hostile_models.bare_blocks,
    ],
    ids=["functions", "many operators", "graphs inside graphs", "a long name", "letters", "sparse", "packed weights"],
)
def test_what_is_unusual_and_harmless_is_read(file: Path, make: Callable[[], bytes]) -> None:
    file.write_bytes(make())
    assert describe(read_model(file)).memory_bytes >= 0


def test_sparse_weights_count_with_the_memory_that_they_unpack_to(file: Path) -> None:
    file.write_bytes(hostile_models.sparse(1_000_000))
    assert describe(read_model(file)).memory_bytes > 2 * 4_000_000


def test_remarks_may_be_long_and_have_lines(file: Path) -> None:
    model = hostile_models.relu()
    model.doc_string = "line\n" * NAME_MAX
    model.metadata_props.add(key="trace", value="\tat\n\tof")
    onnx.save(model, file)
    assert read_model(file).doc_string == model.doc_string
