"""What the agent's integration tests share: a controller over HTTP."""

from collections.abc import Iterator

import pytest

from tests.support.device_api import DeviceApi, device_api


@pytest.fixture
def api() -> Iterator[DeviceApi]:
    """A device API on a free port, for one test."""
    with device_api() as api:
        yield api
