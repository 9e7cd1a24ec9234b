"""Image repositories for tests, and writers that crash."""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from controller.trust.durable_files import write_durably
from controller.trust.image_repository import ImageRepository
from controller.trust.keys import KeyStore

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Crash(Exception):
    """The power goes."""


@dataclass
class CrashingWriter:
    """Writes durably until `writes_left` is used up; the write after that leaves half a file and crashes."""

    writes_left: int

    def __call__(self, path: Path, content: bytes) -> None:
        """Write one file, or crash."""
        if self.writes_left == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(f".{path.name}.new").write_bytes(content[: len(content) // 2])
            raise Crash(path.name)
        self.writes_left -= 1
        write_durably(path, content)


@dataclass(frozen=True)
class Place:
    """Where a repository and its keys are; each `repository()` is a process that starts anew."""

    path: Path

    @property
    def directory(self) -> Path:
        return self.path / "repository"

    @property
    def metadata(self) -> Path:
        return self.directory / "metadata"

    def repository(self) -> ImageRepository:
        """Return the repository as a newly started controller opens it."""
        return ImageRepository(self.directory, KeyStore(self.path / "keys").signer)

    def crashing(self, after_writes: int) -> ImageRepository:
        """Return the repository in a controller that dies after so many files."""
        return ImageRepository(self.directory, KeyStore(self.path / "keys").signer, CrashingWriter(after_writes))

    def copy_to(self, path: Path) -> "Place":
        """Return a copy that a test may change."""
        shutil.copytree(self.path, path)
        return Place(path)
