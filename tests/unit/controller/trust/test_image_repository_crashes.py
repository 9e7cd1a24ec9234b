"""Power failures at every write: devices see the old state or the new, and the same call completes the work."""

from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest

from controller.trust.image_roles import bin_of
from tests.support.image_client import ImageClient
from tests.support.image_repositories import NOW, Crash, Place
from tests.support.manifests import manifest_bytes

SOON = NOW + timedelta(minutes=1)
PATH_1 = "dev/digits/1/int8/manifest.json"
WRITES_OF_ONE_PUBLISH = 4
"""Target, bin, snapshot, timestamp."""
WRITES_OF_INITIALISE = 261
"""Root, targets, dev, 256 bins, snapshot, timestamp."""


@pytest.mark.parametrize("writes", range(WRITES_OF_ONE_PUBLISH))
def test_a_crash_while_publishing_leaves_the_old_state_and_is_repaired_by_publishing_again(
    place: Place, device: ImageClient, tmp_path: Path, writes: int
) -> None:
    with pytest.raises(Crash):
        place.crashing(writes).publish([manifest_bytes(version=1)], SOON)
    assert device.download(PATH_1, SOON) is None

    assert place.repository().publish([manifest_bytes(version=1)], SOON) == (PATH_1,)
    assert device.download(PATH_1, SOON) == manifest_bytes(version=1)
    assert ImageClient(place.directory, tmp_path / "new").download(PATH_1, SOON) == manifest_bytes(version=1)


def test_a_publish_that_may_write_all_its_files_is_committed(place: Place, device: ImageClient) -> None:
    place.crashing(WRITES_OF_ONE_PUBLISH).publish([manifest_bytes(version=1)], SOON)
    assert device.download(PATH_1, SOON) == manifest_bytes(version=1)


@pytest.mark.parametrize("writes", range(1, WRITES_OF_ONE_PUBLISH))
def test_a_number_that_a_crash_left_behind_is_never_used_for_other_content(place: Place, writes: int) -> None:
    with pytest.raises(Crash):
        place.crashing(writes).publish([manifest_bytes(version=1)], SOON)
    left_behind = {path: path.read_bytes() for path in place.metadata.glob("[0-9]*.json")}

    same_bin = next(
        version for version in count(2) if bin_of(PATH_1) == bin_of(f"dev/digits/{version}/int8/manifest.json")
    )
    place.repository().publish([manifest_bytes(version=same_bin)], SOON)
    assert {path: path.read_bytes() for path in left_behind} == left_behind


@pytest.mark.parametrize("writes", [0, 1, 2, 3, 130, WRITES_OF_INITIALISE - 2, WRITES_OF_INITIALISE - 1])
def test_a_crash_while_initialising_is_repaired_by_initialising_again(tmp_path: Path, writes: int) -> None:
    place = Place(tmp_path)
    with pytest.raises(Crash):
        place.crashing(writes).initialise(NOW)
    assert not (place.metadata / "timestamp.json").exists()

    place.repository().initialise(NOW)
    place.repository().publish([manifest_bytes(version=1)], SOON)
    assert ImageClient(place.directory, tmp_path / "new").download(PATH_1, SOON) == manifest_bytes(version=1)


def test_a_root_that_devices_may_have_pinned_survives_a_crash_while_initialising(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with pytest.raises(Crash):
        place.crashing(1).initialise(NOW)
    pinned = place.repository().roots.first_bytes()
    place.repository().initialise(SOON)
    assert place.repository().roots.first_bytes() == pinned


@pytest.mark.parametrize(("days", "writes"), [(0.1, 0), (2, 1), (24, 0), (24, 1), (24, 200), (24, 258), (310, 1)])
def test_a_crash_while_refreshing_leaves_the_old_state_and_is_repaired_by_refreshing_again(
    place: Place, device: ImageClient, days: float, writes: int
) -> None:
    place.repository().publish([manifest_bytes(version=1)], NOW)
    later = NOW + timedelta(days=days)
    with pytest.raises(Crash):
        place.crashing(writes).refresh(later)
    assert device.download(PATH_1, NOW) == manifest_bytes(version=1)

    assert "timestamp" in place.repository().refresh(later)
    assert device.download(PATH_1, later) == manifest_bytes(version=1)
