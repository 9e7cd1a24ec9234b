from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Root

from controller.trust.director import Director, open_director
from controller.trust.errors import SigningKeyError
from controller.trust.keys import KeyName, KeyStore
from controller.trust.root_chain import RootChain
from device_agent.protocol.assignment import Assignment, SlotAssignment, director_epoch, verify_assignment

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ASSIGNMENT = Assignment(
    device="dv_1",
    counter=7,
    issued=NOW,
    expires=NOW + timedelta(hours=48),
    slots={
        "digits": SlotAssignment("dev/digits/3/int8/manifest.json", 2345, "a" * 64, 30.0, "pin pi_1"),
        "faces": None,
    },
    poll_s=5.0,
)


@pytest.fixture
def keys(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "keys")


def test_a_device_accepts_what_the_director_signs(keys: KeyStore, tmp_path: Path) -> None:
    raw = open_director(tmp_path / "director", keys.signer, NOW).sign(ASSIGNMENT)
    root = Metadata[Root].from_bytes((tmp_path / "director" / "1.root.json").read_bytes()).signed
    accepted, mark = verify_assignment(raw, root=root, device="dv_1", mark=None, now=NOW)
    assert accepted == ASSIGNMENT
    assert mark.counter == 7
    assert b" " not in raw


def test_the_director_is_the_same_after_a_restart(keys: KeyStore, tmp_path: Path) -> None:
    first = open_director(tmp_path / "director", keys.signer, NOW)
    again = open_director(tmp_path / "director", KeyStore(tmp_path / "keys").signer, NOW + timedelta(days=3))
    assert again.root == first.root
    assert again.sign(ASSIGNMENT) == first.sign(ASSIGNMENT)


def test_a_directors_root_near_its_end_is_followed_by_the_next_and_keeps_the_epoch(
    keys: KeyStore, tmp_path: Path
) -> None:
    first = open_director(tmp_path / "director", keys.signer, NOW)
    later = open_director(tmp_path / "director", keys.signer, NOW + timedelta(days=310))
    assert later.root.version == 2
    assert director_epoch(later.root) == director_epoch(first.root)


def test_a_lost_director_key_that_was_made_anew_is_refused(keys: KeyStore, tmp_path: Path) -> None:
    open_director(tmp_path / "director", keys.signer, NOW)
    (tmp_path / "keys" / "director.pem").unlink()
    with pytest.raises(SigningKeyError):
        open_director(tmp_path / "director", KeyStore(tmp_path / "keys").signer, NOW)


def test_the_directors_root_names_no_key_of_the_image_repository(keys: KeyStore, tmp_path: Path) -> None:
    director = open_director(tmp_path / "director", keys.signer, NOW)
    image_keys = {keys.signer(name).public_key.keyid for name in KeyName if name.startswith("image-")}
    assert not image_keys & set(director.root.keys)


def test_a_signer_that_the_root_does_not_name_makes_no_director(keys: KeyStore, tmp_path: Path) -> None:
    open_director(tmp_path / "director", keys.signer, NOW)
    with pytest.raises(SigningKeyError):
        Director(RootChain(tmp_path / "director").newest(), keys.signer(KeyName.IMAGE_TIMESTAMP))
