"""Somebody sits on the link: endless answers, trickles, redirects, portals. And orders meant for others."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from securesystemslib.dsse import Envelope

from device_agent.protocol.time_answer import TIME_PAYLOAD_TYPE
from device_agent.transport import Pace, Transport
from tests.support.attacked_device import AttackedDevice
from tests.support.attacks import Group, attack, label_of
from tests.support.device_api import DeviceApi, Fault
from tests.support.manifests import a_manifest
from tests.support.signed_repository import BINS, Release, key

ENDLESS = b"{" * 600_000


def with_file(api: DeviceApi, device: AttackedDevice, release: Release, path: str, body: bytes) -> str:
    api.images.files[path] = body
    return device.outcome(device.assignment(release.assigned()))


def with_fault(api: DeviceApi, device: AttackedDevice, release: Release, path: str, fault: Fault) -> str:
    api.faults[f"/tuf/{path}"] = [fault]
    return device.outcome(device.assignment(release.assigned()))


@attack(Group.TRANSPORT, "an endless timestamp", "E_ENDLESS_DATA[timestamp]")
def test_endless_timestamp(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    return with_file(api, device, release, "metadata/timestamp.json", ENDLESS)


@attack(Group.TRANSPORT, "an endless next root", "E_ENDLESS_DATA[root]")
def test_endless_root(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    return with_file(api, device, release, "metadata/2.root.json", ENDLESS)


@attack(Group.TRANSPORT, "an endless next root of the director", "E_ENDLESS_DATA[director-root]")
def test_endless_director_root(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    api.director.roots[2] = ENDLESS
    return device.outcome(device.assignment(release.assigned()))


@attack(Group.TRANSPORT, "an endless bin", "E_ENDLESS_DATA[delegated]")
def test_endless_bin(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    return with_file(api, device, release, f"metadata/2.{BINS.get_role_for_target(release.target)}.json", ENDLESS)


@attack(Group.TRANSPORT, "a manifest longer than signed", "E_ENDLESS_DATA[target]")
def test_endless_target(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    path = next(path for path in api.images.files if path.startswith("targets/"))
    return with_file(api, device, release, path, api.images.files[path] + b" ")


@attack(Group.TRANSPORT, "an assignment of 70 kB", "E_ENDLESS_DATA[assignment]")
def test_endless_assignment(device: AttackedDevice, release: Release) -> str:
    return device.outcome(device.assignment(release.assigned()) + b" " * 70_000)


def paced(api: DeviceApi, path: str) -> Callable[[], object]:
    """Fetch a path as the agent does, with less patience than it has."""
    pace = Pace(deadline_s=10.0, minimum_bytes_s=200.0, grace_s=0.3)
    return lambda: Transport(silence_s=2).call("GET", f"{api.url}{path}", bytes_max=10_000, pace=pace)


@attack(Group.TRANSPORT, "a trickle of a few bytes a second, each within the socket's timeout", "E_SLOW_RETRIEVAL")
def test_trickle(api: DeviceApi, release: Release) -> str:
    api.faults["/tuf/metadata/timestamp.json"] = [Fault(byte_every_s=0.05)]
    return label_of(paced(api, "/tuf/metadata/timestamp.json"))


@attack(Group.TRANSPORT, "a server that stops talking", "E_NETWORK[timestamp]")
def test_stall(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    return with_fault(api, device, release, "metadata/timestamp.json", Fault(byte_every_s=0.7))


@attack(Group.TRANSPORT, "a connection cut in the middle", "E_NETWORK[timestamp]")
def test_cut(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    return with_fault(api, device, release, "metadata/timestamp.json", Fault(cut_after=10))


@attack(Group.TRANSPORT, "a redirect to another host", "E_HTTP_302[timestamp]")
def test_redirect(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    return with_fault(api, device, release, "metadata/timestamp.json", Fault(status=302))


@attack(Group.TRANSPORT, "an overloaded server", "E_HTTP_503[timestamp]")
def test_overloaded(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    return with_fault(api, device, release, "metadata/timestamp.json", Fault(status=503))


@attack(Group.TRANSPORT, "a captive portal answers 200 with a page", "E_MALFORMED[root]")
def test_captive_portal(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    return with_file(api, device, release, "metadata/2.root.json", b"<html>log in</html>")


@attack(Group.TRANSPORT, "lists nested 1900 deep", "E_MALFORMED[timestamp]")
def test_nested_lists(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    return with_file(api, device, release, "metadata/timestamp.json", b"[" * 1900 + b"]" * 1900)


@attack(Group.TRANSPORT, "an assignment that is no envelope", "E_MALFORMED[assignment]")
def test_assignment_of_noise(device: AttackedDevice) -> str:
    return device.outcome(b'{"payload": 7}')


# Orders that were meant for somebody else, or come from somebody who has no say.


@attack(Group.WRONG_DEVICE, "an assignment signed by another key", "E_SIG_THRESHOLD[assignment]")
def test_assignment_by_another_key(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    api.director.signer = key()
    return device.outcome(device.assignment(release.assigned()))


@attack(Group.WRONG_DEVICE, "an assignment with an edited payload", "E_SIG_THRESHOLD[assignment]")
def test_edited_payload(device: AttackedDevice, release: Release) -> str:
    document = json.loads(device.assignment(release.assigned()))
    edited = base64.b64decode(document["payload"]).replace(b'"poll_s":0.1', b'"poll_s":9.1')
    document["payload"] = base64.b64encode(edited).decode()
    return device.outcome(json.dumps(document).encode())


@attack(Group.WRONG_DEVICE, "another document of the director passed off as an assignment", "E_WRONG_TYPE[assignment]")
def test_other_type(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    payload = base64.b64decode(json.loads(device.assignment(release.assigned()))["payload"])
    envelope = Envelope(payload, TIME_PAYLOAD_TYPE, {})
    envelope.sign(api.director.signer)
    return device.outcome(json.dumps(envelope.to_dict()).encode())


@attack(Group.WRONG_DEVICE, "the assignment of another device", "E_WRONG_DEVICE[assignment]")
def test_other_device(device: AttackedDevice, release: Release) -> str:
    return device.outcome(device.assignment(release.assigned(), device="dv_2"))


@attack(Group.WRONG_DEVICE, "an assignment for other hardware", "E_WRONG_HARDWARE[assignment]")
def test_other_hardware(device: AttackedDevice, release: Release) -> str:
    return device.outcome(device.assignment(release.assigned(), hardware="gateway"))


@attack(Group.WRONG_DEVICE, "a stolen director assigns an image for other hardware", "E_WRONG_HARDWARE")
def test_image_for_other_hardware(api: DeviceApi, device: AttackedDevice) -> str:
    foreign = api.images.publish(a_manifest(version=2), hw=["gateway"])
    return device.outcome(device.assignment(foreign.assigned()))


@attack(Group.WRONG_DEVICE, "a stolen director assigns an image of another slot", "E_WRONG_SLOT")
def test_image_of_another_slot(api: DeviceApi, device: AttackedDevice) -> str:
    foreign = api.images.publish(a_manifest("doors"))
    return device.outcome(device.assignment(foreign.assigned()))


@attack(Group.WRONG_DEVICE, "a stolen director assigns what nobody has published", "E_NOT_IN_IMAGE_REPO")
def test_unknown_target(device: AttackedDevice, release: Release) -> str:
    unknown = replace(release.assigned(), target="dev/digits/99/int8/manifest.json")
    return device.outcome(device.assignment(unknown))


@attack(Group.WRONG_DEVICE, "a stolen director assigns what was withdrawn", "E_NOT_IN_IMAGE_REPO")
def test_withdrawn_target(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    api.images.withdraw(release)
    return device.outcome(device.assignment(release.assigned()))


@attack(Group.WRONG_DEVICE, "a stolen director gives a target another hash", "E_DIRECTOR_IMAGE_MISMATCH")
def test_other_hash(device: AttackedDevice, release: Release) -> str:
    return device.outcome(device.assignment(replace(release.assigned(), sha256="0" * 64)))


@attack(Group.WRONG_DEVICE, "a stolen director gives a target another release number", "E_DIRECTOR_IMAGE_MISMATCH")
def test_other_release(device: AttackedDevice, release: Release) -> str:
    return device.outcome(device.assignment(replace(release.assigned(), release=9)))


@attack(
    Group.WRONG_DEVICE, "the director's next root is not signed by the one before", "E_SIG_THRESHOLD[director-root]"
)
def test_director_root_without_its_predecessor(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    thief = key()
    api.director.root.revoke_key(api.director.root_key.public_key.keyid, "root")
    api.director.root.add_key(thief.public_key, "root")
    api.director.root.version = 2
    api.director.publish_root(thief)
    return device.outcome(device.assignment(release.assigned()))


@attack(Group.WRONG_DEVICE, "the director's second root is a copy of the first", "E_ROLLBACK[director-root]")
def test_director_root_replayed(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    api.director.roots[2] = api.director.roots[1]
    return device.outcome(device.assignment(release.assigned()))


@attack(Group.WRONG_DEVICE, "a damaged link of the director's chain in the cache", "accepted")
def test_damaged_director_cache(api: DeviceApi, device: AttackedDevice, release: Release, tmp_path: Path) -> str:
    api.director.rotate()
    device.follow_director()
    (cached,) = (tmp_path / "device" / "director-metadata").glob("2.root.json")
    cached.write_bytes(cached.read_bytes()[:100])
    again = AttackedDevice(api, tmp_path / "device")
    return again.outcome(again.assignment(release.assigned()))
