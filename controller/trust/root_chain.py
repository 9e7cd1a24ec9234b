"""The chain of root documents, `1.root.json`, `2.root.json` ..., that every trust decision starts from.

Devices follow it from the root they were enrolled with, so no file of it is ever changed or removed, and each
is signed by its predecessor and by itself (TUF specification, section 5.3, "Update the root role").
"""

from datetime import datetime, timedelta
from pathlib import Path

from securesystemslib.signer import Signer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root
from tuf.api.serialization import DeserializationError

from controller.trust.durable_files import Write, write_durably
from controller.trust.errors import SignedFilesError, SigningKeyError

LIFETIME = timedelta(days=365)
RENEWED_BEFORE = timedelta(days=60)
"""A root that expires sooner than this is followed by the next one."""


class RootChain:
    """The root documents in one directory. Writers hold the lock of the repository they belong to."""

    def __init__(self, directory: Path, write: Write = write_durably) -> None:
        """Name the directory; nothing is read yet."""
        self._directory = directory
        self._write = write

    def first_bytes(self) -> bytes:
        """Return the exact bytes of `1.root.json`, which enrolment hands out and tokens pin."""
        return self._bytes(1)

    def newest(self) -> Root:
        """Return the newest root; SignedFilesError when a link of the chain is missing or altered."""
        newest = self._verified(1, predecessor=None)
        while self._path(newest.version + 1).exists():
            newest = self._verified(newest.version + 1, predecessor=newest)
        return newest

    def create(self, root: Root, signer: Signer, now: datetime) -> None:
        """Publish the first root, with the root key added; a chain that exists stays as it is."""
        if not self._path(1).exists():
            root.add_key(signer.public_key, "root")
            self._publish(root, signer, now)

    def renew(self, signer: Signer, now: datetime) -> bool:
        """Publish a successor with the same keys when the newest root expires soon; say whether it was due."""
        root = self.newest()
        due = root.expires - now < RENEWED_BEFORE
        if due:
            root.version += 1
            self._publish(root, signer, now)
        return due

    def _publish(self, root: Root, signer: Signer, now: datetime) -> None:
        if signer.public_key.keyid not in root.roles["root"].keyids:
            raise SigningKeyError(f"the root key in the store is not one that {self._directory} names")
        root.expires = now + LIFETIME
        document = Metadata(root)
        document.sign(signer)
        self._write(self._path(root.version), document.to_bytes())

    def _verified(self, version: int, predecessor: Root | None) -> Root:
        try:
            document = Metadata[Root].from_bytes(self._bytes(version))
            root = document.signed
            for signed_by in filter(None, (predecessor, root)):
                signed_by.verify_delegate(Root.type, document.signed_bytes, document.signatures)
        except (RepositoryError, DeserializationError, ValueError) as error:
            raise SignedFilesError(f"{self._path(version)} cannot be trusted: {error}") from error
        if root.version != version:
            raise SignedFilesError(f"{self._path(version)} carries version {root.version}")
        return root

    def _bytes(self, version: int) -> bytes:
        try:
            return self._path(version).read_bytes()
        except FileNotFoundError as error:
            raise SignedFilesError(f"{self._path(version)} is missing; initialise first") from error

    def _path(self, version: int) -> Path:
        return self._directory / f"{version}.root.json"
