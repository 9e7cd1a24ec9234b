"""The image repository under attack: each deviation is refused under its code and role."""

import hashlib
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import MetaFile, Snapshot, Targets

from device_agent.image_client import ImageRepository, OverloadedError, VerifiedManifest
from device_agent.journal import RoleMark
from device_agent.protocol.assignment import SlotAssignment
from device_agent.protocol.channels import Channel
from device_agent.protocol.errors import ProtocolError
from device_agent.protocol.key_material import all_material, key_material
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

    def look(
        self,
        assigned: SlotAssignment,
        *,
        slot: str = "digits",
        now: datetime | None = None,
        hardware: str = "camera",
        floor: int = 0,
        foreign_keys: frozenset[str] = frozenset(),
    ) -> VerifiedManifest:
        """Refresh and return the manifest."""
        url, now = f"{self._api.url}/tuf", now or datetime.now(UTC)
        repository = ImageRepository(self._transport, url, self.cache, self._bootstrap, now, foreign_keys=foreign_keys)
        self.marks = repository.refresh(self.marks)
        assert repository.issued
        return repository.manifest(slot, assigned, hardware=hardware, floor=floor)

    def lose_cache(self) -> None:
        """Leave what a loss of power may leave of files that were not synced."""
        for name in ("timestamp.json", "snapshot.json"):
            (self.cache / name).write_bytes(b"")


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
    unknown = replace(assigned, target="dev/digits/9/int8/manifest.json")
    assert label_of(device, unknown) == "E_NOT_IN_IMAGE_REPO"
    outside = replace(assigned, target="prod/digits/1/int8/manifest.json")
    assert label_of(device, outside) == "E_NOT_IN_IMAGE_REPO"


def test_a_target_that_was_withdrawn_is_refused(api: DeviceApi, device: Device) -> None:
    release = api.images.publish(a_manifest(version=2))
    device.look(release.assigned())
    api.images.withdraw(release)
    assert label_of(device, release.assigned()) == "E_NOT_IN_IMAGE_REPO"


def test_both_repositories_must_name_the_same_bytes_and_release(device: Device, assigned: SlotAssignment) -> None:
    mismatch = "E_DIRECTOR_IMAGE_MISMATCH"
    assert label_of(device, replace(assigned, sha256="0" * 64)) == mismatch
    assert label_of(device, replace(assigned, length=1)) == mismatch
    assert label_of(device, replace(assigned, release=assigned.release + 1)) == mismatch


@pytest.mark.parametrize("release", [None, "1", True])
def test_a_release_that_is_no_whole_number_is_a_mismatch(api: DeviceApi, device: Device, release: object) -> None:
    signed = api.images.publish(a_manifest(version=1), release=release)
    assert label_of(device, signed.assigned()) == "E_DIRECTOR_IMAGE_MISMATCH"


def test_a_manifest_signed_for_another_slot_is_refused(
    api: DeviceApi, device: Device, assigned: SlotAssignment
) -> None:
    assert label_of(device, assigned, slot="doors") == "E_WRONG_SLOT"
    other_slot = api.images.publish(a_manifest(version=2), slot="doors").assigned()
    assert label_of(device, other_slot) == "E_WRONG_SLOT"
    assert label_of(device, other_slot, slot="doors") == "E_WRONG_SLOT", "the manifest itself is of another model"


def test_a_manifest_signed_for_other_hardware_is_refused(api: DeviceApi, device: Device) -> None:
    signed = api.images.publish(a_manifest(version=2), hw=["gateway", "camera-2"]).assigned()
    assert label_of(device, signed) == "E_WRONG_HARDWARE"
    assert device.look(signed, hardware="gateway").manifest.version == 2
    assert label_of(device, api.images.publish(a_manifest(version=3), hw="camera").assigned()) == "E_WRONG_HARDWARE"


def test_a_release_below_the_floor_is_a_rollback_and_one_above_it_is_lawful(api: DeviceApi, device: Device) -> None:
    third, second = (api.images.publish(a_manifest(version=version)) for version in (3, 2))
    assert label_of(device, second.assigned(), floor=3) == "E_ROLLBACK[release]"
    assert device.look(third.assigned(), floor=3).floor == 0
    assert device.look(second.assigned(), floor=2).manifest.version == 2
    raising = api.images.publish(a_manifest(version=5), floor=4).assigned()
    assert device.look(raising, floor=2).floor == 4
    below_its_own = api.images.publish(a_manifest(version=6), floor=7).assigned()
    assert label_of(device, below_its_own) == "E_ROLLBACK[release]"
    senseless = api.images.publish(a_manifest(version=7), floor="8").assigned()
    assert label_of(device, senseless) == "E_MALFORMED[delegated]"


def test_a_released_manifest_is_found_under_its_own_role(api: DeviceApi, device: Device) -> None:
    released = api.images.publish(a_manifest(version=2), channel=Channel.PROD)
    assert device.look(released.assigned()).manifest.version == 2


def test_wrong_manifest_bytes_are_refused(api: DeviceApi, device: Device) -> None:
    assigned = api.images.publish(a_manifest(version=2), bad_bytes=True).assigned()
    assert label_of(device, assigned) == "E_HASH_MISMATCH[target]"


def test_a_manifest_longer_than_signed_is_refused(api: DeviceApi, device: Device, assigned: SlotAssignment) -> None:
    path = next(path for path in api.images.files if path.startswith("targets/"))
    api.images.files[path] += b" "
    assert label_of(device, assigned) == "E_ENDLESS_DATA[target]"


def test_a_signed_manifest_that_does_not_parse_is_refused(api: DeviceApi, device: Device) -> None:
    assigned = api.images.publish(a_manifest(version=2), raw=b'{"schema":1}').assigned()
    assert label_of(device, assigned) == "E_MALFORMED[manifest]"


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("1.targets", "E_HASH_MISMATCH[targets]"),
        ("1.dev", "E_SIG_THRESHOLD[delegated]"),
        ("2.bin-", "E_SIG_THRESHOLD[delegated]"),
    ],
)
def test_edited_metadata_is_refused_by_role(
    api: DeviceApi, device: Device, assigned: SlotAssignment, name: str, label: str
) -> None:
    path = next(path for path in api.images.files if path.startswith(f"metadata/{name}"))
    edited = re.sub(rb'("expires": ?")20', rb"\g<1>21", api.images.files[path])
    assert edited != api.images.files[path]
    api.images.files[path] = edited
    assert label_of(device, assigned) == label


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
    assert label_of(device, assigned) == "E_ROLLBACK_OR_MIX[timestamp]"


def test_an_older_repository_is_a_rollback_even_after_the_cache_was_lost(
    api: DeviceApi, device: Device, assigned: SlotAssignment
) -> None:
    old = dict(api.images.files)
    api.images.sign_top()
    device.look(assigned)
    device.lose_cache()
    api.images.files = old
    assert label_of(device, assigned) == "E_ROLLBACK[cache-lost]"


@pytest.mark.parametrize("cached", [True, False])
def test_two_timestamps_of_one_version_are_an_equivocation(
    api: DeviceApi, device: Device, assigned: SlotAssignment, *, cached: bool
) -> None:
    device.look(assigned)
    api.images.version -= 1
    api.images.sign_top(issued=datetime.now(UTC) + timedelta(seconds=2))
    if not cached:
        device.lose_cache()
    assert label_of(device, assigned) == "E_EQUIVOCATION[timestamp]"
    api.images.sign_top()
    assert device.look(assigned).sha256 == assigned.sha256


@pytest.mark.parametrize("cached", [True, False])
def test_two_snapshots_of_one_version_are_an_equivocation(
    api: DeviceApi, device: Device, assigned: SlotAssignment, *, cached: bool
) -> None:
    images = api.images
    device.look(assigned)
    path = f"metadata/{images.version}.snapshot.json"
    document = json.loads(images.files[path])["signed"]
    other = images.signed(Snapshot.from_dict({**document, "expires": "2099-01-01T00:00:00Z"}), "snapshot")
    images.files[path] = other
    named = MetaFile.from_data(images.version, other, ["sha256"])
    images.version += 1
    images.sign_timestamp(named)
    if not cached:
        device.lose_cache()
    assert label_of(device, assigned) == "E_EQUIVOCATION[snapshot]"
    images.sign_top()
    assert device.look(assigned).sha256 == assigned.sha256


def _second_id(signer: CryptoSigner) -> SSlibKey:
    public = signer.public_key
    return SSlibKey("f" * 64, public.keytype, public.scheme, {"public": public.keyval["public"].upper()})


def test_a_root_that_counts_one_key_twice_is_refused(api: DeviceApi, device: Device, assigned: SlotAssignment) -> None:
    images = api.images
    images.root.add_key(_second_id(images.keys["snapshot"]), "snapshot")
    images.rotate()
    assert label_of(device, assigned) == "E_KEY_REUSE[root]"


def test_a_delegation_that_counts_one_key_twice_is_refused(
    api: DeviceApi, device: Device, assigned: SlotAssignment
) -> None:
    images = api.images
    images.targets_version += 1
    path = f"metadata/{images.targets_version}.targets.json"
    signed = Targets.from_dict(json.loads(images.files["metadata/1.targets.json"])["signed"])
    signed.version = images.targets_version
    signed.add_key(_second_id(images.keys["dev"]), "dev")
    images.files[path] = images.signed(signed, "targets")
    images.sign_top()
    assert label_of(device, assigned) == "E_KEY_REUSE[targets]"


def test_a_key_that_also_speaks_for_the_director_is_refused(
    api: DeviceApi, device: Device, assigned: SlotAssignment
) -> None:
    shared = frozenset({key_material(api.images.keys["timestamp"].public_key)})
    assert label_of(device, assigned, foreign_keys=shared) == "E_KEY_REUSE[root]"
    assert device.look(assigned, foreign_keys=all_material(api.director.root.keys.values()))


def test_a_fast_forward_is_recovered_from_by_rotating_the_keys(
    api: DeviceApi, device: Device, assigned: SlotAssignment
) -> None:
    images = api.images
    honest = images.version
    images.version = 2**40
    images.sign_top()
    device.look(assigned)
    images.rotate("timestamp", "snapshot")
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
        (Fault(status=500), "E_HTTP_500[timestamp]"),
        (Fault(status=503), "E_HTTP_503[timestamp]"),
        (Fault(status=302), "E_HTTP_302[timestamp]"),
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
