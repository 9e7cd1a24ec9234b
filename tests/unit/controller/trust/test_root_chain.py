from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root

from controller.trust.errors import SignedFilesError, SigningKeyError
from controller.trust.root_chain import RootChain

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def signer() -> CryptoSigner:
    return CryptoSigner.generate_ed25519()


@pytest.fixture
def chain(tmp_path: Path, signer: CryptoSigner) -> RootChain:
    chain = RootChain(tmp_path)
    chain.create(Root(), signer, NOW)
    return chain


def test_a_chain_that_exists_is_not_made_again(chain: RootChain, signer: CryptoSigner) -> None:
    first = chain.first_bytes()
    chain.create(Root(), signer, NOW + timedelta(days=1))
    assert chain.first_bytes() == first


def test_a_root_is_left_alone_until_sixty_days_before_its_end(chain: RootChain, signer: CryptoSigner) -> None:
    assert not chain.renew(signer, NOW + timedelta(days=305))
    assert chain.newest().version == 1


def test_a_root_near_its_end_gets_a_successor_that_devices_can_follow(
    chain: RootChain, signer: CryptoSigner, tmp_path: Path
) -> None:
    first, later = chain.first_bytes(), NOW + timedelta(days=306)
    assert chain.renew(signer, later)
    successor = Metadata[Root].from_bytes((tmp_path / "2.root.json").read_bytes())
    Metadata[Root].from_bytes(first).signed.verify_delegate("root", successor.signed_bytes, successor.signatures)
    assert chain.newest().version == 2
    assert chain.newest().expires == later + timedelta(days=365)
    assert chain.first_bytes() == first


def test_a_root_key_that_the_chain_does_not_name_cannot_continue_it(chain: RootChain) -> None:
    with pytest.raises(SigningKeyError):
        chain.renew(CryptoSigner.generate_ed25519(), NOW + timedelta(days=306))
    assert chain.newest().version == 1


def test_a_successor_that_only_a_stranger_signed_is_refused(chain: RootChain, tmp_path: Path) -> None:
    stranger = CryptoSigner.generate_ed25519()
    root = Root(version=2)
    root.add_key(stranger.public_key, "root")
    forged = Metadata(root)
    forged.sign(stranger)
    forged.to_file(str(tmp_path / "2.root.json"))
    with pytest.raises(SignedFilesError, match="cannot be trusted"):
        chain.newest()


def test_a_first_root_copied_to_the_second_place_is_refused(chain: RootChain, tmp_path: Path) -> None:
    (tmp_path / "2.root.json").write_bytes(chain.first_bytes())
    with pytest.raises(SignedFilesError, match="carries version 1"):
        chain.newest()


def test_a_root_that_is_not_json_is_refused(chain: RootChain, tmp_path: Path) -> None:
    (tmp_path / "1.root.json").write_bytes(b"\0")
    with pytest.raises(SignedFilesError, match="cannot be trusted"):
        chain.newest()


def test_a_chain_that_was_never_made_says_so(tmp_path: Path) -> None:
    with pytest.raises(SignedFilesError, match="initialise first"):
        RootChain(tmp_path).newest()
