import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from structlog.testing import capture_logs
from tuf.api.metadata import Metadata, Root

from controller.trust.custody.keys import KeyName
from controller.trust.director import Director, open_director
from controller.trust.durable_files import write_durably
from controller.trust.errors import SigningKeyError, TrustMissing
from controller.trust.signer.verbs import LocalSigner, open_local_signer
from device_agent.protocol.assignment import Assignment, Recipient, verify_assignment
from device_agent.protocol.channels import Channel

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def assignment(device: str) -> Assignment:
    return Assignment(
        device=device,
        counter=int(NOW.timestamp()),
        issued=NOW,
        expires=NOW + timedelta(hours=48),
        slots={"digits": None},
        poll_s=5.0,
        hardware="camera",
        channel=Channel.PROD,
    )


@pytest.fixture
def signer(tmp_path: Path) -> LocalSigner:
    return open_local_signer(tmp_path / "signer", tmp_path / "tuf", clock=lambda: NOW)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "tuf" / "director"


def install_root(directory: Path, signer: LocalSigner, *, expires: datetime = NOW + timedelta(days=365)) -> Root:
    root_key = CryptoSigner.generate_ed25519()
    root = Root(expires=expires, consistent_snapshot=True)
    root.add_key(root_key.public_key, "root")
    root.add_key(signer.public_key(KeyName.DIRECTOR), "targets")
    document = Metadata(root)
    document.sign(root_key)
    write_durably(directory / "1.root.json", document.to_bytes())
    return root


def test_devices_accept_what_the_director_signs_each_their_own(signer: LocalSigner, directory: Path) -> None:
    root = install_root(directory, signer)
    wanted = [assignment(f"dv_{number}") for number in range(3)]
    envelopes = open_director(directory, signer, NOW).sign_all(wanted)
    for one, raw in zip(wanted, envelopes, strict=True):
        recipient = Recipient(one.device, "camera", Channel.PROD)
        accepted, mark = verify_assignment(raw, root=root, recipient=recipient, mark=None, now=NOW)
        assert accepted == one
        assert mark.counter == one.counter
        assert json.dumps(json.loads(raw), separators=(",", ":")).encode() == raw


def test_no_assignments_are_no_signatures(signer: LocalSigner, directory: Path) -> None:
    install_root(directory, signer)
    assert open_director(directory, signer, NOW).sign_all([]) == []


def test_the_director_signs_the_same_after_a_restart(signer: LocalSigner, directory: Path, tmp_path: Path) -> None:
    install_root(directory, signer)
    again = open_local_signer(tmp_path / "signer", tmp_path / "tuf", clock=lambda: NOW)
    wanted = [assignment("dv_1")]
    assert open_director(directory, again, NOW).sign_all(wanted) == open_director(directory, signer, NOW).sign_all(
        wanted
    )


def test_a_director_without_a_root_says_that_a_ceremony_makes_one(signer: LocalSigner, directory: Path) -> None:
    with pytest.raises(TrustMissing, match="ceremony"):
        open_director(directory, signer, NOW)


def test_a_lost_director_key_that_was_made_anew_is_refused(
    signer: LocalSigner, directory: Path, tmp_path: Path
) -> None:
    install_root(directory, signer)
    (tmp_path / "signer" / "keys" / "director.pem").unlink()
    with pytest.raises(SigningKeyError, match="bring the signer's folder back"):
        open_director(directory, open_local_signer(tmp_path / "signer", tmp_path / "tuf", clock=lambda: NOW), NOW)


def test_a_root_that_names_no_key_of_the_signer_makes_no_director(signer: LocalSigner) -> None:
    root = Root()
    root.add_key(signer.public_key(KeyName.IMAGE_TIMESTAMP), "targets")
    with pytest.raises(SigningKeyError):
        Director(root, signer)


def test_an_expired_root_is_told_in_the_log_and_keeps_the_pages_up(signer: LocalSigner, directory: Path) -> None:
    install_root(directory, signer, expires=NOW - timedelta(days=1))
    with capture_logs() as logs:
        open_director(directory, signer, NOW)
    assert "expired" in logs[0]["event"]
