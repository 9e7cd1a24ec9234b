"""The director's root chain: each link by a threshold of the old keys and of the new."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import SSlibKey

from device_agent.director_trust import ROOT_BYTES_MAX, DirectorTrust
from device_agent.protocol.errors import ProtocolError
from tests.support.signed_repository import Director, SignedRepository, key

IMAGE_ROOT = SignedRepository().bootstrap
NOW = datetime.now(UTC)


@pytest.fixture
def director() -> Director:
    return Director()


@pytest.fixture
def trust(director: Director, tmp_path: Path) -> DirectorTrust:
    return DirectorTrust(tmp_path / "director", director.bootstrap, IMAGE_ROOT)


def label_of(trust: DirectorTrust, director: Director, now: datetime = NOW) -> str:
    with pytest.raises(ProtocolError) as caught:
        trust.update(director.roots.get, now)
    return caught.value.label


def test_rotations_are_followed_and_survive_a_restart(trust: DirectorTrust, director: Director, tmp_path: Path) -> None:
    director.rotate()
    director.rotate()
    trust.update(director.roots.get, NOW)
    assert trust.root.version == 3
    assert set(trust.root.roles["targets"].keyids) == {director.signer.public_key.keyid}
    assert DirectorTrust(tmp_path / "director", director.bootstrap, IMAGE_ROOT).root.version == 3


def test_a_damaged_link_on_disk_is_ignored_and_fetched_again(
    trust: DirectorTrust, director: Director, tmp_path: Path
) -> None:
    director.rotate()
    trust.update(director.roots.get, NOW)
    (tmp_path / "director" / "2.root.json").write_bytes(b"{")
    again = DirectorTrust(tmp_path / "director", director.bootstrap, IMAGE_ROOT)
    assert again.root.version == 1
    again.update(director.roots.get, NOW)
    assert again.root.version == 2


def test_a_link_that_the_old_keys_did_not_sign_is_refused(trust: DirectorTrust, director: Director) -> None:
    thief = key()
    director.root.revoke_key(director.root_key.public_key.keyid, "root")
    director.root.add_key(thief.public_key, "root")
    director.root.version = 2
    director.publish_root(thief)
    assert label_of(trust, director) == "E_SIG_THRESHOLD[director-root]"
    assert trust.root.version == 1


def test_a_link_that_its_own_keys_did_not_sign_is_refused(trust: DirectorTrust, director: Director) -> None:
    director.root.revoke_key(director.root_key.public_key.keyid, "root")
    director.root.add_key(key().public_key, "root")
    director.root.version = 2
    director.publish_root(director.root_key)
    assert label_of(trust, director) == "E_SIG_THRESHOLD[director-root]"


def test_an_old_link_under_a_new_name_is_a_rollback(trust: DirectorTrust, director: Director) -> None:
    director.roots[2] = director.bootstrap
    assert label_of(trust, director) == "E_ROLLBACK[director-root]"


def test_an_expired_root_is_a_freeze(trust: DirectorTrust, director: Director) -> None:
    assert label_of(trust, director, NOW + timedelta(days=366)) == "E_FREEZE_EXPIRED[director-root]"


def test_endless_and_senseless_links_are_refused(trust: DirectorTrust, director: Director) -> None:
    director.roots[2] = b" " * (ROOT_BYTES_MAX + 1)
    assert label_of(trust, director) == "E_ENDLESS_DATA[director-root]"
    director.roots[2] = b"<html>"
    assert label_of(trust, director) == "E_MALFORMED[director-root]"


def test_a_key_shared_with_the_image_repository_is_refused(tmp_path: Path) -> None:
    images, director = SignedRepository(), Director()
    director.root.add_key(images.keys["timestamp"].public_key, "targets")
    director.publish_root(director.root_key)
    with pytest.raises(ProtocolError, match="E_KEY_REUSE"):
        DirectorTrust(tmp_path, director.bootstrap, images.bootstrap)


def test_one_key_under_two_ids_is_refused(tmp_path: Path) -> None:
    director = Director()
    one = director.signer.public_key
    director.root.add_key(SSlibKey("0" * 64, one.keytype, one.scheme, dict(one.keyval)), "targets")
    director.publish_root(director.root_key)
    with pytest.raises(ProtocolError, match="E_KEY_REUSE"):
        DirectorTrust(tmp_path, director.bootstrap, IMAGE_ROOT)
