"""What the attacks on devices share: a repository and a director that the test may turn against the device."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.attacked_device import AttackedDevice
from tests.support.device_api import DeviceApi, device_api
from tests.support.manifests import a_manifest
from tests.support.signed_repository import Release


@pytest.fixture
def api() -> Iterator[DeviceApi]:
    """A device API on a free port, for one test."""
    with device_api() as api:
        yield api


@pytest.fixture
def device(api: DeviceApi, tmp_path: Path) -> AttackedDevice:
    """A device that was enrolled and has looked at nothing yet."""
    return AttackedDevice(api, tmp_path / "device")


@pytest.fixture
def release(api: DeviceApi) -> Release:
    """An honest release of the model `digits`."""
    return api.images.publish(a_manifest())
