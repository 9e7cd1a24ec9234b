"""The image repository under attack: each deviation is refused under its code and role."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import MetaFile

from device_agent.image_client import ImageRepository, OverloadedError, VerifiedManifest
from device_agent.journal import RoleMark
from device_agent.protocol.assignment import SlotAssignment
from device_agent.protocol.errors import ProtocolError
from device_agent.transport import Transport
from tests.support.device_api import DeviceApi, Fault
from tests.support.manifests import a_manifest
from tests.support.signed_repository import key


class Device:
    """A device's view of the repository over time: its cache and its marks."""

    def __init__(self, api: DeviceApi, cache: Path) -> None:
        self.marks: dict[str, RoleMark] = {}
        self.cache = cache
        self._api = api
        self._bootstrap = api.images.bootstrap
        self._transport = Transport(silence_s=0.5)

    def look(self, assigned: SlotAssignment, *, slot: str = "digits", now: datetime | None = None) -> VerifiedManifest:
        """Refresh and return the manifest."""
        repository = ImageRepository(
            self._transport, f"{self._api.url}/tuf", self.cache, self._bootstrap, now or datetime.now(UTC)
        )
        self.marks = repository.refresh(self.marks)
        assert repository.issued
        return repository.manifest(slot, assigned)


@pytest.fixture
def device(api: DeviceApi, tmp_path: Path) -> Device:
    return Device(api, tmp_path / "cache")


@pytest.fixture
def assigned(api: DeviceApi) -> SlotAssignment:
    return api.images.publish(a_manifest()).assigned()


def label_of(device: Device, assigned: SlotAssignment, **changes: object) -> str:
    with pytest.raises(ProtocolError) as caught:
        device.look(assigned, **changes)  # type: ignore[arg-type]
    return caught.value.label


def test_what_both_sign_is_returned_with_its_exact_bytes(device: Device, assigned: SlotAssignment) -> None:
    signed = device.look(assigned)
    assert signed.manifest == a_manifest()
    assert hashlib.sha256(signed.raw).hexdigest() == assigned.sha256 == signed.sha256


def test_a_later_look_uses_what_is_new(api: DeviceApi, device: Device, assigned: SlotAssignment) -> None:
    device.look(assigned)
    second = api.images.publish(a_manifest(version=2))
    assert device.look(second.assigned()).manifest.version == 2


def test_a_target_that_the_repository_does_not_list_is_refused(device: Device, assigned: SlotAssignment) -> None:
    unknown = SlotAssignment("dev/digits/9/int8/manifest.json", assigned.length, assigned.sha256, 0, "")
    assert label_of(device, unknown) == "E_NOT_IN_IMAGE_REPO"
    outside = SlotAssignment("prod/digits/1/int8/manifest.json", assigned.length, assigned.sha256, 0, "")
    assert label_of(device, outside) == "E_NOT_IN_IMAGE_REPO"


def test_both_repositories_must_name_the_same_bytes_and_slot(
    api: DeviceApi, device: Device, assigned: SlotAssignment
) -> None:
    mismatch = "E_DIRECTOR_IMAGE_MISMATCH"
    assert label_of(device, SlotAssignment(assigned.target, assigned.length, "0" * 64, 0, "")) == mismatch
    assert label_of(device, SlotAssignment(assigned.target, 1, assigned.sha256, 0, "")) == mismatch
    assert label_of(device, assigned, slot="doors") == mismatch
    other_slot = api.images.publish(a_manifest(version=2), slot="doors").assigned()
    assert label_of(device, other_slot) == mismatch
    assert label_of(device, other_slot, slot="doors") == mismatch, "the manifest itself is of another model"


def test_wrong_manifest_bytes_are_refused(api: DeviceApi, device: Device) -> None:
    assigned = api.images.publish(a_manifest(version=2), bad_bytes=True).assigned()
    assert label_of(device, assigned) == "E_HASH_MISMATCH[manifest]"


def test_a_signed_manifest_that_does_not_parse_is_refused(api: DeviceApi, device: Device) -> None:
    assigned = api.images.publish(a_manifest(version=2), raw=b'{"schema":1}').assigned()
    assert label_of(device, assigned) == "E_MALFORMED[manifest]"


@pytest.mark.parametrize(("name", "role"), [("1.targets", "targets"), ("1.dev", "delegated"), ("2.bin-", "delegated")])
def test_edited_metadata_is_refused_by_role(
    api: DeviceApi, device: Device, assigned: SlotAssignment, name: str, role: str
) -> None:
    path = next(path for path in api.images.files if path.startswith(f"metadata/{name}"))
    document = json.loads(api.images.files[path])
    document["signed"]["expires"] = "2099-01-01T00:00:00Z"
    api.images.files[path] = json.dumps(document).encode()
    assert label_of(device, assigned) == f"E_SIG_THRESHOLD[{role}]"


def test_a_timestamp_by_a_strange_key_is_refused(api: DeviceApi, device: Device, assigned: SlotAssignment) -> None:
    device.look(assigned)
    api.images.version += 1
    api.images.sign_timestamp(MetaFile(api.images.version), signer=key())
    assert label_of(device, assigned) == "E_SIG_THRESHOLD[timestamp]"


def test_an_older_timestamp_is_a_rollback(api: DeviceApi, device: Device, assigned: SlotAssignment) -> None:
    old = dict(api.images.files)
    device.look(assigned)
    api.images.sign_top()
    device.look(assigned)
    api.images.files = old
    assert label_of(device, assigned) == "E_ROLLBACK[timestamp]"


def test_an_older_repository_is_a_rollback_even_after_the_cache_was_lost(
    api: DeviceApi, device: Device, assigned: SlotAssignment
) -> None:
    old = dict(api.images.files)
    api.images.sign_top()
    device.look(assigned)
    for name in ("timestamp.json", "snapshot.json"):
        (device.cache / name).write_bytes(b"")
    api.images.files = old
    assert label_of(device, assigned) == "E_ROLLBACK[timestamp]"


def test_a_fast_forward_is_recovered_from_by_rotating_the_keys(
    api: DeviceApi, device: Device, assigned: SlotAssignment
) -> None:
    images = api.images
    honest = images.version
    images.version = 2**40
    images.sign_top()
    device.look(assigned)
    for role in ("timestamp", "snapshot"):
        images.root.revoke_key(images.keys[role].public_key.keyid, role)
        images.keys[role] = key()
        images.root.add_key(images.keys[role].public_key, role)
    images.root.version = 2
    images.sign_root(images.keys["root"])
    images.version = honest
    images.sign_top()
    assert device.look(assigned).sha256 == assigned.sha256


def test_a_root_that_the_old_root_did_not_sign_is_refused(
    api: DeviceApi, device: Device, assigned: SlotAssignment
) -> None:
    images, thief = api.images, key()
    images.root.revoke_key(images.keys["root"].public_key.keyid, "root")
    images.root.add_key(thief.public_key, "root")
    images.root.version = 2
    images.sign_root(thief)
    assert label_of(device, assigned) == "E_SIG_THRESHOLD[root]"


def test_trust_starts_from_the_enrolled_root_whatever_the_cache_says(
    api: DeviceApi, device: Device, assigned: SlotAssignment, tmp_path: Path
) -> None:
    device.look(assigned)
    history = device.cache / "root_history" / "1.root.json"
    history.write_bytes(history.read_bytes().replace(b"root", b"toor"))
    assert device.look(assigned).sha256 == assigned.sha256


def test_time_is_the_devices_best_knowledge_and_not_its_clock(
    api: DeviceApi, device: Device, assigned: SlotAssignment
) -> None:
    later = datetime.now(UTC) + timedelta(days=366)
    assert label_of(device, assigned, now=later) == "E_FREEZE_EXPIRED[root]"
    api.images.lifetime = timedelta(days=1)
    api.images.sign_top()
    soon = datetime.now(UTC) + timedelta(days=2)
    assert label_of(device, assigned, now=soon) == "E_FREEZE_EXPIRED[timestamp]"
    assert device.look(assigned).sha256 == assigned.sha256


@pytest.mark.parametrize(
    ("path", "body", "label"),
    [
        ("metadata/timestamp.json", b" " * 20_000, "E_ENDLESS_DATA[timestamp]"),
        ("metadata/2.root.json", b"<html>log in</html>", "E_MALFORMED[root]"),
        ("metadata/timestamp.json", b"[" * 10_000, "E_MALFORMED[timestamp]"),
        ("metadata/1.targets.json", b" " * 600_000, "E_ENDLESS_DATA[targets]"),
    ],
)
def test_endless_and_senseless_answers_are_refused(
    api: DeviceApi, device: Device, assigned: SlotAssignment, path: str, body: bytes, label: str
) -> None:
    api.images.files[path] = body
    assert label_of(device, assigned) == label


@pytest.mark.parametrize(
    ("fault", "label"),
    [
        (Fault(status=500), "E_HTTP[timestamp]"),
        (Fault(status=302), "E_HTTP[timestamp]"),
        (Fault(cut_after=10), "E_NETWORK[timestamp]"),
        (Fault(byte_every_s=0.7), "E_NETWORK[timestamp]"),
    ],
)
def test_faults_of_the_link_keep_their_code_and_role(
    api: DeviceApi, device: Device, assigned: SlotAssignment, fault: Fault, label: str
) -> None:
    api.faults["/tuf/metadata/timestamp.json"] = [fault]
    assert label_of(device, assigned) == label


def test_a_busy_repository_says_when_to_come_back(api: DeviceApi, device: Device, assigned: SlotAssignment) -> None:
    api.faults["/tuf/metadata/timestamp.json"] = [Fault(status=503, retry_after="30")]
    with pytest.raises(OverloadedError) as caught:
        device.look(assigned)
    assert caught.value.seconds == 30
