"""A controller's keys and roots, made once: signing the image repository takes a while, and no test changes it."""

from pathlib import Path

import pytest

from tests.support.device_server import services_at


@pytest.fixture(scope="session")
def state_dir(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Path:
    """A state folder with keys and signed roots, to be used with any database."""
    directory = tmp_path_factory.mktemp("state")
    services_at(directory, f"sqlite:///{sqlite_template}").database.engine.dispose()
    return directory
