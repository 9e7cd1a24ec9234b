from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from controller.trust.ceremonies.role_changes import ONLINE_ROLES, RoleKeys, Trust, new_trust
from controller.trust.ceremonies.trust_report import NOTICE, TrustFacts, single_operator_notice, trust_report
from controller.trust.custody.keys import KeyName
from controller.trust.custody.public_keys import NAME_FIELD
from tests.support.key_holders import NOW, Holders, plan_for, trust_for, trust_of


@pytest.fixture
def holders() -> Holders:
    return Holders()


@pytest.fixture
def trust(holders: Holders) -> Trust:
    return trust_for(holders, digits=RoleKeys(holders.keys("rita", "sam"), 1))


@pytest.fixture
def facts(holders: Holders) -> TrustFacts:
    """An installation in which nothing needs anybody."""
    return TrustFacts(
        single_operator=False,
        pin="ab" * 16,
        online={name: holders.key(name) for name in ONLINE_ROLES},
        signer_place="signer at /run/signer.sock",
        signer_is_separate=True,
        releases={"prod-digits": NOW + timedelta(days=90)},
    )


def _warnings(report: dict[str, Any]) -> dict[str, str]:
    return {warning["code"]: warning["remedy"] for warning in report["warnings"]}


def test_an_installation_in_order_needs_nobody(trust: Trust, facts: TrustFacts) -> None:
    report = trust_report(trust, facts, NOW)

    assert report["warnings"] == []
    assert report["custody"] == "separated"
    assert report["notice"] is None
    assert report["pin"] == facts.pin


def test_every_role_is_listed_with_its_threshold_keys_expiry_and_the_place_of_its_keys(
    trust: Trust, facts: TrustFacts, holders: Holders
) -> None:
    holders.key("rita").unrecognized_fields[NAME_FIELD] = "rita"

    roles = {role["role"]: role for role in trust_report(trust, facts, NOW)["roles"]}

    assert set(roles) == {"image-root", "image-targets", "director-root", "prod-digits", *ONLINE_ROLES}
    assert roles["image-root"]["threshold"] == 2
    assert roles["image-root"]["expires_at"] == "2027-03-01T12:00:00Z"
    assert roles["image-root"]["version"] == 1
    assert {key["where"] for key in roles["image-root"]["keys"]} == {"elsewhere"}
    assert roles["prod-digits"]["expires_at"] == "2026-05-30T12:00:00Z"
    assert roles["prod-digits"]["keys"][0]["name"] == "rita"
    assert roles["director"]["keys"] == [
        {
            "keyid": holders.key("director").keyid,
            "scheme": "ed25519",
            "name": None,
            "where": "signer at /run/signer.sock",
        }
    ]


@pytest.mark.parametrize(
    ("days", "subjects"),
    [
        (59, set()),
        (61, {"prod-digits"}),
        (304, {"prod-digits"}),
        (306, {"prod-digits", "image-root", "image-targets", "director-root"}),
    ],
)
def test_what_expires_soon_is_told_with_its_remedy(
    trust: Trust, facts: TrustFacts, days: int, subjects: set[str]
) -> None:
    report = trust_report(trust, facts, NOW + timedelta(days=days))

    found = {warning["subject"]: warning["remedy"] for warning in report["warnings"]}
    assert set(found) == subjects
    assert found.get("prod-digits", "edgefleet release renew digits") == "edgefleet release renew digits"
    assert found.get("image-root", "--renew").count("--renew") == 1


def test_what_has_expired_is_not_called_soon(trust: Trust, facts: TrustFacts) -> None:
    report = trust_report(trust, facts, NOW + timedelta(days=366))

    assert "image-root has expired" in str(report["warnings"])


@pytest.mark.parametrize(
    ("change", "code", "remedy"),
    [
        ({"single_operator": True}, "single_operator", "EDGEFLEET_SINGLE_OPERATOR=false"),
        ({"signer_is_separate": False}, "signer_not_separate", "edgefleet signer start"),
        ({"online": {}}, "signer_unavailable", "edgefleet signer start"),
        ({"online_encrypted": False}, "unencrypted_keys", "edgefleet key rotate"),
        ({"behind": ("timestamp",)}, "behind_journal", "edgefleet key reissue"),
        ({"unsigned": ("prod-digits",)}, "unsigned_release", "edgefleet release renew digits"),
    ],
)
def test_what_needs_a_person_is_told_with_its_remedy(
    trust: Trust, facts: TrustFacts, change: dict[str, Any], code: str, remedy: str
) -> None:
    found = _warnings(trust_report(trust, replace(facts, **change), NOW))

    assert list(found) == [code]
    assert remedy in found[code]


def test_a_role_that_needs_all_its_keys_has_no_spare(holders: Holders, facts: TrustFacts) -> None:
    trust = trust_for(holders, digits=RoleKeys(holders.keys("rita"), 1))

    report = trust_report(trust, facts, NOW)

    assert [(warning["code"], warning["subject"]) for warning in report["warnings"]] == [
        ("no_spare_key", "prod-digits")
    ]


def test_an_offline_key_that_lies_beside_the_controller_is_told(
    trust: Trust, facts: TrustFacts, holders: Holders
) -> None:
    here = replace(facts, beside_controller=frozenset({holders.key("rita").keyid}))

    report = trust_report(trust, here, NOW)

    assert list(_warnings(report)) == ["offline_key_here"]
    places = {key["keyid"]: key["where"] for role in report["roles"] for key in role["keys"]}
    assert places[holders.key("rita").keyid] == "beside the controller"


def test_a_signer_whose_key_the_documents_do_not_name_is_told(
    trust: Trust, facts: TrustFacts, holders: Holders
) -> None:
    lost = replace(facts, online={**facts.online, KeyName.DIRECTOR: holders.key("made anew")})

    assert _warnings(trust_report(trust, lost, NOW)) == {"other_online_key": "edgefleet key rotate director"}


def test_a_key_in_two_roles_is_told(holders: Holders, facts: TrustFacts) -> None:
    plan = plan_for(holders, digits=RoleKeys(holders.keys("alice-targets", "sam"), 1))
    trust = trust_of(new_trust(plan, NOW))

    report = trust_report(trust, facts, NOW)

    assert list(_warnings(report)) == ["shared_key"]
    assert "image-targets, prod-digits" in report["warnings"][0]["message"]


def test_a_single_operator_is_told_once_and_not_for_every_role(holders: Holders, facts: TrustFacts) -> None:
    trust = trust_of(new_trust(plan_for(holders, root_threshold=1), NOW, single_operator=True))
    keys = frozenset(key.keyid for role in trust.roles() for key in trust.role(role).keys)
    alone = replace(facts, single_operator=True, beside_controller=keys, offline_encrypted=False, releases={})

    report = trust_report(trust, alone, NOW)

    assert list(_warnings(report)) == ["single_operator", "unencrypted_keys"]
    assert report["custody"] == "single-operator"
    assert report["notice"] == NOTICE == single_operator_notice(single_operator=True)
    assert single_operator_notice(single_operator=False) is None
