import base64
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from controller.trust.errors import KeyStoreError, SignerCode, SignerRefused
from controller.trust.signer.content_keys import MASTER_FILE
from controller.trust.signer.interface import KeyWish, OnlineSigner
from controller.trust.signer.verbs import LocalSigner, open_local_signer
from device_agent.protocol.sealing import content_key_info, unwrap_content_key
from tests.support.image_repositories import NOW

PRIVATE = X25519PrivateKey.generate()
PUBLIC = base64.b64encode(PRIVATE.public_key().public_bytes_raw()).decode()
WISH = KeyWish("va_1", "a" * 64, "dv_1", PUBLIC)


def open_signer(folder: Path) -> LocalSigner:
    return open_local_signer(folder / "signer", folder / "tuf", clock=lambda: NOW)


@pytest.fixture
def signer(tmp_path: Path) -> LocalSigner:
    return open_signer(tmp_path)


def unwrapped(signer: OnlineSigner, wish: KeyWish = WISH) -> bytes:
    [wrapped] = signer.wrap_content_keys([wish])
    return unwrap_content_key(wrapped, PRIVATE, content_key_info(wish.device, wish.manifest_sha256))


def test_a_key_is_the_same_whenever_and_by_whomever_it_is_asked_for(signer: LocalSigner, tmp_path: Path) -> None:
    key = signer.content_key("va_1")
    assert len(key) == 32
    assert [signer.content_key("va_1"), open_signer(tmp_path).content_key("va_1")] == [key, key]
    assert signer.content_key("va_2") != key


def test_two_signers_have_nothing_in_common(signer: LocalSigner, tmp_path: Path) -> None:
    assert open_signer(tmp_path / "other").content_key("va_1") != signer.content_key("va_1")


def test_a_device_unwraps_the_key_that_the_worker_seals_with(signer: LocalSigner) -> None:
    assert unwrapped(signer) == signer.content_key("va_1")


def test_keys_are_wrapped_in_order(signer: LocalSigner) -> None:
    wishes = [WISH, WISH._replace(key_id="va_2"), WISH._replace(device="dv_2")]
    wrapped = signer.wrap_content_keys(wishes)
    infos = [content_key_info(wish.device, wish.manifest_sha256) for wish in wishes]
    keys = [unwrap_content_key(one, PRIVATE, info) for one, info in zip(wrapped, infos, strict=True)]
    assert keys == [signer.content_key(wish.key_id) for wish in wishes]
    assert signer.wrap_content_keys([]) == []


@pytest.mark.parametrize("public", ["", "no base64", "AAAA", base64.b64encode(bytes(32)).decode()])
def test_a_device_whose_key_is_none_gets_nothing_and_the_others_get_theirs(signer: LocalSigner, public: str) -> None:
    wrapped = signer.wrap_content_keys([WISH._replace(public_key=public), WISH])
    assert (wrapped[0], bool(wrapped[1])) == ("", True)


@pytest.mark.parametrize(
    "wish",
    [
        WISH._replace(key_id="va/1"),
        WISH._replace(key_id=""),
        WISH._replace(manifest_sha256="a"),
        WISH._replace(device="dv_1|" + "b" * 64),
        WISH._replace(device=""),
    ],
)
def test_what_no_device_could_have_been_given_is_refused(signer: LocalSigner, wish: KeyWish) -> None:
    with pytest.raises(SignerRefused) as refused:
        signer.wrap_content_keys([wish])
    assert refused.value.code == SignerCode.CONTENT


def test_the_master_is_for_its_owner_alone_and_nothing_of_it_or_its_keys_is_written_elsewhere(
    signer: LocalSigner, tmp_path: Path
) -> None:
    key = signer.content_key("va_1")
    signer.wrap_content_keys([WISH])
    master = tmp_path / "signer" / "keys" / MASTER_FILE
    assert stat.S_IMODE(master.stat().st_mode) == 0o600
    secrets = [form for secret in (key, master.read_bytes()) for form in (secret, secret.hex().encode())]
    secrets += [base64.b64encode(key), base64.b64encode(master.read_bytes())]
    others = [path for path in tmp_path.rglob("*") if path.is_file() and path != master]
    assert not [path for path in others for secret in secrets if secret in path.read_bytes()]


def test_the_journal_tells_which_keys_were_given_out(signer: LocalSigner, tmp_path: Path) -> None:
    signer.content_key("va_1")
    signer.wrap_content_keys([WISH, WISH])
    journal = (tmp_path / "signer" / "journal.jsonl").read_text()
    assert '"kind":"content_key","number":0' in journal
    assert '"subject":"va_1"' in journal
    assert '"kind":"wrapped_keys","number":2' in journal
    assert open_signer(tmp_path).journal_head() == signer.journal_head()


@pytest.mark.parametrize(("mode", "size"), [(0o640, 32), (0o600, 31)])
def test_a_master_that_others_may_read_or_that_is_cut_is_refused(
    signer: LocalSigner, tmp_path: Path, mode: int, size: int
) -> None:
    master = tmp_path / "signer" / "keys" / MASTER_FILE
    signer.content_key("va_1")
    master.write_bytes(bytes(size))
    master.chmod(mode)
    with pytest.raises(KeyStoreError):
        signer.content_key("va_1")
