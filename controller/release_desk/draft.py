"""The draft of a role beside the published one: it must be exactly that, with the announced change and nothing else.

What the draft should be is built here from the published role and the manifests' bytes, and compared field by field, so
that nothing in it needs to be understood to be found out: another target, a delegation, a field that no client reads.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tuf.api.metadata import Metadata, TargetFile, Targets
from tuf.api.serialization import DeserializationError

from controller.domain.releases import ReleaseKind
from controller.release_desk.published_role import PublishedRole
from controller.release_desk.report import DeskCode, DeskRefusal
from controller.trust.images.release_roles import ROLE_FIELD
from device_agent.protocol.channels import Channel
from device_agent.protocol.errors import ProtocolError
from device_agent.protocol.manifest import Manifest, parse_manifest, target_path

LIFETIME_MAX = timedelta(days=100)
"""A release is signed for 90 days; a draft that would be good for longer than this is not signed."""
LIFETIME_MIN = timedelta(days=1)


@dataclass(frozen=True)
class Terms:
    """What is to be released, and on what terms; None leaves a term to whoever proposed it."""

    kind: ReleaseKind
    model: str
    number: int | None
    """The version's number; None for a renewal."""
    variants: tuple[str, ...] | None = None
    floor: int | None = None
    hardware: tuple[str, ...] | None = None

    @property
    def prefix(self) -> str:
        """Return how the paths of the version's targets begin."""
        return f"{Channel.PROD}/{self.model}/{self.number}/"


@dataclass(frozen=True)
class Draft:
    """A draft that is what it says, and the manifests that it would release by their path."""

    document: Metadata[Targets]
    manifests: Mapping[str, tuple[bytes, Manifest]]
    floor: int | None
    hardware: tuple[str, ...]


def read_draft(raw: bytes) -> Metadata[Targets]:
    """Parse a role document. DeskRefusal with MALFORMED."""
    try:
        document = Metadata[Targets].from_bytes(raw)
    except DeserializationError as error:
        raise DeskRefusal(DeskCode.MALFORMED, f"the draft cannot be read: {error}") from error
    if document.signed.type != Targets.type:
        raise DeskRefusal(DeskCode.MALFORMED, f"the draft holds {document.signed.type}, not targets")
    return document


def check_draft(
    published: PublishedRole, document: Metadata[Targets], manifests: Mapping[str, bytes], terms: Terms, now: datetime
) -> Draft:
    """Compare the draft with what it should be. DeskRefusal with STALE, EXPIRY, MANIFEST, TERMS or TARGETS."""
    draft = document.signed
    if draft.version != published.version + 1:
        raise DeskRefusal(
            DeskCode.STALE,
            f"the draft has version {draft.version}, the published role {published.version}; cancel it and propose "
            "again: `edgefleet release cancel`, `edgefleet release propose`",
        )
    if not now + LIFETIME_MIN <= draft.expires <= now + LIFETIME_MAX:
        told = f"the draft expires {draft.expires:%Y-%m-%d}; it must be in 1 to {LIFETIME_MAX.days} days"
        raise DeskRefusal(DeskCode.EXPIRY, told)
    parsed = {path: (raw, _manifest(path, raw)) for path, raw in sorted(manifests.items())}
    if terms.kind is not ReleaseKind.RELEASE and parsed:
        raise DeskRefusal(DeskCode.TARGETS, f"a {terms.kind} brings no manifests; this one brings {', '.join(parsed)}")
    floor, hardware = _terms(draft, parsed, terms)
    wanted = _wanted_targets(published, parsed, terms, floor, hardware)
    _compare_targets(draft, wanted)
    _compare_rest(draft, published, wanted)
    return Draft(document, parsed, floor, hardware)


def _manifest(path: str, raw: bytes) -> Manifest:
    try:
        manifest = parse_manifest(raw)
    except ProtocolError as error:
        raise DeskRefusal(DeskCode.MANIFEST, f"the manifest of {path} cannot be read: {error}") from error
    own = target_path(manifest.model, manifest.version, manifest.variant, Channel.PROD)
    if own != path:
        raise DeskRefusal(DeskCode.MANIFEST, f"the manifest of {path} is that of {own}")
    return manifest


def _terms(
    draft: Targets, manifests: Mapping[str, tuple[bytes, Manifest]], terms: Terms
) -> tuple[int | None, tuple[str, ...]]:
    """Return floor and hardware of the release, which are the same for each of its targets."""
    if terms.kind is not ReleaseKind.RELEASE:
        return None, ()
    if not manifests:
        raise DeskRefusal(DeskCode.TARGETS, "the draft releases nothing")
    foreign = [path for path in manifests if not path.startswith(terms.prefix)]
    if foreign:
        told = f"{', '.join(foreign)} is not of {terms.model} version {terms.number}"
        raise DeskRefusal(DeskCode.TARGETS, told)
    names = sorted(manifest.variant for _, manifest in manifests.values())
    if terms.variants is not None and sorted(terms.variants) != names:
        raise DeskRefusal(
            DeskCode.TERMS, f"you asked for {', '.join(sorted(terms.variants))}; the draft releases {', '.join(names)}"
        )
    customs = [_custom(draft, path) for path in manifests]
    if not all(_same(custom, customs[0]) for custom in customs):
        raise DeskRefusal(DeskCode.TERMS, f"the targets differ in their terms: {customs}")
    floor, hardware = customs[0].get("floor"), customs[0].get("hw", [])
    if not _is_floor(floor, terms.number) or not _are_names(hardware):
        raise DeskRefusal(
            DeskCode.TERMS, f"floor is {floor!r} and hw {hardware!r}; expected 1 to {terms.number}, names"
        )
    for name, wanted, found in (("floor", terms.floor, floor), ("hardware", terms.hardware, tuple(hardware))):
        if wanted is not None and wanted != found:
            raise DeskRefusal(DeskCode.TERMS, f"you asked for {name} {wanted}; the draft says {found}")
    return floor, tuple(hardware)


def _custom(draft: Targets, path: str) -> dict[str, Any]:
    target = draft.targets.get(path)
    if target is None:
        raise DeskRefusal(DeskCode.TARGETS, f"a manifest was sent for {path}, which the draft does not list")
    custom = target.custom
    return custom if isinstance(custom, dict) else {}


def _is_floor(floor: object, number: int | None) -> bool:
    # A floor above the release would keep every device from running it, and from going back.
    return floor is None or (type(floor) is int and number is not None and 1 <= floor <= number)


def _are_names(hardware: object) -> bool:
    return isinstance(hardware, list) and all(isinstance(name, str) for name in hardware)


def _wanted_targets(
    published: PublishedRole,
    manifests: Mapping[str, tuple[bytes, Manifest]],
    terms: Terms,
    floor: int | None,
    hardware: tuple[str, ...],
) -> dict[str, dict[str, Any]]:
    present = published.current.targets if published.current else {}
    wanted = {path: target.to_dict() for path, target in present.items()}
    if terms.kind is ReleaseKind.WITHDRAW:
        kept = {path: target for path, target in wanted.items() if not path.startswith(terms.prefix)}
        if len(kept) == len(wanted):
            raise DeskRefusal(DeskCode.TARGETS, f"version {terms.number} is not released: there is nothing to withdraw")
        return kept
    for path, (raw, manifest) in manifests.items():
        target = TargetFile.from_data(path, raw, ["sha256"])
        custom: dict[str, Any] = {"slot": manifest.model, "release": manifest.version}
        custom |= {"floor": floor} if floor is not None else {}
        custom |= {"hw": list(hardware)} if hardware else {}
        target.unrecognized_fields["custom"] = custom
        wanted[path] = target.to_dict()
    return wanted


def _compare_targets(draft: Targets, wanted: Mapping[str, dict[str, Any]]) -> None:
    found = {path: target.to_dict() for path, target in draft.targets.items()}
    smuggled, missing = sorted(set(found) - set(wanted)), sorted(set(wanted) - set(found))
    if smuggled or missing:
        told = [f"also lists {path}" for path in smuggled] + [f"does not list {path}" for path in missing]
        raise DeskRefusal(DeskCode.TARGETS, f"the draft {'; '.join(told)}")
    for path, target in found.items():
        if _same(target, wanted[path]):
            continue
        content = (target["length"], target["hashes"]) != (wanted[path]["length"], wanted[path]["hashes"])
        code = DeskCode.MANIFEST if content else DeskCode.TERMS
        raise DeskRefusal(code, f"{path} is {target} in the draft; it should be {wanted[path]}")


def _compare_rest(draft: Targets, published: PublishedRole, wanted: Mapping[str, dict[str, Any]]) -> None:
    should = {
        "_type": Targets.type,
        "spec_version": draft.spec_version,
        "version": draft.version,
        "expires": draft.to_dict()["expires"],
        "targets": wanted,
        ROLE_FIELD: published.name,
    }
    found = draft.to_dict()
    if not _same(found, should):
        other = sorted(name for name in {*found, *should} if not _same(found.get(name), should.get(name)))
        raise DeskRefusal(DeskCode.TARGETS, f"the draft is not what {published.name} may say, in {', '.join(other)}")


def _same(one: object, other: object) -> bool:
    # As text: Python holds 1, 1.0 and True for equal, and clients need not.
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
