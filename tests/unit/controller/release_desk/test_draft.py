from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Targets

from controller.domain.releases import ReleaseKind
from controller.release_desk.draft import Draft, Terms, check_draft, read_draft
from controller.release_desk.published_role import PublishedRole
from controller.release_desk.report import DeskCode, DeskRefusal
from device_agent.protocol.manifest import target_path
from tests.support.manifests import a_manifest
from tests.support.release_roles import MODEL, NOW, ROLE, target_of

ALICE = CryptoSigner.generate_ed25519().public_key
RELEASE = Terms(ReleaseKind.RELEASE, MODEL, 2)


def path_of(version: int, variant: str = "int8") -> str:
    return target_path(MODEL, version, variant, "prod")


def raw_of(version: int, variant: str = "int8") -> bytes:
    return a_manifest(MODEL, version, variant).to_bytes()


def a_target(version: int, variant: str = "int8", **terms: Any) -> Any:
    custom = {"slot": MODEL, "release": version, **terms}
    return target_of(path_of(version, variant), raw_of(version, variant), **custom)


def a_role(version: int, *targets: Any, **changes: Any) -> Targets:
    signed = Targets(version=version, expires=NOW + timedelta(days=90), unrecognized_fields={"x-role": ROLE})
    signed.targets = {target.path: target for target in targets}
    for name, value in changes.items():
        setattr(signed, name, value)
    return signed


def published(current: Targets | None) -> PublishedRole:
    return PublishedRole(ROLE, {ALICE.keyid: ALICE}, 1, current, 1, "")


ONE = a_role(1, a_target(1))


def checked(
    draft: Targets, terms: Terms = RELEASE, current: Targets | None = ONE, manifests: dict[str, bytes] | None = None
) -> Draft:
    sent = {path_of(2): raw_of(2)} if manifests is None else manifests
    document = read_draft(Metadata(draft).to_bytes())
    return check_draft(published(current), document, sent, terms, NOW)


def refused(code: DeskCode, words: str, draft: Targets, **given: Any) -> None:
    with pytest.raises(DeskRefusal, match=words) as refusal:
        checked(draft, **given)
    assert refusal.value.code is code


def test_a_draft_that_is_the_published_role_and_this_version_is_accepted() -> None:
    found = checked(a_role(2, a_target(1), a_target(2, floor=1, hw=["camera"])))
    assert (found.floor, found.hardware, set(found.manifests)) == (1, ("camera",), {path_of(2)})


def test_the_first_release_of_a_model_is_accepted() -> None:
    assert checked(a_role(1, a_target(2)), current=None).floor is None


def test_a_version_is_released_again_with_another_floor() -> None:
    found = checked(a_role(3, a_target(1), a_target(2, floor=2)), current=a_role(2, a_target(1), a_target(2)))
    assert found.floor == 2


def test_a_withdrawal_without_the_versions_targets_is_accepted() -> None:
    terms = Terms(ReleaseKind.WITHDRAW, MODEL, 2)
    checked(a_role(3, a_target(1)), terms, a_role(2, a_target(1), a_target(2), a_target(2, "fp32")), {})


def test_a_renewal_with_the_same_targets_is_accepted() -> None:
    checked(a_role(2, a_target(1)), Terms(ReleaseKind.RENEW, MODEL, None), ONE, {})


def test_another_target_that_is_smuggled_in_is_refused() -> None:
    draft = a_role(2, a_target(1), a_target(2), a_target(3))
    refused(DeskCode.TARGETS, f"also lists {path_of(3)}", draft)


def test_another_target_whose_manifest_is_sent_along_is_refused() -> None:
    draft = a_role(2, a_target(1), a_target(2), a_target(3))
    manifests = {path_of(2): raw_of(2), path_of(3): raw_of(3)}
    refused(DeskCode.TARGETS, "is not of digits version 2", draft, manifests=manifests)


def test_a_target_that_disappears_is_refused() -> None:
    refused(DeskCode.TARGETS, f"does not list {path_of(1)}", a_role(2, a_target(2)))


def test_a_target_in_a_renewal_is_refused() -> None:
    terms = Terms(ReleaseKind.RENEW, MODEL, None)
    refused(DeskCode.TARGETS, "also lists", a_role(2, a_target(1), a_target(2)), terms=terms, manifests={})


def test_a_manifest_in_a_withdrawal_is_refused() -> None:
    terms = Terms(ReleaseKind.WITHDRAW, MODEL, 1)
    refused(DeskCode.TARGETS, "brings no manifests", a_role(2, a_target(2)), terms=terms)


def test_a_withdrawal_of_what_is_not_released_is_refused() -> None:
    terms = Terms(ReleaseKind.WITHDRAW, MODEL, 2)
    refused(DeskCode.TARGETS, "nothing to withdraw", a_role(2, a_target(1)), terms=terms, manifests={})


def test_another_manifest_under_a_path_that_is_released_is_refused() -> None:
    other = target_of(path_of(1), b"other bytes", slot=MODEL, release=1)
    refused(DeskCode.MANIFEST, path_of(1), a_role(2, other, a_target(2)))


def test_a_manifest_that_was_changed_after_the_draft_is_refused() -> None:
    changed = replace(a_manifest(MODEL, 2), source_sha256="0" * 64).to_bytes()
    refused(DeskCode.MANIFEST, path_of(2), a_role(2, a_target(1), a_target(2)), manifests={path_of(2): changed})


def test_a_manifest_of_another_version_under_this_path_is_refused() -> None:
    refused(DeskCode.MANIFEST, "is that of", a_role(2, a_target(1), a_target(2)), manifests={path_of(2): raw_of(1)})


def test_a_manifest_that_cannot_be_read_is_refused() -> None:
    refused(DeskCode.MANIFEST, "cannot be read", a_role(2, a_target(2)), manifests={path_of(2): b"{}"})


@pytest.mark.parametrize(
    "terms",
    [{"floor": 3}, {"floor": 0}, {"floor": True}, {"floor": "1"}, {"hw": "camera"}, {"hw": [1]}],
)
def test_terms_that_no_release_may_have_are_refused(terms: dict[str, Any]) -> None:
    refused(DeskCode.TERMS, "expected 1 to 2", a_role(2, a_target(1), a_target(2, **terms)))


@pytest.mark.parametrize("custom", [{"slot": "other"}, {"release": 3}, {"release": True}, {"extra": 1}])
def test_a_target_for_another_slot_or_release_is_refused(custom: dict[str, Any]) -> None:
    current, draft = a_role(1, a_target(1)), a_role(2, a_target(1), a_target(2, **custom))
    refused(DeskCode.TERMS, "should be", draft, current=current)


def test_variants_with_different_terms_are_refused() -> None:
    draft = a_role(2, a_target(1), a_target(2, floor=1), a_target(2, "fp32", floor=2))
    manifests = {path_of(2, variant): raw_of(2, variant) for variant in ("int8", "fp32")}
    refused(DeskCode.TERMS, "differ", draft, manifests=manifests)


@pytest.mark.parametrize(
    "asked", [{"floor": 2}, {"hardware": ("camera",)}, {"variants": ("fp32",)}, {"variants": ("int8", "fp32")}]
)
def test_other_terms_than_the_signer_asked_for_are_refused(asked: dict[str, Any]) -> None:
    refused(
        DeskCode.TERMS, "you asked for", a_role(2, a_target(1), a_target(2, floor=1)), terms=replace(RELEASE, **asked)
    )


@pytest.mark.parametrize("version", [1, 3, 2**40])
def test_a_draft_that_does_not_follow_the_published_role_is_refused(version: int) -> None:
    refused(DeskCode.STALE, "propose again", a_role(version, a_target(1), a_target(2)))


@pytest.mark.parametrize("days", [-1, 0, 101, 4000])
def test_a_draft_that_has_expired_or_lasts_too_long_is_refused(days: int) -> None:
    draft = a_role(2, a_target(1), a_target(2), expires=NOW + timedelta(days=days))
    refused(DeskCode.EXPIRY, "1 to 100 days", draft)


def test_a_draft_that_delegates_further_is_refused() -> None:
    deeper = DelegatedRole("deeper", [], 1, terminating=True, paths=[f"prod/{MODEL}/*/*/manifest.json"])
    draft = a_role(2, a_target(1), a_target(2), delegations=Delegations({}, roles={"deeper": deeper}))
    refused(DeskCode.TARGETS, "delegations", draft)


@pytest.mark.parametrize("fields", [{}, {"x-role": "prod-other"}, {"x-role": ROLE, "x-more": 1}])
def test_a_draft_with_a_field_that_does_not_belong_there_is_refused(fields: dict[str, Any]) -> None:
    refused(DeskCode.TARGETS, "x-", a_role(2, a_target(1), a_target(2), unrecognized_fields=fields))


def test_a_draft_that_releases_nothing_is_refused() -> None:
    refused(DeskCode.TARGETS, "releases nothing", a_role(2, a_target(1)), manifests={})


def test_a_manifest_for_a_path_that_the_draft_does_not_list_is_refused() -> None:
    refused(DeskCode.TARGETS, "does not list", a_role(2, a_target(1)))


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b'{"signed": 1}', b"\xff"])
def test_what_is_no_role_document_is_refused(raw: bytes) -> None:
    with pytest.raises(DeskRefusal) as refusal:
        read_draft(raw)
    assert refusal.value.code is DeskCode.MALFORMED


def test_a_document_of_another_kind_is_refused() -> None:
    from tuf.api.metadata import Snapshot

    with pytest.raises(DeskRefusal, match="not targets"):
        read_draft(Metadata(Snapshot()).to_bytes())
