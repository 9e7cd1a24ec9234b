"""A device under attack: the agent's own verification, in the agent's order, over HTTP against whatever a thief serves.

What a device remembers from one look to the next - counter, marks, floors, the moments that both repositories have
signed - is kept as in its state record, so that an attack may span several looks, power cuts and rotations.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from device_agent.clock import DeviceClock
from device_agent.director_trust import DirectorTrust, director_root_fetcher
from device_agent.image_client import ImageRepository, VerifiedManifest
from device_agent.journal import Record
from device_agent.protocol.assignment import Recipient, SlotAssignment, VerifiedAssignment, verify_assignment
from device_agent.protocol.channels import Channel
from device_agent.protocol.time_answer import verify_time_answer
from device_agent.transport import Transport
from tests.support.attacks import label_of
from tests.support.device_api import DeviceApi
from tests.support.signed_repository import an_assignment

DEVICE = "dv_1"
HARDWARE = "camera"
SLOT = "digits"


def utc_now() -> datetime:
    """Return the present moment."""
    return datetime.now(UTC)


class AttackedDevice:
    """One device. Methods raise ProtocolError as the agent's own code does."""

    def __init__(
        self,
        api: DeviceApi,
        state: Path,
        *,
        channel: Channel = Channel.DEV,
        wall: Callable[[], datetime] = utc_now,
        silence_s: float = 0.5,
    ) -> None:
        self.record = Record()
        self.cache = state / "image-metadata"
        self.clock = DeviceClock(wall)
        self._api = api
        self._recipient = Recipient(DEVICE, HARDWARE, channel)
        self._transport = Transport(silence_s=silence_s)
        self._bootstrap = api.images.bootstrap
        self.director = DirectorTrust(state / "director-metadata", api.director.bootstrap, self._bootstrap)
        self._counter = 1000

    def now(self) -> datetime:
        """Return the device's best knowledge of the time."""
        return self.clock.now(self.record)

    def follow_director(self) -> None:
        """Follow the director's root chain over HTTP."""
        self.director.update(director_root_fetcher(self._transport, self._api.url), self.now())

    def verify(self, raw: bytes) -> VerifiedAssignment:
        """Verify an assignment as it came, and remember it."""
        assignment, mark = verify_assignment(
            raw, root=self.director.root, recipient=self._recipient, mark=self.record.mark, now=self.now()
        )
        self.record = replace(self.record, mark=mark, director_issued=assignment.issued)
        return assignment

    def take(self, raw: bytes) -> dict[str, VerifiedManifest]:
        """Do all that an agent does before it downloads: both roots, the assignment, every slot's manifest."""
        self.follow_director()
        assignment = self.verify(raw)
        return {slot: self.look(slot, assigned) for slot, assigned in assignment.slots.items() if assigned}

    def look(self, slot: str, assigned: SlotAssignment) -> VerifiedManifest:
        """Refresh the image repository and return the manifest of one slot."""
        url = f"{self._api.url}/tuf"
        repository = ImageRepository(
            self._transport, url, self.cache, self._bootstrap, self.now(), foreign_keys=self.director.keys
        )
        marks = repository.refresh(self.record.image_marks)
        issued = repository.issued or self.record.image_issued
        self.record = replace(self.record, image_marks=marks, image_issued=issued)
        floor = self.record.floors.get(slot, 0)
        signed = repository.manifest(slot, assigned, hardware=HARDWARE, floor=floor)
        self.record = replace(self.record, floors={**self.record.floors, slot: max(floor, signed.floor)})
        return signed

    def ask_time(self, answer: bytes, nonce: str) -> None:
        """Take an answer to a question about the time."""
        self.clock.correct(verify_time_answer(answer, root=self.director.root, nonce=nonce))

    def lose_cache(self) -> None:
        """Leave what a power cut may leave of files that were not synced."""
        for name in ("timestamp.json", "snapshot.json"):
            (self.cache / name).write_bytes(b"")

    def assignment(
        self, assigned: SlotAssignment, *, slot: str = SLOT, counter: int | None = None, **changes: object
    ) -> bytes:
        """Sign an assignment for this device with the director's key; `changes` are those of `an_assignment`."""
        self._counter = counter or self._counter + 1
        said = {"hardware": HARDWARE, "channel": self._recipient.channel, "device": DEVICE, **changes}
        device = str(said.pop("device"))
        named: dict[str, SlotAssignment | None] = {slot: assigned}
        return self._api.director.sign(an_assignment(device, self._counter, named, **said))  # type: ignore[arg-type]

    def outcome(self, raw: bytes) -> str:
        """Return what comes of an assignment: a label, or `accepted`."""
        return label_of(lambda: self.take(raw))
