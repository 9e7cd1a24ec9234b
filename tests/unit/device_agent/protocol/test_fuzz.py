"""Every parser of a device that takes bytes from the network: each input ends in a value or in the parser's own error.

What is signed is damaged twice: as it travels, and before it is signed, as a thief of the key would.
"""

import base64
import hashlib
import json
import lzma
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner

from device_agent.director_trust import DirectorTrust
from device_agent.protocol.assignment import (
    PAYLOAD_TYPE,
    VALIDITY,
    Assignment,
    Recipient,
    SlotAssignment,
    parse_assignment,
    verify_assignment,
)
from device_agent.protocol.channels import Channel
from device_agent.protocol.errors import ProtocolError
from device_agent.protocol.manifest import TensorSpec, parse_manifest
from device_agent.protocol.messages import EnrolmentToken
from device_agent.protocol.packing import unpack
from device_agent.protocol.sealing import content_key_info, seal, unseal, unwrap_content_key, wrap_content_key
from device_agent.protocol.time_answer import TIME_PAYLOAD_TYPE, TimeAnswer, verify_time_answer
from device_agent.serving.errors import RequestRefused
from device_agent.serving.http_messages import parse_head
from device_agent.serving.inference_messages import Signature, parse_inference
from tests.support.hostile_bytes import BYTES_PER_BYTE_MAX, DEPTHS, Parser, bulks, greed_of, mangled, towers
from tests.support.manifests import manifest_bytes
from tests.support.signed_repository import Director, SignedRepository

NOW = datetime.now(UTC).replace(microsecond=0)
DIRECTOR, IMAGES = Director(), SignedRepository()
SLOT = SlotAssignment("dev/digits/1/int8/manifest.json", 100, "a" * 64, 30.0, "pin pi_1", 1)
ASSIGNMENT = Assignment("dv_1", 5, NOW, NOW + VALIDITY, {"digits": SLOT, "faces": None}, 300.0, "camera", Channel.DEV)
RECIPIENT = Recipient("dv_1", "camera", Channel.DEV)
CONTENT = b"weights" * 40
DIGEST, KEY = hashlib.sha256(CONTENT).hexdigest(), b"k" * 32
OWN_KEY = X25519PrivateKey.generate()
INFO = content_key_info("dv_1", "a" * 64)
ROW = TensorSpec("x", "FP32", (-1, 4))
NAMES = TensorSpec("names", "BYTES", (-1,))
MODEL = Signature({"x": ROW, "names": NAMES}, {"y": ROW})
REQUEST = {
    "id": "1",
    "inputs": [
        {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0, 1.5, -2, 3]},
        {"name": "names", "shape": [1], "datatype": "BYTES", "data": ["a"]},
    ],
    "outputs": [{"name": "y"}],
}
HEAD = b"POST /v2/models/digits/infer HTTP/1.1\r\nhost: localhost\r\ncontent-length: 12\r\n\r\n"


def enveloped(payload: bytes, payload_type: str) -> bytes:
    """Sign a payload with the director's key, whatever it holds."""
    envelope = Envelope(payload, payload_type, {})
    envelope.sign(DIRECTOR.signer)
    return json.dumps(envelope.to_dict()).encode()


def verified(raw: bytes) -> object:
    return verify_assignment(raw, root=DIRECTOR.root, recipient=RECIPIENT, mark=None, now=NOW)


def told_time(raw: bytes) -> object:
    return verify_time_answer(raw, root=DIRECTOR.root, nonce="n")


def unpacked(raw: bytes) -> object:
    return b"".join(unpack([raw], length_max=len(CONTENT)))


def unsealed(raw: bytes) -> object:
    return b"".join(unseal([raw], key=KEY, sha256=DIGEST))


def head(raw: bytes) -> object:
    return parse_head(raw.replace(b"\r\n\r\n", b"") + b"\r\n\r\n", body_bytes_max=1000)


def text_of(read: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda raw: read(raw.decode("utf-8", "surrogateescape"))


ASSIGNED = ASSIGNMENT.to_payload()
TIME = TimeAnswer("n", NOW).to_payload()
WRAPPED = wrap_content_key(KEY, OWN_KEY.public_key(), INFO)
PARSERS = {
    "manifest": Parser(parse_manifest, manifest_bytes(), (ProtocolError,)),
    "assignment": Parser(parse_assignment, ASSIGNED, (ProtocolError,)),
    "assignment envelope": Parser(verified, enveloped(ASSIGNED, PAYLOAD_TYPE), (ProtocolError,)),
    "signed assignment": Parser(lambda raw: verified(enveloped(raw, PAYLOAD_TYPE)), ASSIGNED, (ProtocolError,)),
    "time envelope": Parser(told_time, enveloped(TIME, TIME_PAYLOAD_TYPE), (ProtocolError,)),
    "signed time": Parser(lambda raw: told_time(enveloped(raw, TIME_PAYLOAD_TYPE)), TIME, (ProtocolError,)),
    "packed artifact": Parser(unpacked, lzma.compress(CONTENT, preset=0), (ProtocolError,)),
    "sealed artifact": Parser(unsealed, b"".join(seal([CONTENT], key=KEY, sha256=DIGEST)), (ProtocolError,)),
    "wrapped key": Parser(
        text_of(lambda text: unwrap_content_key(text, OWN_KEY, INFO)), WRAPPED.encode(), (ProtocolError,)
    ),
    "enrolment token": Parser(text_of(EnrolmentToken.parse), b"eft_1_2_3", (ProtocolError,)),
    "inference head": Parser(head, HEAD, (RequestRefused,), 16 * 1024),
    "inference request": Parser(
        lambda raw: parse_inference({}, raw, MODEL), json.dumps(REQUEST).encode(), (RequestRefused,)
    ),
}


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> "Chain":
    return Chain(tmp_path_factory.mktemp("director"))


class Chain:
    """A device's view of the director's chain, to which a next root is offered."""

    def __init__(self, directory: Path) -> None:
        director = Director()
        self._trust = DirectorTrust(directory, director.bootstrap, IMAGES.bootstrap)
        director.rotate()
        self.valid = director.roots[2]
        self._first, self._key = self._trust.root, director.root_key

    def offer(self, raw: bytes) -> object:
        """Follow the chain to what is offered as its second root."""
        self._trust.root = self._first
        return self._trust.update(lambda version: raw if version == 2 else None, NOW)

    def offer_signed(self, raw: bytes) -> object:
        """Offer content that the right key has signed, as far as it can be signed."""
        return self.offer(signed_document(raw, self._key))


def signed_document(raw: bytes, signer: CryptoSigner) -> bytes:
    """Return a TUF document with this content and a good signature of it, where it has a canonical form."""
    try:
        signed = json.loads(raw)
        content = encode_canonical(signed).encode()
    except Exception:  # noqa: BLE001 -- there is nothing that could be signed
        return raw
    signature = signer.sign(content)
    return json.dumps({"signed": signed, "signatures": [signature.to_dict()]}).encode()


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.data())
def test_damage_ends_in_a_value_or_in_the_parsers_own_error(name: str, data: st.DataObject) -> None:
    parser = PARSERS[name]
    parser.try_to_read(data.draw(mangled(parser.valid)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_a_damaged_director_root_is_refused_as_what_it_is(chain: Chain, data: st.DataObject) -> None:
    parser = Parser(chain.offer, chain.valid, (ProtocolError,))
    parser.try_to_read(data.draw(mangled(parser.valid)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_a_director_root_with_damage_under_a_good_signature_is_refused_as_what_it_is(
    chain: Chain, data: st.DataObject
) -> None:
    content = json.dumps(json.loads(chain.valid)["signed"]).encode()
    parser = Parser(chain.offer_signed, content, (ProtocolError,))
    parser.try_to_read(data.draw(mangled(content)))


@pytest.mark.parametrize("name", PARSERS)
def test_no_depth_of_nesting_is_too_much(name: str) -> None:
    parser = PARSERS[name]
    for depth in DEPTHS:
        for raw in towers(parser.valid, depth):
            parser.try_to_read(raw)


def test_no_depth_of_nesting_is_too_much_for_a_director_root(chain: Chain) -> None:
    parser = Parser(chain.offer, chain.valid, (ProtocolError,))
    for depth in DEPTHS:
        for raw in towers(chain.valid, depth):
            parser.try_to_read(raw)


@pytest.mark.parametrize("name", PARSERS)
def test_memory_is_a_small_multiple_of_the_input(name: str) -> None:
    parser = PARSERS[name]
    for raw in bulks(parser.valid, parser.bytes_max // 4):
        assert greed_of(parser, raw) < BYTES_PER_BYTE_MAX, raw[:60]


def test_one_long_text_among_many_short_ones_does_not_multiply() -> None:
    """An array of texts has room for the longest in every place."""
    parser = PARSERS["inference request"]
    tensor: dict[str, Any] = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": ["a" * 20_000] + [""] * 5_000}
    for data in (tensor["data"], [tensor["data"]], [1.5, tensor["data"]]):
        raw = json.dumps({"inputs": [{**tensor, "data": data}]}).encode()
        assert greed_of(parser, raw) < BYTES_PER_BYTE_MAX


def test_the_valid_documents_are_valid(chain: Chain) -> None:
    """Else all of the above would show nothing but one refusal."""
    for name, parser in PARSERS.items():
        assert not isinstance(parser.try_to_read(parser.valid), Exception), name
    chain.offer(chain.valid)
    assert base64.b64decode(WRAPPED)
    assert verified(enveloped(replace(ASSIGNMENT, expires=NOW + timedelta(hours=1)).to_payload(), PAYLOAD_TYPE))
