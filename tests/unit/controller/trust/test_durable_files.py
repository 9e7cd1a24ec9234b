import threading
from pathlib import Path

import pytest

from controller.trust.durable_files import exclusive, write_durably


def test_a_file_is_replaced_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "down" / "file.json"
    write_durably(path, b"old")
    write_durably(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.json"]


def test_a_half_written_file_of_a_crash_is_overwritten_and_its_mode_not_inherited(tmp_path: Path) -> None:
    left_over = tmp_path / ".key.pem.new"
    left_over.write_bytes(b"hal")
    left_over.chmod(0o666)
    write_durably(tmp_path / "key.pem", b"whole", mode=0o600)
    assert (tmp_path / "key.pem").read_bytes() == b"whole"
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    assert not left_over.exists()


def test_only_one_thread_at_a_time_holds_a_directory(tmp_path: Path) -> None:
    inside: list[str] = []

    def enter(name: str) -> None:
        for _ in range(50):
            with exclusive(tmp_path):
                inside.append(name)
                assert inside == [name]
                inside.remove(name)

    threads = [threading.Thread(target=enter, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inside == []


def test_the_lock_falls_with_an_error_inside(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), exclusive(tmp_path):
        raise RuntimeError
    with exclusive(tmp_path):
        assert (tmp_path / ".lock").exists()
