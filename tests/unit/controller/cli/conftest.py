"""A fake controller behind the command line's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fake_controller import FakeController, fake_controller


@pytest.fixture
def controller(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeController]:
    """A scripted controller that the command line finds through its environment, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEFLEET_TOKEN", "flt_operator")
    monkeypatch.setenv("NO_COLOR", "1")
    for name in ("EDGEFLEET_TOKEN_FILE", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    with fake_controller() as fake:
        monkeypatch.setenv("EDGEFLEET_SERVER", fake.url)
        yield fake
