"""What is published, as the signer reads it for itself: verified from the root, never taken from whoever asks.

The first root of each chain is pinned in the journal at its first use: whoever can write to the disk could otherwise
bring a whole repository of their own.
"""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tuf.api.metadata import TargetFile

from controller.trust.custody.keys import KeyName
from controller.trust.errors import SignedFilesError
from controller.trust.images.published import PublishedFiles, PublishedTargets
from controller.trust.images.root_chain import RootChain

Pin = Callable[[str, str], bool]
"""Takes the name of a chain and the sha256 of its first root; tells whether it is the one known before."""
_TOP = {KeyName.IMAGE_TIMESTAMP: "timestamp", KeyName.IMAGE_SNAPSHOT: "snapshot"}


class SignedTargets(Protocol):
    """What the signer must know of what is published."""

    def find(self, path: str) -> TargetFile | None:
        """Return the target that is published under this path now, None where there is none."""

    def keyids(self, name: KeyName) -> frozenset[str]:
        """Return the ids of the keys that the published files name for what this key signs; none where unknown."""


class PublishedTrust:
    """The image repository and the director's root below one directory. Safe to share between threads."""

    def __init__(self, tuf_dir: Path, pin: Pin) -> None:
        """Name the directory; nothing is read yet."""
        self._files = PublishedFiles(tuf_dir)
        self._targets = PublishedTargets(tuf_dir)
        self._director = tuf_dir / "director"
        self._pin = pin
        self._lock = threading.Lock()

    def find(self, path: str) -> TargetFile | None:
        """Return the target; TrustMissing or SignedFilesError where the repository is missing or altered."""
        self._root("image", self._files.metadata)
        with self._lock:
            try:
                return self._targets.target(path)
            except OSError as error:
                raise SignedFilesError(f"the signer cannot read what is published: {error}") from error

    def keyids(self, name: KeyName) -> frozenset[str]:
        """Return the ids of the published keys for what this key signs."""
        if name is KeyName.DIRECTOR:
            director = self._root("director", self._director)
            return frozenset(director.newest().roles["targets"].keyids) if director else frozenset()
        chain = self._root("image", self._files.metadata)
        if name in _TOP:
            return frozenset(chain.newest().roles[_TOP[name]].keyids) if chain else frozenset()
        if name in (KeyName.IMAGE_DEV, KeyName.IMAGE_BINS) and self._files.exist():
            published = self._files.read()
            role = "dev" if name is KeyName.IMAGE_DEV else "bin-00"
            return frozenset(published.delegator(role).get_delegated_role(role).keyids)
        return frozenset()

    def _root(self, name: str, directory: Path) -> RootChain | None:
        """Return the chain, found to begin as it always did; None where nothing is installed."""
        chain = RootChain(directory)
        if not chain.exists():
            return None
        if not self._pin(name, hashlib.sha256(chain.first_bytes()).hexdigest()):
            raise SignedFilesError(
                f"{directory}/1.root.json is not the root that this signer began under; if that is meant, give the "
                f"signer a new folder, whose keys the new root then names"
            )
        return chain
