"""Whether reports are their devices' own: signatures are checked in threads, with keys that the process remembers.

A key is forgotten when the change log names its device. Between the change and the hearing of it a report may be
signed by a key that is not known here yet; so what a remembered key did not sign is checked again with the key in
the database, before it is refused for good.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from controller.domain.errors import EdgefleetError, Forbidden, NotAllowed
from controller.domain.ids import DeviceId
from controller.store import changes, device_identities
from controller.store.database import Database
from controller.trust.errors import RefusalCode
from controller.trust.identity.report_signatures import is_report_signed, load_report_key
from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.messages import ReportBatch, parse_report_batch

KEYS_MAX = 50_000
"""About 110 MB; beyond it the key that was learned first is read again."""


@dataclass(frozen=True, slots=True)
class SentReport:
    """A report as it arrived in a device's session."""

    device: DeviceId
    body: bytes
    signature: bytes
    """Value of the signature's header, empty where it is missing."""


CheckedReport = ReportBatch | EdgefleetError | ProtocolError
"""A batch that its device has signed, or why it is refused."""


class RememberedKeys:
    """Devices' keys, ready to verify with. Safe to share between threads."""

    def __init__(self, keys_max: int = KEYS_MAX) -> None:
        """Know none yet."""
        self._keys: dict[DeviceId, EllipticCurvePublicKey] = {}
        self._keys_max = keys_max
        self._position = 0
        self._lock = Lock()

    def of(self, devices: Collection[DeviceId]) -> dict[DeviceId, EllipticCurvePublicKey]:
        """Return those that are known of the devices' keys."""
        with self._lock:
            return {device: self._keys[device] for device in devices if device in self._keys}

    def learn(self, seq: int, keys: Mapping[DeviceId, EllipticCurvePublicKey]) -> None:
        """Remember keys that were read when the change log stood at `seq`.

        What was read before a change that was heard of already would stay wrong for good, and is not remembered.
        """
        with self._lock:
            if seq < self._position:
                return
            for device, key in keys.items():
                if len(self._keys) >= self._keys_max and device not in self._keys:
                    del self._keys[next(iter(self._keys))]
                self._keys[device] = key

    def forget(self, devices: Collection[DeviceId], *, everything: bool, position: int) -> None:
        """Take in what the change log says up to a position."""
        with self._lock:
            if everything:
                self._keys.clear()
            for device in devices:
                self._keys.pop(device, None)
            self._position = position


class ReportChecks:
    """Checks reports, many at a time, for use in threads."""

    def __init__(self, database: Database) -> None:
        """Take the database that the keys are in."""
        self._database = database
        self.keys = RememberedKeys()

    def check(self, reports: Sequence[SentReport], *, trusts_memory: bool) -> list[CheckedReport]:
        """Say for every report, in order, what its device has said, or why it is refused.

        `trusts_memory` is False in a process that no longer hears of changes.
        """
        known = self.keys.of({report.device for report in reports}) if trusts_memory else {}
        signed = [_is_signed(report, known) for report in reports]
        doubtful = {report.device for report, good in zip(reports, signed, strict=True) if not good}
        if doubtful:
            newest = self._read(doubtful)
            known |= newest
            signed = [good or _is_signed(report, newest) for report, good in zip(reports, signed, strict=True)]
        return [_checked(report, report.device in known, good) for report, good in zip(reports, signed, strict=True)]

    def _read(self, devices: Collection[DeviceId]) -> dict[DeviceId, EllipticCurvePublicKey]:
        with self._database.reading() as tx:
            seq = changes.last_seq(tx)
            stored = device_identities.public_keys(tx, devices)
        keys = {device: key for device, pem in stored.items() if (key := load_report_key(pem))}
        self.keys.learn(seq, keys)
        return keys


def _is_signed(report: SentReport, keys: Mapping[DeviceId, EllipticCurvePublicKey]) -> bool:
    key = keys.get(report.device)
    return key is not None and is_report_signed(key, report.body, report.signature)


def _checked(report: SentReport, is_known: bool, is_signed: bool) -> CheckedReport:
    if not is_known:
        return NotAllowed("no session, or it is over; open a new one", code="session_over")
    if not is_signed:
        return ProtocolError(Code.SIGNATURE, "the report is not signed by the session's device", role="report")
    try:
        batch = parse_report_batch(report.body)
    except ProtocolError as error:
        return error
    if batch.device != report.device:
        detail = f"the report is {batch.device}'s, the session is that of {report.device}"
        return Forbidden(detail, code=RefusalCode.WRONG_DEVICE)
    return batch
