"""The chain of root documents, `1.root.json`, `2.root.json` ..., that every trust decision starts from.

Devices follow it from the root they were enrolled with, so no file of it is ever changed or removed, and each is
signed by a threshold of its predecessor's root keys and of its own (TUF specification, section 5.3, "Update the
root role"). The image repository has one chain and the director another; nothing here signs.
"""

from pathlib import Path

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root

from controller.trust.durable_files import Write, write_durably
from controller.trust.errors import SignedFilesError, TrustConflict, TrustMissing
from controller.trust.images.signed_documents import check_signed, read_document


class RootChain:
    """The root documents in one directory. Writers hold the lock of the repository they belong to."""

    def __init__(self, directory: Path, write: Write = write_durably) -> None:
        """Name the directory; nothing is read yet."""
        self._directory = directory
        self._write = write

    def exists(self) -> bool:
        """Say whether there is a first root."""
        return self._path(1).exists()

    def first_bytes(self) -> bytes:
        """Return the exact bytes of `1.root.json`, which enrolment hands out and tokens pin; TrustMissing without."""
        return self._bytes(1)

    def newest_bytes(self) -> bytes:
        """Return the exact bytes of the newest root, verified."""
        return self._bytes(self.newest().version)

    def newest(self) -> Root:
        """Return the newest root.

        Raises TrustMissing when there is none, SignedFilesError when a link of the chain was altered.
        """
        return self.newest_two()[0]

    def newest_two(self) -> tuple[Root, Root | None]:
        """Return the newest root and the one before it, None where the first is the newest."""
        newest, before = self._verified(1, predecessor=None), None
        while self._path(newest.version + 1).exists():
            newest, before = self._verified(newest.version + 1, predecessor=newest), newest
        return newest, before

    def append(self, document: bytes) -> bool:
        """Write the next root, or the first; return False when it is in the chain already.

        Raises DocumentRefused when it is no root or too few have signed it, TrustConflict when its version is not
        the next one.
        """
        if self.holds(document):
            return False
        self._write(self._path(self.check_next(document).version), document)
        return True

    def holds(self, document: bytes) -> bool:
        """Say whether this root is in the chain, whoever has signed it."""
        root = read_document(document, Root, "root")
        path = self._path(root.signed.version)
        return path.exists() and read_document(path.read_bytes(), Root, str(path)).signed_bytes == root.signed_bytes

    def check_next(self, document: bytes) -> Root:
        """Return a root that may follow the newest one, signed by a threshold of both; raise as `append` does."""
        offered = read_document(document, Root, "root")
        newest = self.newest() if self.exists() else None
        wanted = newest.version + 1 if newest else 1
        if offered.signed.version != wanted:
            raise TrustConflict(
                f"root has version {offered.signed.version}; in {self._directory} version {wanted} is next. Make the "
                "ceremony anew on top of what is published"
            )
        for signed_by, name in ((newest, "the root before it"), (offered.signed, "its own root role")):
            if signed_by is not None:
                check_signed(offered, signed_by, Root.type, name)
        return offered.signed

    def _verified(self, version: int, predecessor: Root | None) -> Root:
        try:
            document = Metadata[Root].from_bytes(self._bytes(version))
            root = document.signed
            for signed_by in filter(None, (predecessor, root)):
                signed_by.verify_delegate(Root.type, document.signed_bytes, document.signatures)
        except (RepositoryError, ValueError) as error:
            raise SignedFilesError(f"{self._path(version)} cannot be trusted: {error}") from error
        if root.version != version:
            raise SignedFilesError(f"{self._path(version)} carries version {root.version}")
        return root

    def _bytes(self, version: int) -> bytes:
        try:
            return self._path(version).read_bytes()
        except FileNotFoundError as error:
            raise TrustMissing(
                f"{self._path(version)} is missing: no root of trust was installed here; make one with "
                "`edgefleet key ceremony start`, or run a small installation with EDGEFLEET_SINGLE_OPERATOR=true"
            ) from error

    def _path(self, version: int) -> Path:
        return self._directory / f"{version}.root.json"
