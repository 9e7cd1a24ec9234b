"""What a ceremony changes, in words that a key holder can check before signing. Pure."""

from collections.abc import Iterator

from securesystemslib.signer import Key

from controller.trust.ceremonies.ceremony_folder import Ceremony, Seat, digest_of
from controller.trust.ceremonies.role_changes import ONLINE_ROLES, RoleKeys, Trust
from controller.trust.custody.keys import KeyName
from controller.trust.custody.public_keys import NAME_FIELD


def named(key: Key) -> str:
    """Return a key as people know it: the start of its fingerprint, and its holder where that is said."""
    holder = key.unrecognized_fields.get(NAME_FIELD)
    return f"{key.keyid[:16]} ({holder})" if holder else key.keyid[:16]


def changes(before: Trust | None, after: Trust) -> Iterator[str]:
    """Yield one line for each thing that differs; what makes trust weaker begins with WEAKER."""
    former = set(before.roles()) if before else set()
    for role in after.roles():
        old = before.role(role) if before is not None and role in former else None
        yield from _role_changes(role, old, after.role(role))
    for role in sorted(former - set(after.roles())):
        yield f"the role {role} ends"
    for name in ONLINE_ROLES:
        new = _online(after, name)
        known = _online(before, name) if before else ()
        for key in new:
            if key.keyid not in {other.keyid for other in known}:
                yield f"the signer's {name} becomes {key.keyid[:16]}"


def lines(ceremony: Ceremony) -> Iterator[str]:
    """Yield what is signed: each document with version, expiry and digest, then every change."""
    for name, document in ceremony.documents.items():
        signed = document.signed
        before = f"{ceremony.previous.document(name).version} -> " if ceremony.previous else ""
        version = f"{name} version {before}{signed.version}, expires {signed.expires:%Y-%m-%d}"
        yield f"{version}, sha256 {digest_of(document)}"
    found = list(changes(ceremony.previous, ceremony.after))
    yield from found or ["no key and no threshold changes; the documents are only signed for longer"]


def seat_line(seat: Seat) -> str:
    """Say who has signed for a role and who can."""
    signed = ", ".join(map(named, seat.signed)) or "nobody"
    unsigned = ", ".join(map(named, seat.unsigned)) or "nobody else"
    state = "complete" if not seat.missing else f"{seat.missing} missing"
    who = f"{seat.document} as {seat.role}: {len(seat.signed)} of {seat.threshold}, {state}"
    return f"{who}; signed: {signed}; can: {unsigned}"


def summary_page(ceremony: Ceremony) -> str:
    """Return CEREMONY.md."""
    pin = f"Installation: pin `{ceremony.pin}`" if ceremony.pin else "This makes the first trust of an installation."
    what = "\n".join(f"- {line}" for line in lines(ceremony))
    who = "\n".join(f"- {seat_line(seat)}" for seat in ceremony.seats())
    keys = {key.keyid: key for seat in ceremony.seats() for key in seat.keys}
    prints = "\n".join(f"- {named(key)}: `{key.keyid}`" for key in sorted(keys.values(), key=named))
    return (
        f"# Ceremony: {ceremony.summary}\n\n{pin}\n\n## What changes\n\n{what}\n\n## Who signs\n\n{who}\n\n"
        f"## Fingerprints\n\n{prints}\n\n## How\n\nOn the machine that holds your key:\n\n"
        "    edgefleet key ceremony sign THIS_FOLDER --key YOUR_KEY\n\n"
        "It shows all of the above again, made from the documents themselves. Compare the sha256 with the person who "
        "started the ceremony, over another way than this stick.\n"
    )


def _role_changes(role: str, old: RoleKeys | None, new: RoleKeys) -> Iterator[str]:
    known = {key.keyid for key in old.keys} if old else set()
    if old is None:
        yield f"{role} is new: {new.threshold} of {len(new.keys)} keys must sign"
    elif old.threshold != new.threshold:
        weaker = "WEAKER: " if new.threshold < old.threshold else ""
        yield f"{weaker}{role} needs {new.threshold} signatures instead of {old.threshold}"
    for key in new.keys:
        if key.keyid not in known:
            yield f"{role} gets the key {named(key)}"
    for key in old.keys if old else ():
        if key.keyid not in {other.keyid for other in new.keys}:
            yield f"{role} loses the key {named(key)}"


def _online(trust: Trust, name: KeyName) -> tuple[Key, ...]:
    document, role = ONLINE_ROLES[name]
    holder = trust.document(document)
    return tuple(holder.get_key(keyid) for keyid in holder.get_delegated_role(role).keyids)
