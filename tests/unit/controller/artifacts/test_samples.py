"""Evaluation and calibration files: what is read, how one file serves for both, and what is too much."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller.artifacts.behaviour.arrays import ARRAYS_MAX, BYTES_MAX
from controller.artifacts.behaviour.samples import Samples, read_inputs, read_samples, split
from controller.domain.errors import InvalidInput
from device_agent.protocol.manifest import TensorSpec

SPECS = (TensorSpec("x", "FP32", (-1, 2)),)
ROWS = 6
INPUTS = np.arange(2 * ROWS, dtype=np.float32).reshape(ROWS, 2)


def saved(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def refusal_of(path: Path) -> InvalidInput:
    with pytest.raises(InvalidInput) as refusal:
        read_samples(path, SPECS)
    return refusal.value


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data.npz"


class TestLabels:
    def test_whole_numbers_are_classes(self, file: Path) -> None:
        read = read_samples(saved(file, inputs=INPUTS, labels=np.arange(ROWS, dtype=np.uint8)), SPECS)
        assert read.classes is not None
        assert read.classes.tolist() == [0, 1, 2, 3, 4, 5]
        assert read.numbers is None

    @pytest.mark.parametrize("shape", [(ROWS,), (ROWS, 3), (ROWS, 2, 2)])
    def test_fractions_are_what_a_regression_should_answer(self, file: Path, shape: tuple[int, ...]) -> None:
        read = read_samples(saved(file, inputs=INPUTS, labels=np.ones(shape, np.float16)), SPECS)
        assert read.numbers is not None
        assert (read.numbers.dtype, read.numbers.shape) == (np.float64, shape)
        assert read.classes is None

    def test_inputs_alone_are_read_without_labels(self, file: Path) -> None:
        read = read_samples(saved(file, inputs=INPUTS), SPECS)
        assert (len(read), read.labels) == (ROWS, None)

    def test_a_misspelt_name_is_not_taken_for_the_lack_of_labels(self, file: Path) -> None:
        refusal = refusal_of(saved(file, inputs=INPUTS, label=np.zeros(ROWS, np.int64)))
        assert refusal.code == "evaluation_format"
        assert "'labels' is missing, and 'label'" in refusal.detail

    @pytest.mark.parametrize(
        ("labels", "code"),
        [
            (np.array([1, 2, 3, 4, 5, np.nan]), "evaluation_labels"),
            (np.float64(1), "evaluation_shape"),
            (np.ones(ROWS + 1), "evaluation_shape"),
            (np.ones((ROWS, 0)), "evaluation_shape"),
            (np.ones(ROWS, bool), "evaluation_dtype"),
            (np.array(list("abcdef")), "evaluation_format"),
        ],
        ids=["not a number", "one number", "too many", "empty rows", "truth values", "texts"],
    )
    def test_labels_that_nothing_can_be_judged_by_are_refused(self, file: Path, labels: Any, code: str) -> None:
        assert refusal_of(saved(file, inputs=INPUTS, labels=labels)).code == code


class TestCalibrationFiles:
    def test_inputs_are_read_and_labels_left_alone(self, file: Path) -> None:
        read = read_inputs(saved(file, inputs=INPUTS, labels=np.array(["a", "b"]).view(np.uint8)), SPECS)
        assert len(read) == ROWS
        assert np.array_equal(read.inputs["x"], INPUTS)

    @pytest.mark.parametrize(
        ("arrays", "code"),
        [
            ({"images": INPUTS}, "calibration_format"),
            ({"inputs": INPUTS.astype(np.float64)}, "calibration_dtype"),
            ({"inputs": INPUTS[:, :1]}, "calibration_shape"),
            ({"inputs": INPUTS[:0]}, "calibration_shape"),
        ],
    )
    def test_what_does_not_fit_is_refused_by_the_name_of_the_file(
        self, file: Path, arrays: dict[str, Any], code: str
    ) -> None:
        with pytest.raises(InvalidInput, match="calibration data: ") as refusal:
            read_inputs(saved(file, **arrays), SPECS)
        assert (refusal.value.code, refusal.value.field) == (code, "/calibration_sha256")

    def test_several_inputs_must_have_the_same_rows(self, file: Path) -> None:
        specs = (*SPECS, TensorSpec("y", "INT64", (-1,)))
        with pytest.raises(InvalidInput, match="'y' has 5 rows and 'x' has 6"):
            read_inputs(saved(file, **{"input:x": INPUTS, "input:y": np.arange(5)}), specs)


class TestSplit:
    def test_every_other_row_calibrates_and_the_others_judge(self) -> None:
        learnt, judged = split(Samples({"x": INPUTS}, np.arange(ROWS) / 2, 1))
        assert learnt.inputs["x"][:, 0].tolist() == [0, 4, 8]
        assert judged.inputs["x"][:, 0].tolist() == [2, 6, 10]
        assert judged.labels is not None
        assert judged.labels.tolist() == [0.5, 1.5, 2.5]

    def test_runs_stay_whole(self) -> None:
        learnt, judged = split(Samples({"x": INPUTS}, np.arange(ROWS), 2))
        assert learnt.inputs["x"][:, 0].tolist() == [0, 2, 8, 10]
        assert (judged.inputs["x"][:, 0].tolist(), judged.rows_a_run) == ([4, 6], 2)

    def test_classes_that_come_by_turns_are_halved_each(self) -> None:
        labels = np.arange(40) % 4
        rows = np.arange(40, dtype=np.float32).reshape(-1, 1)
        learnt, judged = split(Samples({"x": rows}, labels, 1))
        assert judged.labels is not None
        assert np.bincount(judged.labels).tolist() == [5, 5, 5, 5]
        together = np.concatenate([learnt.inputs["x"], judged.inputs["x"]])
        assert sorted(together[:, 0]) == list(range(40))

    def test_one_run_cannot_be_halved(self) -> None:
        with pytest.raises(InvalidInput) as refusal:
            split(Samples({"x": INPUTS}, None, ROWS))
        assert refusal.value.code == "evaluation_shape"


def header(shape: tuple[int, ...], version: int = 1) -> bytes:
    write = {1: np.lib.format.write_array_header_1_0, 2: np.lib.format.write_array_header_2_0}[version]
    written = io.BytesIO()
    write(written, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return written.getvalue()


class TestBombs:
    def packed(self, path: Path, content: bytes, *, method: int = zipfile.ZIP_DEFLATED) -> Path:
        with zipfile.ZipFile(path, "w", method) as file:
            file.writestr("inputs.npy", content)
        return path

    @pytest.mark.parametrize("shape", [(2**40, 2**20), (2**62, 4), (10**4000,), (3, 2), (-1, 4)])
    def test_an_array_that_declares_another_size_than_it_has_is_not_allocated(
        self, file: Path, shape: tuple[int, ...]
    ) -> None:
        refusal = refusal_of(self.packed(file, header(shape) + bytes(16)))
        assert refusal.code == "evaluation_format"
        assert len(refusal.detail) < 500

    def test_a_file_that_unpacks_to_more_than_is_read_is_refused_by_its_directory(self, file: Path) -> None:
        self.packed(file, header((4,)) + bytes(16), method=zipfile.ZIP_STORED)
        content = bytearray(file.read_bytes())
        place = content.index(b"PK\x01\x02") + 24
        content[place : place + 4] = (BYTES_MAX + 1).to_bytes(4, "little")
        file.write_bytes(content)
        refusal = refusal_of(file)
        assert refusal.code == "evaluation_format"
        assert f"{BYTES_MAX + 1} bytes in all" in refusal.detail

    def test_a_header_as_long_as_the_file_is_not_read_whole(self, file: Path) -> None:
        content = b"\x93NUMPY\x02\x00" + (64 * 1024 * 1024).to_bytes(4, "little") + b" " * 64 * 1024 * 1024
        assert refusal_of(self.packed(file, content)).code == "evaluation_format"

    @pytest.mark.parametrize(
        "written",
        [
            "(" * 5000,
            "[" * 150 + "]" * 150,
            "-" * 5000 + "1",
            '"""',
            "1" * 9000,
            "{'descr': '<f4', 'shape': (2,",
            "\0",
            "",
        ],
        ids=["open brackets", "nested lists", "signs", "open text", "a long number", "cut off", "NUL", "nothing"],
    )
    def test_a_header_that_is_no_description_of_an_array_is_told_as_such(self, file: Path, written: str) -> None:
        content = b"\x93NUMPY\x01\x00" + len(written).to_bytes(2, "little") + written.encode() + bytes(16)
        refusal = refusal_of(self.packed(file, content))
        assert refusal.code == "evaluation_format"
        assert len(refusal.detail) < 500

    def test_a_format_that_is_not_known_yet_is_refused_by_its_number(self, file: Path) -> None:
        refusal = refusal_of(self.packed(file, b"\x93NUMPY\x04\x00" + bytes(100)))
        assert refusal.code == "evaluation_format"
        assert "'inputs.npy' has the unknown format (4, 0)" in refusal.detail

    def test_members_that_lie_over_each_other_count_each_on_its_own(self, file: Path) -> None:
        """A few kilobytes whose directory names the same packed megabytes again and again."""
        self.packed(file, header((1_000_000,)) + bytes(4_000_000))
        content = file.read_bytes()
        directory, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
        entry, times = content[directory:end], 1000
        entries = b"".join(entry.replace(b"inputs.npy", b"%06d.npy" % number) for number in range(times))
        tail = bytearray(content[end:])
        tail[8:16] = times.to_bytes(2, "little") * 2 + len(entries).to_bytes(4, "little")
        file.write_bytes(content[:directory] + entries + tail)
        assert file.stat().st_size < 100_000
        refusal = refusal_of(file)
        assert refusal.code == "evaluation_format"
        assert "1000 arrays of 4000" in refusal.detail

    def test_more_arrays_than_a_model_has_inputs_are_refused(self, file: Path) -> None:
        with zipfile.ZipFile(file, "w") as packed:
            for number in range(ARRAYS_MAX + 1):
                packed.writestr(f"{number}.npy", b"")
        assert "1025 arrays" in refusal_of(file).detail

    @pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_a_packing_that_numpy_does_not_use_is_refused(self, file: Path, method: int) -> None:
        assert refusal_of(self.packed(file, header((4,)) + bytes(16), method=method)).code == "evaluation_format"

    @pytest.mark.parametrize("version", [1, 2])
    def test_a_file_of_either_version_is_read(self, file: Path, version: int) -> None:
        path = self.packed(file, header((ROWS, 2), version) + INPUTS.tobytes())
        assert np.array_equal(read_samples(path, SPECS).inputs["x"], INPUTS)

    @pytest.mark.parametrize("place", [0.3, 0.6, 0.95])
    def test_damage_anywhere_is_told_as_such(self, file: Path, place: float) -> None:
        np.savez_compressed(file, inputs=np.random.default_rng(0).random((500, 2), np.float32))
        content = bytearray(file.read_bytes())
        at = int(place * len(content))
        content[at : at + 40] = bytes(40)
        file.write_bytes(content)
        assert refusal_of(file).code == "evaluation_format"
