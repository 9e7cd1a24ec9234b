"""Who may do what: scopes, and roles as named sets of them, so that another login can grant roles later.

A scope lets somebody do one kind of thing; a token carries scopes. Whoever proposes a rollout of a released version
never approves it (`two_persons_needed`): one stolen token then moves no device on the channel `prod`. A token with
`operators:admin` can make two persons up, which the audit log shows; where that is too much, approvals are signed.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from ipaddress import ip_address, ip_network

from controller.domain.errors import Forbidden, InvalidInput


class Scope(StrEnum):
    """One kind of thing that an operator may do."""

    READ = "read"
    MODELS_WRITE = "models:write"
    RELEASES_PROPOSE = "releases:propose"
    ROLLOUTS_PROPOSE = "rollouts:propose"
    ROLLOUTS_APPROVE = "rollouts:approve"
    DEVICES_ENROL = "devices:enrol"
    DEVICES_REVOKE = "devices:revoke"
    KEYS_ADMIN = "keys:admin"
    OPERATORS_ADMIN = "operators:admin"
    AUDIT_READ = "audit:read"


S = Scope

ROLES: dict[str, frozenset[Scope]] = {
    "viewer": frozenset({S.READ}),
    "developer": frozenset({S.READ, S.MODELS_WRITE, S.RELEASES_PROPOSE}),
    "operator": frozenset({S.READ, S.ROLLOUTS_PROPOSE, S.DEVICES_ENROL}),
    "approver": frozenset({S.READ, S.ROLLOUTS_APPROVE, S.DEVICES_REVOKE, S.AUDIT_READ}),
    "auditor": frozenset({S.READ, S.AUDIT_READ}),
    "admin": frozenset(Scope),
}
"""Roles by name. `admin` holds every scope and still approves nothing that it has proposed itself."""

TTL = timedelta(days=90)
TTL_MAX = timedelta(days=365)
BOOTSTRAP_NAME = "operator"
BOOTSTRAP_ID = "bootstrap"
RESERVED_NAMES = frozenset({BOOTSTRAP_NAME, "planner", "search", "worker", "sweep", "signer", "edgefleet"})
"""Names that history gives to the token of the installation and to the controller's own parts."""
_NAME = re.compile(r"[a-z0-9]([a-z0-9.@_-]{0,62}[a-z0-9])?")
_TEXT = re.compile(r"flt_(?P<id>[0-9a-f]{16})_(?P<secret>[0-9a-f]{64})")


@dataclass(frozen=True)
class Operator:
    """Somebody who has shown a good token."""

    name: str
    """As history and audit log name them."""
    scopes: frozenset[Scope]
    token_id: str


@dataclass(frozen=True)
class OperatorToken:
    """What is stored of a token: everything but its secret."""

    id: str
    name: str
    secret_hash: str
    scopes: frozenset[Scope]
    network: str | None
    expires_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None


def bootstrap_operator() -> Operator:
    """Return who shows the token of the installation itself."""
    return Operator(BOOTSTRAP_NAME, ROLES["admin"], BOOTSTRAP_ID)


def split_token(text: str) -> tuple[str, str] | None:
    """Return the id and the secret of a token's text `flt_<id>_<secret>`; None for any other text."""
    found = _TEXT.fullmatch(text)
    return (found["id"], found["secret"]) if found else None


def hash_of_secret(secret: str) -> str:
    """Return the form in which a secret is stored: sha256, enough for 256 random bits."""
    return hashlib.sha256(secret.encode()).hexdigest()


def why_refused(token: OperatorToken | None, secret: str, address: str | None, now: datetime) -> str | None:
    """Return why a token does not let its bearer in, None when it does. Only who knows the secret learns more."""
    expected = token.secret_hash if token else ""
    if not hmac.compare_digest(hash_of_secret(secret), expected) or token is None:
        return "the token is not known here"
    if token.revoked_at:
        return f"the token of {token.name} was revoked at {token.revoked_at:%Y-%m-%d %H:%M} UTC"
    if now >= token.expires_at:
        return f"the token of {token.name} expired at {token.expires_at:%Y-%m-%d %H:%M} UTC"
    if token.network and not _is_within(address, token.network):
        return f"the token of {token.name} is good in the network {token.network} alone, and {address} is not in it"
    return None


def check_operator_name(name: str) -> None:
    """Refuse a name that two people could be taken for, or that the controller's own parts have."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"the name {name!r} must be 1 to 64 of a-z, 0-9, '.', '@', '_', '-', with a letter or digit at both ends",
            code="bad_name",
            field="/name",
        )
    if name in RESERVED_NAMES:
        raise InvalidInput(
            f"{name!r} is how history names a part of the controller; take the person's own name",
            code="bad_name",
            field="/name",
        )


def scopes_of(role: str | None, scopes: Iterable[str]) -> frozenset[Scope]:
    """Return the scopes of a role together with single ones; InvalidInput names what is unknown, or that none is."""
    if role is not None and role not in ROLES:
        raise InvalidInput(f"there is no role {role!r}; choose from {', '.join(ROLES)}", field="/role")
    unknown = sorted(set(scopes) - set(Scope))
    if unknown:
        raise InvalidInput(f"no such scopes: {', '.join(unknown)}; there are {', '.join(Scope)}", field="/scopes")
    found = frozenset(Scope(scope) for scope in scopes) | (ROLES[role] if role else frozenset())
    if not found:
        raise InvalidInput("a token without scopes is good for nothing; give a role or scopes", field="/role")
    return found


def check_grant(maker: Operator, wanted: frozenset[Scope]) -> None:
    """Refuse a grant of what the maker does not hold: nobody makes a token that may do more than its own."""
    missing = wanted - maker.scopes
    if missing:
        raise Forbidden(
            f"a token grants at most what its maker holds, and {maker.name} lacks {', '.join(sorted(missing))}",
            code="E_SCOPE",
            field="/scopes",
        )


def check_ttl(ttl: timedelta) -> None:
    """Refuse a life that is over at once or longer than a year."""
    if not timedelta(0) < ttl <= TTL_MAX:
        raise InvalidInput(f"ttl_days is {ttl / timedelta(days=1):g}; expected up to {TTL_MAX.days}", field="/ttl_days")


def network_text(network: str | None) -> str | None:
    """Return a network in CIDR notation in its one spelling; InvalidInput for what is none."""
    if network is None:
        return None
    try:
        return str(ip_network(network))
    except ValueError as error:
        raise InvalidInput(f"{error}; write a network such as 10.1.0.0/16", field="/network") from error


def missing_scope(operator: Operator, needed: frozenset[Scope]) -> Forbidden:
    """Return the refusal for who holds none of the scopes, any of which would do: it says who can help."""
    names = " or ".join(sorted(needed))
    roles = ", ".join(role for role, scopes in ROLES.items() if scopes & needed)
    return Forbidden(
        f"this needs the scope {names}, which the token of {operator.name} does not have; the roles {roles} have it, "
        f"and whoever has {Scope.OPERATORS_ADMIN} grants them: edgefleet operator create NAME --role ROLE",
        code="E_SCOPE",
    )


def two_persons_needed(*, released: bool, single_operator: bool) -> bool:
    """Tell whether another person than its proposer must approve a rollout."""
    return released and not single_operator


def _is_within(address: str | None, network: str) -> bool:
    try:
        shown = ip_address(address or "")
    except ValueError:
        return False
    mapped = getattr(shown, "ipv4_mapped", None)
    return (mapped or shown) in ip_network(network)
