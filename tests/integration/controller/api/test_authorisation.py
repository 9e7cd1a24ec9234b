"""Who may do what over HTTP: tokens of persons, their scopes and their end; two persons; and no token anywhere."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text, update
from structlog.testing import capture_logs

from controller.api.app import create_app
from controller.domain.ids import DeviceId
from controller.domain.operators import Scope, bootstrap_operator
from controller.store import operator_tokens, tables
from controller.store.columns import metadata
from controller.use_cases.create_operator_token import CreatedOperatorToken, create_operator_token
from controller.web.pages import COOKIE
from controller.wiring import Services, system_clock
from device_agent.protocol.channels import Channel
from tests.support.attacks import Group, plays
from tests.support.device_server import services_at, serving
from tests.support.fleet import Fleet, profile
from tests.support.operator_scopes import PREFIX, SCOPES_OF_ROUTE


class Office:
    """A served controller in which two persons are needed, and whose clock can be put forward."""

    def __init__(self, services: Services) -> None:
        self.ahead = timedelta(0)
        settings = services.settings.model_copy(update={"single_operator": False})
        self.services = replace(services, settings=settings, clock=lambda: system_clock() + self.ahead)

    def token(self, name: str = "alice", *, network: str | None = None, **granted: object) -> CreatedOperatorToken:
        arguments = {"maker": bootstrap_operator(), "network": network, "now": self.services.clock(), **granted}
        return create_operator_token(self.services.database, name, **arguments)  # type: ignore[arg-type]


@pytest.fixture
def office(state_dir: Path, sqlite_url: str) -> Iterator[Office]:
    services = services_at(state_dir, sqlite_url)
    yield Office(services)
    services.database.engine.dispose()


@pytest.fixture
def api(office: Office) -> Iterator[httpx.Client]:
    with serving(create_app(office.services)) as client:
        yield client


def ask(api: httpx.Client, method: str, path: str, token: str | None, **request: object) -> httpx.Response:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return api.request(method, f"{PREFIX}{path}", headers=headers, **request)  # type: ignore[arg-type]


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


@plays(Group.IDENTITY, "any route is asked with a token that has every scope but the one needed", "E_SCOPE")
def test_every_route_refuses_strangers_and_whoever_has_every_scope_but_its_own(
    office: Office, api: httpx.Client
) -> None:
    others = {
        scopes: office.token(scopes=sorted(set(Scope) - scopes)).text
        for scopes in {frozenset(scopes) for scopes in SCOPES_OF_ROUTE.values()}
    }
    wrong = []
    for (method, path), scopes in SCOPES_OF_ROUTE.items():
        address = re.sub(r"\{number\}", "1", path)
        address = re.sub(r"\{\w+\}", "none", address)
        stranger = ask(api, method, address, None, json={})
        other = ask(api, method, address, others[frozenset(scopes)], json={})
        named = all(scope in other.text for scope in scopes)
        if (code_of(stranger), code_of(other), named) != ((401, "operator_token_needed"), (403, "E_SCOPE"), True):
            wrong.append((method, path, stranger.text, other.text))
    assert wrong == []


def test_every_route_lets_pass_who_has_just_its_scope(office: Office, api: httpx.Client) -> None:
    tokens = {scope: office.token(scopes=[scope]).text for scope in Scope}
    wrong = []
    for (method, path), scopes in SCOPES_OF_ROUTE.items():
        address = re.sub(r"\{\w+\}", "none", re.sub(r"\{number\}", "1", path))
        for scope in scopes:
            answer = ask(api, method, address, tokens[scope], json={})
            if answer.status_code in (401, 403, 500):
                wrong.append((method, path, scope, answer.text))
    assert wrong == []


def test_the_installations_own_token_may_do_everything(office: Office, api: httpx.Client) -> None:
    token = office.services.operator_token
    assert ask(api, "GET", "/operators", token).json() == {"items": []}
    assert ask(api, "GET", "/audit", token).status_code == 200


def test_a_token_is_made_shown_once_listed_and_revoked(office: Office, api: httpx.Client) -> None:
    admin = office.services.operator_token
    made = ask(api, "POST", "/operators", admin, json={"name": "alice", "role": "viewer"})
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    token, token_id = made.json()["token"], made.json()["id"]
    assert ask(api, "GET", "/models", token).status_code == 200
    (listed,) = ask(api, "GET", "/operators", admin).json()["items"]
    assert (listed["name"], listed["scopes"], listed["created_by"]) == ("alice", ["read"], "operator")
    assert listed["last_used_at"]
    assert token.rpartition("_")[2] not in str(listed)
    assert "secret_hash" not in listed
    assert ask(api, "POST", f"/operators/{token_id}:revoke", admin).status_code == 204
    refused = ask(api, "GET", "/models", token)
    assert code_of(refused) == (401, "operator_token_needed")
    assert "was revoked at" in refused.json()["detail"]
    assert code_of(ask(api, "POST", f"/operators/{token_id}:revoke", admin)) == (409, "operator_revoked")
    assert code_of(ask(api, "POST", "/operators/none:revoke", admin)) == (404, "operator_unknown")
    assert code_of(ask(api, "POST", "/operators/bootstrap:revoke", admin)) == (409, "operator_token_bootstrap")


@plays(Group.IDENTITY, "an operator's token that has expired", "operator_token_needed")
def test_an_expired_token_lets_nobody_in_and_says_so(office: Office, api: httpx.Client) -> None:
    token = office.token(role="viewer", ttl=timedelta(days=30)).text
    office.ahead = timedelta(days=29)
    assert ask(api, "GET", "/models", token).status_code == 200
    office.ahead = timedelta(days=30)
    refused = ask(api, "GET", "/models", token)
    assert code_of(refused) == (401, "operator_token_needed")
    assert "expired at" in refused.json()["detail"]


def test_a_secret_that_is_wrong_by_one_digit_is_unknown(office: Office, api: httpx.Client) -> None:
    token = office.token(role="admin").text
    for wrong in (token[:-1] + ("0" if token[-1] != "0" else "1"), token[:-1], token + "0", "flt_é"):
        headers = {b"authorization": f"Bearer {wrong}".encode()}
        answer = api.get(f"{PREFIX}/models", headers=headers)
        assert code_of(answer) == (401, "operator_token_needed")


def test_a_token_is_good_in_its_network_alone(office: Office, api: httpx.Client) -> None:
    here = office.token(role="viewer", network="127.0.0.0/8").text
    elsewhere = office.token(role="viewer", network="10.0.0.0/8").text
    assert ask(api, "GET", "/models", here).status_code == 200
    refused = ask(api, "GET", "/models", elsewhere, params={"x": "1"})
    assert code_of(refused) == (401, "operator_token_needed")
    assert "10.0.0.0/8 alone" in refused.json()["detail"]
    forwarded = {"authorization": f"Bearer {elsewhere}", "x-forwarded-for": "10.1.2.3"}
    assert api.get(f"{PREFIX}/models", headers=forwarded).status_code == 401, "nobody trusts this peer's header"


def test_the_last_use_is_noted_once_a_minute(office: Office, api: httpx.Client) -> None:
    made = office.token(role="viewer")
    noted = []
    for seconds in (0, 30, 59, 61, 100, 130):
        office.ahead = timedelta(seconds=seconds)
        assert ask(api, "GET", "/models", made.text).status_code == 200
        with office.services.database.reading() as tx:
            found = operator_tokens.find_operator_token(tx, made.id)
            assert found
            noted.append(found.last_used_at)
    assert noted[0] == noted[1] == noted[2] != noted[3]
    assert noted[3] == noted[4] != noted[5]


def test_a_token_grants_no_more_than_its_maker_holds(office: Office, api: httpx.Client) -> None:
    maker = office.token("bob", scopes=[Scope.OPERATORS_ADMIN, Scope.READ]).text
    refused = ask(api, "POST", "/operators", maker, json={"name": "eve", "role": "approver"})
    assert code_of(refused) == (403, "E_SCOPE")
    assert "rollouts:approve" in refused.json()["detail"]
    assert ask(api, "POST", "/operators", maker, json={"name": "eve", "role": "viewer"}).status_code == 201


@pytest.mark.parametrize(
    ("changed", "pointer"),
    [
        ({"name": "Alice"}, "/name"),
        ({"name": "planner"}, "/name"),
        ({"role": "boss"}, "/role"),
        ({"role": None}, "/role"),
        ({"scopes": ["all"]}, "/scopes"),
        ({"ttl_days": 366}, "/ttl_days"),
        ({"network": "10.0.0.1/8"}, "/network"),
    ],
)
def test_a_token_that_makes_no_sense_is_refused_with_its_field(
    office: Office, api: httpx.Client, changed: dict[str, object], pointer: str
) -> None:
    body = {"name": "alice", "role": "viewer", **changed}
    answer = ask(api, "POST", "/operators", office.services.operator_token, json=body)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


def test_the_roles_are_listed_with_their_scopes(office: Office, api: httpx.Client) -> None:
    roles = ask(api, "GET", "/operators/roles", office.token(role="viewer").text).json()["items"]
    assert {"role": "auditor", "scopes": ["audit:read", "read"]} in roles


def test_what_a_person_does_is_written_down_under_their_name(office: Office, api: httpx.Client) -> None:
    alice = office.token(role="developer").text
    assert ask(api, "POST", "/models", alice, json={"name": "digits"}).status_code == 201
    (event,) = [e for e in ask(api, "GET", "/events", alice).json()["items"] if e["kind"] == "model.created"]
    assert event["actor"] == "alice"
    entries = ask(api, "GET", "/audit", office.services.operator_token).json()["items"]
    assert [(entry["actor"], entry["action"]) for entry in entries] == [
        ("operator", "operator.created"),
        ("alice", "model.created"),
    ]


def test_the_audit_log_is_read_in_pages_and_from_its_end(office: Office, api: httpx.Client) -> None:
    for number in range(5):
        office.token(f"person-{number}", role="viewer")
    admin = office.services.operator_token

    def page(**query: int) -> tuple[list[int], int | None]:
        answer = ask(api, "GET", "/audit", admin, params=query).json()
        return [entry["seq"] for entry in answer["items"]], answer["next_after"]

    assert page(page_size=2) == ([1, 2], 2)
    assert page(page_size=3, after=2) == ([3, 4, 5], 5)
    assert page(after=5) == ([], None)
    assert page(last=2) == ([4, 5], None)


def test_the_pages_open_for_who_may_read_and_for_nobody_else(office: Office, api: httpx.Client) -> None:
    def page(token: str) -> int:
        return api.get("/", headers={"cookie": f"{COOKIE}={token}"}).status_code

    reader, auditor = office.token(role="viewer"), office.token(scopes=[Scope.AUDIT_READ])
    assert (page(reader.text), page(office.services.operator_token)) == (200, 200)
    assert (page(auditor.text), page("flt_wrong")) == (401, 401)
    assert api.get("/", params={"token": reader.text}).headers["location"] == "/"
    office.ahead = timedelta(days=400)
    assert page(reader.text) == 401


@plays(Group.IDENTITY, "somebody reads the logs and the database for tokens", "none is there")
def test_no_token_is_ever_in_the_logs_or_in_the_database(office: Office, api: httpx.Client) -> None:
    admin = office.services.operator_token
    with capture_logs() as lines:
        made = ask(api, "POST", "/operators", admin, json={"name": "alice", "role": "viewer"}).json()
        api.get("/", params={"token": made["token"]})
        ask(api, "GET", "/models", made["token"])
        ask(api, "GET", "/operators", made["token"])
        ask(api, "POST", f"/operators/{made['id']}:revoke", admin)
        ask(api, "GET", "/models", made["token"])
    assert any(line["event"] == "an operator's token was refused" for line in lines)
    with office.services.database.reading() as tx:
        rows = {table.name: tx.execute(text(f"SELECT * FROM {table.name}")).all() for table in metadata.sorted_tables}
    assert rows["operator_token"]
    for secret in (made["token"].rpartition("_")[2], admin, admin.removeprefix("flt_")):
        assert secret not in str(lines)
        assert secret not in str(rows)


@pytest.fixture
def released(office: Office) -> Fleet:
    """A released version of `digits`, and a device on the channel `prod`."""
    fleet = Fleet.create(office.services.database)
    fleet.publish(1)
    fleet.enrol("cam-1", replace(profile(), channel=Channel.PROD))
    with fleet.database.writing() as tx:
        tx.execute(update(tables.variant).values(released_at=fleet.now))
    return fleet


ROLLOUT = {"model": "digits", "version": 1, "stages": [100], "gate": {"soak_s": 1}}


def test_what_one_person_proposes_another_approves(office: Office, api: httpx.Client, released: Fleet) -> None:
    alice, also_alice = (office.token("alice", role="admin").text for _ in range(2))
    bob = office.token("bob", role="approver").text
    made = ask(api, "POST", "/rollouts", alice, json=ROLLOUT).json()
    assert (made["state"], made["proposed_by"], made["approved_by"]) == ("proposed", "alice", None)
    path = f"/rollouts/{made['id']}"
    for token in (alice, also_alice):
        assert code_of(ask(api, "POST", f"{path}:approve", token)) == (403, "E_TWO_PERSON")
    assert len(ask(api, "GET", f"{path}/manifests", bob).json()["items"]) == 1
    unfit = ask(api, "POST", f"{path}:approve", bob, json={"approval": "{}"})
    assert code_of(unfit) == (422, "approval_unfit")
    approved = ask(api, "POST", f"{path}:approve", bob)
    assert (approved.status_code, approved.json()["state"], approved.json()["approved_by"]) == (200, "running", "bob")
    assert released.runs(DeviceId("dv_cam-1"))
    stopped = ask(api, "POST", f"{path}:abort", bob).json()
    assert stopped["explanation"].startswith("aborted by bob")


def test_who_may_approve_rejects_a_proposal(office: Office, api: httpx.Client, released: Fleet) -> None:
    alice, bob = office.token("alice", role="operator").text, office.token("bob", role="approver").text
    made = ask(api, "POST", "/rollouts", alice, json=ROLLOUT).json()
    ended = ask(api, "POST", f"/rollouts/{made['id']}:abort", bob).json()
    assert (ended["state"], ended["not_back"]) == ("aborted", 0)
    assert released.runs(DeviceId("dv_cam-1")) is None


def test_nobody_pins_a_released_version_alone(office: Office, api: httpx.Client, released: Fleet) -> None:
    answer = ask(api, "PUT", "/pins", office.token(role="admin").text, json={"model": "digits", "version": 1})
    assert code_of(answer) == (403, "E_TWO_PERSON")
    assert "edgefleet rollout create digits 1 --group all" in answer.json()["detail"]
    assert released.runs(DeviceId("dv_cam-1")) is None


def test_the_page_says_that_a_rollout_waits_for_another_person(
    office: Office, api: httpx.Client, released: Fleet
) -> None:
    made = ask(api, "POST", "/rollouts", office.token(role="operator").text, json=ROLLOUT).json()
    shown = api.get("/", headers={"cookie": f"{COOKIE}={office.services.operator_token}"}).text
    assert "proposed" in shown
    assert released.model in shown
    assert made["id"] in shown
