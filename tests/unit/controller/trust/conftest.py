"""An image repository that is initialised once and copied for each test: signing 256 bins takes a while."""

from pathlib import Path

import pytest

from tests.support.image_client import ImageClient
from tests.support.image_repositories import Place


@pytest.fixture(scope="session")
def initialised(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("initialised"))
    place.install()
    return place


@pytest.fixture
def place(initialised: Place, tmp_path: Path) -> Place:
    return initialised.copy_to(tmp_path / "place")


@pytest.fixture
def device(place: Place, tmp_path: Path) -> ImageClient:
    return ImageClient(place.directory, tmp_path / "device")
