"""A repository with a release role, served over HTTP, and a signer's folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.release_desk.published_role import RepositoryFolder
from controller.release_desk.source import Source
from tests.support.release_roles import ReleaseRepository
from tests.support.static_files import StaticFiles, static_files


@pytest.fixture
def served() -> Iterator[StaticFiles]:
    """What the controller serves."""
    with static_files() as files:
        yield files


@pytest.fixture
def source(served: StaticFiles) -> Iterator[Source]:
    """The signer's connection to it."""
    opened = Source(served.url)
    yield opened
    opened.close()


@pytest.fixture
def repository(served: StaticFiles) -> ReleaseRepository:
    """A repository whose role needs two signatures and holds nothing yet."""
    return ReleaseRepository(served.files)


@pytest.fixture
def folder(tmp_path: Path, source: Source, repository: ReleaseRepository) -> RepositoryFolder:
    """The signer's folder, with the first root."""
    return RepositoryFolder(tmp_path / "desk", source, repository.bootstrap)
