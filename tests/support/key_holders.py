"""People with keys, and plans of who holds what, for tests of trust."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner, Key, Signer

from controller.trust.ceremonies.ceremony import Finished, finish, sign
from controller.trust.ceremonies.ceremony_folder import read_ceremony
from controller.trust.ceremonies.offline_documents import read_in_force
from controller.trust.ceremonies.role_changes import (
    ONLINE_ROLES,
    DocumentName,
    Documents,
    RoleKeys,
    Trust,
    TrustPlan,
    new_trust,
)
from controller.trust.custody.keys import ONLINE, KeyName, KeyStore
from controller.trust.durable_files import Write, write_durably
from controller.trust.images.image_repository import ImageRepository
from controller.trust.signer.verbs import LocalSigner, open_local_signer

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Holders:
    """Signers by name, made when they are first asked for."""

    def __init__(self) -> None:
        self._signers: dict[str, CryptoSigner] = {}

    def signer(self, name: str) -> Signer:
        """Return somebody's key."""
        return self._signers.setdefault(name, CryptoSigner.generate_ed25519())

    def key(self, name: str) -> Key:
        """Return the public half of somebody's key."""
        return self.signer(name).public_key

    def keys(self, *names: str) -> tuple[Key, ...]:
        """Return the public halves of several keys."""
        return tuple(map(self.key, names))


PEOPLE = ("alice", "bob", "carol")


def plan_for(
    holders: Holders, online: Mapping[KeyName, Key] | None = None, *, root_threshold: int = 2, **releases: RoleKeys
) -> TrustPlan:
    """Return a plan with roots of 2 of 3, targets of 1 of 2; each person has a key for each role."""
    return TrustPlan(
        image_root=RoleKeys(holders.keys(*(f"{who}-image" for who in PEOPLE)), root_threshold),
        image_targets=RoleKeys(holders.keys("alice-targets", "bob-targets"), 1),
        director_root=RoleKeys(holders.keys(*(f"{who}-director" for who in PEOPLE)), root_threshold),
        online=online or {name: holders.key(name) for name in ONLINE_ROLES},
        releases=releases,
    )


def trust_of(documents: Documents) -> Trust:
    """Return the trust that three unsigned documents make."""
    signed: dict[DocumentName, Any] = dict(documents)
    return Trust(
        *(signed[name] for name in (DocumentName.IMAGE_ROOT, DocumentName.IMAGE_TARGETS, DocumentName.DIRECTOR_ROOT))
    )


def trust_for(holders: Holders, **releases: RoleKeys) -> Trust:
    """Return the trust of `plan_for`, as it would be in force."""
    return trust_of(new_trust(plan_for(holders, **releases), NOW))


@dataclass(frozen=True)
class Controller:
    """An installation below one folder; every call is a process that starts anew."""

    path: Path

    @property
    def tuf_dir(self) -> Path:
        return self.path / "tuf"

    @property
    def offline_keys(self) -> Path:
        return self.path / "keys" / "offline"

    def signer(self, now: datetime = NOW) -> LocalSigner:
        """Open the signer, whose clock stands at `now`."""
        return open_local_signer(self.path / "signer", self.tuf_dir, clock=lambda: now)

    def online_keys(self) -> KeyStore:
        """Open the signer's keys."""
        return KeyStore(self.path / "signer" / "keys", ONLINE)

    def online(self) -> dict[KeyName, Key]:
        """Return the public keys that offline documents name."""
        signer = self.signer()
        return {name: signer.public_key(name) for name in ONLINE_ROLES}

    def trust(self) -> Trust:
        """Return what is in force."""
        present = read_in_force(self.tuf_dir)
        assert present
        return present.trust

    def finish(self, folder: Path, now: datetime = NOW, write: Write = write_durably) -> Finished:
        """Finish a ceremony here."""
        return finish(folder, self.tuf_dir, self.signer(now), now, online_keys=self.online_keys(), write=write)

    def repository(self, now: datetime = NOW) -> ImageRepository:
        """Open the image repository."""
        return ImageRepository(self.tuf_dir, self.signer(now))

    def copy_to(self, path: Path) -> "Controller":
        """Return a copy that a test may change."""
        shutil.copytree(self.path, path)
        return Controller(path)


def sign_by(holders: Holders, folder: Path, *names: str, now: datetime = NOW) -> None:
    """Let people sign a ceremony, one after the other, each from what is in the folder then."""
    for name in names:
        sign(read_ceremony(folder), holders.signer(name), now)
