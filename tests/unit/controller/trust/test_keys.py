import shutil
from pathlib import Path

import pytest

from controller.trust.errors import KeyStoreError
from controller.trust.keys import KeyName, KeyStore


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def test_every_name_has_an_ed25519_key_of_its_own(directory: Path) -> None:
    keys = [KeyStore(directory).signer(name).public_key for name in KeyName]
    assert {key.scheme for key in keys} == {"ed25519"}
    assert len({key.keyval["public"] for key in keys}) == len(KeyName)


def test_a_key_is_the_same_after_a_restart(directory: Path) -> None:
    first = KeyStore(directory).signer(KeyName.DIRECTOR).public_key
    assert KeyStore(directory).signer(KeyName.DIRECTOR).public_key == first


def test_key_files_and_their_folder_are_for_the_controllers_user_alone(directory: Path) -> None:
    store = KeyStore(directory)
    store.signer(KeyName.DIRECTOR)
    store.session_secret()
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / "director.pem").stat().st_mode & 0o777 == 0o600
    assert (directory / "session-secret").stat().st_mode & 0o777 == 0o600
    assert (directory / "director.pem").read_text().startswith("-----BEGIN PRIVATE KEY-----")


def test_a_key_file_that_others_may_read_is_refused(directory: Path) -> None:
    KeyStore(directory).signer(KeyName.DIRECTOR)
    (directory / "director.pem").chmod(0o644)
    with pytest.raises(KeyStoreError, match="mode 0644"):
        KeyStore(directory).signer(KeyName.DIRECTOR)


@pytest.mark.parametrize("name", [KeyName.DIRECTOR, KeyName.IMAGE_ROOT])
def test_a_key_that_is_a_copy_of_another_is_refused_under_both_names(directory: Path, name: KeyName) -> None:
    KeyStore(directory).signer(KeyName.IMAGE_ROOT)
    shutil.copy(directory / "image-root.pem", directory / "director.pem")
    with pytest.raises(KeyStoreError, match="hold one key"):
        KeyStore(directory).signer(name)


def test_a_file_that_is_no_key_is_refused_by_its_name(directory: Path) -> None:
    KeyStore(directory).signer(KeyName.DIRECTOR)
    (directory / "director.pem").write_bytes(b"-----BEGIN PRIVATE KEY-----\n")
    with pytest.raises(KeyStoreError, match=r"director\.pem is no private key"):
        KeyStore(directory).signer(KeyName.DIRECTOR)


def test_the_session_secret_is_random_and_kept(directory: Path, tmp_path: Path) -> None:
    secret = KeyStore(directory).session_secret()
    assert len(secret) == 32
    assert KeyStore(directory).session_secret() == secret
    assert KeyStore(tmp_path / "other").session_secret() != secret


def test_a_session_secret_that_was_cut_short_is_refused(directory: Path) -> None:
    KeyStore(directory).session_secret()
    (directory / "session-secret").write_bytes(b"short")
    with pytest.raises(KeyStoreError, match="5 bytes"):
        KeyStore(directory).session_secret()
