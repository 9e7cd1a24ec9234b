"""A ceremony as a folder that can be carried on a stick: what is to be signed, and what it must be checked against.

    documents/NAME.json            the new documents with the signatures so far (TUF metadata)
    previous/image-root/N.root.json, previous/director-root/N.root.json
                                   both chains from their first root, which prove who may sign
    previous/image-targets.json    the delegations that are in force
    CEREMONY.md                    the same for people, made from the documents; never read
    ceremony.json                  {"schema": 1, "summary": text, "rotates": [online key names]}

Whoever holds the stick can write to it. So nothing is believed that the chains do not prove, and what people are shown
is made from the documents that are signed, in one reading.
"""

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from securesystemslib.signer import Key
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Targets
from tuf.api.serialization import DeserializationError

from controller.domain.errors import Conflict
from controller.trust.ceremonies.role_changes import LIFETIME, DocumentName, Documents, Trust, check_trust
from controller.trust.custody.keys import KeyName
from controller.trust.errors import TrustError
from controller.trust.images.root_chain import RootChain
from device_agent.protocol.messages import trust_pin

BYTES_MAX = 512 * 1024
_EMPTY: Mapping[DocumentName, Root | Targets] = {
    DocumentName.DIRECTOR_ROOT: Root(consistent_snapshot=True),
    DocumentName.IMAGE_ROOT: Root(consistent_snapshot=True),
    DocumentName.IMAGE_TARGETS: Targets(),
}
_KIND: Mapping[DocumentName, type[Root] | type[Targets]] = {
    DocumentName.DIRECTOR_ROOT: Root,
    DocumentName.IMAGE_ROOT: Root,
    DocumentName.IMAGE_TARGETS: Targets,
}


class CeremonyRefused(TrustError, Conflict):
    """The folder is damaged, outdated, incomplete or would weaken trust; nothing is signed or installed."""

    code = "ceremony_refused"


@dataclass(frozen=True)
class Seat:
    """A role whose holders must sign a document, and who of them has."""

    document: DocumentName
    version: int
    role: str
    """`image-root (present)`, `image-root (new)` or `image-targets`."""
    threshold: int
    signed: tuple[Key, ...]
    unsigned: tuple[Key, ...]

    @property
    def keys(self) -> tuple[Key, ...]:
        """Everybody who holds the role."""
        return (*self.signed, *self.unsigned)

    @property
    def missing(self) -> int:
        """How many signatures are still needed."""
        return max(0, self.threshold - len(self.signed))


@dataclass(frozen=True)
class Ceremony:
    """One reading of a folder. Its documents are believed only behind `check`."""

    folder: Path
    summary: str
    rotates: tuple[KeyName, ...]
    previous: Trust | None
    """What is in force, verified from the first roots; None for the first trust of an installation."""
    pin: str | None
    """Of the installation's first roots, as enrolment tokens carry it; None before there is one."""
    documents: dict[DocumentName, Metadata[Any]]

    @property
    def after(self) -> Trust:
        """Return the trust that the documents make; CeremonyRefused where one is missing."""
        new: Documents = {name: document.signed for name, document in self.documents.items()}
        if self.previous is not None:
            return self.previous.replaced(new)
        if set(new) != set(DocumentName):
            raise CeremonyRefused(f"a first ceremony has {len(DocumentName)} documents; this one has {len(new)}")
        image_root, targets, director_root = (
            new[DocumentName.IMAGE_ROOT],
            new[DocumentName.IMAGE_TARGETS],
            new[DocumentName.DIRECTOR_ROOT],
        )
        assert isinstance(image_root, Root) and isinstance(targets, Targets) and isinstance(director_root, Root)  # noqa: PT018
        return Trust(image_root, targets, director_root)

    def seats(self) -> Iterator[Seat]:
        """Yield who must sign what: for a root the holders of the present and of the new one."""
        for name, document in self.documents.items():
            for label, holder, role in self._signing_roles(name):
                found = holder.get_verification_result(role, document.signed_bytes, document.signatures)
                signed, unsigned = tuple(found.signed.values()), tuple(found.unsigned.values())
                yield Seat(name, document.signed.version, label, found.threshold, signed, unsigned)

    def check(self, now: datetime) -> None:
        """Raise CeremonyRefused, or TrustLint, for documents that do not follow what is in force, or weaken it."""
        try:
            self._check(now)
        except RecursionError as error:
            raise CeremonyRefused(f"{self.folder} holds a document that is nested too deep") from error

    def _check(self, now: datetime) -> None:
        if not self.documents:
            raise CeremonyRefused(f"{self.folder} holds no documents")
        check_trust(self.after, self.previous)
        for name, document in self.documents.items():
            self._check_version(name, document.signed.version)
            self._check_rest(name, document.signed)
            lasts = document.signed.expires - now
            if not timedelta(0) < lasts <= LIFETIME + timedelta(days=1):
                raise CeremonyRefused(
                    f"{name} expires at {document.signed.expires:%Y-%m-%d %H:%M} UTC, which is not within the next "
                    f"{LIFETIME.days} days; is the clock of this machine right? Else start the ceremony anew"
                )
            self._check_signatures(name, document)

    def _check_version(self, name: DocumentName, version: int) -> None:
        before = self.previous.document(name).version if self.previous else 0
        fits = version > before if name is DocumentName.IMAGE_TARGETS else version == before + 1
        if not fits:
            raise CeremonyRefused(f"{name} has version {version}, which does not follow {before}; start anew")

    def _check_rest(self, name: DocumentName, signed: Root | Targets) -> None:
        """Refuse what the summary would not show: a key under the id of another, or any other field that differs."""
        before = self.previous.document(name) if self.previous else _EMPTY[name]
        if _rest(signed) != _rest(before):
            raise CeremonyRefused(f"{name} differs in more than its roles and keys; it was not made by a ceremony")
        known = _keys_of(before)
        for keyid, key in _keys_of(signed).items():
            if keyid in known and known[keyid].keyval != key.keyval:
                raise CeremonyRefused(
                    f"{name} puts another key under the id {keyid[:16]}; start anew, on a clean stick"
                )

    def _check_signatures(self, name: DocumentName, document: Metadata[Any]) -> None:
        seats = [seat for seat in self.seats() if seat.document is name]
        keys = {key.keyid: key for seat in seats for key in seat.keys}
        for keyid, signature in document.signatures.items():
            if keyid not in keys:
                raise CeremonyRefused(f"{name} carries a signature by {keyid[:16]}, who has no seat in it")
            try:
                keys[keyid].verify_signature(signature, document.signed_bytes)
            except (UnverifiedSignatureError, VerificationError) as error:
                raise CeremonyRefused(
                    f"{name} was changed after {keyid[:16]} signed it; start anew, on a clean stick"
                ) from error

    def _signing_roles(self, name: DocumentName) -> Iterator[tuple[str, Root, str]]:
        after = self.after
        if name is DocumentName.IMAGE_TARGETS:
            yield name, after.image_root, "targets"
            return
        new = after.image_root if name is DocumentName.IMAGE_ROOT else after.director_root
        if self.previous is not None:
            present = self.previous.document(name)
            assert isinstance(present, Root)
            yield f"{name} (present)", present, "root"
        yield f"{name} (new)" if self.previous is not None else name, new, "root"


def _rest(signed: Root | Targets) -> dict[str, Any]:
    shown = {"version", "expires", "keys", "roles", "delegations"}
    return {field: value for field, value in copy.deepcopy(signed).to_dict().items() if field not in shown}


def _keys_of(signed: Root | Targets) -> Mapping[str, Key]:
    if isinstance(signed, Root):
        return signed.keys
    return signed.delegations.keys if signed.delegations else {}


def digest_of(document: Metadata[Any]) -> str:
    """Return sha256 over exactly what is signed; the same on every machine whoever has signed already."""
    return hashlib.sha256(document.signed_bytes).hexdigest()


def read_ceremony(folder: Path) -> Ceremony:
    """Read a folder; CeremonyRefused when it is none or the chains in it do not hold."""
    about = _about(folder)
    documents = {
        name: _document(folder / "documents" / f"{name}.json", name)
        for name in DocumentName
        if (folder / "documents" / f"{name}.json").exists()
    }
    before, pin = None, None
    if (folder / "previous").exists():
        before, pin = _previous(folder / "previous")
    return Ceremony(folder, about[0], about[1], before, pin, documents)


def _about(folder: Path) -> tuple[str, tuple[KeyName, ...]]:
    try:
        about = json.loads(_bytes(folder / "ceremony.json"))
        if about["schema"] != 1:
            raise CeremonyRefused(f"{folder} was made by another release (schema {about['schema']!r})")
        return str(about["summary"]), tuple(KeyName(name) for name in about["rotates"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CeremonyRefused(f"{folder / 'ceremony.json'} is not a ceremony: {error}") from error


def _document(path: Path, name: DocumentName) -> Metadata[Any]:
    try:
        document = Metadata[Any].from_bytes(_bytes(path))
        document.signed_bytes  # noqa: B018 - a number that canonical JSON has no form for shows here
    except (RepositoryError, DeserializationError) as error:
        raise CeremonyRefused(f"{path} is no signed document: {error}") from error
    if not all(isinstance(keyid, str) for keyid in document.signatures):
        raise CeremonyRefused(f"{path} carries a signature by a key whose id is no text")
    if not isinstance(document.signed, _KIND[name]):
        raise CeremonyRefused(f"{path} holds {document.signed.type}")
    return document


def _previous(folder: Path) -> tuple[Trust, str]:
    chains = RootChain(folder / DocumentName.IMAGE_ROOT), RootChain(folder / DocumentName.DIRECTOR_ROOT)
    try:
        image_root, director_root = (chain.newest() for chain in chains)
        targets = _document(folder / f"{DocumentName.IMAGE_TARGETS}.json", DocumentName.IMAGE_TARGETS)
        image_root.verify_delegate("targets", targets.signed_bytes, targets.signatures)
    except (TrustError, RepositoryError) as error:
        raise CeremonyRefused(f"what is in force cannot be proven from {folder}: {error}") from error
    return Trust(image_root, targets.signed, director_root), trust_pin(*(chain.first_bytes() for chain in chains))


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise CeremonyRefused(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > BYTES_MAX:
        raise CeremonyRefused(f"{path} is larger than {BYTES_MAX} bytes")
    return content
