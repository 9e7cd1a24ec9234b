from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Root

from controller.trust.errors import DocumentRefused, RefusalCode, SignedFilesError, TrustConflict, TrustMissing
from controller.trust.images.root_chain import RootChain
from tests.support.image_repositories import OfflineKeys

EXPIRES = datetime(2027, 3, 1, tzinfo=UTC)
ABC = ("a", "b", "c")


@pytest.fixture
def keys(tmp_path: Path) -> OfflineKeys:
    return OfflineKeys(tmp_path / "keys")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "chain"


@pytest.fixture
def chain(directory: Path, keys: OfflineKeys) -> RootChain:
    chain = RootChain(directory)
    assert chain.append(document(keys, 1, ABC, signed_by="ab"))
    return chain


def document(
    keys: OfflineKeys, version: int, held_by: Sequence[str], signed_by: Sequence[str], threshold: int = 2
) -> bytes:
    root = Root(version=version, expires=EXPIRES)
    for name in held_by:
        root.add_key(keys.key(name), "root")
    root.roles["root"].threshold = threshold
    return keys.sign(root, list(signed_by))


def test_the_first_root_needs_its_own_threshold(directory: Path, keys: OfflineKeys) -> None:
    with pytest.raises(DocumentRefused, match="1 good signatures by its own root role, which asks for 2") as refused:
        RootChain(directory).append(document(keys, 1, ABC, signed_by="a"))
    assert refused.value.code == RefusalCode.SIGNATURE
    assert not RootChain(directory).exists()


def test_what_is_appended_is_kept_byte_for_byte(chain: RootChain, keys: OfflineKeys) -> None:
    second = document(keys, 2, ABC, signed_by="bc")
    first = chain.first_bytes()
    assert chain.append(second)
    assert chain.newest_bytes() == second
    assert chain.first_bytes() == first


def test_devices_follow_every_link(chain: RootChain, keys: OfflineKeys, directory: Path) -> None:
    chain.append(document(keys, 2, ("b", "c", "d"), signed_by="bcd"))
    chain.append(document(keys, 3, ("c", "d", "e"), signed_by="cde"))
    for version in (2, 3):
        before = Metadata[Root].from_bytes((directory / f"{version - 1}.root.json").read_bytes()).signed
        link = Metadata[Root].from_bytes((directory / f"{version}.root.json").read_bytes())
        before.verify_delegate("root", link.signed_bytes, link.signatures)
    newest, before_it = chain.newest_two()
    assert (newest.version, before_it and before_it.version) == (3, 2)


def test_the_same_root_again_changes_nothing_whoever_signed_it(chain: RootChain, keys: OfflineKeys) -> None:
    first = chain.first_bytes()
    assert not chain.append(document(keys, 1, ABC, signed_by="abc"))
    assert chain.first_bytes() == first


@pytest.mark.parametrize(("signed_by", "of"), [("ad", "the root before it"), ("ab", "its own root role")])
def test_a_successor_needs_the_threshold_of_both_roots(
    chain: RootChain, keys: OfflineKeys, signed_by: str, of: str
) -> None:
    with pytest.raises(DocumentRefused, match=of):
        chain.append(document(keys, 2, ("a", "d", "e"), signed_by=signed_by))
    assert chain.newest().version == 1


@pytest.mark.parametrize("version", [1, 3, 100])
def test_a_root_out_of_turn_is_refused(chain: RootChain, keys: OfflineKeys, version: int) -> None:
    with pytest.raises(TrustConflict, match="version 2 is next"):
        chain.append(document(keys, version, ("a", "b"), signed_by="ab"))


@pytest.mark.parametrize("raw", [b"", b"\0", b"{}", b"[" * 100_000, b" " * 100_000, b'{"signed":{},"signatures":[]}'])
def test_bytes_that_are_no_root_are_refused(chain: RootChain, raw: bytes) -> None:
    with pytest.raises(DocumentRefused) as refused:
        chain.append(raw)
    assert refused.value.code == RefusalCode.MALFORMED


def test_a_root_that_is_long_not_renewed_is_still_read(chain: RootChain) -> None:
    assert chain.newest().is_expired(EXPIRES + timedelta(days=1))


def test_a_successor_on_the_disk_that_only_a_stranger_signed_is_refused(
    chain: RootChain, directory: Path, keys: OfflineKeys
) -> None:
    (directory / "2.root.json").write_bytes(document(keys, 2, ("x", "y"), signed_by="xy"))
    with pytest.raises(SignedFilesError, match="cannot be trusted"):
        chain.newest()


def test_a_first_root_copied_to_the_second_place_is_refused(chain: RootChain, directory: Path) -> None:
    (directory / "2.root.json").write_bytes(chain.first_bytes())
    with pytest.raises(SignedFilesError, match="carries version 1"):
        chain.newest()


def test_a_root_on_the_disk_that_is_not_json_is_refused(chain: RootChain, directory: Path) -> None:
    (directory / "1.root.json").write_bytes(b"\0")
    with pytest.raises(SignedFilesError, match="cannot be trusted"):
        chain.newest()


def test_a_chain_that_was_never_made_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(TrustMissing, match="edgefleet key ceremony start"):
        RootChain(tmp_path).newest()
