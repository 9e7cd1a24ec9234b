"""Operator route for the state of trust: who holds which role, until when, and what of it needs somebody."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from securesystemslib.signer import Key

from controller.api.dependencies import READS, ServicesDep
from controller.trust.ceremonies.offline_documents import read_in_force
from controller.trust.ceremonies.role_changes import Trust
from controller.trust.ceremonies.trust_report import TrustFacts, trust_report
from controller.trust.custody.keys import OFFLINE, ONLINE, KeyName, KeyStore
from controller.trust.errors import KeyStoreError, SignedFilesError, SignerUnavailable, TrustMissing
from controller.trust.images.image_roles import RELEASE_PREFIX
from controller.wiring import Services

router = APIRouter(prefix="/api/v1", tags=["trust"], dependencies=[READS])
_ENCRYPTED = b"-----BEGIN ENCRYPTED"


@router.get("/trust")
def get_trust(services: ServicesDep) -> dict[str, Any]:
    """Show every role with its keys, threshold and expiry, and what needs a person."""
    present = read_in_force(services.settings.tuf_dir)
    if present is None:
        raise TrustMissing("no trust is installed yet; finish its ceremony: edgefleet key ceremony finish")
    return trust_report(present.trust, _facts(services, present.trust, present.pin), services.clock())


def _facts(services: Services, trust: Trust, pin: str) -> TrustFacts:
    settings, repository = services.settings, services.image_repository
    offline = settings.keys_dir / "offline"
    online = _online_keys(services)
    where = f"signer at {settings.signer_socket}" if settings.signer_socket else "the controller's own processes"
    return TrustFacts(
        single_operator=settings.is_single_operator,
        pin=pin,
        online=online,
        signer_place=where,
        signer_is_separate=bool(settings.signer_socket),
        online_encrypted=_is_encrypted(settings.signer_state_dir / "keys"),
        beside_controller=_local_keyids(offline),
        offline_encrypted=_is_encrypted(offline),
        releases=_release_expiries(services, trust),
        unsigned=tuple(repository.unsigned_releases()),
        behind=tuple(repository.behind()) if online else (),
    )


def _online_keys(services: Services) -> Mapping[KeyName, Key]:
    try:
        return {name: services.signer.public_key(name) for name in sorted(ONLINE)}
    except SignerUnavailable:
        return {}


def _local_keyids(folder: Path) -> frozenset[str]:
    found = set()
    if folder.is_dir():
        keys = KeyStore(folder, OFFLINE)
        for name in sorted(OFFLINE):
            with suppress(KeyStoreError):
                if (folder / f"{name}.pem").exists():
                    found.add(keys.signer(name).public_key.keyid)
    return frozenset(found)


def _is_encrypted(folder: Path) -> bool:
    """Say whether no key lies open below a folder; one that is not ours to read counts as closed."""
    with suppress(PermissionError):
        return all(path.read_bytes().startswith(_ENCRYPTED) for path in folder.glob("*.pem"))
    return True


def _release_expiries(services: Services, trust: Trust) -> dict[str, datetime]:
    found = {}
    for role in trust.roles():
        if role.startswith(RELEASE_PREFIX):
            # One whose signatures do not count any more is told of by itself.
            with suppress(SignedFilesError):
                released = services.image_repository.read_release(role.removeprefix(RELEASE_PREFIX))
                if released is not None:
                    found[role] = released.expires
    return found
