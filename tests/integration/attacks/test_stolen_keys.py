"""Somebody has the controller's disk, database, broker or online keys; or an old backup was put back."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from controller.domain.errors import EdgefleetError
from controller.trust.custody.keys import KeyName
from controller.trust.images.lint import lint_apart, lint_root
from controller.trust.signer.verbs import LocalSigner
from device_agent.image_client import ImageRepository as DevicesView
from device_agent.journal import RoleMark
from device_agent.protocol.assignment import SlotAssignment
from device_agent.transport import Transport
from tests.integration.attacks.test_arbitrary_software import second_id
from tests.support.attacks import Group, attack, label_of
from tests.support.image_repositories import Place
from tests.support.manifests import manifest_bytes
from tests.support.served_folder import served
from tests.support.signers import GOOD, RELEASED, at, fill, signer_of

NOW = datetime.now(UTC).replace(microsecond=0)
MANIFEST = manifest_bytes(version=1)
NEW = manifest_bytes(version=7)
PROD_NEW = "prod/digits/7/int8/manifest.json"


class Device:
    """The agent's view of the published folder, over time."""

    def __init__(self, url: str, cache: Path, bootstrap: bytes) -> None:
        self._url, self._cache, self._bootstrap = url, cache, bootstrap
        self._marks: dict[str, RoleMark] = {}

    def look(self, target: str, content: bytes = MANIFEST, release: int = 1) -> None:
        """Refresh and verify one target, a minute after everything was signed."""
        now = datetime.now(UTC) + timedelta(minutes=1)
        view = DevicesView(Transport(silence_s=2), self._url, self._cache, self._bootstrap, now)
        self._marks = view.refresh(self._marks)
        digest = hashlib.sha256(content).hexdigest()
        view.manifest("digits", SlotAssignment(target, len(content), digest, 0, "", release), hardware="camera")


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("attacked"))
    place.install(NOW)
    fill(place, NOW)
    return place


@pytest.fixture
def place(filled: Place, tmp_path: Path) -> Place:
    return filled.copy_to(tmp_path / "place")


@pytest.fixture
def signer(place: Place) -> LocalSigner:
    return signer_of(place, datetime.now(UTC))


@pytest.fixture
def device(place: Place, tmp_path: Path) -> Iterator[Device]:
    with served(place.directory) as url:
        yield Device(url, tmp_path / "cache", (place.metadata / "1.root.json").read_bytes())


def code_of(act: Callable[[], object]) -> str:
    """Return the code of the refusal that an act ends in."""
    try:
        act()
    except EdgefleetError as error:
        return str(error.code)
    return "accepted"


def thief_signs_top(place: Place, role: str, raw: bytes) -> None:
    """Do with stolen online keys what a thief can: a new snapshot and timestamp that name a role's file."""
    keys = place.online_keys
    timestamp = Metadata[Timestamp].from_bytes((place.metadata / "timestamp.json").read_bytes())
    version = timestamp.signed.snapshot_meta.version
    snapshot = Metadata[Snapshot].from_bytes((place.metadata / f"{version}.snapshot.json").read_bytes())
    named = Metadata[Any].from_bytes(raw).signed.version
    (place.metadata / f"{named}.{role}.json").write_bytes(raw)
    snapshot.signed.meta[f"{role}.json"] = MetaFile.from_data(named, raw, ["sha256"])
    snapshot.signed.version += 1000
    snapshot.sign(keys.signer(KeyName.IMAGE_SNAPSHOT))
    content = snapshot.to_bytes()
    (place.metadata / f"{snapshot.signed.version}.snapshot.json").write_bytes(content)
    timestamp.signed.version += 1000
    timestamp.signed.snapshot_meta = MetaFile.from_data(snapshot.signed.version, content, ["sha256"])
    timestamp.sign(keys.signer(KeyName.IMAGE_TIMESTAMP))
    (place.metadata / "timestamp.json").write_bytes(timestamp.to_bytes())


def forged_release(place: Place, *signers: CryptoSigner) -> bytes:
    """Return the next document of the release role with one more version in it, signed by these keys."""
    document = Metadata[Targets].from_bytes((place.metadata / "1.prod-digits.json").read_bytes())
    forged = forged_target()
    document.signed.targets[PROD_NEW] = forged
    document.signed.version = 2
    document.signatures.clear()
    for signer in signers:
        document.sign(signer, append=True)
    path = place.directory / "targets" / forged.get_prefixed_paths()[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(NEW)
    return document.to_bytes()


def forged_target() -> TargetFile:
    target = TargetFile.from_data(PROD_NEW, NEW, ["sha256"])
    target.unrecognized_fields["custom"] = {"slot": "digits", "release": 7}
    return target


@attack(
    Group.CONTROLLER, "every online key is stolen, and a production model made with them", "E_SIG_THRESHOLD[delegated]"
)
def test_production_model_by_online_keys(place: Place, device: Device) -> str:
    device.look(RELEASED.target)
    online = [place.online_keys.signer(name) for name in (KeyName.IMAGE_BINS, KeyName.IMAGE_DEV, KeyName.DIRECTOR)]
    thief_signs_top(place, "prod-digits", forged_release(place, *online))
    return label_of(lambda: device.look(PROD_NEW, NEW, 7))


@attack(Group.CONTROLLER, "every online key and one release key of two are stolen", "E_SIG_THRESHOLD[delegated]")
def test_production_model_by_one_release_key(place: Place, device: Device) -> str:
    thief_signs_top(place, "prod-digits", forged_release(place, place.offline.signer("release-1")))
    return label_of(lambda: device.look(PROD_NEW, NEW, 7))


@attack(
    Group.CONTROLLER,
    "a thief of the online keys delegates the release role to a key of its own",
    "E_SIG_THRESHOLD[targets]",
)
def test_delegation_by_online_keys(place: Place, device: Device) -> str:
    targets = Metadata[Targets].from_bytes((place.metadata / "1.targets.json").read_bytes())
    targets.signed.add_key(place.offline.key("thief"), "prod-digits")
    targets.signed.version = 2
    targets.sign(place.online_keys.signer(KeyName.IMAGE_DEV))
    thief_signs_top(place, "targets", targets.to_bytes())
    return label_of(lambda: device.look(RELEASED.target))


@attack(Group.CONTROLLER, "what the right people sign, with the same stolen keys around", "accepted")
def test_the_same_release_by_the_right_people(place: Place, device: Device) -> str:
    people = [place.offline.signer(name) for name in ("release-1", "release-2")]
    thief_signs_top(place, "prod-digits", forged_release(place, *people))
    return label_of(lambda: device.look(PROD_NEW, NEW, 7))


# An old backup was put back: the published folder is older than what devices have seen.


@pytest.fixture
def restored(place: Place, device: Device, tmp_path: Path) -> Place:
    backup = tmp_path / "backup"
    shutil.copytree(place.directory, backup)
    place.repository().publish([NEW], NOW + timedelta(seconds=5))
    device.look("dev/digits/7/int8/manifest.json", NEW, 7)
    for name in ("metadata", "targets"):
        shutil.rmtree(place.directory / name)
        shutil.copytree(backup / name, place.directory / name)
    return place


@attack(Group.CONTROLLER, "the folder is restored and served as it is", "E_ROLLBACK_OR_MIX[timestamp]")
def test_restored_and_served(restored: Place, device: Device) -> str:
    return label_of(lambda: device.look(RELEASED.target))


@attack(
    Group.CONTROLLER,
    "the folder is restored, and only snapshot and timestamp are signed anew",
    "E_ROLLBACK_OR_MIX[snapshot]",
)
def test_restored_and_carried_on(restored: Place, device: Device) -> str:
    restored.repository().refresh(NOW + timedelta(days=2))
    return label_of(lambda: device.look(RELEASED.target))


@attack(Group.CONTROLLER, "the folder is restored and every online role issued again", "accepted")
def test_restored_and_reissued(restored: Place, device: Device) -> str:
    restored.repository().reissue(NOW + timedelta(seconds=20))
    return label_of(lambda: device.look(RELEASED.target))


# The signer, asked by whoever has the API host.


@attack(Group.CONTROLLER, "the signer is asked to sign a used version with other content", "E_SIGNER_ROLLBACK")
def test_version_signed_twice(signer: LocalSigner) -> str:
    def timestamp(snapshot: int) -> bytes:
        signed = Timestamp(2**40, expires=NOW + timedelta(days=6), snapshot_meta=MetaFile(snapshot))
        return Metadata[Any](signed).signed_bytes

    signer.sign_role("timestamp", timestamp(1))
    return code_of(lambda: signer.sign_role("timestamp", timestamp(2)))


@attack(Group.CONTROLLER, "the signer is asked for the counter of a restored database", "E_SIGNER_ROLLBACK")
def test_counter_of_the_past(signer: LocalSigner) -> str:
    now = datetime.now(UTC).replace(microsecond=0)
    old = replace(at(now), counter=int((now - timedelta(hours=3)).timestamp()))
    return code_of(lambda: signer.sign_assignments([old.to_payload()]))


@attack(Group.CONTROLLER, "the signer is asked to assign what nobody has published", "E_NOT_IN_IMAGE_REPO")
def test_assignment_of_an_unpublished_target(signer: LocalSigner) -> str:
    slot = replace(RELEASED, target=PROD_NEW, sha256=hashlib.sha256(NEW).hexdigest(), release=7)
    wanted = replace(at(datetime.now(UTC).replace(microsecond=0)), slots={"digits": slot})
    return code_of(lambda: signer.sign_assignments([wanted.to_payload()]))


@attack(Group.CONTROLLER, "the signer is asked to assign a released model that nobody approved", "E_NOT_APPROVED")
def test_assignment_without_approval(place: Place) -> str:
    (place.path / "signer" / "approvers.json").write_text(json.dumps([public_pem(place, "approver")]))
    signer = signer_of(place, datetime.now(UTC))
    wanted = replace(at(datetime.now(UTC).replace(microsecond=0), GOOD), slots={"digits": RELEASED})
    return code_of(lambda: signer.sign_assignments([wanted.to_payload()]))


def public_pem(place: Place, name: str) -> str:
    key = load_pem_private_key(place.offline.signer(name).private_bytes, None).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@attack(Group.CONTROLLER, "the signer is asked to sign a root", "E_SIGNER_VERB")
def test_root_by_the_signer(place: Place, signer: LocalSigner) -> str:
    root = Metadata[Root].from_bytes((place.metadata / "1.root.json").read_bytes())
    return code_of(lambda: signer.sign_role("root", root.signed_bytes))


@attack(Group.CONTROLLER, "the signer is asked to sign a release", "E_SIGNER_VERB")
def test_release_by_the_signer(place: Place, signer: LocalSigner) -> str:
    release = Metadata[Targets].from_bytes((place.metadata / "1.prod-digits.json").read_bytes())
    return code_of(lambda: signer.sign_role("prod-digits", release.signed_bytes))


@attack(Group.CONTROLLER, "the signer is asked for a bin that lists a production path", "E_SIGNER_CONTENT")
def test_prod_path_in_a_bin(signer: LocalSigner) -> str:
    listed = {PROD_NEW: forged_target()}
    signed = Targets(2**40, expires=NOW + timedelta(days=20), targets=listed)
    return code_of(lambda: signer.sign_role("bin-00", Metadata[Any](signed).signed_bytes))


# What is not published in the first place.


@attack(Group.CONTROLLER, "a root that counts one key under two ids is to be published", "E_LINT_DUPLICATE_KEY")
def test_lint_duplicate_key(place: Place) -> str:
    root = Metadata[Root].from_bytes((place.metadata / "1.root.json").read_bytes()).signed
    root.add_key(second_id(place.offline.signer("root-1")), "root")
    return code_of(lambda: lint_root(root))


@attack(Group.CONTROLLER, "a root that shares a key with the director's is to be published", "E_LINT_SHARED_KEY")
def test_lint_shared_key(place: Place) -> str:
    root = Metadata[Root].from_bytes((place.metadata / "1.root.json").read_bytes()).signed
    director = Root(expires=NOW + timedelta(days=9))
    director.add_key(place.offline.key("root-1"), "root")
    return code_of(lambda: lint_apart(root, director))
