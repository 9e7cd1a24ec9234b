import json
import resource
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controller.trust.errors import KeyStoreError, SignerCode, SignerRefused
from controller.trust.signer.journal import GENESIS, Journal, Kind

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
A, B = "a" * 64, "b" * 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "signer" / "journal.jsonl"


def opened(path: Path) -> Journal:
    return Journal(path, lambda: NOW)


def filled(path: Path) -> Journal:
    journal = opened(path)
    journal.record_role("timestamp", 7, A)
    journal.record(Kind.ASSIGNMENTS, "", 500, B)
    journal.record_role("timestamp", 9, B)
    journal.record_anchor(3, A)
    return journal


def test_an_empty_journal_begins_its_chain(path: Path) -> None:
    journal = opened(path)
    assert (journal.head, journal.versions(), journal.anchors()) == (GENESIS, {}, [])
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_was_written_is_there_after_a_restart(path: Path) -> None:
    head = filled(path).head
    again = opened(path)
    assert again.versions() == {"timestamp": 9}
    assert again.anchors() == [(3, A)]
    assert again.head == head == json.loads(path.read_text().splitlines()[-1])["sha256"]
    assert [json.loads(line)["seq"] for line in path.read_text().splitlines()] == [1, 2, 3, 4]


def test_a_version_never_goes_back_or_has_two_contents(path: Path) -> None:
    journal = filled(path)
    journal.record_role("timestamp", 9, B)  # the very same bytes
    for version, digest in ((9, A), (8, B), (7, A)):
        with pytest.raises(SignerRefused) as refused:
            journal.record_role("timestamp", version, digest)
        assert refused.value.code == SignerCode.ROLLBACK
    assert len(path.read_text().splitlines()) == 4


def test_a_head_of_the_audit_log_never_goes_back_or_changes(path: Path) -> None:
    journal = filled(path)
    journal.record_anchor(3, A)
    for seq, digest in ((3, B), (2, A)):
        with pytest.raises(SignerRefused) as refused:
            journal.record_anchor(seq, digest)
        assert refused.value.code == SignerCode.ROLLBACK


def test_a_first_root_is_remembered_by_the_first_use(path: Path) -> None:
    assert opened(path).pin("image", A)
    assert opened(path).pin("image", A)
    assert not opened(path).pin("image", B)
    assert opened(path).pin("director", B)


@pytest.mark.parametrize("cut", [1, 20, 100])
def test_a_last_line_that_a_loss_of_power_cut_short_is_dropped(path: Path, cut: int) -> None:
    filled(path)
    content = path.read_bytes()
    path.write_bytes(content[:-cut])
    journal = opened(path)
    assert journal.anchors() == []
    journal.record_anchor(3, A)
    assert path.read_bytes() == content


def edit(line: str) -> str:
    return line.replace('"number":500', '"number":400')


EDITS: dict[str, Callable[[list[str]], list[str]]] = {
    "changed": lambda lines: [lines[0], edit(lines[1]), *lines[2:]],
    "removed": lambda lines: [lines[0], *lines[2:]],
    "removed first": lambda lines: lines[1:],
    "swapped": lambda lines: [lines[1], lines[0], *lines[2:]],
    "doubled": lambda lines: [lines[0], *lines],
    "spaced": lambda lines: [lines[0].replace(",", ", "), *lines[1:]],
    "foreign": lambda lines: [*lines, "{}\n"],
    "no object": lambda lines: [*lines, "7\n"],
    "no JSON": lambda lines: [*lines, "\n"],
}


@pytest.mark.parametrize("change", EDITS.values(), ids=EDITS)
def test_an_edited_line_keeps_the_signer_from_starting(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    filled(path)
    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))
    with pytest.raises(KeyStoreError, match="journal"):
        opened(path)


def test_lines_that_vanish_under_an_open_journal_stop_it(path: Path) -> None:
    journal = filled(path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))
    with pytest.raises(KeyStoreError, match="has lost lines"):
        journal.record_anchor(9, A)


def test_two_open_journals_know_what_the_other_has_written(path: Path) -> None:
    one, two = opened(path), opened(path)
    one.record_role("snapshot", 5, A)
    with pytest.raises(SignerRefused):
        two.record_role("snapshot", 5, B)
    two.record_role("snapshot", 6, B)
    assert one.versions() == {"snapshot": 6}
    assert one.head == two.head


def test_threads_and_journals_at_once_write_one_chain(path: Path) -> None:
    def write(journal: Journal, number: int) -> None:
        for version in range(1, 11):
            journal.record_role(f"bin-{number:02x}", version, A)

    journals = [opened(path), opened(path)]
    threads = [threading.Thread(target=write, args=(journals[number % 2], number)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened(path).versions() == {f"bin-{number:02x}": 10 for number in range(6)}


def test_a_disk_that_is_full_signs_nothing_and_leaves_the_chain_whole(path: Path) -> None:
    journal = filled(path)
    size = path.stat().st_size
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, unlimited[1]))
    try:
        with pytest.raises(KeyStoreError, match="nothing was signed"):
            journal.record_role("timestamp", 10, A)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert path.stat().st_size == size
    journal.record_role("timestamp", 10, A)
    assert opened(path).versions() == {"timestamp": 10}
