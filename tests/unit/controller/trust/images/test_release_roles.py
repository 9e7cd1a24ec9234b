"""Releases: drafted by the controller, signed elsewhere, and read by a real client."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner, Signature
from tuf.api.exceptions import ExpiredMetadataError, RepositoryError
from tuf.api.metadata import Delegations, Metadata, TargetFile, Targets

from controller.domain.errors import NotFound
from controller.trust.errors import (
    DocumentRefused,
    RefusalCode,
    ReleaseRoleMissing,
    TargetConflictError,
    TrustConflict,
)
from device_agent.protocol.errors import ProtocolError
from tests.support.image_client import ImageClient
from tests.support.image_repositories import NOW, Place, Roles, root_document, targets_document
from tests.support.manifests import a_manifest, manifest_bytes

SOON = NOW + timedelta(minutes=1)
LATER = NOW + timedelta(minutes=2)
ONE, TWO = manifest_bytes(version=1), manifest_bytes(version=2)
PATH_1, PATH_2 = "prod/digits/1/int8/manifest.json", "prod/digits/2/int8/manifest.json"
BOTH = ("release-1", "release-2")


def draft(place: Place, add: Sequence[bytes] = (ONE,), remove: int | None = None, model: str = "digits") -> bytes:
    return place.repository().draft_release(model, add, remove, None, (), SOON)


def signed(place: Place, document: bytes, names: Sequence[str] = BOTH) -> bytes:
    for name in names:
        document = place.repository().add_signature(document, place.offline.signature(document, name))
    return document


def edited(document: bytes, edit: Callable[[Targets], None]) -> bytes:
    read = Metadata[Targets].from_bytes(document)
    edit(read.signed)
    return Metadata[Any](read.signed).to_bytes()


def test_a_released_manifest_is_downloaded_as_it_was(place: Place, device: ImageClient) -> None:
    assert place.repository().publish_release(signed(place, draft(place)), [ONE], SOON)
    assert device.download(PATH_1, SOON) == ONE
    assert device.download(PATH_2, SOON) is None


def test_the_same_bytes_may_be_in_both_channels(place: Place, device: ImageClient) -> None:
    place.repository().publish([ONE], SOON)
    place.release([ONE], SOON)
    assert device.download("dev/digits/1/int8/manifest.json", SOON) == ONE
    assert device.download(PATH_1, SOON) == ONE


def test_terms_are_signed_with_the_target(place: Place, device: ImageClient) -> None:
    document = place.repository().draft_release("digits", [TWO], None, 2, ("pi5", "jetson", "pi5"), SOON)
    place.repository().publish_release(signed(place, document), [TWO], SOON)
    target = device.refreshed(SOON).get_targetinfo(PATH_2)
    assert target is not None
    assert target.custom == {"slot": "digits", "release": 2, "floor": 2, "hw": ["jetson", "pi5"]}


def test_a_draft_is_unsigned_holds_what_was_released_and_lasts_ninety_days(place: Place) -> None:
    place.release([ONE], SOON)
    document = Metadata[Targets].from_bytes(draft(place, [TWO]))
    assert document.signatures == {}
    assert set(document.signed.targets) == {PATH_1, PATH_2}
    assert document.signed.version == 2
    assert document.signed.expires == SOON + timedelta(days=90)
    assert document.signed.unrecognized_fields == {"x-role": "prod-digits"}


def test_a_model_that_nobody_may_release_is_named_with_the_remedy(place: Place) -> None:
    with pytest.raises(ReleaseRoleMissing, match="edgefleet key role prod-letters"):
        draft(place, [manifest_bytes("letters")], model="letters")
    with pytest.raises(ReleaseRoleMissing):
        place.repository().read_release("letters")


def test_a_manifest_of_another_model_is_not_drafted(place: Place) -> None:
    with pytest.raises(DocumentRefused, match="not a manifest of digits"):
        draft(place, [manifest_bytes("letters")])
    with pytest.raises(ProtocolError):
        draft(place, [b"{}"])


def test_who_signed_and_who_may_is_told(place: Place) -> None:
    document = draft(place)
    status = place.repository().release_status(document)
    keys = {name: place.offline.key(name).keyid for name in (*BOTH, "release-3")}
    assert (status.role, status.version, status.threshold, status.missing) == ("prod-digits", 1, 2, 2)
    assert set(status.keyids) == set(keys.values())
    document = signed(place, document, ["release-2"])
    status = place.repository().release_status(document)
    assert (status.signed, status.missing, status.is_complete) == ((keys["release-2"],), 1, False)
    assert place.repository().release_status(signed(place, document, ["release-3"])).is_complete


def test_a_signature_that_is_there_already_changes_nothing(place: Place) -> None:
    document = signed(place, draft(place), ["release-1"])
    assert signed(place, document, ["release-1"]) == document


def test_a_signature_by_a_key_that_the_role_does_not_name_is_refused(place: Place) -> None:
    document = draft(place)
    stranger = Metadata[Any].from_bytes(document).sign(CryptoSigner.generate_ed25519())
    with pytest.raises(DocumentRefused, match="is none of prod-digits") as refused:
        place.repository().add_signature(document, stranger)
    assert refused.value.code == RefusalCode.SIGNATURE


def test_a_signature_over_another_document_is_refused(place: Place) -> None:
    signature = place.offline.signature(draft(place, [TWO]), "release-1")
    for wrong in (signature, Signature(signature.keyid, "00" * 64), Signature(signature.keyid, "nonsense")):
        with pytest.raises(DocumentRefused, match="as it stands"):
            place.repository().add_signature(draft(place), wrong)


def test_one_signature_of_two_is_not_enough(place: Place, device: ImageClient) -> None:
    document = signed(place, draft(place), ["release-1"])
    with pytest.raises(DocumentRefused, match="1 good signatures by its release keys, which asks for 2") as refused:
        place.repository().publish_release(document, [ONE], SOON)
    assert refused.value.code == RefusalCode.SIGNATURE
    assert device.refreshed(SOON)._trusted_set.snapshot.version == int(NOW.timestamp())


def test_a_good_signature_does_not_cover_for_a_forged_one(place: Place) -> None:
    document = Metadata[Any].from_bytes(signed(place, draft(place), ["release-1"]))
    keyid = place.offline.key("release-2").keyid
    document.signatures[keyid] = Signature(keyid, document.signatures[place.offline.key("release-1").keyid].signature)
    with pytest.raises(DocumentRefused, match="1 good signatures"):
        place.repository().publish_release(document.to_bytes(), [ONE], SOON)


def test_signatures_of_strangers_do_not_reach_devices(place: Place) -> None:
    document = Metadata[Any].from_bytes(signed(place, draft(place)))
    document.sign(CryptoSigner.generate_ed25519(), append=True)
    place.repository().publish_release(document.to_bytes(), [ONE], SOON)
    published = Metadata[Any].from_bytes((place.metadata / "1.prod-digits.json").read_bytes())
    assert set(published.signatures) == {place.offline.key(name).keyid for name in BOTH}


def test_publishing_a_release_again_changes_nothing(place: Place) -> None:
    document = place.release([ONE], SOON)
    before = (place.metadata / "timestamp.json").read_bytes()
    assert not place.repository().publish_release(document, [ONE], LATER)
    assert not place.repository().publish_release(signed(place, document, ["release-3"]), [], LATER)
    assert (place.metadata / "timestamp.json").read_bytes() == before


def test_publishing_a_release_again_brings_back_a_lost_manifest(place: Place, device: ImageClient) -> None:
    document = place.release([ONE], SOON)
    lost = next(place.directory.rglob("prod/**/*.manifest.json"))
    lost.unlink()
    with pytest.raises(DocumentRefused, match="hand them over"):
        place.repository().publish_release(document, [], SOON)
    place.repository().publish_release(document, [ONE], SOON)
    assert device.download(PATH_1, SOON) == ONE


def test_a_withdrawn_release_is_not_found(place: Place, device: ImageClient) -> None:
    place.release([ONE, TWO], SOON)
    assert device.download(PATH_1, SOON) == ONE
    place.repository().publish_release(signed(place, draft(place, (), remove=1)), [], LATER)
    assert device.download(PATH_1, LATER) is None
    assert device.download(PATH_2, LATER) == TWO


def test_a_version_that_is_not_released_cannot_be_withdrawn(place: Place) -> None:
    place.release([ONE], SOON)
    with pytest.raises(NotFound, match="version 11 of digits is not released"):
        draft(place, (), remove=11)


def test_a_release_expires_after_ninety_days_and_a_renewal_goes_on(place: Place, device: ImageClient) -> None:
    place.release([ONE], NOW)
    ends = NOW + timedelta(days=90, seconds=1)
    place.repository().refresh(ends)
    with pytest.raises(ExpiredMetadataError):
        device.download(PATH_1, ends)
    renewal = place.repository().draft_release("digits", (), None, None, (), ends)
    place.repository().publish_release(signed(place, renewal), [], ends)
    assert device.download(PATH_1, ends) == ONE


def test_a_signed_document_that_waited_too_long_is_not_published(place: Place) -> None:
    document = signed(place, draft(place))
    with pytest.raises(DocumentRefused, match="draft and sign it again") as refused:
        place.repository().publish_release(document, [ONE], SOON + timedelta(days=90, seconds=1))
    assert refused.value.code == "E_FREEZE_EXPIRED"


def test_of_two_documents_with_one_version_the_second_is_refused(place: Place, device: ImageClient) -> None:
    first, second = signed(place, draft(place)), signed(place, draft(place, [TWO]))
    place.repository().publish_release(first, [ONE], SOON)
    with pytest.raises(TrustConflict, match="version 1 of prod-digits is published"):
        place.repository().publish_release(second, [TWO], SOON)
    assert device.download(PATH_1, SOON) == ONE


def test_a_released_manifest_is_never_replaced(place: Place) -> None:
    place.release([ONE], SOON)
    other = manifest_bytes(version=1, memory_bytes=1)
    with pytest.raises(TargetConflictError, match=PATH_1):
        draft(place, [other])

    def replace_target(document: Targets) -> None:
        document.targets[PATH_1] = TargetFile.from_data(PATH_1, other, ["sha256"])

    forged = signed(place, edited(draft(place, ()), replace_target))
    with pytest.raises(TargetConflictError, match=PATH_1):
        place.repository().publish_release(forged, [other], LATER)


def test_a_document_signed_for_one_model_is_not_taken_for_another_under_the_same_keys(tmp_path: Any) -> None:
    place = Place(tmp_path / "place")
    place.install(roles=Roles(releases=(("digits", BOTH, 2), ("letters", BOTH, 2))))
    document = signed(place, draft(place, [ONE]))
    place.repository().publish_release(document, [ONE], SOON)
    letters = manifest_bytes("letters", 1)
    place.repository().publish_release(signed(place, draft(place, [letters], model="letters")), [letters], SOON)

    assert place.repository().release_status(document).role == "prod-digits"
    released = place.repository().read_release("letters")
    assert released is not None
    assert set(released.targets) == {"prod/letters/1/int8/manifest.json"}


def wrong_path(document: Targets) -> None:
    document.targets["prod/letters/1/int8/manifest.json"] = document.targets.pop(PATH_1)


def dev_path(document: Targets) -> None:
    path = PATH_1.replace("prod", "dev")
    document.targets[path] = TargetFile.from_data(path, ONE, ["sha256"])


def no_role(document: Targets) -> None:
    del document.unrecognized_fields["x-role"]


def delegates(document: Targets) -> None:
    document.delegations = Delegations({}, roles={})


def too_long(document: Targets) -> None:
    document.expires += timedelta(days=200)


def another_hash(document: Targets) -> None:
    document.targets[PATH_1] = TargetFile.from_data(PATH_1, ONE, ["sha256", "sha512"])


def another_version(document: Targets) -> None:
    target = TargetFile.from_data(PATH_2, ONE, ["sha256"])
    target.unrecognized_fields["custom"] = {"slot": "digits", "release": 2}
    document.targets[PATH_2] = target


def another_slot(document: Targets) -> None:
    document.targets[PATH_1].unrecognized_fields["custom"] = {"slot": "letters", "release": 1}


@pytest.mark.parametrize(
    "edit", [wrong_path, dev_path, no_role, delegates, too_long, another_hash, another_version, another_slot]
)
def test_what_release_keys_must_not_sign_is_not_published_though_they_signed_it(
    place: Place, edit: Callable[[Targets], None]
) -> None:
    document = Metadata[Any].from_bytes(edited(draft(place), edit))
    for name in BOTH:
        document.sign(place.offline.signer(name), append=True)
    before = (place.metadata / "timestamp.json").read_bytes()
    with pytest.raises(DocumentRefused):
        place.repository().publish_release(document.to_bytes(), [ONE], SOON)
    assert (place.metadata / "timestamp.json").read_bytes() == before


def test_other_bytes_than_the_signed_ones_are_not_published(place: Place) -> None:
    with pytest.raises(DocumentRefused, match="hand them over"):
        place.repository().publish_release(signed(place, draft(place)), [TWO], SOON)


def test_a_role_that_would_be_too_large_for_devices_is_not_drafted(place: Place) -> None:
    many = [replace(a_manifest("digits", version), variant="x" * 60).to_bytes() for version in range(1, 1200)]
    with pytest.raises(DocumentRefused, match="devices take at most"):
        draft(place, many)


@pytest.mark.parametrize("raw", [b"", b"{}", b"[" * 10_000, b"\xff", b" " * 300_000])
def test_bytes_that_are_no_document_are_refused(place: Place, raw: bytes) -> None:
    for call in (
        lambda: place.repository().release_status(raw),
        lambda: place.repository().add_signature(raw, Signature("a", "b")),
        lambda: place.repository().publish_release(raw, [], SOON),
    ):
        with pytest.raises(DocumentRefused) as refused:
            call()
        assert refused.value.code == RefusalCode.MALFORMED


def test_a_root_is_no_release(place: Place) -> None:
    with pytest.raises(DocumentRefused, match="holds root"):
        place.repository().release_status(root_document(place.offline, place.signer(), NOW))


def test_releases_of_a_revoked_key_are_refused_until_the_others_sign_again(place: Place, device: ImageClient) -> None:
    place.release([ONE], SOON)
    assert device.download(PATH_1, SOON) == ONE
    roles = Roles(releases=(("digits", ("release-2", "release-3"), 2),))
    place.repository().install_targets(targets_document(place.offline, place.signer(), SOON, roles, version=2), LATER)
    assert place.repository().unsigned_releases() == ["prod-digits"]
    assert place.repository().read_targets(PATH_1) is None
    with pytest.raises(RepositoryError):
        device.download(PATH_1, LATER)

    place.repository().publish([TWO], LATER)
    again = signed(place, draft(place, ()), ["release-2", "release-3"])
    assert place.repository().publish_release(again, [], LATER)
    assert place.repository().unsigned_releases() == []
    assert device.download(PATH_1, LATER) == ONE
