"""Somebody wants a device to stand still, or plays with its idea of time."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.support.attacked_device import AttackedDevice, utc_now
from tests.support.attacks import Group, attack, label_of
from tests.support.device_api import DeviceApi
from tests.support.signed_repository import BINS, Release

NONCE = "6e" * 16


def shifted(by: timedelta) -> Callable[[], datetime]:
    return lambda: utc_now() + by


@attack(Group.FREEZE, "the timestamp has expired and no newer one comes", "E_FREEZE_EXPIRED[timestamp]")
def test_expired_timestamp(api: DeviceApi, tmp_path: Path, release: Release) -> str:
    api.images.lifetime = timedelta(hours=1)
    api.images.sign_top()
    later = AttackedDevice(api, tmp_path, wall=shifted(timedelta(hours=2)))
    return later.outcome(later.assignment(release.assigned(), issued=utc_now() + timedelta(hours=2)))


@attack(Group.FREEZE, "the image root has expired", "E_FREEZE_EXPIRED[root]")
def test_expired_root(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    api.images.lifetime = timedelta(seconds=-1)
    api.images.rotate()
    return device.outcome(device.assignment(release.assigned()))


@attack(Group.FREEZE, "a bin has expired", "E_FREEZE_EXPIRED[delegated]")
def test_expired_bin(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    images = api.images
    images.lifetime = timedelta(seconds=-1)
    images.set_bin_version(BINS.get_role_for_target(release.target), 3)
    images.lifetime = timedelta(days=30)
    images.sign_top()
    return device.outcome(device.assignment(release.assigned()))


@attack(Group.FREEZE, "the director's root has expired", "E_FREEZE_EXPIRED[director-root]")
def test_expired_director_root(api: DeviceApi, tmp_path: Path, release: Release) -> str:
    later = AttackedDevice(api, tmp_path, wall=shifted(timedelta(days=400)))
    return later.outcome(later.assignment(release.assigned()))


@attack(Group.FREEZE, "an expired assignment is held against the device", "E_FREEZE_EXPIRED[assignment]")
def test_expired_assignment(device: AttackedDevice, release: Release) -> str:
    return device.outcome(device.assignment(release.assigned(), issued=utc_now() - timedelta(hours=49)))


@attack(Group.FREEZE, "the clock is set back five years and an expired timestamp served", "E_FREEZE_EXPIRED[timestamp]")
def test_clock_back(api: DeviceApi, tmp_path: Path, release: Release) -> str:
    years_back = timedelta()
    device = AttackedDevice(api, tmp_path, wall=lambda: utc_now() + years_back)
    device.take(device.assignment(release.assigned()))
    years_back = timedelta(days=-5 * 365)
    api.images.lifetime = timedelta(seconds=-60)
    api.images.sign_top()
    return device.outcome(device.assignment(release.assigned()))


@attack(Group.FREEZE, "the clock is fifteen years ahead", "E_FREEZE_EXPIRED[director-root]")
def test_clock_ahead(api: DeviceApi, tmp_path: Path, release: Release) -> str:
    ahead = AttackedDevice(api, tmp_path, wall=shifted(timedelta(days=15 * 365)))
    return ahead.outcome(ahead.assignment(release.assigned()))


@attack(Group.FREEZE, "the clock is fifteen years ahead, and the device asks for the time", "accepted")
def test_clock_ahead_and_asked(api: DeviceApi, tmp_path: Path, release: Release) -> str:
    ahead = AttackedDevice(api, tmp_path, wall=shifted(timedelta(days=15 * 365)))
    ahead.ask_time(api.director.sign_time(NONCE, utc_now()), NONCE)
    return ahead.outcome(ahead.assignment(release.assigned()))


@attack(Group.FREEZE, "an assignment is issued ahead of the clock", "E_CLOCK[assignment]")
def test_issued_in_the_future(device: AttackedDevice, release: Release) -> str:
    return device.outcome(device.assignment(release.assigned(), issued=utc_now() + timedelta(hours=1)))


@attack(
    Group.FREEZE, "a stolen director pushes time on, 200 documents of nine minutes each; then honest use", "accepted"
)
def test_director_ratchets_time(device: AttackedDevice, release: Release) -> str:
    at = utc_now()
    for _ in range(200):
        at += timedelta(minutes=9)
        raw = device.assignment(release.assigned(), issued=at)
        label_of(lambda raw=raw: device.verify(raw))  # type: ignore[misc]
    return device.outcome(device.assignment(release.assigned()))


@attack(Group.FREEZE, "an answer about the time carries an old nonce", "E_TIME_REPLAY[time]")
def test_old_time_answer(api: DeviceApi, device: AttackedDevice) -> str:
    old = api.director.sign_time("00" * 16, datetime(2026, 1, 2, tzinfo=UTC))
    return label_of(lambda: device.ask_time(old, NONCE))


@attack(Group.FREEZE, "an answer about the time is signed by a strange key", "E_SIG_THRESHOLD[time]")
def test_time_by_a_strange_key(api: DeviceApi, device: AttackedDevice) -> str:
    genuine = api.director.signer
    api.director.rotate()  # which this device has not followed
    assert api.director.signer is not genuine
    return label_of(lambda: device.ask_time(api.director.sign_time(NONCE, utc_now()), NONCE))


@attack(Group.FREEZE, "an assignment is passed off as an answer about the time", "E_WRONG_TYPE[time]")
def test_assignment_as_time(device: AttackedDevice, release: Release) -> str:
    raw = device.assignment(release.assigned())
    return label_of(lambda: device.ask_time(raw, NONCE))


@attack(Group.FREEZE, "a stolen director tells a time before what both repositories have signed", "accepted")
def test_time_below_the_floor(api: DeviceApi, device: AttackedDevice, release: Release) -> str:
    device.take(device.assignment(release.assigned()))
    device.ask_time(api.director.sign_time(NONCE, datetime(2026, 1, 2, tzinfo=UTC)), NONCE)
    assert utc_now() - device.now() < timedelta(minutes=1), "the floor holds"
    return device.outcome(device.assignment(release.assigned()))
