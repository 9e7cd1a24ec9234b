"""The state record: what it holds, and that a damaged one is never taken for a good one."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.journal import (
    REFUSALS_MAX,
    JournalDamagedError,
    Record,
    Refusal,
    RoleMark,
    SlotRecord,
    Trial,
    decode_record,
    encode_record,
    open_journal,
    salvage_floors,
    salvage_record,
)
from device_agent.protocol.assignment import CounterMark
from device_agent.protocol.messages import FailureStage

ONE, TWO = "1" * 64, "2" * 64
REFUSAL = Refusal(7, FailureStage.HEALTH, "E_HEALTH_COMMAND", "not well")
FULL = Record(
    slots={"digits": SlotRecord(TWO, ONE, Trial(1, 8, 60.0), {"3" * 64: REFUSAL}), "empty": SlotRecord()},
    mark=CounterMark("epoch", 8, "d" * 64),
    image_marks={"timestamp": RoleMark("keys", 12, "e" * 64)},
    director_issued=datetime(2026, 3, 1, 12, tzinfo=UTC),
    image_issued=datetime(2026, 3, 1, 11, tzinfo=UTC),
    assignment_expires=datetime(2026, 3, 3, 12, tzinfo=UTC),
    floors={"digits": 3},
)


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    open_journal(tmp_path / "state").commit(FULL)
    assert open_journal(tmp_path / "state").record == FULL


def test_no_file_is_an_empty_record(tmp_path: Path) -> None:
    assert open_journal(tmp_path / "state").record == Record()


@given(st.data())
def test_any_single_changed_or_missing_byte_is_noticed(data: st.DataObject) -> None:
    raw = bytearray(encode_record(FULL))
    index = data.draw(st.integers(0, len(raw) - 2))
    if data.draw(st.booleans()):
        raw[index] ^= data.draw(st.integers(1, 255))
    else:
        del raw[index:]
    with pytest.raises(JournalDamagedError):
        decode_record(bytes(raw))


def test_a_record_of_another_form_is_damaged_even_with_a_right_checksum() -> None:
    import zlib

    text = b'{"slots":{"digits":{"active":"no digest"}}}'
    with pytest.raises(JournalDamagedError, match="digits"):
        decode_record(b"%08x %s\n" % (zlib.crc32(text), text))


def test_a_failed_commit_leaves_the_old_record_in_force(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "state")
    journal.commit(FULL)
    (tmp_path / "state.tmp").mkdir()
    with pytest.raises(OSError, match=r"state\.tmp"):
        journal.commit_slot("digits", SlotRecord())
    assert journal.record == FULL
    assert open_journal(tmp_path / "state").record == FULL


def test_each_begin_of_the_same_trial_counts_a_boot_and_keeps_the_way_back() -> None:
    resting = SlotRecord(ONE, ONE)
    first = resting.begin_trial(TWO, 8, 60.0)
    assert (first.active, first.good, first.trial) == (TWO, ONE, Trial(1, 8, 60.0))
    assert first.begin_trial(TWO, 9, 60.0).trial == Trial(2, 9, 60.0)
    assert first.confirm() == SlotRecord(TWO, TWO)
    assert first.end_trial() == resting


def test_the_oldest_refusals_are_forgotten_first_and_survive_an_empty_slot() -> None:
    slot = SlotRecord(ONE, ONE)
    names = [f"{number:064x}" for number in range(REFUSALS_MAX + 2)]
    for name in names:
        slot = slot.refuse(name, REFUSAL)
    assert list(slot.refused) == names[2:]
    assert list(slot.refuse(names[2], REFUSAL).refused)[-1] == names[2]
    assert slot.empty().refused == slot.refused


def test_refusals_keep_their_order_through_the_file() -> None:
    slot = SlotRecord().refuse(TWO, REFUSAL).refuse(ONE, REFUSAL)
    record = decode_record(encode_record(Record({"digits": slot})))
    assert list(record.slot("digits").refused) == [TWO, ONE]


def test_a_lost_record_is_salvaged_with_the_lowest_version_of_every_slot() -> None:
    models = [("digits", TWO, 2), ("digits", ONE, 1), ("doors", "4" * 64, 9)]
    assert salvage_record(models).slots == {
        "digits": SlotRecord(ONE, ONE),
        "doors": SlotRecord("4" * 64, "4" * 64),
    }


def test_a_record_of_an_older_agent_is_read_without_what_it_did_not_know() -> None:
    import json
    import zlib

    body = json.loads(encode_record(FULL).partition(b" ")[2])
    for name in ("floors", "assignment_expires"):
        del body[name]
    del body["image_marks"]["timestamp"]["digest"]
    text = json.dumps(body).encode()
    record = decode_record(b"%08x %s" % (zlib.crc32(text), text))
    assert (record.floors, record.assignment_expires) == ({}, None)
    assert record.image_marks["timestamp"] == RoleMark("keys", 12, "")


def test_a_floor_is_only_ever_raised() -> None:
    record = Record().with_floor("digits", 3)
    assert record.with_floor("digits", 2) is record
    assert record.with_floor("doors", 1).with_floor("digits", 4).floors == {"digits": 4, "doors": 1}


def test_floors_outlive_the_record_and_a_lower_copy_never_exists(tmp_path: Path) -> None:
    path = tmp_path / "state"
    journal = open_journal(path)
    journal.commit(FULL)
    path.write_bytes(b"00000000 {}")
    assert salvage_record([("digits", ONE, 5)], salvage_floors(path)).floors == {"digits": 3}
    (tmp_path / "state.floors").write_bytes(b"00000000 {}")
    assert salvage_floors(path) == {}
    assert salvage_floors(tmp_path / "other") == {}
