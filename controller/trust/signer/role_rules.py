"""Which documents of the image repository the signer signs: what it can see to be wrong by looking at them."""

import json
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from securesystemslib.formats import encode_canonical
from tuf.api.metadata import Signed, Snapshot, Targets, Timestamp

from controller.trust.errors import SignerCode, SignerRefused
from controller.trust.images.image_roles import BIN_ROLES, policy_of

CLOCKS_APART = timedelta(minutes=5)
"""How much later than here it may be where a document was made."""
_TOP: dict[str, type[Signed]] = {"timestamp": Timestamp, "snapshot": Snapshot, "dev": Targets}
_BINS = frozenset(BIN_ROLES)


@dataclass(frozen=True)
class RoleDocument:
    """The signed part of a role that may be signed."""

    role: str
    version: int


def check_role(role: str, signed: bytes, now: datetime, bin_keyids: AbstractSet[str]) -> RoleDocument:
    """Read the signed part of a role; SignerRefused where it is not what this role may say.

    `bin_keyids` are the keys of the bins, the only ones that `dev` may delegate to.
    """
    kind = _TOP.get(role) or (Targets if role in _BINS else None)
    if kind is None:
        raise SignerRefused(f"{role!r} is not a role that the signer signs", code=SignerCode.VERB)
    document = _read(role, signed, kind)
    lifetime = policy_of(role).lifetime
    if document.expires > now + lifetime + CLOCKS_APART:
        raise _refused(f"{role} expires {document.expires:%Y-%m-%d %H:%M}; at most {lifetime} from now is signed")
    if role == "dev":
        _check_dev(document, bin_keyids)
    elif isinstance(document, Targets):
        _check_bin(role, document)
    return RoleDocument(role, document.version)


def _read(role: str, signed: bytes, kind: type[Signed]) -> Signed:
    try:
        body: dict[str, Any] = json.loads(signed)
        if (encode_canonical(body) or "").encode() != signed:
            raise ValueError("it is not canonical JSON")  # noqa: TRY301
        if body["_type"] != kind.type:
            raise ValueError(f"it is a document of type {body['_type']!r}")  # noqa: TRY301
        return kind.from_dict(body)
    except Exception as error:  # the parsers raise what they come across
        raise _refused(f"{role} cannot be read: {error}") from error


def _check_dev(document: Signed, bin_keyids: AbstractSet[str]) -> None:
    assert isinstance(document, Targets)
    delegations = document.delegations
    if document.targets or delegations is None or delegations.succinct_roles is None:
        raise _refused("dev holds nothing itself and delegates all of it to the bins")
    bins = delegations.succinct_roles
    named = set(bins.keyids)
    if not named or not named <= bin_keyids or not delegations.keys.keys() <= bin_keyids:
        raise _refused("dev names a key for the bins that is not the signer's")
    if set(bins.get_roles()) != _BINS or bins.threshold != 1:
        raise _refused(f"dev must delegate to {len(_BINS)} bins with a threshold of 1")


def _check_bin(role: str, document: Targets) -> None:
    if document.delegations is not None:
        raise _refused(f"{role} delegates; bins do not")
    for path in document.targets:
        if not path.startswith("dev/"):
            raise _refused(f"{role} lists {path}; bins hold paths below dev/")


def _refused(detail: str) -> SignerRefused:
    return SignerRefused(detail, code=SignerCode.CONTENT)
