"""From an assignment to a complete, verified model directory: the part of an update that needs the network.

It has two halves, because all slots of an assignment are verified before anything of any of them is downloaded.

Everything here may fail because of the link or the disk, and none of it is the model's fault, so none of it refuses
a manifest for good. Like a download, an acquisition is an iterator of waits.
"""

import logging
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from datetime import datetime
from random import Random
from typing import TypeVar

from device_agent.arrival import fetch_artifact
from device_agent.clock import DeviceClock
from device_agent.content_keys import ContentKeys
from device_agent.downloader import Downloader, DownloadLimits
from device_agent.failure import TRANSIENT
from device_agent.image_client import ImageRepository, OverloadedError, VerifiedManifest
from device_agent.journal import Journal
from device_agent.lifecycle import Found
from device_agent.polling import retry_s
from device_agent.protocol.assignment import SlotAssignment
from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.profile import DeviceProfile, incompatibilities
from device_agent.slots import ModelStore
from device_agent.time_question import TimeQuestion

_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Verified:
    """What may be downloaded: a manifest that both repositories sign, and the key where its artifacts are sealed."""

    signed: VerifiedManifest
    content_key: bytes | None = field(default=None, repr=False)


class Acquisition:
    """Brings manifests and artifacts to this device."""

    def __init__(
        self,
        *,
        open_repository: Callable[[datetime], ImageRepository],
        downloader: Downloader,
        store: ModelStore,
        journal: Journal,
        clock: DeviceClock,
        time: TimeQuestion,
        profile: DeviceProfile,
        limits: DownloadLimits,
        random: Random,
        content_keys: ContentKeys,
    ) -> None:
        """`open_repository` makes a new view of the image repository for the given time."""
        self._open_repository = open_repository
        self._downloader = downloader
        self._store = store
        self._journal = journal
        self._clock = clock
        self._time = time
        self._profile = profile
        self._limits = limits
        self._random = random
        self._content_keys = content_keys

    def verify(self, slot: str, assigned: SlotAssignment) -> Generator[float, None, Verified]:
        """Return the manifest that both repositories sign and this device can run; yield waits, as `download` does.

        UNWRAP where it is sealed and the assignment's key to it does not open here.
        """
        signed = yield from self._patiently(lambda: self._verified_manifest(slot, assigned))
        reasons = incompatibilities(signed.manifest.runtime, self._profile)
        if reasons:
            raise ProtocolError(Code.INCOMPATIBLE, f"the model {'; '.join(reasons)}", role="manifest")
        return Verified(signed, self._content_keys.key_to(signed, assigned))

    def download(self, verified: Verified) -> Generator[float]:
        """Make the model complete in the store; yield how long to wait before each next step.

        Raises ProtocolError, or OSError of the disk, when it is given up.
        """
        signed = verified.signed
        if self._store.inspect(signed.sha256) is Found.INTACT:
            return
        self._store.require_space(signed.manifest, signed.sha256)
        for entry in signed.manifest.artifacts:
            yield from fetch_artifact(entry, signed.sha256, self._downloader, self._store, verified.content_key)
        self._store.publish(signed.manifest, signed.raw, signed.sha256)

    def _verified_manifest(self, slot: str, assigned: SlotAssignment) -> VerifiedManifest:
        return self._time.in_time(lambda: self._look(slot, assigned))

    def _look(self, slot: str, assigned: SlotAssignment) -> VerifiedManifest:
        record = self._journal.record
        repository = self._open_repository(self._clock.now(record))
        marks = repository.refresh(record.image_marks)
        issued = repository.issued or record.image_issued
        self._journal.commit(replace(record, image_marks=marks, image_issued=issued))
        floor = self._journal.record.floors.get(slot, 0)
        signed = repository.manifest(slot, assigned, hardware=self._profile.name, floor=floor)
        # Remembered before it is acted on, so that what was found to be dangerous never comes back.
        self._journal.commit(self._journal.record.with_floor(slot, signed.floor))
        return signed

    def _patiently(self, operation: Callable[[], T]) -> Generator[float, None, T]:
        """Repeat an operation that the link or the server may have failed, within the limits of a download."""
        failures = 0
        while True:
            try:
                return operation()
            except ProtocolError as error:
                failures += 1
                if error.code not in TRANSIENT or failures >= self._limits.tries:
                    raise
                _log.info("trying again: %s", error)
                asked_s = error.seconds if isinstance(error, OverloadedError) else None
            yield retry_s(failures, self._limits.backoff, self._random, asked_s)
