import hashlib
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.protocol import sealing
from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.sealed_form import CHUNK, MAGIC, TAG, sealed_length
from device_agent.protocol.sealing import content_key_info, seal, unseal, unwrap_content_key, wrap_content_key

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
INFO = content_key_info("dv_1", "a" * 64)
LENGTHS = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 5]
SMALL = 64
"""Chunks of so few bytes show the same borders without megabytes."""


def plaintext(length: int) -> bytes:
    return hashlib.shake_128(b"plaintext").digest(length)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def sealed(content: bytes, key: bytes = KEY) -> bytes:
    return b"".join(seal([content], key=key, sha256=digest(content)))


def opened(form: bytes, content: bytes, key: bytes = KEY) -> bytes:
    return b"".join(unseal([form], key=key, sha256=digest(content)))


def refusal(form: bytes, content: bytes, key: bytes = KEY) -> str:
    with pytest.raises(ProtocolError) as refused:
        opened(form, content, key)
    return refused.value.label


def cut(content: bytes, size: int) -> Iterator[bytes]:
    return (content[start : start + size] for start in range(0, len(content), size))


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "CHUNK", SMALL)


@pytest.mark.parametrize("length", LENGTHS)
def test_what_was_sealed_is_unsealed_and_is_as_long_as_a_manifest_expects(length: int) -> None:
    content = plaintext(length)
    form = sealed(content)
    assert opened(form, content) == content
    assert len(form) == sealed_length(length)


@pytest.mark.usefixtures("small_chunks")
@given(content=st.binary(max_size=5 * SMALL), inwards=st.integers(1, 200), outwards=st.integers(1, 200))
def test_pieces_of_any_size_give_the_same(content: bytes, inwards: int, outwards: int) -> None:
    form = b"".join(seal(cut(content, inwards), key=KEY, sha256=digest(content)))
    assert form == sealed(content)
    assert b"".join(unseal(cut(form, outwards), key=KEY, sha256=digest(content))) == content


def test_the_same_plaintext_under_the_same_key_gives_the_same_bytes() -> None:
    assert sealed(b"weights") == sealed(b"weights")


def test_two_plaintexts_and_two_keys_share_no_key_stream() -> None:
    def stream(content: bytes, key: bytes) -> bytes:
        form = sealed(content, key)[len(MAGIC) :]
        return bytes(a ^ b for a, b in zip(content, form, strict=False))

    streams = {stream(content, key) for content in (b"a" * 100, b"b" * 100) for key in (KEY, OTHER_KEY)}
    assert len(streams) == 4


def test_a_plaintext_that_is_not_the_named_one_is_not_sealed_to_the_end() -> None:
    with pytest.raises(ProtocolError) as refused:
        list(seal([b"damaged"], key=KEY, sha256=digest(b"weights")))
    assert refused.value.code is Code.HASH_MISMATCH


def test_another_key_opens_nothing() -> None:
    assert refusal(sealed(b"weights"), b"weights", OTHER_KEY) == "E_DECRYPT[artifact]"


def test_the_form_of_another_plaintext_is_not_opened() -> None:
    assert refusal(sealed(b"weights"), b"other weights") == "E_DECRYPT[artifact]"


@pytest.mark.parametrize("keep", [0, 3, len(MAGIC), len(MAGIC) + 1, len(MAGIC) + TAG])
def test_a_form_that_ends_before_its_first_chunk_does_is_refused(keep: int) -> None:
    assert refusal(sealed(b"weights")[:keep], b"weights") == "E_DECRYPT[artifact]"


@pytest.mark.usefixtures("small_chunks")
@settings(max_examples=200)
@given(data=st.data(), content=st.binary(min_size=1, max_size=6 * SMALL))
def test_every_deviation_is_refused(data: st.DataObject, content: bytes) -> None:
    form = sealed(content)
    body = [*cut(form[len(MAGIC) :], SMALL + TAG)]
    chunk = st.integers(0, len(body) - 1)
    match data.draw(st.sampled_from(["flip", "cut", "drop", "swap", "repeat", "follow"])):
        case "flip":
            at = data.draw(st.integers(0, len(form) - 1))
            bad = form[:at] + bytes([form[at] ^ (1 << data.draw(st.integers(0, 7)))]) + form[at + 1 :]
        case "cut":
            bad = form[: data.draw(st.integers(0, len(form) - 1))]
        case "drop":
            at = data.draw(chunk)
            bad = MAGIC + b"".join(body[:at] + body[at + 1 :])
        case "swap":
            one, other = data.draw(chunk), data.draw(chunk)
            body[one], body[other] = body[other], body[one]
            bad = MAGIC + b"".join(body)
        case "repeat":
            at = data.draw(chunk)
            bad = MAGIC + b"".join(body[: at + 1] + body[at:])
        case _:
            bad = form + data.draw(st.binary(min_size=1, max_size=2 * SMALL))
    if bad != form:
        assert refusal(bad, content) == "E_DECRYPT[artifact]"


@pytest.mark.usefixtures("small_chunks")
def test_what_comes_before_a_bad_chunk_was_really_sealed_and_nothing_comes_after_it() -> None:
    content = plaintext(4 * SMALL)
    form = bytearray(sealed(content))
    form[len(MAGIC) + 2 * (SMALL + TAG)] ^= 1
    got = []
    with pytest.raises(ProtocolError):
        got.extend(unseal([bytes(form)], key=KEY, sha256=digest(content)))
    assert b"".join(got) == content[: 2 * SMALL]


def test_both_ways_hold_two_chunks_at_most() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield bytes(CHUNK // 4)

    forms = seal(endless(), key=KEY, sha256="0" * 64)
    largest = max(len(next(forms)) for _ in range(20))
    assert largest == CHUNK + TAG


class TestTheKeyInTheAssignment:
    PRIVATE = X25519PrivateKey.generate()
    WRAPPED = wrap_content_key(KEY, PRIVATE.public_key(), INFO)

    def refusal(self, wrapped: str | None, private: X25519PrivateKey = PRIVATE, info: bytes = INFO) -> str:
        with pytest.raises(ProtocolError) as refused:
            unwrap_content_key(wrapped, private, info)
        return refused.value.label

    def test_is_unwrapped_by_the_device_it_was_wrapped_for(self) -> None:
        assert unwrap_content_key(self.WRAPPED, self.PRIVATE, INFO) == KEY

    def test_is_another_text_each_time(self) -> None:
        assert wrap_content_key(KEY, self.PRIVATE.public_key(), INFO) != self.WRAPPED

    def test_says_nothing_to_another_device(self) -> None:
        assert self.refusal(self.WRAPPED, X25519PrivateKey.generate()) == "E_UNWRAP[assignment]"

    @pytest.mark.parametrize("info", [content_key_info("dv_2", "a" * 64), content_key_info("dv_1", "b" * 64)])
    def test_is_bound_to_device_and_manifest(self, info: bytes) -> None:
        assert self.refusal(self.WRAPPED, info=info) == "E_UNWRAP[assignment]"

    @pytest.mark.parametrize("wrapped", [None, "", "no base64!", "AAAA", WRAPPED[:-4], WRAPPED + "AAAA", "é"])
    def test_that_is_none_is_refused(self, wrapped: str | None) -> None:
        assert self.refusal(wrapped) == "E_UNWRAP[assignment]"

    def test_of_another_length_is_refused(self) -> None:
        short = wrap_content_key(b"short", self.PRIVATE.public_key(), INFO)
        assert self.refusal(short) == "E_UNWRAP[assignment]"

    def test_cannot_be_wrapped_to_a_point_of_small_order(self) -> None:
        with pytest.raises(ValueError):  # noqa: PT011  # the words are the library's
            wrap_content_key(KEY, X25519PublicKey.from_public_bytes(bytes(32)), INFO)
