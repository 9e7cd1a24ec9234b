"""A thief with the controller's machine: database, disk, every online key, the director's among them. No release keys.

What the thief publishes is served over HTTP to the device's own verifier; nothing of the controller's code is asked.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Root, Targets

from device_agent.image_client import ImageRepository, VerifiedManifest
from device_agent.protocol.assignment import Assignment, Recipient, SlotAssignment, verify_assignment
from device_agent.protocol.channels import Channel
from device_agent.protocol.manifest import Manifest, target_path
from device_agent.transport import Transport
from tests.support.attacks import Group, attack, label_of
from tests.support.manifests import a_manifest
from tests.support.release_roles import BINS, MODEL, NOW, ROLE, ReleaseRepository, target_of
from tests.support.signed_repository import Director
from tests.support.static_files import StaticFiles, static_files

HONEST, EVIL = a_manifest(MODEL, 1), replace(a_manifest(MODEL, 2), source_sha256="0" * 64)


def path_of(manifest: Manifest, channel: str = "prod") -> str:
    return target_path(manifest.model, manifest.version, manifest.variant, channel)


@dataclass
class Stolen:
    """The repository in the thief's hands, and a device on the channel `prod` that looks at it."""

    served: StaticFiles
    repository: ReleaseRepository
    cache: Path
    marks: dict[str, object] = field(default_factory=dict)

    def place(self, manifest: Manifest, channel: str = "prod") -> None:
        """Serve a manifest's bytes."""
        folder, _, name = path_of(manifest, channel).rpartition("/")
        self.served.files[f"/tuf/targets/{folder}/{self.assigned(manifest).sha256}.{name}"] = manifest.to_bytes()

    def release(self, manifest: Manifest, *signers: str) -> None:
        """Publish a manifest in the release role, signed by these keys."""
        target = target_of(path_of(manifest), manifest.to_bytes(), slot=MODEL, release=manifest.version)
        self.repository.publish_role(self.repository.draft([target]), *signers)
        self.place(manifest)

    def assigned(self, manifest: Manifest, channel: str = "prod") -> SlotAssignment:
        """Return what the thief, who holds the director's key, assigns."""
        target = target_of(path_of(manifest, channel), manifest.to_bytes())
        sha256 = target.hashes["sha256"]
        return SlotAssignment(target.path, target.length, sha256, 0.0, "thief", manifest.version)

    def look(self, manifest: Manifest) -> VerifiedManifest:
        """Be the device: refresh, and take the manifest that is assigned."""
        url = f"{self.served.url}/tuf"
        seen = ImageRepository(Transport(), url, self.cache, self.repository.bootstrap, NOW)
        self.marks = seen.refresh(self.marks)  # type: ignore[arg-type, assignment]
        return seen.manifest(MODEL, self.assigned(manifest), hardware="camera")


@pytest.fixture
def stolen(tmp_path: Path) -> Iterator[Stolen]:
    """A repository with one lawful release that the device has seen."""
    with static_files() as served:
        made = Stolen(served, ReleaseRepository(served.files), tmp_path / "cache")
        made.release(HONEST, "alice", "bob")
        assert made.look(HONEST).manifest == HONEST
        yield made


@attack(
    Group.CONTROLLER,
    "a release role is signed with every online key",
    "E_SIG_THRESHOLD[delegated]",
)
def test_a_release_role_that_every_online_key_signed(stolen: Stolen) -> str:
    stolen.release(EVIL, "snapshot", "timestamp", "dev", "bins")
    return label_of(lambda: stolen.look(EVIL))


@attack(Group.CONTROLLER, "a draft that one of two people signed is published", "E_SIG_THRESHOLD[delegated]")
def test_a_half_signed_draft_that_is_published(stolen: Stolen) -> str:
    stolen.release(EVIL, "alice", "dev")
    return label_of(lambda: stolen.look(EVIL))


@attack(Group.CONTROLLER, "a stolen controller lists a prod path in a dev bin", "E_NOT_IN_IMAGE_REPO")
def test_a_prod_path_in_a_dev_bin(stolen: Stolen) -> str:
    name = BINS.get_role_for_target(path_of(EVIL))
    signed = stolen.repository.bins[name]
    signed.version += 1
    signed.targets[path_of(EVIL)] = target_of(path_of(EVIL), EVIL.to_bytes(), slot=MODEL, release=2)
    stolen.repository.put(name, signed, "bins")
    stolen.repository.commit()
    stolen.place(EVIL)
    return label_of(lambda: stolen.look(EVIL))


@attack(Group.CONTROLLER, "a release role is delegated to a key of the thief", "E_SIG_THRESHOLD[targets]")
def test_a_delegation_to_the_thiefs_key(stolen: Stolen) -> str:
    thief = CryptoSigner.generate_ed25519()
    stolen.repository.keys["thief"] = thief
    targets = stolen.repository.targets
    targets.version += 1
    targets.add_key(thief.public_key, ROLE)
    assert targets.delegations is not None
    assert targets.delegations.roles is not None
    targets.delegations.roles[ROLE].threshold = 1
    stolen.repository.put("targets", targets, "snapshot", "timestamp", "dev")
    stolen.release(EVIL, "thief")
    return label_of(lambda: stolen.look(EVIL))


@attack(Group.CONTROLLER, "a stolen controller publishes a root of its own", "E_SIG_THRESHOLD[root]")
def test_a_root_of_the_thief(stolen: Stolen) -> str:
    thief = CryptoSigner.generate_ed25519()
    stolen.repository.keys["thief"] = thief
    root = Root(version=2, expires=NOW + timedelta(days=365))
    for role in ("root", "targets", "snapshot", "timestamp"):
        root.add_key(thief.public_key, role)
    stolen.repository.put("root", root, "thief")
    return label_of(lambda: stolen.look(EVIL))


@attack(
    Group.CONTROLLER,
    "a withdrawn release is published with its old signatures",
    "E_ROLLBACK_OR_MIX[snapshot]",
)
def test_a_withdrawn_release_that_comes_back(stolen: Stolen) -> str:
    before = stolen.repository.role
    withdrawn = Targets(version=2, expires=NOW + timedelta(days=90), unrecognized_fields={"x-role": ROLE})
    stolen.repository.publish_role(withdrawn, "alice", "bob")
    assert label_of(lambda: stolen.look(HONEST)) == "E_NOT_IN_IMAGE_REPO"
    stolen.repository.role = before
    stolen.repository.commit()
    return label_of(lambda: stolen.look(HONEST))


@attack(Group.CONTROLLER, "a stolen director assigns other bytes under a released path", "E_DIRECTOR_IMAGE_MISMATCH")
def test_other_bytes_under_a_released_path(stolen: Stolen) -> str:
    evil = replace(HONEST, source_sha256="0" * 64)
    stolen.place(evil)
    return label_of(lambda: stolen.look(evil))


@attack(Group.CONTROLLER, "a stolen controller assigns its own dev target to a device on prod", "E_CHANNEL[assignment]")
def test_a_dev_target_for_a_prod_device(stolen: Stolen) -> str:
    director = Director()
    issued = NOW.replace(microsecond=0)
    slots: dict[str, SlotAssignment | None] = {MODEL: stolen.assigned(EVIL, "dev")}
    expires = issued + timedelta(hours=48)
    told = Assignment("dv_1", 1, issued, expires, slots, 60.0, "camera", Channel.PROD)
    raw, recipient = director.sign(told), Recipient("dv_1", "camera", Channel.PROD)
    return label_of(lambda: verify_assignment(raw, root=director.root, recipient=recipient, mark=None, now=NOW))


def test_the_same_release_with_both_signatures_is_accepted(stolen: Stolen) -> None:
    """The attacks above fail for their signatures and for nothing else."""
    stolen.release(EVIL, "alice", "bob")
    assert stolen.look(EVIL).manifest == EVIL
