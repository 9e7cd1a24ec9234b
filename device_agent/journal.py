"""The state record: one small checksummed file that says what every slot runs. It is the only commit point.

The file holds one line, `CRC32 JSON`. A change writes a new file, syncs it, renames it over the old one and
syncs the directory, so a reader meets the old record or the new one. Model directories are immutable and are
named by the record alone; a directory that it does not name is rubbish.

The floors have a second file of the same form beside it (`state.floors`), because they are what a device cannot learn
again: a device whose record was lost must still refuse what was found to be dangerous.
"""

import json
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from device_agent.durable import replace_durably
from device_agent.protocol.assignment import CounterMark
from device_agent.protocol.errors import ProtocolError
from device_agent.protocol.fields import SHA256_HEX, Fields, format_utc
from device_agent.protocol.messages import FailureStage

REFUSALS_MAX = 32
"""Refused manifests kept per slot; the oldest is forgotten first."""


class JournalDamagedError(Exception):
    """The state record is there but cannot be read: its storage lost or changed bytes."""


@dataclass(frozen=True)
class Trial:
    """The active manifest is not confirmed yet."""

    boots: int
    """How often its loading has begun."""
    counter: int
    """The assignment that asked for it."""
    soak_s: float
    """How long it must stay healthy."""

    @classmethod
    def read(cls, fields: Fields) -> "Trial":
        """Read a trial."""
        return cls(fields.integer("boots"), fields.integer("counter"), fields.number("soak_s"))


@dataclass(frozen=True)
class Refusal:
    """Why this device will not run a manifest again."""

    counter: int
    """The assignment under which it failed."""
    stage: FailureStage
    code: str
    message: str

    @classmethod
    def read(cls, fields: Fields) -> "Refusal":
        """Read a refusal."""
        return cls(
            fields.integer("counter"),
            fields.one_of("stage", FailureStage),
            fields.text("code", most=64),
            fields.text("message", most=2000),
        )


@dataclass(frozen=True)
class SlotRecord:
    """One slot. Manifests are named by their sha256; `active` differs from `good` only while a trial is on."""

    active: str | None = None
    good: str | None = None
    trial: Trial | None = None
    refused: dict[str, Refusal] = field(default_factory=dict)

    def begin_trial(self, manifest: str, counter: int, soak_s: float) -> "SlotRecord":
        """Return the record with one more boot of this manifest's trial."""
        boots = self.trial.boots + 1 if self.trial and self.active == manifest else 1
        return replace(self, active=manifest, trial=Trial(boots, counter, soak_s))

    def confirm(self) -> "SlotRecord":
        """Return the record with the active manifest as the one to go back to."""
        return replace(self, good=self.active, trial=None)

    def end_trial(self) -> "SlotRecord":
        """Return the record with the confirmed manifest active again."""
        return replace(self, active=self.good, trial=None)

    def empty(self) -> "SlotRecord":
        """Return the record of a slot that runs nothing; it still knows what it refused."""
        return SlotRecord(refused=self.refused)

    def refuse(self, manifest: str, refusal: Refusal) -> "SlotRecord":
        """Return the record with a manifest that this device will not run again."""
        kept = {name: known for name, known in self.refused.items() if name != manifest}
        newest = list(kept.items())[-(REFUSALS_MAX - 1) :]
        return replace(self, refused={**dict(newest), manifest: refusal})

    @classmethod
    def read(cls, fields: Fields) -> "SlotRecord":
        """Read a slot."""
        trial = fields.raw("trial")
        refused = fields.named_children("refused", Refusal.read)
        return cls(
            active=fields.optional_text("active", pattern=SHA256_HEX),
            good=fields.optional_text("good", pattern=SHA256_HEX),
            trial=Trial.read(fields.child("trial")) if trial else None,
            refused={name: refusal for name, refusal in refused.items() if refusal},
        )


@dataclass(frozen=True)
class RoleMark:
    """The highest version seen of a role of the image repository, under the keys it was signed with."""

    epoch: str
    """Names the keys: a rotation starts the count anew, which is how a fast-forward is recovered from."""
    version: int
    digest: str = ""
    """sha256 of what was signed under that version; empty where it was not kept."""

    @classmethod
    def read(cls, fields: Fields) -> "RoleMark":
        """Read a mark; older agents kept no digest."""
        digest = fields.optional_text("digest", most=64) or ""
        return cls(fields.text("epoch", most=64), fields.integer("version"), digest)


@dataclass(frozen=True)
class Record:
    """Everything the agent must remember about what it runs and what it has believed."""

    slots: dict[str, SlotRecord] = field(default_factory=dict)
    mark: CounterMark | None = None
    """The newest assignment accepted."""
    image_marks: dict[str, RoleMark] = field(default_factory=dict)
    director_issued: datetime | None = None
    """When the newest accepted assignment says it was issued."""
    image_issued: datetime | None = None
    """When the newest accepted timestamp of the image repository says it was issued."""
    assignment_expires: datetime | None = None
    """Until when the newest accepted assignment is fresh."""
    floors: dict[str, int] = field(default_factory=dict)
    """By slot, the lowest release that this device still accepts; the image repository raises it, nothing lowers it."""

    def with_floor(self, slot: str, floor: int) -> "Record":
        """Return the record with a slot's floor raised to `floor`, if that is higher."""
        if floor <= self.floors.get(slot, 0):
            return self
        return replace(self, floors={**self.floors, slot: floor})

    def slot(self, name: str) -> SlotRecord:
        """Return the slot's record; a slot never heard of is empty."""
        return self.slots.get(name, SlotRecord())

    def with_slot(self, name: str, slot: SlotRecord) -> "Record":
        """Return the record with one slot changed."""
        return replace(self, slots={**self.slots, name: slot})

    def manifests(self) -> frozenset[str]:
        """Return every manifest that a slot runs or may go back to."""
        named = {name for slot in self.slots.values() for name in (slot.active, slot.good)}
        return frozenset(name for name in named if name)


def _moment(value: datetime | None) -> str | None:
    return format_utc(value) if value else None


def encode_record(record: Record) -> bytes:
    """Return the file's content: the CRC-32 of the JSON in hexadecimal, a space, the JSON, a newline."""
    body: dict[str, Any] = {
        "schema": 1,
        "slots": {name: asdict(slot) for name, slot in record.slots.items()},
        "mark": asdict(record.mark) if record.mark else None,
        "image_marks": {name: asdict(mark) for name, mark in record.image_marks.items()},
        "director_issued": _moment(record.director_issued),
        "image_issued": _moment(record.image_issued),
        "assignment_expires": _moment(record.assignment_expires),
        "floors": record.floors,
    }
    return _checked_line(body)


def _checked_line(body: dict[str, Any]) -> bytes:
    text = json.dumps(body, sort_keys=False, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _read_line(raw: bytes) -> Fields:
    checksum, _, text = raw.rstrip(b"\n").partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        raise JournalDamagedError("the checksum does not fit")
    return Fields.from_json(text, "journal")


def _read_floors(fields: Fields) -> dict[str, int]:
    """Read the floors; older agents kept none."""
    if fields.raw("floors") is None:
        return {}
    floors = fields.child("floors")
    return {name: floors.integer(name) for name in fields.raw("floors")}


def decode_record(raw: bytes) -> Record:
    """Read the file's content; JournalDamagedError unless checksum and every field fit."""
    try:
        fields = _read_line(raw)
        slots = fields.named_children("slots", SlotRecord.read)
        marks = fields.named_children("image_marks", RoleMark.read)
        return Record(
            slots={name: slot for name, slot in slots.items() if slot},
            mark=_read_counter_mark(fields.child("mark")) if fields.raw("mark") else None,
            image_marks={name: mark for name, mark in marks.items() if mark},
            director_issued=fields.moment("director_issued") if fields.raw("director_issued") else None,
            image_issued=fields.moment("image_issued") if fields.raw("image_issued") else None,
            assignment_expires=fields.moment("assignment_expires") if fields.raw("assignment_expires") else None,
            floors=_read_floors(fields),
        )
    except ProtocolError as error:
        raise JournalDamagedError(str(error)) from error


def _read_counter_mark(fields: Fields) -> CounterMark:
    return CounterMark(fields.text("epoch"), fields.integer("counter"), fields.text("digest"))


def salvage_record(models: Iterable[tuple[str, str, int]], floors: dict[str, int] | None = None) -> Record:
    """Return what to go on with when the record is lost: (slot, manifest, version) of every intact model are known.

    The lowest version of a slot is taken as confirmed, because a higher one may be a candidate that never was.
    What was refused and the marks against rollback are lost with the record; the next assignment sets them again.
    """
    slots: dict[str, SlotRecord] = {}
    for slot, manifest, _ in sorted(models, key=lambda model: model[2]):
        slots.setdefault(slot, SlotRecord(active=manifest, good=manifest))
    return Record(slots=slots, floors=floors or {})


class Journal:
    """The state record in its file. `record` is always what the file holds."""

    def __init__(self, path: Path, record: Record) -> None:
        """Take the record that the file holds; see `open_journal`."""
        self._path = path
        self.record = record

    def commit(self, record: Record) -> None:
        """Make the record durable; OSError leaves the old one in force, on disk and here."""
        if record == self.record:
            return
        if record.floors != self.record.floors:
            # First the copy: a floor may never be lower there than what was acted on.
            replace_durably(_floors_file(self._path), _checked_line({"floors": record.floors}))
        replace_durably(self._path, encode_record(record))
        self.record = record

    def commit_slot(self, name: str, slot: SlotRecord) -> None:
        """Make one slot's change durable."""
        self.commit(self.record.with_slot(name, slot))


def _floors_file(path: Path) -> Path:
    return path.with_name(path.name + ".floors")


def salvage_floors(path: Path) -> dict[str, int]:
    """Return the floors of the copy beside the record at `path`; none where it cannot be read either."""
    try:
        return _read_floors(_read_line(_floors_file(path).read_bytes()))
    except (OSError, ProtocolError, JournalDamagedError):
        return {}


def open_journal(path: Path) -> Journal:
    """Open the record, empty where there is no file yet; JournalDamagedError when it cannot be read."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return Journal(path, Record())
    return Journal(path, decode_record(raw))
