import pytest

from controller.cli.errors import ExitCode
from controller.cli.main import run
from tests.support.fake_controller import FakeController

MADE = {
    "id": "0123456789abcdef",
    "token": "flt_0123456789abcdef_5555",
    "name": "alice",
    "scopes": ["audit:read", "read"],
    "network": None,
    "expires_at": "2026-08-01T12:00:00Z",
}


def test_a_made_token_is_all_that_stdout_holds(controller: FakeController, capsys: pytest.CaptureFixture[str]) -> None:
    controller.answer("POST", "/operators", MADE, 201)
    given = ["--role", "viewer", "--scope", "audit:read", "--ttl-days", "30", "--network", "10.0.0.0/8"]
    assert run(["operator", "create", "alice", *given]) == ExitCode.OK
    asked = {"name": "alice", "role": "viewer", "scopes": ["audit:read"], "ttl_days": 30.0, "network": "10.0.0.0/8"}
    assert controller.received[-1].json == asked
    captured = capsys.readouterr()
    assert captured.out == "flt_0123456789abcdef_5555\n"
    assert "alice may audit:read, read until 2026-08-01" in captured.err
    assert "flt_" not in captured.err


def test_the_tokens_are_listed_with_what_each_may_do(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = {name: MADE[name] for name in ("id", "name", "scopes", "network", "expires_at")}
    more = {"created_by": "operator", "created_at": None, "last_used_at": None, "revoked_at": None}
    controller.answer("GET", "/operators", {"items": [{**shown, **more}]})
    assert run(["operator", "list"]) == ExitCode.OK
    assert "audit:read, read" in capsys.readouterr().out


def test_a_token_is_revoked_by_its_id(controller: FakeController) -> None:
    controller.answer("POST", "/operators/0123456789abcdef:revoke", {}, 200)
    assert run(["operator", "revoke", "0123456789abcdef"]) == ExitCode.OK


def test_the_roles_are_listed(controller: FakeController, capsys: pytest.CaptureFixture[str]) -> None:
    controller.answer("GET", "/operators/roles", {"items": [{"role": "auditor", "scopes": ["audit:read", "read"]}]})
    assert run(["operator", "roles"]) == ExitCode.OK
    assert "auditor" in capsys.readouterr().out


def test_a_missing_scope_ends_with_the_code_for_not_allowed(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    controller.answer("GET", "/operators", {"code": "E_SCOPE", "detail": "this needs operators:admin"}, 403)
    assert run(["operator", "list"]) == ExitCode.NOT_ALLOWED
    assert "E_SCOPE: this needs operators:admin" in capsys.readouterr().err
