import json
from dataclasses import asdict, replace
from datetime import timedelta

import pytest

from controller.domain.audit_chain import (
    GENESIS,
    Anchor,
    AuditEntry,
    Break,
    Unbroken,
    check_chain,
    entry_hash,
    read_entry,
)
from tests.support.decisions import NOW

Chain = list[tuple[AuditEntry, str]]


def a_chain(count: int) -> Chain:
    chain: Chain = []
    for seq in range(1, count + 1):
        previous = chain[-1][1] if chain else GENESIS
        entry = AuditEntry(
            seq, NOW + timedelta(microseconds=seq), "alice", "pin.set", f"pi_{seq}", {"n": seq}, previous
        )
        chain.append((entry, entry_hash(entry)))
    return chain


def heads(chain: Chain) -> list[Anchor]:
    return [Anchor(entry.seq, sha256) for entry, sha256 in chain]


def test_an_empty_log_holds() -> None:
    assert check_chain([]) == Unbroken(0, GENESIS)


def test_a_log_as_it_was_written_holds_with_every_anchor() -> None:
    chain = a_chain(5)
    assert check_chain(chain, heads(chain)) == Unbroken(5, chain[-1][1])


@pytest.mark.parametrize("field", ["actor", "action", "subject", "detail", "at"])
def test_a_changed_entry_shows_itself(field: str) -> None:
    chain = a_chain(5)
    other = {"detail": {"n": 9}, "at": NOW}.get(field, "mallory")
    chain[2] = (replace(chain[2][0], **{field: other}), chain[2][1])  # type: ignore[arg-type]
    assert check_chain(chain) == Break(3, "entry 3 was changed after it was written")


def test_an_entry_that_was_changed_with_its_hash_breaks_the_chain_behind_it() -> None:
    chain = a_chain(5)
    forged = replace(chain[2][0], actor="mallory")
    chain[2] = (forged, entry_hash(forged))
    assert check_chain(chain) == Break(4, "entry 4 does not follow the entry before it")


def test_an_entry_that_was_taken_out_is_missed() -> None:
    chain = a_chain(5)
    del chain[1]
    assert check_chain(chain) == Break(2, "entry 2 is missing; entry 3 follows entry 1")


def test_an_entry_that_was_put_in_is_noticed() -> None:
    chain = a_chain(3)
    assert isinstance(check_chain([*chain[:2], chain[1], chain[2]]), Break)


def test_a_log_that_was_written_anew_is_not_the_one_that_was_anchored() -> None:
    kept, forged = a_chain(5), a_chain(2)
    for seq in (3, 4, 5):
        entry = AuditEntry(seq, NOW, "mallory", "pin.set", "pi_x", {}, forged[-1][1])
        forged.append((entry, entry_hash(entry)))
    assert isinstance(check_chain(forged), Unbroken)
    found = check_chain(forged, [Anchor(4, kept[3][1])])
    assert found == Break(4, "entry 4 is not the one that was anchored: the log up to it was written anew")


def test_entries_that_were_cut_off_at_the_end_are_missed_by_the_anchor() -> None:
    chain = a_chain(5)
    assert isinstance(check_chain(chain[:2]), Unbroken)
    assert check_chain(chain[:2], heads(chain)[3:]) == Break(3, "entries 3 to 5 are missing: entry 5 was anchored")


def test_two_anchors_of_one_entry_that_differ_cannot_both_hold() -> None:
    chain = a_chain(2)
    assert isinstance(check_chain(chain, [*heads(chain), Anchor(2, "f" * 64)]), Break)


def test_an_entry_reads_back_from_its_export_as_it_was() -> None:
    (entry, sha256) = a_chain(1)[0]
    document = json.loads(json.dumps({**asdict(entry), "sha256": sha256}, default=str))
    assert read_entry(document) == (entry, sha256)
    zulu = {**document, "at": document["at"].replace("+00:00", "Z")}
    assert read_entry(zulu) == (entry, sha256)
