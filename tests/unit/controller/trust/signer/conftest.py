"""A signer over a small published repository: a released and an unreleased version of `digits`."""

from pathlib import Path

import pytest

from controller.trust.signer.verbs import LocalSigner
from tests.support.image_repositories import Place
from tests.support.signers import fill, signer_of


@pytest.fixture(scope="session")
def published(initialised: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = initialised.copy_to(tmp_path_factory.mktemp("published") / "place")
    fill(place)
    return place


@pytest.fixture
def place(published: Place, tmp_path: Path) -> Place:
    return published.copy_to(tmp_path / "place")


@pytest.fixture
def signer(place: Place) -> LocalSigner:
    return signer_of(place)
