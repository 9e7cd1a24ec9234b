"""What a device and the controller say to each other, besides manifests and assignments.

Reports are observations, never orders: the controller records them and decides for itself. A batch has an id,
and the controller applies each (device, batch) once, so a device may send it until it is acknowledged.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.fields import SHA256_HEX, Fields, format_utc, is_storable
from device_agent.protocol.histogram import Histogram
from device_agent.protocol.manifest import NAME
from device_agent.protocol.profile import DeviceProfile

SESSION_PAYLOAD_TYPE = "application/vnd.edgefleet.session.v1+json"
RENEWAL_PAYLOAD_TYPE = "application/vnd.edgefleet.renewal.v1+json"
REPORT_PAYLOAD_TYPE = "application/vnd.edgefleet.report.v1+json"
SIGNATURE_HEADER = "Edgefleet-Signature"
"""Carries a report's signature in base64: that of the device's key over the body, in DSSE's pre-authentication
encoding under REPORT_PAYLOAD_TYPE. The body travels as it is, a third smaller than inside an envelope."""
X25519_KEY = re.compile(r"[A-Za-z0-9+/]{43}=")
REPORT_BYTES_MAX = 256 * 1024
REPORT_ITEMS_MAX = 500


class LifecycleState(StrEnum):
    """Where an assignment of a slot stands on the device."""

    DOWNLOADING = "downloading"
    SOAKING = "soaking"
    HEALTHY = "healthy"
    FAILED = "failed"


class FailureStage(StrEnum):
    """In which part of its work a device gave an assignment up."""

    DOWNLOAD = "download"
    VERIFY = "verify"
    LOAD = "load"
    BEHAVIOUR = "behaviour"
    HEALTH = "health"
    RUNTIME = "runtime"


@dataclass(frozen=True)
class LifecycleItem:
    """A slot's assignment reached a state. `active` is the manifest that the slot runs at this moment."""

    slot: str
    counter: int
    manifest: str
    state: LifecycleState
    at: datetime
    active: str | None = None
    stage: FailureStage | None = None
    code: str | None = None
    message: str | None = None
    refused: bool = False
    """True when the device will not run this manifest again, whoever asks."""

    def to_json(self) -> dict[str, Any]:
        """Return the wire form."""
        return {"kind": "lifecycle", **vars(self), "at": format_utc(self.at)}

    @classmethod
    def read(cls, fields: Fields) -> "LifecycleItem":
        """Read one item; a failure must name its stage and code."""
        state = fields.one_of("state", LifecycleState)
        failed = state is LifecycleState.FAILED
        return cls(
            slot=fields.text("slot", pattern=NAME),
            counter=fields.integer("counter", least=1),
            manifest=fields.text("manifest", pattern=SHA256_HEX),
            state=state,
            at=fields.moment("at"),
            active=fields.optional_text("active", pattern=SHA256_HEX),
            stage=fields.one_of("stage", FailureStage) if failed else None,
            code=fields.text("code", most=64) if failed else None,
            message=fields.optional_text("message", most=2000),
            refused=fields.raw("refused") is True,
        )


@dataclass(frozen=True)
class ServingItem:
    """What one slot served in a window: counts and a latency histogram, never an input or an output."""

    slot: str
    manifest: str
    at: datetime
    window_s: float
    requests: int
    errors: int
    input_bytes: int
    """Bytes of input tensors answered on the device, which a central endpoint would have received."""
    latency: Histogram

    def to_json(self) -> dict[str, Any]:
        """Return the wire form."""
        return {"kind": "serving", **vars(self), "at": format_utc(self.at), "latency": self.latency.to_json()}

    @classmethod
    def read(cls, fields: Fields) -> "ServingItem":
        """Read one item."""
        return cls(
            slot=fields.text("slot", pattern=NAME),
            manifest=fields.text("manifest", pattern=SHA256_HEX),
            at=fields.moment("at"),
            window_s=fields.number("window_s"),
            requests=fields.integer("requests"),
            errors=fields.integer("errors"),
            input_bytes=fields.integer("input_bytes"),
            latency=Histogram.read(fields.child("latency")),
        )


ReportItem = LifecycleItem | ServingItem
_ITEM_KINDS: dict[str, Callable[[Fields], ReportItem]] = {
    "lifecycle": LifecycleItem.read,
    "serving": ServingItem.read,
}


@dataclass(frozen=True)
class ReportBatch:
    """Reports that travel together and are applied together, once."""

    batch: str
    """Chosen by the device when it cuts the batch; the same on every attempt."""
    boot: str
    """The device's boot id."""
    dropped: int
    """Items that the device's spool had to drop since the last batch."""
    items: tuple[ReportItem, ...]
    device: str
    """Who reports. The signature covers it, so a report is never another device's."""
    spool: str
    """Names the device's spool: a device that lost it begins a new one, with a new name."""
    seq: int
    """Counts the batches of the spool from 1. Two devices under one key give themselves away by it."""

    def to_json(self) -> dict[str, Any]:
        """Return the wire form."""
        return {
            "schema": 1,
            "batch": self.batch,
            "boot": self.boot,
            "dropped": self.dropped,
            "items": [item.to_json() for item in self.items],
            "device": self.device,
            "spool": self.spool,
            "seq": self.seq,
        }


def _read_item(fields: Fields) -> ReportItem:
    kind = fields.text("kind", most=32)
    read = _ITEM_KINDS.get(kind)
    if read is None:
        raise ProtocolError(Code.MALFORMED, f"report item of unknown kind {kind!r}", role="report")
    return read(fields)


def parse_report_batch(raw: bytes) -> ReportBatch:
    """Read a batch strictly."""
    if len(raw) > REPORT_BYTES_MAX:
        raise ProtocolError(Code.ENDLESS_DATA, f"report has {len(raw)} bytes; at most {REPORT_BYTES_MAX}")
    fields = Fields.from_json(raw, "report")
    fields.integer("schema", least=1, most=1)
    return ReportBatch(
        batch=fields.text("batch", most=64),
        boot=fields.text("boot", most=64),
        dropped=fields.integer("dropped"),
        items=fields.children("items", _read_item, most=REPORT_ITEMS_MAX),
        device=fields.text("device", most=64),
        spool=fields.text("spool", most=64),
        seq=fields.integer("seq", least=1),
    )


@dataclass(frozen=True)
class EnrolmentRequest:
    """How a machine becomes a device: a one-time token and a certificate signing request (P-256)."""

    token: str
    csr_pem: str
    name: str
    profile: DeviceProfile
    labels: dict[str, str]
    encryption_key: str
    """The device's X25519 public key (32 bytes, base64), to which content keys are wrapped."""
    serial: str | None = None
    """The machine's serial number, for tokens that are bound to one."""

    def to_json(self) -> dict[str, Any]:
        """Return the wire form."""
        return {**vars(self), "schema": 1, "profile": self.profile.to_json()}

    @classmethod
    def parse(cls, raw: bytes) -> "EnrolmentRequest":
        """Read a request strictly."""
        fields = Fields.from_json(raw, "enrolment")
        labels = fields.raw("labels") or {}
        fits = isinstance(labels, dict) and len(labels) <= 64
        if not fits or not all(_is_label(text) for pair in labels.items() for text in pair):
            raise ProtocolError(Code.MALFORMED, "enrolment.labels must be at most 64 short strings", role="enrolment")
        return cls(
            token=fields.text("token", most=256),
            csr_pem=fields.text("csr_pem", most=8192),
            name=fields.text("name", pattern=NAME),
            profile=DeviceProfile.read(fields.child("profile")),
            labels=dict(labels),
            encryption_key=fields.text("encryption_key", pattern=X25519_KEY),
            serial=fields.optional_text("serial", most=128),
        )


def _is_label(text: object) -> bool:
    return isinstance(text, str) and len(text) <= 128 and is_storable(text)


@dataclass(frozen=True)
class EnrolmentToken:
    """The text an operator hands to a machine: `eft_ID_SECRET_PIN`.

    PIN is the first half of the sha256 over both root documents (`trust_pin`), so that the machine can tell a
    false controller from the right one at its very first contact.
    """

    id: str
    secret: str
    pin: str

    def __str__(self) -> str:
        return f"eft_{self.id}_{self.secret}_{self.pin}"

    @classmethod
    def parse(cls, text: str) -> "EnrolmentToken":
        """Read the text; ProtocolError(MALFORMED) when it is not an enrolment token."""
        parts = text.strip().split("_")
        if len(parts) != 4 or parts[0] != "eft" or not all(parts):
            raise ProtocolError(Code.MALFORMED, "this is not an enrolment token (eft_ID_SECRET_PIN)", role="token")
        return cls(*parts[1:])


def trust_pin(image_root: bytes, director_root: bytes) -> str:
    """Return the pin of the two root documents that a device starts its trust from."""
    return hashlib.sha256(image_root + director_root).hexdigest()[:32]
