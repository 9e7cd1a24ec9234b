import json
import os
import shutil
import stat
from pathlib import Path

import pytest
from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, CryptoSigner, Key, SecretsHandler, Signer

from controller.trust.custody.keys import OFFLINE, ONLINE, P256, KeyName, KeyStore, session_secret
from controller.trust.errors import KeyStoreError

PASSPHRASE = "correct horse battery"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def test_every_name_has_a_key_of_its_own_on_its_curve(directory: Path) -> None:
    keys = {name: KeyStore(directory).signer(name).public_key for name in KeyName}
    assert {name for name, key in keys.items() if key.scheme == "ecdsa-sha2-nistp256"} == P256
    assert {key.scheme for name, key in keys.items() if name not in P256} == {"ed25519"}
    assert len({key.keyval["public"] for key in keys.values()}) == len(KeyName)


def test_a_key_is_the_same_after_a_restart(directory: Path) -> None:
    first = KeyStore(directory).signer(KeyName.DIRECTOR).public_key
    assert KeyStore(directory).signer(KeyName.DIRECTOR).public_key == first


def test_a_store_of_online_keys_makes_no_offline_key(directory: Path) -> None:
    store = KeyStore(directory, ONLINE)
    for name in OFFLINE:
        with pytest.raises(KeyStoreError, match=f"keeps no {name} key"):
            store.signer(name)
    assert not directory.exists()


def test_key_files_and_their_folder_are_for_their_owner_alone(directory: Path) -> None:
    KeyStore(directory).signer(KeyName.DIRECTOR)
    session_secret(directory)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / "director.pem").stat().st_mode & 0o777 == 0o600
    assert (directory / "session-secret").stat().st_mode & 0o777 == 0o600
    assert (directory / "director.pem").read_text().startswith("-----BEGIN PRIVATE KEY-----")


def test_with_a_passphrase_every_new_key_is_encrypted_and_opens_with_it_alone(directory: Path) -> None:
    key = KeyStore(directory, passphrase=PASSPHRASE).signer(KeyName.DIRECTOR).public_key
    assert (directory / "director.pem").read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert KeyStore(directory, passphrase=PASSPHRASE).signer(KeyName.DIRECTOR).public_key == key
    with pytest.raises(KeyStoreError, match="does not open with this passphrase"):
        KeyStore(directory, passphrase="another passphrase").signer(KeyName.DIRECTOR)
    with pytest.raises(KeyStoreError, match="set EDGEFLEET_KEY_PASSPHRASE"):
        KeyStore(directory).signer(KeyName.DIRECTOR)


def test_a_passphrase_of_the_environment_encrypts_too(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEFLEET_KEY_PASSPHRASE", PASSPHRASE)
    KeyStore(directory).signer(KeyName.DIRECTOR)
    assert "ENCRYPTED" in (directory / "director.pem").read_text()


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


def test_a_next_key_that_is_a_copy_of_the_present_one_is_refused(directory: Path) -> None:
    store = KeyStore(directory)
    store.signer(KeyName.DIRECTOR)
    shutil.copy(directory / "director.pem", directory / "director.next.pem")
    with pytest.raises(KeyStoreError, match="hold one key"):
        store.pending(KeyName.DIRECTOR)


def test_a_file_that_is_no_key_is_refused_by_its_name(directory: Path) -> None:
    KeyStore(directory).signer(KeyName.DIRECTOR)
    (directory / "director.pem").write_bytes(b"-----BEGIN PRIVATE KEY-----\n")
    with pytest.raises(KeyStoreError, match=r"director\.pem is no private key"):
        KeyStore(directory).signer(KeyName.DIRECTOR)


def test_an_open_store_sees_a_rotation_that_another_process_makes(directory: Path) -> None:
    opened, other = KeyStore(directory), KeyStore(directory)
    old = opened.signer(KeyName.DIRECTOR).public_key
    assert opened.pending(KeyName.DIRECTOR) is None
    new = other.prepare_next(KeyName.DIRECTOR)
    assert new != old
    assert other.prepare_next(KeyName.DIRECTOR) == new
    pending = opened.pending(KeyName.DIRECTOR)
    assert pending is not None
    assert (opened.signer(KeyName.DIRECTOR).public_key, pending.public_key) == (old, new)
    assert other.promote(KeyName.DIRECTOR) == new
    assert opened.signer(KeyName.DIRECTOR).public_key == new
    assert opened.pending(KeyName.DIRECTOR) is None
    with pytest.raises(KeyStoreError, match="no pending key"):
        other.promote(KeyName.DIRECTOR)


class ServiceSigner(CryptoSigner):
    """A key service for tests: the key is in a file that the store knows nothing of."""

    @classmethod
    def from_priv_key_uri(cls, uri: str, key: Key, _secrets: SecretsHandler | None = None) -> Signer:
        signer = CryptoSigner.from_priv_key_uri(f"file2:{uri.partition(':')[2]}", key)
        assert signer.public_key == key
        return signer


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[str, Key]:
    monkeypatch.setitem(SIGNER_FOR_URI_SCHEME, "testkms", ServiceSigner)
    signer = CryptoSigner.generate_ed25519()
    (tmp_path / "service").write_bytes(signer.private_bytes)
    return f"testkms:{tmp_path / 'service'}", signer.public_key


def test_a_key_that_is_named_by_a_uri_is_used_and_none_is_made(directory: Path, service: tuple[str, Key]) -> None:
    uri, key = service
    directory.mkdir()
    (directory / "keys.json").write_text(json.dumps({"director": uri}))
    (directory / "director.public.json").write_text(json.dumps({"keyid": key.keyid, **key.to_dict()}))
    store = KeyStore(directory)
    assert store.signer(KeyName.DIRECTOR).public_key == key
    assert not (directory / "director.pem").exists()
    with pytest.raises(KeyStoreError, match=r"name its successor there as 'director\.next'"):
        store.prepare_next(KeyName.DIRECTOR)


@pytest.mark.parametrize("content", ["{", "[]", '{"directer": "awskms:1"}', '{"director": 7}'])
def test_a_list_of_uris_that_cannot_be_read_is_refused(directory: Path, content: str) -> None:
    directory.mkdir()
    (directory / "keys.json").write_text(content)
    with pytest.raises(KeyStoreError, match=r"keys\.json"):
        KeyStore(directory).signer(KeyName.DIRECTOR)


def test_the_session_secret_is_random_and_kept(directory: Path, tmp_path: Path) -> None:
    secret = session_secret(directory)
    assert len(secret) == 32
    assert session_secret(directory) == secret
    assert session_secret(tmp_path / "other") != secret


def test_a_session_secret_that_was_cut_short_is_refused(directory: Path) -> None:
    session_secret(directory)
    (directory / "session-secret").write_bytes(b"short")
    with pytest.raises(KeyStoreError, match="5 bytes"):
        session_secret(directory)


def test_a_prepared_key_belongs_to_the_owner_of_the_folder_also_when_root_prepares_it(directory: Path) -> None:
    store = KeyStore(directory)
    store.signer(KeyName.DIRECTOR)
    owner = 65534 if os.geteuid() == 0 else os.geteuid()
    os.chown(directory, owner, -1)
    store.prepare_next(KeyName.DIRECTOR)
    made = (directory / "director.next.pem").stat()
    assert (made.st_uid, stat.S_IMODE(made.st_mode)) == (owner, 0o600)
