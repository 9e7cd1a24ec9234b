from datetime import timedelta

import pytest
from securesystemslib.signer import SSlibKey
from tuf.api.metadata import Root

from controller.trust.ceremonies.role_changes import (
    LIFETIME,
    ONLINE_ROLES,
    DocumentName,
    RoleChanges,
    RoleKeys,
    due_for_renewal,
    new_trust,
)
from controller.trust.custody.keys import KeyName
from controller.trust.errors import LintCode, TrustLint
from tests.support.key_holders import NOW, PEOPLE, Holders, plan_for, trust_for, trust_of

LATER = NOW + timedelta(days=100)


@pytest.fixture
def holders() -> Holders:
    return Holders()


def test_a_new_trust_names_the_keys_of_the_plan_in_three_documents_for_a_year(holders: Holders) -> None:
    documents = new_trust(plan_for(holders, digits=RoleKeys(holders.keys("rita", "sam"), 2)), NOW)

    trust = trust_of(documents)
    assert {name: trust.document(name).version for name in ("image-root", "director-root")} == {
        "image-root": 1,
        "director-root": 1,
    }
    assert all(document.expires == NOW + LIFETIME for document in documents.values())
    assert [key.keyid for key in trust.role("prod-digits").keys] == [holders.key(who).keyid for who in ("rita", "sam")]
    assert trust.role("prod-digits").threshold == 2
    assert trust.role("image-root").threshold == 2
    assert set(trust.roles()) == {"image-root", "image-targets", "director-root", "prod-digits"}
    for name, (document, role) in ONLINE_ROLES.items():
        assert trust.document(document).get_delegated_role(role).keyids == [holders.key(name).keyid]


@pytest.mark.parametrize(
    ("role", "changed"),
    [
        ("image-root", {DocumentName.IMAGE_ROOT}),
        ("image-targets", {DocumentName.IMAGE_ROOT, DocumentName.IMAGE_TARGETS}),
        ("director-root", {DocumentName.DIRECTOR_ROOT}),
        ("prod-digits", {DocumentName.IMAGE_TARGETS}),
    ],
)
def test_a_role_that_gets_other_keys_makes_the_next_version_of_the_documents_that_name_it_alone(
    holders: Holders, role: str, changed: set[DocumentName]
) -> None:
    trust = trust_for(holders)

    documents = RoleChanges(trust).set_role(role, holders.keys("x", "y", "z"), 2).documents(LATER)

    assert set(documents) == changed
    after = trust.replaced(documents)
    assert after.role(role) == RoleKeys(holders.keys("x", "y", "z"), 2)
    for name, document in documents.items():
        assert document.expires == LATER + LIFETIME
        if isinstance(document, Root):
            assert document.version == trust.document(name).version + 1
        else:
            assert document.version > trust.document(name).version


def test_several_changes_of_one_document_are_one_version_of_it(holders: Holders) -> None:
    trust = trust_for(holders)

    changes = RoleChanges(trust).replace_online_key(KeyName.IMAGE_SNAPSHOT, holders.key("new-snapshot"))
    documents = changes.replace_online_key(KeyName.IMAGE_TIMESTAMP, holders.key("new-timestamp")).documents(LATER)

    assert {name: document.version for name, document in documents.items()} == {DocumentName.IMAGE_ROOT: 2}


def test_the_documents_in_force_stay_as_they_are(holders: Holders) -> None:
    trust = trust_for(holders)

    RoleChanges(trust).set_role("image-root", holders.keys("x", "y", "z"), 2).documents(LATER)

    assert trust.image_root.version == 1
    assert trust.role("image-root").keys == holders.keys(*(f"{who}-image" for who in PEOPLE))


@pytest.mark.parametrize("name", ONLINE_ROLES)
def test_a_new_online_key_takes_the_place_of_the_old_one(holders: Holders, name: KeyName) -> None:
    trust = trust_for(holders)

    documents = RoleChanges(trust).replace_online_key(name, holders.key("new")).documents(LATER)

    document, role = ONLINE_ROLES[name]
    assert set(documents) == {document}
    holder = documents[document]
    assert holder.get_delegated_role(role).keyids == [holders.key("new").keyid]
    with pytest.raises(ValueError, match="not found"):
        holder.get_key(holders.key(name).keyid)


def test_an_online_key_that_no_offline_document_names_changes_none(holders: Holders) -> None:
    changes = RoleChanges(trust_for(holders)).replace_online_key(KeyName.IMAGE_BINS, holders.key("new"))

    assert changes.documents(LATER) == {}


def test_a_revoked_release_key_leaves_every_role_that_named_it(holders: Holders) -> None:
    both = RoleKeys(holders.keys("rita", "sam", "tom"), 2)
    trust = trust_for(holders, digits=both, faces=both)

    documents = RoleChanges(trust).revoke(holders.key("rita").keyid).documents(LATER)

    after = trust.replaced(documents)
    assert set(documents) == {DocumentName.IMAGE_TARGETS}
    for role in ("prod-digits", "prod-faces"):
        assert after.role(role) == RoleKeys(holders.keys("sam", "tom"), 2)


def test_a_revoked_root_key_is_replaced_in_one_step(holders: Holders) -> None:
    trust = trust_for(holders)

    changes = RoleChanges(trust).revoke(holders.key("bob-image").keyid, holders.key("dora-image"))

    after = trust.replaced(changes.documents(LATER))
    assert set(after.role("image-root").keys) == set(holders.keys("alice-image", "carol-image", "dora-image"))


def test_revoking_a_key_that_the_threshold_needs_is_refused_with_a_remedy(holders: Holders) -> None:
    trust = trust_for(holders, digits=RoleKeys(holders.keys("rita"), 1))

    with pytest.raises(TrustLint, match="--replacement") as refused:
        RoleChanges(trust).revoke(holders.key("rita").keyid)
    assert refused.value.code == LintCode.THRESHOLD


def test_revoking_a_root_key_without_a_spare_is_refused(holders: Holders) -> None:
    changes = RoleChanges(trust_for(holders)).revoke(holders.key("bob-image").keyid)

    with pytest.raises(TrustLint) as refused:
        changes.documents(LATER)
    assert refused.value.code == LintCode.THRESHOLD


@pytest.mark.parametrize(("who", "remedy"), [("director", "key rotate director"), ("nobody", "key list")])
def test_revoking_a_key_that_nobody_holds_says_what_to_do_instead(holders: Holders, who: str, remedy: str) -> None:
    trust = trust_for(holders)

    with pytest.raises(TrustLint, match=remedy):
        RoleChanges(trust).revoke(holders.key(who).keyid)


@pytest.mark.parametrize(("keys", "threshold"), [("xyz", 1), ("xyz", 4), ("xyz", 0), ("xy", 2), ("", 0)])
def test_a_root_with_too_low_a_threshold_or_no_spare_key_is_refused(
    holders: Holders, keys: str, threshold: int
) -> None:
    changes = RoleChanges(trust_for(holders)).set_role("director-root", holders.keys(*keys), threshold)

    with pytest.raises(TrustLint) as refused:
        changes.documents(LATER)
    assert refused.value.code == LintCode.THRESHOLD


def test_a_key_that_is_named_twice_is_refused(holders: Holders) -> None:
    changes = RoleChanges(trust_for(holders))

    with pytest.raises(TrustLint) as refused:
        changes.set_role("image-root", holders.keys("x", "x", "y"), 2)
    assert refused.value.code == LintCode.DUPLICATE_KEY


def test_one_key_under_two_ids_is_refused(holders: Holders) -> None:
    key = holders.key("x")
    twin = SSlibKey("0" * 64, key.keytype, key.scheme, key.keyval)
    changes = RoleChanges(trust_for(holders)).set_role("image-root", (key, twin, holders.key("y")), 2)

    with pytest.raises(TrustLint) as refused:
        changes.documents(LATER)
    assert refused.value.code == LintCode.DUPLICATE_KEY


@pytest.mark.parametrize("role", ["director-root", "prod-digits"])
def test_a_key_of_the_image_repository_is_refused_for_the_director_and_the_other_way_round(
    holders: Holders, role: str
) -> None:
    foreign = "alice-image" if role == "director-root" else "alice-director"
    changes = RoleChanges(trust_for(holders)).set_role(role, holders.keys(foreign, "x", "y"), 2)

    with pytest.raises(TrustLint) as refused:
        changes.documents(LATER)
    assert refused.value.code == LintCode.SHARED_KEY


@pytest.mark.parametrize("role", ["targets", "prod-", "timestamp", "dev", ""])
def test_a_role_that_people_do_not_hold_is_refused(holders: Holders, role: str) -> None:
    with pytest.raises(TrustLint, match="prod-MODEL"):
        RoleChanges(trust_for(holders)).set_role(role, holders.keys("x"), 1)


def test_a_single_operator_may_start_with_thresholds_of_one_and_grow_from_there(holders: Holders) -> None:
    plan = plan_for(holders, root_threshold=1)
    with pytest.raises(TrustLint):
        new_trust(plan, NOW)
    trust = trust_of(new_trust(plan, NOW, single_operator=True))

    grown = trust.replaced(RoleChanges(trust).set_role("image-root", holders.keys("x", "y", "z"), 2).documents(LATER))
    with pytest.raises(TrustLint):
        RoleChanges(grown).set_role("image-root", holders.keys("x"), 1).documents(LATER)


def test_documents_are_due_sixty_days_before_they_expire_and_renewed_as_they_are(holders: Holders) -> None:
    trust = trust_for(holders)

    assert due_for_renewal(trust, NOW + timedelta(days=304)) == ()
    later = NOW + timedelta(days=306)
    due = due_for_renewal(trust, later)
    assert set(due) == set(DocumentName)
    after = trust.replaced(RoleChanges(trust).renew(*due).documents(later))
    assert due_for_renewal(after, later) == ()
    assert after.role("image-root") == trust.role("image-root")
