"""The documents that only offline keys sign, as one installation has them in force, and how new ones get there.

    director/N.root.json      the director's chain
    metadata/N.root.json      the image repository's chain
    metadata/V.targets.json   the delegations

A controller reads them to know whom it may believe; it cannot make them.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata, Root, Targets

from controller.trust.ceremonies.role_changes import DocumentName, Trust
from controller.trust.durable_files import Write, exclusive, write_durably
from controller.trust.errors import DocumentRefused
from controller.trust.images.image_repository import ImageRepository
from controller.trust.images.published import PublishedFiles
from controller.trust.images.root_chain import RootChain
from controller.trust.images.signed_documents import read_document
from device_agent.protocol.messages import trust_pin


@dataclass(frozen=True)
class InForce:
    """What is installed, verified from the first roots. A first ceremony that was interrupted has a part of it."""

    documents: Mapping[DocumentName, Metadata[Any]]
    image_chain: tuple[bytes, ...]
    director_chain: tuple[bytes, ...]

    @property
    def trust(self) -> Trust:
        """Return the documents' content; all three must be there."""
        signed = {name: document.signed for name, document in self.documents.items()}
        return Trust(
            signed[DocumentName.IMAGE_ROOT], signed[DocumentName.IMAGE_TARGETS], signed[DocumentName.DIRECTOR_ROOT]
        )

    @property
    def pin(self) -> str:
        """Return the pin of the installation, as enrolment tokens carry it."""
        return trust_pin(self.image_chain[0], self.director_chain[0])


@contextmanager
def changing(tuf_dir: Path) -> Iterator[None]:
    """Wait until nobody else changes offline documents here, then enter. Not re-entrant."""
    with exclusive(tuf_dir / "director"):
        yield


def read_in_force(tuf_dir: Path, *, whole: bool = True) -> InForce | None:
    """Read and verify what is installed below `tuf_dir`; None where nothing is.

    With `whole`, a part of it counts as nothing: a first installation that was interrupted is made again.
    SignedFilesError for files that are altered.
    """
    files = PublishedFiles(tuf_dir)
    image_chain, director_chain = _chain(files.metadata), _chain(tuf_dir / "director")
    documents: dict[DocumentName, Metadata[Any]] = {}
    if director_chain:
        documents[DocumentName.DIRECTOR_ROOT] = Metadata[Root].from_bytes(director_chain[-1])
    if image_chain:
        documents[DocumentName.IMAGE_ROOT] = root = Metadata[Root].from_bytes(image_chain[-1])
        targets = _published_targets(files) if files.exist() else _newest_targets(files.metadata, root.signed)
        if targets is not None:
            documents[DocumentName.IMAGE_TARGETS] = targets
    is_whole = files.exist() and len(documents) == len(DocumentName)
    if not documents or (whole and not is_whole):
        return None
    return InForce(documents, image_chain, director_chain)


def install(
    repository: ImageRepository,
    tuf_dir: Path,
    documents: Mapping[DocumentName, Metadata[Any]],
    now: datetime,
    write: Write = write_durably,
) -> None:
    """Install documents that have all their signatures; what is installed already stays.

    The order is that in which a crash harms least: the director's root, which stands alone; the image root and the
    targets, which the repository's new snapshot and timestamp follow.
    """
    director = documents.get(DocumentName.DIRECTOR_ROOT)
    if director is not None:
        RootChain(tuf_dir / "director", write).append(director.to_bytes())
    root, targets = documents.get(DocumentName.IMAGE_ROOT), documents.get(DocumentName.IMAGE_TARGETS)
    if root is not None and targets is not None:
        repository.install(root.to_bytes(), targets.to_bytes(), now)
    elif root is not None:
        repository.install_root(root.to_bytes(), now)
    elif targets is not None:
        repository.install_targets(targets.to_bytes(), now)


def _chain(directory: Path) -> tuple[bytes, ...]:
    chain = RootChain(directory)
    if not chain.exists():
        return ()
    newest = chain.newest().version
    return tuple((directory / f"{number}.root.json").read_bytes() for number in range(1, newest + 1))


def _published_targets(files: PublishedFiles) -> Metadata[Targets]:
    # A file with a higher number may lie there from a publication that was cut off; it is not in force.
    version = files.read().targets.version
    return read_document(files.path("targets", version).read_bytes(), Targets, "targets")


def _newest_targets(metadata: Path, root: Root) -> Metadata[Targets] | None:
    """Return targets from a first installation that was cut off behind them."""
    for path in sorted(
        metadata.glob("[0-9]*.targets.json"), key=lambda path: int(path.name.split(".")[0]), reverse=True
    ):
        try:
            document = read_document(path.read_bytes(), Targets, "targets")
        except DocumentRefused:
            continue
        if root.get_verification_result("targets", document.signed_bytes, document.signatures):
            return document
    return None
