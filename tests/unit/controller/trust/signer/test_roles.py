from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Signed,
    Snapshot,
    SuccinctRoles,
    TargetFile,
    Targets,
    Timestamp,
)

from controller.trust.custody.keys import KeyName
from controller.trust.errors import SignerCode, SignerRefused, SigningKeyError
from controller.trust.images.image_roles import new_dev, policy_of
from controller.trust.signer.verbs import LocalSigner, open_local_signer
from tests.support.image_repositories import NOW, Place

FAR = 2**40
"""A version above every published one."""


def content(signed: Signed) -> bytes:
    return Metadata[Any](signed).signed_bytes


def timestamp(version: int = FAR, snapshot: int = 1, lifetime: timedelta = timedelta(days=7)) -> bytes:
    return content(Timestamp(version, expires=NOW + lifetime, snapshot_meta=MetaFile(snapshot)))


def a_bin(*paths: str, version: int = FAR, **fields: Any) -> bytes:
    targets = {path: TargetFile.from_data(path, b"x", ["sha256"]) for path in paths}
    return content(Targets(version, expires=NOW + timedelta(days=30), targets=targets, **fields))


def refused(signer: LocalSigner, role: str, signed: bytes) -> str:
    with pytest.raises(SignerRefused) as found:
        signer.sign_role(role, signed)
    return found.value.code


def test_each_role_is_signed_by_its_own_key(signer: LocalSigner) -> None:
    dev = new_dev(signer.public_key(KeyName.IMAGE_BINS))
    dev.version, dev.expires = FAR, NOW + timedelta(days=30)
    snapshot = Snapshot(FAR, expires=NOW + timedelta(days=7))
    documents = {"timestamp": timestamp(), "snapshot": content(snapshot), "dev": content(dev), "bin-00": a_bin("dev/x")}
    for role, signed in documents.items():
        key = signer.public_key(policy_of(role).key)
        key.verify_signature(signer.sign_role(role, signed), signed)
        assert signer.newest_versions()[role] == FAR


def test_a_version_that_was_signed_is_refused_with_other_content(signer: LocalSigner) -> None:
    first = signer.sign_role("timestamp", timestamp())
    assert signer.sign_role("timestamp", timestamp()) == first
    assert refused(signer, "timestamp", timestamp(snapshot=2)) == SignerCode.ROLLBACK
    assert refused(signer, "timestamp", timestamp(FAR - 1)) == SignerCode.ROLLBACK


def test_a_second_signer_on_the_folder_refuses_what_the_first_has_signed(place: Place, signer: LocalSigner) -> None:
    second = open_local_signer(place.path / "signer", place.directory, clock=lambda: NOW)
    signer.sign_role("timestamp", timestamp())
    assert refused(second, "timestamp", timestamp(snapshot=2)) == SignerCode.ROLLBACK


@pytest.mark.parametrize("role", ["root", "targets", "prod-digits", "bin-100", "bin-0", "mirrors", ""])
def test_roles_of_offline_keys_and_unknown_ones_are_no_business_of_the_signer(signer: LocalSigner, role: str) -> None:
    assert refused(signer, role, a_bin()) == SignerCode.VERB


def test_an_expiry_beyond_the_roles_policy_is_refused(signer: LocalSigner) -> None:
    assert refused(signer, "timestamp", timestamp(lifetime=timedelta(days=8))) == SignerCode.CONTENT
    late = Targets(FAR, expires=NOW + timedelta(days=31))
    assert refused(signer, "bin-00", content(late)) == SignerCode.CONTENT


def test_a_bin_that_lists_a_released_path_or_delegates_is_refused(signer: LocalSigner) -> None:
    assert refused(signer, "bin-00", a_bin("dev/a", "prod/digits/1/int8/manifest.json")) == SignerCode.CONTENT
    further = Delegations({}, roles={"thief": DelegatedRole("thief", [], 1, terminating=True, paths=["dev/*"])})
    assert refused(signer, "bin-00", a_bin(delegations=further)) == SignerCode.CONTENT


def dev_of_thief(dev: Targets) -> None:
    dev.add_key(CryptoSigner.generate_ed25519().public_key)


def dev_without_keys(dev: Targets) -> None:
    assert dev.delegations is not None
    assert dev.delegations.succinct_roles is not None
    dev.delegations.keys.clear()
    dev.delegations.succinct_roles.keyids.clear()


def dev_of_other_bins(dev: Targets) -> None:
    assert dev.delegations is not None
    assert dev.delegations.succinct_roles is not None
    keyids = dev.delegations.succinct_roles.keyids
    dev.delegations.succinct_roles = SuccinctRoles(keyids, 1, 4, "bin")


def dev_with_targets(dev: Targets) -> None:
    dev.targets["dev/x"] = TargetFile.from_data("dev/x", b"x", ["sha256"])


def dev_with_roles(dev: Targets) -> None:
    dev.delegations = Delegations({}, roles={"thief": DelegatedRole("thief", [], 1, terminating=True, paths=["dev/*"])})


@pytest.mark.parametrize("spoil", [dev_of_thief, dev_without_keys, dev_of_other_bins, dev_with_targets, dev_with_roles])
def test_dev_delegates_to_the_signers_bins_and_nothing_else(
    signer: LocalSigner, spoil: Callable[[Targets], None]
) -> None:
    dev = new_dev(signer.public_key(KeyName.IMAGE_BINS))
    dev.version, dev.expires = FAR, NOW + timedelta(days=30)
    spoil(dev)
    assert refused(signer, "dev", content(dev)) == SignerCode.CONTENT


@pytest.mark.parametrize(
    "signed",
    [b"", b"{}", b"[]", b"\xff", b"[" * 10_000, timestamp().replace(b":", b": ", 1), a_bin()],
    ids=["empty", "no fields", "no object", "no text", "deep", "not canonical", "another type"],
)
def test_what_is_no_timestamp_is_not_signed_as_one(signer: LocalSigner, signed: bytes) -> None:
    assert refused(signer, "timestamp", signed) == SignerCode.CONTENT


def test_a_refused_document_leaves_no_line_in_the_journal(signer: LocalSigner) -> None:
    head = signer.journal_head()
    refused(signer, "bin-00", a_bin("prod/x"))
    assert signer.journal_head() == head


def test_a_prepared_key_signs_where_the_delegator_names_it(place: Place, signer: LocalSigner) -> None:
    old = signer.public_key(KeyName.IMAGE_TIMESTAMP)
    new = place.online_keys.prepare_next(KeyName.IMAGE_TIMESTAMP)
    assert signer.public_keys(KeyName.IMAGE_TIMESTAMP) == [old, new]
    assert signer.public_key(KeyName.IMAGE_TIMESTAMP) == old
    assert signer.sign_role("timestamp", timestamp()).keyid == old.keyid
    assert signer.sign_role("timestamp", timestamp(), [new.keyid]).keyid == new.keyid
    with pytest.raises(SigningKeyError):
        signer.sign_role("timestamp", timestamp(), ["somebody else's"])
    place.online_keys.promote(KeyName.IMAGE_TIMESTAMP)
    assert signer.public_keys(KeyName.IMAGE_TIMESTAMP) == [new]


def test_offline_keys_have_no_public_half_here(signer: LocalSigner) -> None:
    for verb in (signer.public_key, signer.public_keys):
        with pytest.raises(SignerRefused) as found:
            verb(KeyName.RELEASE)
        assert found.value.code == SignerCode.VERB
