"""A small published repository and its signer, for tests of what the signer signs."""

import hashlib
from dataclasses import replace
from datetime import datetime

from controller.trust.signer.verbs import LocalSigner, open_local_signer
from device_agent.protocol.assignment import VALIDITY, Assignment, SlotAssignment
from device_agent.protocol.channels import Channel
from tests.support.image_repositories import NOW, Place
from tests.support.manifests import manifest_bytes

MANIFEST = manifest_bytes(version=1)
SHA256 = hashlib.sha256(MANIFEST).hexdigest()
SLOT = SlotAssignment("dev/digits/1/int8/manifest.json", len(MANIFEST), SHA256, 30.0, "pin pi_1", 1)
RELEASED = replace(SLOT, target="prod/digits/1/int8/manifest.json")
GOOD = Assignment(
    device="dv_1",
    counter=int(NOW.timestamp()),
    issued=NOW,
    expires=NOW + VALIDITY,
    slots={"digits": SLOT, "faces": None},
    poll_s=300.0,
    hardware="camera",
    channel=Channel.DEV,
)


def at(now: datetime, assignment: Assignment = GOOD) -> Assignment:
    """Return the assignment as it is issued at another time."""
    return replace(assignment, counter=int(now.timestamp()), issued=now, expires=now + VALIDITY)


def signer_of(place: Place, now: datetime = NOW) -> LocalSigner:
    """Open the place's signer, as one more process would, at a fixed time."""
    return open_local_signer(place.path / "signer", place.directory, clock=lambda: now)


def fill(place: Place, now: datetime = NOW) -> None:
    """Publish versions 1 and 2 of `digits`, release 1, and have an assignment signed."""
    place.repository().publish([manifest_bytes(version=1), manifest_bytes(version=2)], now)
    place.release([MANIFEST], now)
    signer_of(place, now).sign_assignments([at(now).to_payload()])
