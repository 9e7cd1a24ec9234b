"""The state of trust for people: who holds which role, until when, and what of it needs somebody. Pure.

    {"custody": "single-operator" | "separated", "notice": text | null, "pin": hex,
     "roles": [{"role", "document", "version", "threshold", "expires_at", "renewed_by", "keys":
                [{"keyid", "scheme", "name", "where"}]}],
     "warnings": [{"code", "subject", "message", "remedy"}]}

`GET /api/v1/trust` answers with it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from securesystemslib.signer import Key

from controller.trust.ceremonies.role_changes import ONLINE_ROLES, RENEWED_BEFORE, DocumentName, Trust, place_of
from controller.trust.custody.keys import KeyName
from controller.trust.custody.public_keys import NAME_FIELD
from controller.trust.images.image_roles import RELEASE_PREFIX
from device_agent.protocol.fields import format_utc

RELEASE_RENEWED_BEFORE = timedelta(days=30)
SINGLE_OPERATOR = "single-operator"
NOTICE = (
    "single operator: every key lies beside this controller and one person decides alone; "
    "whoever takes it over can release models"
)


@dataclass(frozen=True)
class TrustFacts:
    """What the documents do not say."""

    single_operator: bool
    pin: str
    online: Mapping[KeyName, Key]
    """The signer's public keys; empty where it does not answer."""
    signer_place: str
    """Where the online keys are, for people: `signer at SOCKET` or `this process, FOLDER`."""
    signer_is_separate: bool
    online_encrypted: bool = True
    """Whether the online keys are encrypted at rest."""
    beside_controller: frozenset[str] = frozenset()
    """Ids of offline keys whose files lie in the state folder."""
    offline_encrypted: bool = True
    releases: Mapping[str, datetime] = field(default_factory=dict)
    """When the published document of each release role expires."""
    unsigned: tuple[str, ...] = ()
    """Release roles whose published signatures do not count any more: a key was revoked or a threshold raised."""
    behind: tuple[str, ...] = ()
    """Roles whose published version is below the last one that the signer signed."""


@dataclass(frozen=True)
class Concern:
    """Something that needs a person, and what to do."""

    code: str
    subject: str
    message: str
    remedy: str


def single_operator_notice(single_operator: bool) -> str | None:
    """Return the line that pages and commands show permanently, None where custody is separated."""
    return NOTICE if single_operator else None


def trust_report(trust: Trust, facts: TrustFacts, now: datetime) -> dict[str, Any]:
    """Return the report in its JSON form."""
    return {
        "custody": SINGLE_OPERATOR if facts.single_operator else "separated",
        "notice": single_operator_notice(facts.single_operator),
        "pin": facts.pin,
        "roles": [*_held_roles(trust, facts), *_online_roles(trust, facts)],
        "warnings": [vars(warning) for warning in _warnings(trust, facts, now)],
    }


def _held_roles(trust: Trust, facts: TrustFacts) -> Iterator[dict[str, Any]]:
    for role in trust.roles():
        held = trust.role(role)
        name = DocumentName(role) if role in set(DocumentName) else place_of(role)[0]
        document = trust.document(name)
        # A release role is a document of its own, which its holders sign.
        expires = facts.releases.get(role) if role.startswith(RELEASE_PREFIX) else document.expires
        yield {
            "role": role,
            "document": name,
            "version": document.version,
            "threshold": held.threshold,
            "expires_at": format_utc(expires) if expires else None,
            "renewed_by": "itself" if facts.single_operator and not role.startswith(RELEASE_PREFIX) else "its holders",
            "keys": [_key(key, _place_of_held(key, facts)) for key in held.keys],
        }


def _online_roles(trust: Trust, facts: TrustFacts) -> Iterator[dict[str, Any]]:
    for name, key in facts.online.items():
        document = ONLINE_ROLES[name][0] if name in ONLINE_ROLES else None
        yield {
            "role": name,
            "document": document,
            "version": trust.document(document).version if document else None,
            "threshold": 1,
            "expires_at": None,
            "renewed_by": "the signer",
            "keys": [_key(key, facts.signer_place)],
        }


def _place_of_held(key: Key, facts: TrustFacts) -> str:
    return "beside the controller" if key.keyid in facts.beside_controller else "elsewhere"


def _key(key: Key, where: str) -> dict[str, Any]:
    name = key.unrecognized_fields.get(NAME_FIELD)
    return {"keyid": key.keyid, "scheme": key.scheme, "name": name, "where": where}


def _warnings(trust: Trust, facts: TrustFacts, now: datetime) -> Iterator[Concern]:
    if facts.single_operator:
        remedy = "docs/how-to/keys.md: a ceremony gives the roles to people, then EDGEFLEET_SINGLE_OPERATOR=false"
        yield Concern("single_operator", "installation", NOTICE, remedy)
    yield from _expiries(trust, facts, now)
    yield from _thresholds(trust, facts)
    yield from _custody(trust, facts)
    for name, (document, role) in ONLINE_ROLES.items():
        named = trust.document(document).get_delegated_role(role).keyids
        if name in facts.online and facts.online[name].keyid not in named:
            yield Concern(
                "other_online_key",
                name,
                f"the signer's key {name} is not the one that {document} names; nothing of it can be signed",
                f"edgefleet key rotate {name}",
            )
    if not facts.online:
        message = f"{facts.signer_place} does not answer; nothing can be signed"
        yield Concern("signer_unavailable", "signer", message, "edgefleet signer start")
    for role in facts.unsigned:
        message = f"devices refuse the releases of {role} until its present keys sign them"
        yield Concern("unsigned_release", role, message, f"edgefleet release renew {role.removeprefix(RELEASE_PREFIX)}")
    for role in facts.behind:
        yield Concern(
            "behind_journal",
            role,
            f"the published version of {role} is below one that was signed before, as after a restored backup",
            "edgefleet key reissue",
        )


def _expiries(trust: Trust, facts: TrustFacts, now: datetime) -> Iterator[Concern]:
    for name in DocumentName:
        left = trust.document(name).expires - now
        if left < RENEWED_BEFORE:
            remedy = "edgefleet key ceremony start --renew --folder DIR"
            yield Concern("expires_soon", name, f"{name} {_ends(left)}", remedy)
    for role, expires in facts.releases.items():
        if expires - now < RELEASE_RENEWED_BEFORE:
            remedy = f"edgefleet release renew {role.removeprefix(RELEASE_PREFIX)}"
            yield Concern("expires_soon", role, f"{role} {_ends(expires - now)}", remedy)


def _ends(left: timedelta) -> str:
    days = left // timedelta(days=1)
    return "has expired; devices take nothing new from it" if left <= timedelta(0) else f"expires in {days} days"


def _thresholds(trust: Trust, facts: TrustFacts) -> Iterator[Concern]:
    # Of a single operator it is said once, not for each role.
    for role in () if facts.single_operator else trust.roles():
        held = trust.role(role)
        if held.threshold == len(held.keys):
            yield Concern(
                "no_spare_key",
                role,
                f"{role} needs all of its {held.threshold} keys; when one is lost, nobody can sign for it again",
                f"edgefleet key role {role} --threshold {held.threshold} --key FILE.pub ... --folder DIR",
            )


def _custody(trust: Trust, facts: TrustFacts) -> Iterator[Concern]:
    places: dict[str, list[str]] = {}
    for role, keyids in _all_roles(trust):
        for keyid in keyids:
            places.setdefault(keyid, []).append(role)
    for keyid, roles in places.items():
        offline = [role for role in roles if not role.startswith(RELEASE_PREFIX)]
        if len(offline) > 1 or len(offline) == 1 < len(roles):
            message = f"{keyid[:16]} is in {', '.join(roles)}: who takes it has all of them"
            yield Concern("shared_key", keyid[:16], message, "give each role keys of its own: edgefleet key role")
    here = sorted(facts.beside_controller.intersection(places))
    if here and not facts.single_operator:
        message = f"offline keys lie beside the controller: {', '.join(keyid[:16] for keyid in here)}"
        yield Concern("offline_key_here", "installation", message, "carry the files away and delete them here")
    if (here and not facts.offline_encrypted) or not facts.online_encrypted:
        which = "offline and online" if here and not facts.offline_encrypted else "online"
        remedy = "set EDGEFLEET_KEY_PASSPHRASE_FILE and rotate them: edgefleet key rotate NAME"
        yield Concern("unencrypted_keys", "installation", f"{which} keys are not encrypted at rest", remedy)
    if not facts.signer_is_separate:
        message = "the online keys are used by the controller's own processes; who takes one over has the keys"
        remedy = "run `edgefleet signer start` as another user and set EDGEFLEET_SIGNER_SOCKET"
        yield Concern("signer_not_separate", "installation", message, remedy)


def _all_roles(trust: Trust) -> Iterable[tuple[str, list[str]]]:
    for role in trust.roles():
        yield role, [key.keyid for key in trust.role(role).keys]
    for name, (document, role) in ONLINE_ROLES.items():
        yield name, trust.document(document).get_delegated_role(role).keyids
