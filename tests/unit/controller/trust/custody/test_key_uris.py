from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import Signer

from controller.trust.custody.key_uris import (
    configured_passphrase,
    file_uri,
    generate_key_file,
    open_signer,
    public_key_of,
)
from controller.trust.errors import KeyStoreError

PASSPHRASE = "correct horse battery"


@pytest.mark.parametrize(("p256", "scheme"), [(False, "ed25519"), (True, "ecdsa-sha2-nistp256")])
def test_an_encrypted_key_opens_with_its_passphrase_and_signs(tmp_path: Path, p256: bool, scheme: str) -> None:
    made = generate_key_file(tmp_path / "key.pem", p256=p256, passphrase=PASSPHRASE)
    uri = f"encfile:{tmp_path / 'key.pem'}"
    assert file_uri(tmp_path / "key.pem") == uri
    signer = open_signer(uri, PASSPHRASE)
    assert signer.public_key == made.public_key == public_key_of(uri, PASSPHRASE)
    assert signer.public_key.scheme == scheme
    signer.public_key.verify_signature(signer.sign(b"content"), b"content")


def test_an_encrypted_key_is_in_a_form_that_others_read(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    generate_key_file(path, passphrase=PASSPHRASE)
    assert load_pem_private_key(path.read_bytes(), PASSPHRASE.encode())
    with pytest.raises(ValueError, match="Incorrect password"):
        load_pem_private_key(path.read_bytes(), b"wrong horse battery")


def test_two_encryptions_of_keys_share_nothing_and_never_hold_the_key_in_clear(tmp_path: Path) -> None:
    for number in (1, 2):
        generate_key_file(tmp_path / f"{number}.pem", passphrase=PASSPHRASE)
    first, second = ((tmp_path / f"{number}.pem").read_text().splitlines() for number in (1, 2))
    assert first[2:-1] != second[2:-1]


def test_a_wrong_passphrase_is_told_without_the_passphrase(tmp_path: Path) -> None:
    generate_key_file(tmp_path / "key.pem", passphrase=PASSPHRASE)
    with pytest.raises(KeyStoreError, match="does not open with this passphrase") as refused:
        open_signer(f"encfile:{tmp_path / 'key.pem'}", "wrong horse battery")
    assert "horse" not in str(refused.value)


def test_the_passphrase_comes_from_the_environment_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert configured_passphrase() is None
    generate_key_file(tmp_path / "key.pem", passphrase=PASSPHRASE)
    uri = f"encfile:{tmp_path / 'key.pem'}"
    with pytest.raises(KeyStoreError, match="EDGEFLEET_KEY_PASSPHRASE_FILE"):
        open_signer(uri)
    monkeypatch.setenv("EDGEFLEET_KEY_PASSPHRASE", PASSPHRASE)
    key = open_signer(uri).public_key
    monkeypatch.setenv("EDGEFLEET_KEY_PASSPHRASE", "something else")
    (tmp_path / "passphrase").write_text(f"{PASSPHRASE}\n")
    monkeypatch.setenv("EDGEFLEET_KEY_PASSPHRASE_FILE", str(tmp_path / "passphrase"))
    assert open_signer(uri).public_key == key


def test_a_passphrase_that_is_too_short_or_a_missing_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEFLEET_KEY_PASSPHRASE", "short")
    with pytest.raises(KeyStoreError, match="5 characters"):
        configured_passphrase()
    monkeypatch.setenv("EDGEFLEET_KEY_PASSPHRASE_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(KeyStoreError, match="nowhere, which cannot be read"):
        configured_passphrase()


def test_securesystemslib_opens_our_scheme(tmp_path: Path) -> None:
    made = generate_key_file(tmp_path / "key.pem", passphrase=PASSPHRASE)
    other = generate_key_file(tmp_path / "other.pem", passphrase=PASSPHRASE)
    uri = f"encfile:{tmp_path / 'key.pem'}"
    assert Signer.from_priv_key_uri(uri, made.public_key, lambda _: PASSPHRASE).public_key == made.public_key
    with pytest.raises(KeyStoreError, match="holds another key"):
        Signer.from_priv_key_uri(uri, other.public_key, lambda _: PASSPHRASE)


def test_a_key_file_is_made_for_its_owner_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "key.pem"
    generate_key_file(path)
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    with pytest.raises(KeyStoreError, match="keys are not replaced"):
        generate_key_file(path)
    assert path.read_bytes() == before


def test_a_uri_of_the_other_form_of_file_names_the_right_one(tmp_path: Path) -> None:
    generate_key_file(tmp_path / "plain.pem")
    generate_key_file(tmp_path / "encrypted.pem", passphrase=PASSPHRASE)
    with pytest.raises(KeyStoreError, match=r"not encrypted; its URI is file2:.*plain\.pem"):
        open_signer(f"encfile:{tmp_path / 'plain.pem'}", PASSPHRASE)
    with pytest.raises(KeyStoreError, match=r"is encrypted; its URI is encfile:.*encrypted\.pem"):
        open_signer(f"file2:{tmp_path / 'encrypted.pem'}", PASSPHRASE)


def test_a_file_that_others_may_open_or_that_is_missing_is_refused(tmp_path: Path) -> None:
    generate_key_file(tmp_path / "key.pem")
    (tmp_path / "key.pem").chmod(0o640)
    with pytest.raises(KeyStoreError, match="mode 0640"):
        open_signer(f"file2:{tmp_path / 'key.pem'}")
    with pytest.raises(KeyStoreError, match="No such file"):
        open_signer(f"file2:{tmp_path / 'nowhere.pem'}")


@pytest.mark.parametrize("uri", ["", "key.pem", "ftp:key", "awskms:", "encfile"])
def test_what_is_no_key_uri_is_refused_with_those_that_are(uri: str) -> None:
    with pytest.raises(KeyStoreError, match="awskms, azurekms, encfile, file2, gcpkms, hsm, hv"):
        open_signer(uri)


@pytest.mark.parametrize(
    ("uri", "extra"),
    [
        ("awskms:1234", "awskms"),
        ("gcpkms:projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1", "gcpkms"),
        ("azurekms://vault.vault.azure.net/keys/name/version", "azurekms"),
        ("hv:name/1", "vault"),
        ("hsm:2?label=token", "hsm"),
    ],
)
def test_a_key_service_whose_library_is_missing_names_what_to_install(uri: str, extra: str) -> None:
    with pytest.raises(KeyStoreError, match=rf"securesystemslib\[{extra}\]"):
        open_signer(uri)


@pytest.mark.parametrize("uri", ["azurekms://vault/keys", "hsm:two"])
def test_a_key_service_uri_that_is_malformed_is_one_line(uri: str) -> None:
    with pytest.raises(KeyStoreError):
        open_signer(uri)
