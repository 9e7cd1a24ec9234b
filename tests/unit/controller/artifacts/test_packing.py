"""Packing: smaller than the usual settings, equal every time, and given back by the device's own decoder."""

import lzma
from pathlib import Path

import numpy as np
import pytest

from controller.artifacts import jobs
from controller.artifacts.child_process import NO_HEARTBEAT, Limits
from controller.artifacts.errors import JobFailed
from controller.artifacts.packing import SOURCE_BYTES_MAX, WHOLE_BYTES_MAX, pack_file
from device_agent.protocol.packing import DICTIONARY_BYTES, unpack

LIMITS = Limits(timeout_s=60.0, memory_bytes=2 * 1024**3)
RANDOM = np.random.default_rng(11)
WEIGHTS = RANDOM.normal(scale=0.05, size=40_000).astype(np.float32)
PRUNED = np.where(np.abs(WEIGHTS) < 0.05, np.float32(0), WEIGHTS)
INT8 = (WEIGHTS * 600).clip(-127, 127).astype(np.int8)
NOISE = RANDOM.bytes(100_000)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "source"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


def unpacked(target: Path, length: int) -> bytes:
    return b"".join(unpack([target.read_bytes()], length_max=length))


def usual_length(content: bytes) -> int:
    """Return the length that xz's own defaults reach within the same dictionary."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": DICTIONARY_BYTES}]
    return len(lzma.compress(content, format=lzma.FORMAT_XZ, check=lzma.CHECK_NONE, filters=filters))


@pytest.mark.parametrize(
    ("weights", "share_of_raw", "share_of_usual"),
    [(WEIGHTS, 0.87, 0.93), (PRUNED, 0.42, 0.96), (INT8, 0.89, 1.0)],
    ids=["fp32", "pruned", "int8"],
)
def test_weights_become_smaller_and_floats_clearly_smaller_than_by_default(
    source: Path, target: Path, weights: np.ndarray, share_of_raw: float, share_of_usual: float
) -> None:
    content = weights.tobytes()
    source.write_bytes(content)
    length = pack_file(source, target)
    assert length == target.stat().st_size
    assert length < share_of_raw * len(content)
    assert length <= share_of_usual * usual_length(content)
    assert unpacked(target, len(content)) == content


def test_the_same_source_is_packed_to_the_same_bytes(source: Path, target: Path) -> None:
    source.write_bytes(PRUNED.tobytes())
    made = set()
    for _ in range(2):
        pack_file(source, target)
        made.add(target.read_bytes())
    assert len(made) == 1


@pytest.mark.parametrize("content", [b"", NOISE, NOISE + bytes(2_000)], ids=["empty", "noise", "two per cent of zeros"])
def test_what_hardly_becomes_smaller_is_not_packed(source: Path, target: Path, content: bytes) -> None:
    source.write_bytes(content)
    assert pack_file(source, target) is None
    assert not target.exists()


def test_a_gain_of_a_few_per_cent_is_taken(source: Path, target: Path) -> None:
    source.write_bytes(NOISE + bytes(5_000))
    length = pack_file(source, target)
    assert length is not None
    assert length < 101_000


def test_a_large_artifact_is_judged_by_a_sample_from_all_over_it(source: Path, target: Path) -> None:
    # Repeats itself within the dictionary, or this would take long.
    one = WEIGHTS[:10_000].tobytes()
    content = bytes(WHOLE_BYTES_MAX // 2) + one * (WHOLE_BYTES_MAX // 2 // len(one) + 20)
    source.write_bytes(content)
    length = pack_file(source, target)
    assert length is not None
    assert length < len(one)
    assert unpacked(target, len(content)) == content


def test_an_artifact_whose_chunk_hashes_would_not_fit_twice_into_a_manifest_is_not_packed(
    source: Path, target: Path
) -> None:
    with source.open("wb") as file:
        file.truncate(SOURCE_BYTES_MAX + 1)
    assert pack_file(source, target) is None


def test_the_job_says_how_long_the_packed_form_is_or_that_there_is_none(source: Path, target: Path) -> None:
    source.write_bytes(INT8.tobytes())
    assert jobs.pack(source, target, LIMITS, NO_HEARTBEAT) == target.stat().st_size
    source.write_bytes(NOISE)
    assert jobs.pack(source, target, LIMITS, NO_HEARTBEAT) is None


def test_a_source_that_is_gone_fails_the_job(source: Path, target: Path) -> None:
    with pytest.raises(JobFailed, match="FileNotFoundError"):
        jobs.pack(source, target, LIMITS, NO_HEARTBEAT)
