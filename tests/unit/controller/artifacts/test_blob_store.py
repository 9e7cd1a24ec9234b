"""Artifacts by digest: complete or not there at all."""

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from controller.artifacts.blob_store import ABANDONED_AFTER_S, BlobStore, BlobWriter
from controller.domain.errors import InvalidInput, Unavailable
from device_agent.protocol.manifest import CHUNK_BYTES


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "artifacts")


def files_below(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def test_pieces_are_found_again_whole_under_their_digest(blobs: BlobStore) -> None:
    writer = blobs.open_writer()
    for piece in (b"one ", b"two ", b"three"):
        writer.feed(piece)
    stored = writer.commit()
    assert stored.sha256 == hashlib.sha256(b"one two three").hexdigest()
    assert stored.size_bytes == blobs.size_bytes(stored.sha256) == 13
    assert blobs.path(stored.sha256).read_bytes() == b"one two three"


def test_the_same_bytes_are_kept_once(blobs: BlobStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"same")
    assert blobs.add_file(source) == blobs.add_file(source)
    assert len(files_below(tmp_path / "artifacts")) == 1


def test_an_aborted_upload_leaves_nothing(blobs: BlobStore, tmp_path: Path) -> None:
    writer = blobs.open_writer()
    writer.feed(b"half")
    writer.abort()
    writer.abort()
    assert files_below(tmp_path) == []


def test_an_upload_over_the_limit_is_refused_and_leaves_nothing(blobs: BlobStore, tmp_path: Path) -> None:
    writer = blobs.open_writer(bytes_max=10)
    writer.feed(b"0123456789")
    with pytest.raises(InvalidInput) as refusal:
        writer.feed(b"!")
    assert refusal.value.code == "too_large"
    assert "10 bytes" in refusal.value.detail
    assert files_below(tmp_path) == []


def test_an_upload_that_would_eat_the_reserve_is_refused_before_it_begins(tmp_path: Path) -> None:
    all_of_it = shutil.disk_usage(tmp_path).total
    with pytest.raises(Unavailable) as refusal:
        BlobStore(tmp_path / "artifacts", reserve_bytes=all_of_it).open_writer()
    assert refusal.value.code == "disk_full"
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("size", [10, 1024 * 1024], ids=["found at the end", "found in the middle"])
def test_a_disk_that_fills_up_during_an_upload_leaves_nothing(blobs: BlobStore, tmp_path: Path, size: int) -> None:
    blobs.open_writer().abort()  # makes the folders
    partial = tmp_path / "artifacts" / "incoming" / "partial"
    partial.touch()
    # /dev/full is the kernel's own disk without room: every write to it fails with ENOSPC.
    full = Path("/dev/full").open("wb")  # noqa: SIM115  # the writer closes it
    writer = BlobWriter(full, partial, blobs, None)

    def upload() -> None:
        writer.feed(bytes(size))
        writer.commit()

    with pytest.raises(Unavailable) as refusal:
        upload()
    assert refusal.value.code == "disk_full"
    assert files_below(tmp_path) == []


def test_chunks_are_hashed_as_manifests_name_them(blobs: BlobStore, tmp_path: Path) -> None:
    content = os.urandom(2 * CHUNK_BYTES + 5)
    source = tmp_path / "source"
    source.write_bytes(content)
    parts = [content[start : start + CHUNK_BYTES] for start in range(0, len(content), CHUNK_BYTES)]
    stored = blobs.add_file(source)
    assert blobs.chunks(stored.sha256) == tuple(hashlib.sha256(part).hexdigest() for part in parts)


def test_what_a_killed_process_left_is_removed_and_what_is_in_use_stays(blobs: BlobStore, tmp_path: Path) -> None:
    incoming = tmp_path / "artifacts" / "incoming"
    (incoming / "job").mkdir(parents=True)
    (incoming / "upload").touch()
    for path in (incoming / "job", incoming / "upload"):
        os.utime(path, (0, path.stat().st_mtime - ABANDONED_AFTER_S - 60))
    with blobs.scratch() as in_use:
        assert blobs.remove_abandoned() == 2
        assert list(incoming.iterdir()) == [in_use]
    assert list(incoming.iterdir()) == []
