from datetime import timedelta

import pytest

from controller.domain.errors import Forbidden, InvalidInput
from controller.domain.operators import (
    RESERVED_NAMES,
    ROLES,
    Operator,
    OperatorToken,
    Scope,
    check_grant,
    check_operator_name,
    check_ttl,
    hash_of_secret,
    missing_scope,
    network_text,
    scopes_of,
    split_token,
    two_persons_needed,
    why_refused,
)
from tests.support.decisions import NOW

SECRET = "5" * 64
TOKEN = OperatorToken(
    id="0" * 16,
    name="alice",
    secret_hash=hash_of_secret(SECRET),
    scopes=ROLES["viewer"],
    network=None,
    expires_at=NOW + timedelta(days=1),
    revoked_at=None,
    last_used_at=None,
)


def refused(address: str | None = "10.1.2.3", secret: str = SECRET, **changes: object) -> str | None:
    token = OperatorToken(**{**vars(TOKEN), **changes})
    return why_refused(token, secret, address, NOW)


def test_the_right_secret_lets_in() -> None:
    assert refused() is None


def test_a_wrong_secret_learns_nothing_about_the_token() -> None:
    unknown = why_refused(None, SECRET, "10.1.2.3", NOW)
    assert refused(secret="6" * 64) == unknown
    assert refused(secret="6" * 64, revoked_at=NOW, network="10.0.0.0/8") == unknown


def test_a_revoked_token_says_since_when() -> None:
    assert refused(revoked_at=NOW) == "the token of alice was revoked at 2026-05-04 12:00 UTC"


@pytest.mark.parametrize(("seconds", "lets_in"), [(1, True), (0, False), (-1, False)])
def test_a_token_is_good_until_just_before_it_expires(seconds: int, *, lets_in: bool) -> None:
    assert (refused(expires_at=NOW + timedelta(seconds=seconds)) is None) is lets_in


@pytest.mark.parametrize(
    ("address", "network", "lets_in"),
    [
        ("10.1.2.3", "10.1.0.0/16", True),
        ("::ffff:10.1.2.3", "10.1.0.0/16", True),
        ("10.2.0.1", "10.1.0.0/16", False),
        ("fd00::1", "fd00::/8", True),
        ("fd00::1", "10.1.0.0/16", False),
        ("somewhere", "10.1.0.0/16", False),
        (None, "10.1.0.0/16", False),
        (None, None, True),
    ],
)
def test_a_token_with_a_network_is_good_there_alone(address: str | None, network: str | None, *, lets_in: bool) -> None:
    assert (refused(address, network=network) is None) is lets_in


@pytest.mark.parametrize(
    "text", ["", "flt_", "flt_" + "0" * 64, f"eft_{'0' * 16}_{SECRET}", f"flt_{'0' * 16}_{SECRET}\n"]
)
def test_other_texts_are_no_tokens_of_persons(text: str) -> None:
    assert split_token(text) is None


def test_the_text_of_a_token_is_its_id_and_its_secret() -> None:
    assert split_token(f"flt_{'0' * 16}_{SECRET}") == ("0" * 16, SECRET)


@pytest.mark.parametrize("name", ["", "Alice", "al ice", "-alice", "alice.", "a" * 65, "\u0430lice", "alice\n"])
def test_a_name_that_could_be_taken_for_another_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="must be 1 to 64"):
        check_operator_name(name)


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_nobody_takes_the_name_of_a_part_of_the_controller(name: str) -> None:
    with pytest.raises(InvalidInput, match="names a part"):
        check_operator_name(name)


@pytest.mark.parametrize("name", ["alice", "alice@example.org", "ci-release_2"])
def test_ordinary_names_are_taken(name: str) -> None:
    check_operator_name(name)


def test_a_role_and_single_scopes_add_up() -> None:
    assert scopes_of("viewer", ["audit:read"]) == {Scope.READ, Scope.AUDIT_READ}
    assert scopes_of(None, ["audit:read"]) == {Scope.AUDIT_READ}


@pytest.mark.parametrize(
    ("role", "scopes", "told"),
    [("boss", [], "no role 'boss'"), (None, ["all"], "no such scopes"), (None, [], "good for")],
)
def test_unknown_roles_and_scopes_are_named_and_so_is_none_at_all(
    role: str | None, scopes: list[str], told: str
) -> None:
    with pytest.raises(InvalidInput, match=told):
        scopes_of(role, scopes)


def test_nobody_grants_what_they_do_not_hold() -> None:
    maker = Operator("alice", frozenset({Scope.OPERATORS_ADMIN, Scope.READ}), "t")
    check_grant(maker, frozenset({Scope.READ}))
    with pytest.raises(Forbidden, match="alice lacks rollouts:approve") as no:
        check_grant(maker, frozenset({Scope.READ, Scope.ROLLOUTS_APPROVE}))
    assert no.value.code == "E_SCOPE"


@pytest.mark.parametrize("days", [0, -1, 365.1])
def test_a_life_that_is_over_or_longer_than_a_year_is_refused(days: float) -> None:
    check_ttl(timedelta(days=365))
    with pytest.raises(InvalidInput, match="expected up to 365"):
        check_ttl(timedelta(days=days))


def test_a_network_has_one_spelling() -> None:
    assert network_text("10.1.0.0/255.255.0.0") == "10.1.0.0/16"
    assert network_text(None) is None
    for wrong in ("10.1.2.3/16", "lyon"):
        with pytest.raises(InvalidInput, match=r"10\.1\.0\.0/16"):
            network_text(wrong)


def test_who_lacks_a_scope_is_told_which_roles_have_it_and_who_grants_them() -> None:
    no = missing_scope(Operator("bob", ROLES["viewer"], "t"), frozenset({Scope.ROLLOUTS_APPROVE}))
    assert no.code == "E_SCOPE"
    assert "the scope rollouts:approve, which the token of bob does not have; the roles approver, admin" in no.detail
    assert "operators:admin" in no.detail


@pytest.mark.parametrize(
    ("released", "single", "needed"),
    [(True, False, True), (True, True, False), (False, False, False), (False, True, False)],
)
def test_two_persons_are_needed_for_released_versions_unless_there_is_but_one(
    *, released: bool, single: bool, needed: bool
) -> None:
    assert two_persons_needed(released=released, single_operator=single) is needed
