"""A ceremony as people hold it: keys with passphrases on machines of their own, and a stick that goes round."""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from controller.cli.errors import ExitCode
from controller.cli.main import run
from controller.store.audit import audit_entries
from controller.store.database import Database, open_engine
from controller.store.migrate import upgrade
from controller.trust.ceremonies.offline_documents import read_in_force
from controller.trust.ceremonies.role_changes import ONLINE_ROLES, DocumentName
from controller.trust.custody.keys import ONLINE, KeyName, KeyStore
from controller.trust.images.image_repository import ImageRepository
from controller.trust.signer.verbs import open_local_signer
from tests.support.image_client import ImageClient

PLAN = """
image-root:
  threshold: 2
  keys: [alice-image.pub, bob-image.pub, carol-image.pub]
image-targets:
  threshold: 2
  keys: [alice-targets.pub, bob-targets.pub, carol-targets.pub]
director-root:
  threshold: 2
  keys: [alice-director.pub, bob-director.pub, carol-director.pub]
releases:
  digits:
    threshold: 1
    keys: [rita-release.pub, sam-release.pub]
"""
KEYS = {"alice": "image targets director", "bob": "image targets director", "carol": "image targets director"}
RELEASE_KEYS = {"rita": "release", "sam": "release"}


@dataclass(frozen=True)
class World:
    """The controller's host, the machines of people, and the stick between them."""

    path: Path
    monkeypatch: pytest.MonkeyPatch

    @property
    def state(self) -> Path:
        return self.path / "host" / "state"

    @property
    def stick(self) -> Path:
        return self.path / "stick"

    def on_host(self, *arguments: str) -> int:
        """Run a command on the controller's host."""
        self.monkeypatch.setenv("EDGEFLEET_KEY_PASSPHRASE", "passphrase of the host")
        return run(["key", *arguments, "--state-dir", str(self.state)])

    def by(self, who: str, *arguments: str) -> int:
        """Run a command on somebody's machine, with their passphrase."""
        self.monkeypatch.setenv("EDGEFLEET_KEY_PASSPHRASE", f"passphrase of {who}")
        return run(["key", *arguments])

    def generate(self, who: str, kinds: str) -> None:
        """Make somebody's keys, and hand their public halves to the host."""
        for kind in kinds.split():
            key = self.path / who / f"{who}-{kind}"
            assert self.by(who, "generate", str(key), "--name", who) == ExitCode.OK
            shutil.copy(key.with_name(f"{key.name}.pub"), self.path / "host")

    def sign(self, who: str, kind: str) -> int:
        """Carry the stick to somebody, let them sign, and carry it back."""
        carried = self.path / who / "stick"
        shutil.rmtree(carried, ignore_errors=True)
        shutil.copytree(self.stick, carried)
        code = self.by(who, "ceremony", "sign", str(carried), "--key", str(self.path / who / f"{who}-{kind}"), "--yes")
        shutil.copytree(carried, self.stick, dirs_exist_ok=True)
        return code

    def hold(self, *signatures: str) -> None:
        """Let people sign, `alice-image` and so on, finish, and put the stick away."""
        for signature in signatures:
            who, _, kind = signature.partition("-")
            assert self.sign(who, kind) == ExitCode.OK
        assert self.on_host("ceremony", "finish", str(self.stick)) == ExitCode.OK
        shutil.rmtree(self.stick)

    def repository(self) -> ImageRepository:
        """Open the image repository."""
        return ImageRepository(self.state / "tuf", open_local_signer(self.state / "signer", self.state / "tuf"))


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three people have held the first ceremony of an installation; tests change copies of it."""
    path = tmp_path_factory.mktemp("founded")
    with pytest.MonkeyPatch.context() as monkeypatch:
        world = _at(path, monkeypatch)
        (path / "host").mkdir()
        for who, kinds in (KEYS | RELEASE_KEYS).items():
            world.generate(who, kinds)
        plan = path / "host" / "plan.yaml"
        plan.write_text(PLAN)
        assert world.on_host("ceremony", "start", "--plan", str(plan), "--folder", str(world.stick)) == ExitCode.OK
        world.hold("alice-image", "alice-director", "alice-targets", "carol-image", "bob-targets", "bob-director")
    return path


@pytest.fixture
def world(founded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A copy of the installation and of everybody's machine."""
    shutil.copytree(founded, tmp_path / "world")
    return _at(tmp_path / "world", monkeypatch)


def _at(path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.chdir(path)
    monkeypatch.setenv("EDGEFLEET_SINGLE_OPERATOR", "false")
    monkeypatch.setenv("EDGEFLEET_STATE_DIR", str(path / "host" / "state"))
    return World(path, monkeypatch)


def _signatures(name: KeyName) -> tuple[str, ...]:
    return {
        DocumentName.IMAGE_ROOT: ("alice-image", "bob-image"),
        DocumentName.IMAGE_TARGETS: ("alice-targets", "carol-targets"),
        DocumentName.DIRECTOR_ROOT: ("bob-director", "carol-director"),
    }[ONLINE_ROLES[name][0]]


def test_a_device_follows_through_a_rotation_of_every_key_of_the_signer(world: World, tmp_path: Path) -> None:
    device = ImageClient(world.state / "tuf", tmp_path / "device")
    device.refreshed(datetime.now(UTC))
    keys = KeyStore(world.state / "signer" / "keys", ONLINE, "passphrase of the host")
    for name in sorted(ONLINE):
        before = keys.signer(name).public_key.keyid

        assert world.on_host("rotate", name, "--folder", str(world.stick)) == ExitCode.OK
        if name in ONLINE_ROLES:
            assert keys.signer(name).public_key.keyid == before
            world.hold(*_signatures(name))

        assert keys.signer(name).public_key.keyid != before
        assert keys.pending(name) is None
        # Nothing but the published files tells the device.
        updater = device.refreshed(datetime.now(UTC))
        assert updater.get_targetinfo("dev/digits/1/fp32/manifest.json") is None
    present = read_in_force(world.state / "tuf")
    assert present
    for name, (document, role) in ONLINE_ROLES.items():
        holder = present.trust.document(document)
        assert holder.get_delegated_role(role).keyids == [keys.signer(name).public_key.keyid]
    world.repository().refresh(datetime.now(UTC) + timedelta(minutes=4))


def test_a_stolen_release_key_is_revoked_and_the_audit_log_says_so(world: World, tmp_path: Path) -> None:
    device = ImageClient(world.state / "tuf", tmp_path / "device")
    device.refreshed(datetime.now(UTC))
    upgrade(f"sqlite:///{world.state / 'controller.db'}")
    present = read_in_force(world.state / "tuf")
    assert present
    stolen = next(key for key in present.trust.role("prod-digits").keys if "rita" in str(key.unrecognized_fields))

    assert world.on_host("revoke", stolen.keyid[:12], "--folder", str(world.stick)) == ExitCode.OK
    world.hold("bob-targets", "carol-targets")

    after = read_in_force(world.state / "tuf")
    assert after
    assert [str(key.unrecognized_fields["x-edgefleet-name"]) for key in after.trust.role("prod-digits").keys] == ["sam"]
    device.refreshed(datetime.now(UTC))
    with Database(open_engine(f"sqlite:///{world.state / 'controller.db'}")).reading() as tx:
        (entry, _) = list(audit_entries(tx))[-1]
    assert entry.action == "trust.changed"
    assert set(entry.detail) == {"summary", "image-targets"}
    assert stolen.keyid[:16] in entry.detail["summary"]


def test_a_lost_root_key_is_replaced_by_its_holders_new_one(world: World, tmp_path: Path) -> None:
    device = ImageClient(world.state / "tuf", tmp_path / "device")
    present = read_in_force(world.state / "tuf")
    assert present
    lost = next(key for key in present.trust.role("image-root").keys if "bob" in str(key.unrecognized_fields))
    world.generate("bob", "second")

    replacement = ["--replacement", str(world.path / "host" / "bob-second.pub")]
    assert world.on_host("revoke", lost.keyid, *replacement, "--folder", str(world.stick)) == ExitCode.OK
    world.hold("alice-image", "carol-image")

    device.refreshed(datetime.now(UTC))
    after = read_in_force(world.state / "tuf")
    assert after
    assert lost.keyid not in {key.keyid for key in after.trust.role("image-root").keys}
    assert world.on_host("ceremony", "start", "--renew", "--folder", str(world.stick)) == ExitCode.OK
    world.hold("bob-second", "carol-image", "alice-targets", "bob-targets", "alice-director", "carol-director")
    assert device.refreshed(datetime.now(UTC))._trusted_set.root.version == 3


def test_the_wrong_passphrase_signs_nothing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.on_host("ceremony", "start", "--renew", "--folder", str(world.stick)) == ExitCode.OK

    key = str(world.path / "alice" / "alice-image")
    assert world.by("mallory", "ceremony", "sign", str(world.stick), "--key", key, "--yes") == ExitCode.ERROR

    assert "does not open with this passphrase" in capsys.readouterr().err
    assert world.by("alice", "ceremony", "status", str(world.stick)) == ExitCode.NOT_COMPLETED


def test_a_stick_of_another_installation_is_told_by_its_pin(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.on_host("ceremony", "start", "--renew", "--folder", str(world.stick)) == ExitCode.OK

    sign = ["ceremony", "sign", str(world.stick), "--key", str(world.path / "alice" / "alice-image"), "--yes"]
    assert world.by("alice", *sign, "--pin", "0" * 32) == ExitCode.CONFLICT

    present = read_in_force(world.state / "tuf")
    assert present
    assert world.by("alice", *sign, "--pin", present.pin) == ExitCode.OK
    assert f"installation {present.pin}" in capsys.readouterr().err


def test_private_keys_are_encrypted_and_never_on_the_stick(world: World) -> None:
    assert world.on_host("ceremony", "start", "--renew", "--folder", str(world.stick)) == ExitCode.OK

    keys = [path for who in (KEYS | RELEASE_KEYS) for path in (world.path / who).glob(f"{who}-*[!b]")]
    assert len(keys) == 11
    assert all(key.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY") for key in keys)
    assert all(key.stat().st_mode & 0o777 == 0o600 for key in keys)
    carried = b"".join(path.read_bytes() for path in world.stick.rglob("*") if path.is_file())
    assert b"PRIVATE KEY" not in carried
