"""An installation with published versions and release keys, made once and copied for every test that changes it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from securesystemslib.signer import CryptoSigner

from tests.support.release_installation import (
    PEOPLE,
    Bench,
    ReleaseInstallation,
    bench_for,
    make_installation,
    open_installation,
)


@pytest.fixture(scope="session")
def release_keys() -> dict[str, CryptoSigner]:
    """Two people's keys."""
    return {person: CryptoSigner.generate_ed25519() for person in PEOPLE}


@pytest.fixture(scope="session")
def release_template(
    tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path, release_keys: dict[str, CryptoSigner]
) -> Path:
    """A state folder in which two people must sign."""
    state_dir = tmp_path_factory.mktemp("release") / "state"
    make_installation(state_dir, sqlite_template, release_keys)
    return state_dir


@pytest.fixture
def installation(
    release_template: Path, release_keys: dict[str, CryptoSigner], tmp_path: Path
) -> Iterator[ReleaseInstallation]:
    """An installation that is this test's alone."""
    state_dir = tmp_path / "state"
    shutil.copytree(release_template, state_dir)
    services = open_installation(state_dir)
    yield ReleaseInstallation(services, release_keys)
    services.database.engine.dispose()


@pytest.fixture
def client(installation: ReleaseInstallation) -> Iterator[httpx.Client]:
    """The operator's connection to it."""
    with installation.serving() as connected:
        yield connected


@pytest.fixture
def bench(installation: ReleaseInstallation, client: httpx.Client, tmp_path: Path) -> Iterator[Bench]:
    """A signer's machine."""
    made = bench_for(installation, client, tmp_path / "desk")
    yield made
    made.desk.source.close()
