"""What people signed and a restored folder has forgotten, brought back from a copy of the published files.

Roots, delegations and releases are signed outside the controller, so no controller can make them again; but they are
public. Any copy of the published folder has them: a mirror, a backup of that folder alone, what an auditor keeps.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata, Targets

from controller.trust.errors import SignedFilesError
from controller.trust.images.image_repository import ImageRepository
from controller.trust.images.image_roles import RELEASE_PREFIX
from controller.trust.images.root_chain import RootChain
from controller.trust.images.signed_documents import read_document


def take_over(copy: Path, tuf_dir: Path, repository: ImageRepository, now: datetime) -> list[str]:
    """Install every document of `copy` that people signed and that follows what `tuf_dir` has; return their names.

    Each is checked as one that comes from a ceremony or from release keys. Raises what that raises, and
    SignedFilesError where the copy is none of published files; documents before the one at fault stay installed.
    """
    if not (copy / "metadata").is_dir():
        raise SignedFilesError(f"{copy} is no copy of published files: it has no folder `metadata`")
    taken = [f"director {name}" for name in _append(copy / "director", RootChain(tuf_dir / "director"))]
    taken += _append(copy / "metadata", repository.roots)
    versions = repository.versions()
    for path, document in _newest(copy / "metadata", "targets", versions["targets"]):
        repository.install_targets(document.to_bytes(), now)
        taken.append(path.name)
    for role in sorted({path.name.split(".")[1] for path in (copy / "metadata").glob(f"*.{RELEASE_PREFIX}*.json")}):
        for path, document in _newest(copy / "metadata", role, versions.get(role, 0)):
            repository.publish_release(document.to_bytes(), list(_manifests(copy, document.signed)), now)
            taken.append(path.name)
    return taken


def _append(directory: Path, chain: RootChain) -> list[str]:
    taken = []
    while (path := directory / f"{chain.newest().version + 1}.root.json").exists():
        chain.append(path.read_bytes())
        taken.append(path.name)
    return taken


def _newest(metadata: Path, role: str, above: int) -> Iterator[tuple[Path, Metadata[Any]]]:
    """Yield the document of a role with the highest version, if that is above the present one."""
    found = {int(path.name.split(".")[0]): path for path in metadata.glob(f"[0-9]*.{role}.json")}
    newest = max(found, default=0)
    if newest > above:
        path = found[newest]
        yield path, read_document(path.read_bytes(), Targets, path.name)


def _manifests(copy: Path, document: Targets) -> Iterator[bytes]:
    for target in document.targets.values():
        path = copy / "targets" / target.get_prefixed_paths()[0]
        if path.exists():
            yield path.read_bytes()
