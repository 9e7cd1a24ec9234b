from datetime import UTC, datetime, timedelta, timezone

import pytest
from tuf.api.metadata import Targets

from controller.trust.custody.keys import KeyName
from controller.trust.images.image_roles import (
    BIN_ROLES,
    bin_of,
    is_due,
    is_hashed,
    manifest_target,
    next_version,
    policy_of,
    role_of,
    whole_seconds,
)
from device_agent.protocol.errors import Code, ProtocolError
from tests.support.manifests import manifest_bytes

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_there_are_256_bins_and_every_path_has_one() -> None:
    assert len(BIN_ROLES) == 256
    assert {bin_of(f"dev/digits/{version}/int8/manifest.json") for version in range(2000)} <= set(BIN_ROLES)


@pytest.mark.parametrize(
    ("role", "left", "due"),
    [
        ("timestamp", timedelta(days=7) - timedelta(minutes=59), False),
        ("timestamp", timedelta(days=7) - timedelta(minutes=61), True),
        ("snapshot", timedelta(days=6, minutes=1), False),
        ("snapshot", timedelta(days=5, hours=23), True),
        ("bin-3f", timedelta(days=7, minutes=1), False),
        ("bin-3f", timedelta(days=6, hours=23), True),
        ("dev", timedelta(days=6, hours=23), True),
        ("targets", timedelta(days=60, minutes=1), False),
        ("targets", timedelta(days=59, hours=23), True),
        ("prod-digits", timedelta(days=30, minutes=1), False),
        ("prod-digits", timedelta(days=29, hours=23), True),
    ],
)
def test_a_role_is_renewed_when_its_policy_says_so(role: str, left: timedelta, due: bool) -> None:
    assert is_due(role, Targets(expires=NOW + left), NOW) is due


def test_a_release_role_is_signed_by_release_keys_and_never_by_those_of_the_bins() -> None:
    assert policy_of("prod-digits").key is KeyName.RELEASE
    assert policy_of("bin-00").key is KeyName.IMAGE_BINS


@pytest.mark.parametrize(("role", "hashed"), [("targets", True), ("dev", True), ("prod-a", True), ("bin-00", False)])
def test_the_snapshot_carries_hashes_where_people_sign_and_above_the_bins(role: str, hashed: bool) -> None:
    assert is_hashed(role) is hashed


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("prod/digits/3/int8/manifest.json", "prod-digits"),
        ("prod/a.b-c/10/fp16/manifest.json", "prod-a.b-c"),
        ("dev/digits/3/int8/manifest.json", bin_of("dev/digits/3/int8/manifest.json")),
        ("prod/digits/03/int8/manifest.json", None),
        ("prod/digits/0/int8/manifest.json", None),
        ("prod/../3/int8/manifest.json", None),
        ("prod/digits/3/int8/manifest.json\n", None),
        ("prod/digits/3/manifest.json", None),
        ("beta/digits/3/int8/manifest.json", None),
        ("", None),
    ],
)
def test_a_path_belongs_to_one_role_or_to_none(path: str, role: str | None) -> None:
    assert role_of(path) == role


def test_a_version_is_the_unix_time_so_that_a_restored_backup_cannot_repeat_one() -> None:
    assert next_version(previous=5, now=NOW) == int(NOW.timestamp())


def test_a_version_grows_when_the_clock_does_not() -> None:
    ahead = int(NOW.timestamp()) + 1000
    assert next_version(previous=ahead, now=NOW) == ahead + 1


def test_moments_are_cut_to_seconds_in_utc() -> None:
    elsewhere = datetime(2026, 3, 1, 2, 0, 0, 999, tzinfo=timezone(timedelta(hours=2)))
    assert whole_seconds(elsewhere) == NOW


@pytest.mark.parametrize("channel", ["dev", "prod"])
def test_a_target_takes_its_path_and_custom_from_the_manifest(channel: str) -> None:
    content = manifest_bytes("digits", 3)
    target = manifest_target(content, channel)
    assert target.path == f"{channel}/digits/3/int8/manifest.json"
    assert target.custom == {"slot": "digits", "release": 3}
    assert target.length == len(content)
    assert set(target.hashes) == {"sha256"}


def test_bytes_that_are_no_manifest_make_no_target() -> None:
    with pytest.raises(ProtocolError) as refused:
        manifest_target(b"{}")
    assert refused.value.code is Code.MALFORMED
