"""A ceremony: offline keys on several machines sign a change of trust that one controller then installs.

    controller       start    writes the folder: what is to be signed, and what proves who may sign it
    each key holder  sign     checks everything again, says what it signs, adds a signature
    controller       finish   checks everything once more, installs what has all its signatures

`finish` may be made again after a crash at any point; it goes on where it stopped.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata

from controller.trust.ceremonies.ceremony_folder import Ceremony, CeremonyRefused, Seat, digest_of, read_ceremony
from controller.trust.ceremonies.ceremony_summary import summary_page
from controller.trust.ceremonies.offline_documents import InForce, changing, install, read_in_force
from controller.trust.ceremonies.role_changes import ONLINE_ROLES, DocumentName, Documents
from controller.trust.custody.keys import KeyName, KeyStore
from controller.trust.durable_files import Write, write_durably
from controller.trust.images.image_repository import ImageRepository
from controller.trust.signer.interface import OnlineSigner


@dataclass(frozen=True)
class Finished:
    """What a ceremony changed in the installation."""

    summary: str
    versions: Mapping[DocumentName, int]
    digests: Mapping[DocumentName, str]
    signed_by: Mapping[DocumentName, tuple[str, ...]]
    """Key ids."""
    rotated: tuple[KeyName, ...]
    """Keys of the signer that were replaced."""


def start(
    folder: Path, documents: Documents, tuf_dir: Path, summary: str, *, rotates: tuple[KeyName, ...] = ()
) -> Ceremony:
    """Write a new folder; return it as the holders will read it. CeremonyRefused where something lies already."""
    if folder.exists() and any(folder.iterdir()):
        raise CeremonyRefused(f"{folder} is not empty; every ceremony has a folder of its own")
    if not documents:
        raise CeremonyRefused("this changes no document that offline keys sign")
    present = read_in_force(tuf_dir)
    if present is not None:
        _write_previous(folder / "previous", present)
    for name, signed in documents.items():
        write_durably(folder / "documents" / f"{name}.json", Metadata[Any](signed).to_bytes())
    about = {"schema": 1, "summary": summary, "rotates": list(rotates)}
    write_durably(folder / "ceremony.json", json.dumps(about, indent=2).encode() + b"\n")
    ceremony = read_ceremony(folder)
    write_durably(folder / "CEREMONY.md", summary_page(ceremony).encode())
    return ceremony


def sign(ceremony: Ceremony, signer: Signer, now: datetime) -> tuple[Seat, ...]:
    """Sign every document in whose present or new role the key is; return the seats that it filled.

    What is signed is this reading of the folder, which the caller has shown. Raises CeremonyRefused or TrustLint, and
    then nothing is signed.
    """
    ceremony.check(now)
    keyid = signer.public_key.keyid
    seats = [seat for seat in ceremony.seats() if keyid in {key.keyid for key in seat.keys}]
    if not seats:
        raise CeremonyRefused(
            f"the key {keyid[:16]} has no seat in this ceremony; `edgefleet key ceremony status` says who has"
        )
    for name in {seat.document for seat in seats}:
        ceremony.documents[name].sign(signer, append=True)
    ceremony.check(now)
    _write(ceremony)
    return tuple(seats)


def collect(folder: Path, other: Path, now: datetime) -> Ceremony:
    """Take over the signatures from a copy of the same ceremony that somebody signed elsewhere; return the whole.

    CeremonyRefused where the copy's documents are not the very same.
    """
    ceremony, copied = read_ceremony(folder), read_ceremony(other)
    copied.check(now)
    for name, document in copied.documents.items():
        mine = ceremony.documents.get(name)
        if mine is None or mine.signed_bytes != document.signed_bytes:
            raise CeremonyRefused(f"{name} in {other} is another document than in {folder}; they are two ceremonies")
        mine.signatures.update(document.signatures)
    ceremony.check(now)
    _write(ceremony)
    return ceremony


def finish(
    folder: Path,
    tuf_dir: Path,
    signer: OnlineSigner,
    now: datetime,
    *,
    online_keys: KeyStore,
    write: Write = write_durably,
) -> Finished:
    """Install a ceremony that has all its signatures: director root, image root, image targets.

    `online_keys` are the signer's, whose next keys take their places when the installed documents name them. Raises
    CeremonyRefused or TrustLint before anything is installed. A crash in between is mended by another call.
    """
    ceremony = read_ceremony(folder)
    ceremony.check(now)
    missing = [seat for seat in ceremony.seats() if seat.missing]
    if missing:
        told = "; ".join(f"{seat.document} needs {seat.missing} more of {seat.role}" for seat in missing)
        raise CeremonyRefused(f"signatures are missing: {told}")
    with changing(tuf_dir):
        _check_follows(ceremony, read_in_force(tuf_dir, whole=False))
        _check_next_keys(ceremony, online_keys)
        install(ImageRepository(tuf_dir, signer, write), tuf_dir, ceremony.documents, now, write)
        for name in ceremony.rotates:
            if online_keys.pending(name) is not None:
                online_keys.promote(name)
    documents = ceremony.documents
    return Finished(
        ceremony.summary,
        {name: document.signed.version for name, document in documents.items()},
        {name: digest_of(document) for name, document in documents.items()},
        {name: tuple(document.signatures) for name, document in documents.items()},
        ceremony.rotates,
    )


def _write(ceremony: Ceremony) -> None:
    for name, document in ceremony.documents.items():
        write_durably(ceremony.folder / "documents" / f"{name}.json", document.to_bytes())
    write_durably(ceremony.folder / "CEREMONY.md", summary_page(ceremony).encode())


def _check_next_keys(ceremony: Ceremony, online_keys: KeyStore) -> None:
    # The signer signs with whichever of both keys the installed documents name, so they may change places later.
    for name in ceremony.rotates:
        if name not in ONLINE_ROLES:
            continue
        document, role = ONLINE_ROLES[name]
        held = [online_keys.pending(name), online_keys.signer(name)]
        named = ceremony.after.document(document).get_delegated_role(role).keyids
        if not any(signer.public_key.keyid in named for signer in held if signer is not None):
            raise CeremonyRefused(f"this ceremony names a key {name} that the signer does not have; rotate it anew")


def _check_follows(ceremony: Ceremony, present: InForce | None) -> None:
    for name in DocumentName:
        held = present.documents.get(name) if present else None
        new = ceremony.documents.get(name)
        if held is not None and new is not None and held.signed_bytes == new.signed_bytes:
            continue  # a finish that was interrupted
        before = ceremony.previous.document(name) if ceremony.previous else None
        if (held.signed if held else None) != before:
            stands = f"version {held.signed.version} of {name}" if held else f"no {name}"
            raise CeremonyRefused(f"{stands} is in force now, and this ceremony follows another; start anew")


def _write_previous(folder: Path, present: InForce) -> None:
    chains = {DocumentName.IMAGE_ROOT: present.image_chain, DocumentName.DIRECTOR_ROOT: present.director_chain}
    for name, chain in chains.items():
        for number, raw in enumerate(chain, start=1):
            write_durably(folder / name / f"{number}.root.json", raw)
    targets = present.documents[DocumentName.IMAGE_TARGETS]
    write_durably(folder / f"{DocumentName.IMAGE_TARGETS}.json", targets.to_bytes())
