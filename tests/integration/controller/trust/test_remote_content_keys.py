"""Content keys through the socket of a real signer process."""

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from controller.trust.errors import SignerCode, SignerRefused
from controller.trust.signer.interface import KeyWish
from controller.trust.signer.verbs import open_local_signer
from device_agent.protocol.sealing import content_key_info, unwrap_content_key
from tests.support.image_repositories import Place
from tests.support.signer_processes import SignerProcess

PRIVATE = X25519PrivateKey.generate()
PUBLIC = base64.b64encode(PRIVATE.public_key().public_bytes_raw()).decode()
WISH = KeyWish("va_1", "a" * 64, "dv_1", PUBLIC)


def test_a_signer_in_another_process_gives_the_same_keys_and_refuses_the_same(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with SignerProcess(place) as process:
        client = process.client()
        key = client.content_key("va_1")
        wrapped = client.wrap_content_keys([WISH] * 2001)
        with pytest.raises(SignerRefused) as refused:
            client.content_key("..")
        client.close()
    assert refused.value.code == SignerCode.CONTENT
    assert len(wrapped) == 2001
    assert unwrap_content_key(wrapped[-1], PRIVATE, content_key_info("dv_1", "a" * 64)) == key
    assert open_local_signer(place.path / "signer", place.directory).content_key("va_1") == key
