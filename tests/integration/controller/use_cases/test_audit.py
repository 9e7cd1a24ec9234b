"""The audit log on both databases: one chain whoever writes at once, and every tampering shows."""

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, select, update

from controller.domain.audit_chain import AuditEntry, Break, Unbroken, check_chain, entry_hash
from controller.store.audit import audit_entries, audit_head_of, record_audit
from controller.store.database import Database, Transaction
from controller.store.trust_tables import audit_entry, audit_head
from controller.trust.signer.verbs import open_local_signer
from controller.use_cases.create_model import create_model
from controller.use_cases.verify_audit import anchor_audit, verify_audit

NOW = datetime(2026, 5, 4, 12, 0, 0, 123456, tzinfo=UTC)
APPEND = """
import sys
from datetime import UTC, datetime
from controller.store.audit import record_audit
from controller.store.database import Database, open_engine

database = Database(open_engine(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    with database.writing() as tx:
        record_audit(tx, datetime.now(UTC), sys.argv[2], "model.created", f"mo_{number}", {"number": number})
"""


class Anchors:
    """Heads as a signer's journal holds them, in memory."""

    def __init__(self) -> None:
        self.heads: list[tuple[int, str]] = []

    def anchor_audit(self, seq: int, sha256: str) -> None:
        self.heads.append((seq, sha256))

    def audit_anchors(self) -> list[tuple[int, str]]:
        return self.heads


def write(database: Database, count: int) -> None:
    for number in range(count):
        with database.writing() as tx:
            record_audit(tx, NOW + timedelta(seconds=number), "alice", "pin.set", f"pi_{number}", {"é": [number, None]})


def checked(database: Database) -> Unbroken | Break:
    with database.reading() as tx:
        return check_chain(audit_entries(tx))


def test_what_was_written_is_read_back_with_the_same_hashes(database: Database) -> None:
    write(database, 3)
    with database.reading() as tx:
        assert checked(database) == audit_head_of(tx)
        first, _ = next(audit_entries(tx))
    assert (first.at, first.actor, first.detail) == (NOW, "alice", {"é": [0, None]})


def test_a_moment_of_another_zone_is_hashed_as_it_is_read_back(database: Database) -> None:
    with database.writing() as tx:
        record_audit(tx, NOW.astimezone(timezone(timedelta(hours=5))), "alice", "pin.set", "pi_1")
    assert isinstance(checked(database), Unbroken)


def test_an_entry_lives_and_dies_with_the_transaction_that_it_tells_of(database: Database) -> None:
    write(database, 1)
    with database.writing() as tx:
        record_audit(tx, NOW, "alice", "pin.set", "pi_2")
        tx.rollback()
    write(database, 1)
    assert checked(database) == Unbroken(2, checked(database).sha256)  # type: ignore[union-attr]


def test_two_processes_that_write_at_once_write_one_chain(database: Database, database_url: str) -> None:
    command = [sys.executable, "-c", APPEND, database_url]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": Path.cwd()}
    writers = [subprocess.Popen([*command, name, "40"], **pipes) for name in ("alice", "bob")]  # type: ignore[call-overload]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    assert [writer.communicate()[0] for writer in writers] == ["", ""]
    assert [writer.returncode for writer in writers] == [0, 0]
    with database.reading() as tx:
        actors = [entry.actor for entry, _ in audit_entries(tx)]
    assert checked(database) == Unbroken(80, checked(database).sha256)  # type: ignore[union-attr]
    assert (actors.count("alice"), actors.count("bob")) == (40, 40)


def _change(tx: Transaction) -> None:
    tx.execute(update(audit_entry).where(audit_entry.c.seq == 2).values(actor="bob"))


def _take_out(tx: Transaction) -> None:
    tx.execute(delete(audit_entry).where(audit_entry.c.seq == 2))


def _cut_off(tx: Transaction) -> None:
    tx.execute(delete(audit_entry).where(audit_entry.c.seq > 2))
    head = tx.execute(select(audit_entry.c.sha256).where(audit_entry.c.seq == 2)).scalar_one()
    tx.execute(update(audit_head).values(seq=2, sha256=head))


def _cut_off_the_entries_alone(tx: Transaction) -> None:
    tx.execute(delete(audit_entry).where(audit_entry.c.seq > 3))


def _write_anew(tx: Transaction) -> None:
    tx.execute(delete(audit_entry))
    previous = "0" * 64
    for seq in range(1, 6):
        entry = AuditEntry(seq, NOW, "mallory", "pin.set", "pi_x", {}, previous)
        previous = entry_hash(entry)
        tx.execute(insert(audit_entry).values({**vars(entry), "sha256": previous}))
    tx.execute(update(audit_head).values(seq=5, sha256=previous))


@pytest.mark.parametrize(
    ("tamper", "seq", "why"),
    [
        (_change, 2, "entry 2 was changed after it was written"),
        (_take_out, 2, "entry 2 is missing"),
        (_cut_off, 3, "entries 3 to 4 are missing: entry 4 was anchored"),
        (_cut_off_the_entries_alone, 4, "entries 4 to 4 are missing"),
        (_write_anew, 4, "the log up to it was written anew"),
    ],
)
def test_tampering_with_the_database_shows_where_it_was_done(
    database: Database, tamper: Callable[[Transaction], None], seq: int, why: str
) -> None:
    anchors = Anchors()
    write(database, 4)
    anchor_audit(database, anchors, now=NOW)  # type: ignore[arg-type]
    write(database, 1)
    with database.writing() as tx:
        tamper(tx)
    found = verify_audit(database, anchors).found  # type: ignore[arg-type]
    assert isinstance(found, Break)
    assert found.seq == seq
    assert why in found.reason


def test_entries_behind_the_last_anchor_are_missed_by_the_head_of_the_log(database: Database) -> None:
    write(database, 3)
    with database.writing() as tx:
        tx.execute(delete(audit_entry).where(audit_entry.c.seq == 3))
    found = verify_audit(database, Anchors()).found  # type: ignore[arg-type]
    assert found == Break(3, "the log ends at entry 2, but its head says 3")


def test_the_signers_journal_holds_the_heads_and_the_log_is_checked_against_them(
    database: Database, tmp_path: Path
) -> None:
    signer = open_local_signer(tmp_path / "signer", tmp_path / "tuf", clock=lambda: NOW)
    anchor_audit(database, signer, now=NOW)
    assert signer.audit_anchors() == []
    create_model(database, "digits", "", now=NOW, actor="alice")
    anchor_audit(database, signer, now=NOW)
    write(database, 2)
    anchor_audit(database, signer, now=NOW)
    verified = verify_audit(database, signer)
    assert [anchor.seq for anchor in verified.anchors] == [1, 3]
    assert isinstance(verified.found, Unbroken)
    with database.writing() as tx:
        _cut_off(tx)
    assert isinstance(verify_audit(database, signer).found, Break)
