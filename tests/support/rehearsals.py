"""Rehearsals of the runbooks: an installation whose offline keys people hold, its commands, and watching devices."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import Key, Signer
from tuf.api.metadata import Metadata

from controller.cli.errors import ExitCode
from controller.cli.main import run
from controller.trust.ceremonies import ceremony
from controller.trust.ceremonies.ceremony_folder import read_ceremony
from controller.trust.ceremonies.role_changes import RoleKeys, TrustPlan, new_trust
from controller.trust.custody.key_uris import file_uri, generate_key_file, open_signer
from controller.trust.custody.public_keys import write_public_key
from device_agent.protocol.assignment import VALIDITY, SlotAssignment
from device_agent.protocol.channels import Channel
from tests.support.attacked_device import AttackedDevice
from tests.support.attacks import label_of
from tests.support.key_holders import PEOPLE, Controller
from tests.support.manifests import manifest_bytes
from tests.support.signers import GOOD

ROLES = ("image-root", "image-targets", "director-root")
PAST = timedelta(hours=2)
"""How long ago the installation was made: what a test does now is newer by more than a clock's second."""


def slot_of(number: int, channel: str = "prod") -> SlotAssignment:
    """Return what an assignment says of a version of `digits`."""
    content = manifest_bytes(version=number)
    path = f"{channel}/digits/{number}/int8/manifest.json"
    return SlotAssignment(path, len(content), hashlib.sha256(content).hexdigest(), 0.0, "pin pi_1", number)


@dataclass(frozen=True)
class Bootstrap:
    """The root document that a device starts one of its two chains from."""

    bootstrap: bytes


@dataclass(frozen=True)
class Published:
    """The published files of a controller as a device is given them."""

    url: str
    images: Bootstrap
    director: Bootstrap


class WatchingDevice(AttackedDevice):
    """A device that runs something: it takes over what it verified, as the agent does, and nothing else."""

    active: str | None = None
    """sha256 of the manifest in the slot."""
    url: str
    """Where it looks."""

    def follow(self, envelope: bytes) -> str:
        """Take an assignment; return its label, `accepted` once the model is the active one."""
        found: list[str] = []
        label = label_of(lambda: found.extend(signed.sha256 for signed in self.take(envelope).values()))
        self.active = found[0] if found else self.active
        return label


@dataclass(frozen=True)
class Rehearsal:
    """One installation below a folder, and the machines of the people who hold its offline keys."""

    path: Path

    @property
    def state(self) -> Path:
        """The controller's state folder."""
        return self.path / "web" / "state"

    @property
    def site(self) -> Controller:
        """The same for the functions behind the commands."""
        return Controller(self.state)

    def copy_to(self, path: Path) -> "Rehearsal":
        """Return a copy that a test may change."""
        shutil.copytree(self.path, path)
        return Rehearsal(path)

    def key_file(self, name: str) -> Path:
        """Return somebody's key, made when it is first asked for; `.pub` lies beside it."""
        path = self.path / "people" / f"{name}.key"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            made = generate_key_file(path)
            write_public_key(self.public_file(name), made.public_key, name)
        return path

    def public_file(self, name: str) -> Path:
        """Return the public half, to hand out."""
        return self.path / "people" / f"{name}.key.pub"

    def signer(self, name: str) -> Signer:
        """Open somebody's key."""
        return open_signer(file_uri(self.key_file(name)))

    def key(self, name: str) -> Key:
        """Return the public half."""
        return self.signer(name).public_key

    def make(self) -> None:
        """Hold the first ceremony, publish versions 1 and 2 and release version 1, two hours ago."""
        then = now() - PAST
        held = {role: RoleKeys(tuple(self.key(f"{who}-{role}") for who in PEOPLE), 2) for role in ROLES}
        release = RoleKeys((self.key("rita"), self.key("sam")), 1)
        plan = TrustPlan(*held.values(), self.site.online(), {"digits": release})
        folder = self.path / "first"
        ceremony.start(folder, new_trust(plan, then), self.site.tuf_dir, "first trust")
        for role in ROLES:
            for who in PEOPLE[:2]:
                ceremony.sign(read_ceremony(folder), self.signer(f"{who}-{role}"), then)
        self.site.finish(folder, then)
        self.publish(1, 2, at=then + timedelta(seconds=5))
        self.release(1, "rita", at=then + timedelta(seconds=9))

    def publish(self, *numbers: int, at: datetime | None = None) -> None:
        """Publish versions of `digits` into the channel `dev`."""
        moment = at or now()
        self.site.repository(moment).publish([manifest_bytes(version=number) for number in numbers], moment)

    def release(self, number: int | None, name: str, at: datetime | None = None, floor: int | None = None) -> None:
        """Release a version with somebody's key; None signs the role again as it is."""
        moment = at or now()
        repository = self.site.repository(moment)
        manifests = [manifest_bytes(version=number)] if number else []
        document = repository.draft_release("digits", manifests, None, floor, (), moment)
        signed = Metadata[Any].from_bytes(document).sign(self.signer(name))
        repository.publish_release(repository.add_signature(document, signed), manifests, moment)

    def assign(self, slot: SlotAssignment, at: datetime | None = None) -> bytes:
        """Have the signer sign an assignment for the device."""
        moment = (at or now()).replace(microsecond=0)
        wanted = replace(
            GOOD, counter=int(moment.timestamp()), issued=moment, expires=moment + VALIDITY, slots={"digits": slot}
        )
        wanted = replace(wanted, channel=Channel(slot.target.partition("/")[0]))
        return self.site.signer(moment).sign_assignments([wanted.to_payload()])[0]

    def device(self, url: str, name: str = "device", wall: Callable[[], datetime] | None = None) -> WatchingDevice:
        """Return a device that was enrolled at the first ceremony; `url` serves `state`'s parent."""
        first = [self.site.tuf_dir / folder / "1.root.json" for folder in ("metadata", "director")]
        served = Published(f"{url}/state", *(Bootstrap(path.read_bytes()) for path in first))
        made = WatchingDevice(
            served,  # type: ignore[arg-type]
            self.path / name,
            channel=Channel.PROD,
            wall=wall or now,
            silence_s=5,
        )
        made.url = url
        return made

    def command(self, *arguments: str | Path) -> None:
        """Type `edgefleet ARGUMENTS`, which must succeed."""
        assert run([str(argument) for argument in arguments]) == ExitCode.OK, arguments

    def sign_and_finish(self, folder: Path, *names: str) -> None:
        """Carry a ceremony's folder to these holders, and back."""
        for name in names:
            self.command("key", "ceremony", "sign", folder, "--key", self.key_file(name), "--yes")
        self.command("key", "ceremony", "finish", folder)


def now() -> datetime:
    """Return the present moment."""
    return datetime.now(UTC)
