import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controller.cli.errors import ExitCode
from controller.cli.main import run
from tests.support.fake_controller import FakeController
from tests.unit.controller.cli.documents import rollout, version

DEVICE = {
    "id": "dv_1",
    "name": "camera-1",
    "state": "approved",
    "suspicion": None,
    "profile": {"name": "camera"},
    "labels": {"site": "lyon"},
    "last_seen": "2026-01-31T12:00:00Z",
    "slots": [{"slot": "digits", "version": 2, "variant": "int8", "state": "healthy", "updated_at": "x"}],
}
MODEL = {"name": "digits", "notes": "8 x 8", "created_at": "2026-01-31T12:00:00Z"}
PIN = {"id": "pi_1", "model": "digits", "version": 2, "group": "all", "decided_at": "2026-01-31T12:00:00Z"}
RULE = {
    "id": "vr_1",
    "model": "digits",
    "variant": "int8",
    "kind": "forbid",
    "group": "lyon",
    "versions": 2,
    "decided_at": "2026-01-31T12:00:00Z",
}
GROUP = {"id": "gr_1", "name": "lyon", "selector": "site=lyon", "members": None, "devices": 3}
TOKEN = {
    "id": "to_1",
    "token": "eft_a_b_c",
    "labels": {},
    "uses_left": 1,
    "needs_approval": False,
    "serial": None,
    "device_name": None,
    "expires_at": "2026-02-01T12:00:00Z",
}

READS: list[tuple[list[str], str, Any]] = [
    (["model", "list"], "/models", {"items": [MODEL]}),
    (["model", "get", "digits"], "/models/digits", MODEL),
    (["version", "list", "digits"], "/models/digits/versions", {"items": [version()]}),
    (["version", "get", "digits", "2"], "/models/digits/versions/2", version()),
    (["device", "list"], "/devices", {"items": [DEVICE], "next_page_token": None}),
    (["device", "get", "camera-1"], "/devices/camera-1", DEVICE),
    (
        ["device", "explain", "camera-1"],
        "/devices/camera-1/explanation",
        {
            "device": "dv_1",
            "state": "approved",
            "suspicion": None,
            "last_seen": None,
            "models": {"digits": ["pin pi_1"]},
            "slots": {},
            "observed": [],
            "refused": [],
        },
    ),
    (["group", "list"], "/groups", {"items": [GROUP]}),
    (["group", "get", "lyon"], "/groups/lyon", GROUP),
    (["pin", "list"], "/pins", {"items": [PIN]}),
    (["variant", "list", "digits"], "/models/digits/variant-rules", {"items": [RULE]}),
    (["rollout", "list"], "/rollouts", {"items": [rollout()]}),
    (["rollout", "get", "ro_1"], "/rollouts/ro_1", rollout()),
    (["token", "list"], "/tokens", {"items": [TOKEN]}),
]
WRITES: list[tuple[list[str], str, str, Any, Any]] = [
    (["model", "create", "digits", "--notes", "8 x 8"], "POST", "/models", {"name": "digits", "notes": "8 x 8"}, MODEL),
    (
        ["model", "create", "digits", "--sealed"],
        "POST",
        "/models",
        {"name": "digits", "notes": "", "sealed": True},
        MODEL,
    ),
    (
        ["group", "create", "lyon", "--selector", "site=lyon"],
        "POST",
        "/groups",
        {"name": "lyon", "selector": "site=lyon"},
        GROUP,
    ),
    (
        ["group", "create", "two", "--member", "a", "--member", "b"],
        "POST",
        "/groups",
        {"name": "two", "members": ["a", "b"]},
        {**GROUP, "selector": None, "members": 2},
    ),
    (
        ["pin", "set", "digits", "2", "--group", "all"],
        "PUT",
        "/pins",
        {"model": "digits", "version": 2, "group": "all"},
        PIN,
    ),
    (
        ["variant", "pin", "digits", "int8", "--group", "lyon"],
        "PUT",
        "/models/digits/variant-rules/int8",
        {"kind": "pin", "group": "lyon"},
        {**RULE, "kind": "pin"},
    ),
    (
        ["variant", "forbid", "digits", "int8", "-g", "lyon"],
        "PUT",
        "/models/digits/variant-rules/int8",
        {"kind": "forbid", "group": "lyon"},
        RULE,
    ),
    (
        ["token", "create", "--label", "site=lyon", "--uses", "3"],
        "POST",
        "/tokens",
        {"labels": {"site": "lyon"}, "uses": 3, "ttl_s": 86400},
        TOKEN,
    ),
    (
        ["token", "create", "--serial", "S-7", "--name", "cam-1", "--needs-approval"],
        "POST",
        "/tokens",
        {"labels": {}, "uses": 1, "ttl_s": 86400, "needs_approval": True, "serial": "S-7", "name": "cam-1"},
        TOKEN,
    ),
    (
        ["rollout", "create", "digits", "2", "--group", "all", "--stages", "17,50,100", "--soak", "4"],
        "POST",
        "/rollouts",
        {
            "model": "digits",
            "version": 2,
            "group": "all",
            "stages": [17.0, 50.0, 100.0],
            "gate": {"success_share": 0.9, "failure_share": 0.1, "soak_s": 4.0, "silent_after_s": 3600.0},
        },
        rollout(),
    ),
]


@pytest.mark.parametrize(("arguments", "path", "document"), READS)
def test_json_output_is_the_document_of_the_api(
    controller: FakeController, capsys: pytest.CaptureFixture[str], arguments: list[str], path: str, document: Any
) -> None:
    controller.answer("GET", path, document)
    assert run([*arguments, "-o", "json"]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out) == document


@pytest.mark.parametrize(("arguments", "path", "document"), READS)
def test_a_table_shows_the_facts_and_no_control_characters(
    controller: FakeController, capsys: pytest.CaptureFixture[str], arguments: list[str], path: str, document: Any
) -> None:
    controller.answer("GET", path, document)
    assert run(arguments) == ExitCode.OK
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert any(word in shown for word in ("digits", "lyon", "to_1"))


def test_a_device_that_has_reported_nothing_yet_is_told_with_its_last_poll(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    document = {
        "device": "dv_1",
        "state": "approved",
        "suspicion": None,
        "last_seen": (datetime.now(UTC) - timedelta(minutes=4)).isoformat(),
        "models": {"digits": ["pin pi_1"]},
        "slots": {"digits": {"target": "dev/digits/1/int8/manifest.json", "reason": "pin pi_1"}},
        "observed": [],
        "refused": [],
    }
    controller.answer("GET", "/devices/camera-1/explanation", document)
    assert run(["device", "explain", "camera-1"]) == ExitCode.OK
    shown = capsys.readouterr().out
    assert "it has reported nothing of it yet" in shown
    assert "It last polled 4m ago." in shown


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"state": "pending"}, ["This device is pending: it is given nothing"]),
        ({"suspicion": "two machines seem to have its key"}, ["Its reports are refused: two machines", "Revoke it"]),
    ],
    ids=["pending", "suspected"],
)
def test_a_device_that_a_person_must_decide_about_is_explained(
    controller: FakeController, capsys: pytest.CaptureFixture[str], facts: dict[str, Any], words: list[str]
) -> None:
    document = {"device": "dv_1", "state": "approved", "suspicion": None, "last_seen": None, "models": {}}
    document |= {"slots": {}, "observed": [], "refused": [], **facts}
    controller.answer("GET", "/devices/camera-1/explanation", document)
    assert run(["device", "explain", "camera-1"]) == ExitCode.OK
    shown = capsys.readouterr().out
    assert all(word in shown for word in words)


@pytest.mark.parametrize("verb", ["approve", "revoke", "clear-suspicion"])
def test_a_decision_about_a_device_is_sent_and_its_outcome_shown(
    controller: FakeController, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    controller.answer("POST", f"/devices/camera-1:{verb}", DEVICE)
    assert run(["device", verb, "camera-1"]) == ExitCode.OK
    assert "camera-1" in capsys.readouterr().out


def test_a_suspected_device_shows_in_the_list(controller: FakeController, capsys: pytest.CaptureFixture[str]) -> None:
    suspected = {**DEVICE, "suspicion": "two machines seem to have its key"}
    controller.answer("GET", "/devices", {"items": [suspected], "next_page_token": None})
    assert run(["device", "list"]) == ExitCode.OK
    assert "suspected" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "method", "path", "body", "document"), WRITES)
def test_a_write_sends_what_was_asked_for(
    controller: FakeController, arguments: list[str], method: str, path: str, body: Any, document: Any
) -> None:
    controller.answer(method, path, document)
    assert run(arguments) == ExitCode.OK
    assert controller.received[-1].json == body


@pytest.mark.parametrize("noun", ["model", "device", "group", "pin", "rollout", "token"])
def test_an_empty_list_says_what_to_do_next_and_leaves_stdout_empty(
    controller: FakeController, capsys: pytest.CaptureFixture[str], noun: str
) -> None:
    controller.answer("GET", f"/{noun}s", {"items": []})
    assert run([noun, "list"]) == ExitCode.OK
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "edgefleet" in captured.err


def test_a_list_is_gathered_from_all_its_pages(controller: FakeController, capsys: pytest.CaptureFixture[str]) -> None:
    controller.answer("GET", "/devices", {"items": [DEVICE], "next_page_token": "more"})
    controller.answer("GET", "/devices", {"items": [{**DEVICE, "name": "camera-2"}], "next_page_token": None})
    assert run(["device", "list", "-o", "json"]) == ExitCode.OK
    names = [item["name"] for item in json.loads(capsys.readouterr().out)["items"]]
    assert names == ["camera-1", "camera-2"]
    assert controller.received[1].query["page_token"] == "more"


def test_a_name_with_a_slash_stays_one_segment_of_the_path(controller: FakeController) -> None:
    assert run(["model", "get", "../devices"]) == ExitCode.NOT_FOUND
    assert controller.received[-1].path == "/api/v1/models/..%2Fdevices"


def test_a_group_needs_one_rule_and_only_one(controller: FakeController, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["group", "create", "x"]) == ExitCode.USAGE
    assert run(["group", "create", "x", "--selector", "a=b", "--member", "c"]) == ExitCode.USAGE
    assert controller.received == []


def test_the_text_of_a_token_is_all_that_stdout_holds(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    controller.answer("POST", "/tokens", TOKEN, 201)
    assert run(["token", "create"]) == ExitCode.OK
    assert capsys.readouterr().out == "eft_a_b_c\n"


def test_a_label_without_a_value_is_refused_before_anything_is_sent(controller: FakeController) -> None:
    assert run(["token", "create", "--label", "lyon"]) == ExitCode.USAGE
    assert controller.received == []


def test_a_deleted_pin_leaves_stdout_empty(controller: FakeController, capsys: pytest.CaptureFixture[str]) -> None:
    controller.answer("DELETE", "/pins/pi_1", None, 204)
    assert run(["pin", "delete", "pi_1"]) == ExitCode.OK
    assert capsys.readouterr().out == ""


def test_a_released_rule_is_named_by_its_group_and_leaves_stdout_empty(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    controller.answer("DELETE", "/models/digits/variant-rules/int8", None, 204)
    assert run(["variant", "release", "digits", "int8", "--group", "lyon"]) == ExitCode.OK
    assert controller.received[-1].query == {"group": "lyon"}
    assert capsys.readouterr().out == ""


def test_a_model_without_rules_says_what_devices_get(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    controller.answer("GET", "/models/digits/variant-rules", {"items": []})
    assert run(["variant", "list", "digits"]) == ExitCode.OK
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "edgefleet variant pin digits" in captured.err


def test_a_rule_about_a_variant_that_no_version_has_is_noticed(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    controller.answer("PUT", "/models/digits/variant-rules/int9", {**RULE, "variant": "int9", "versions": 0})
    assert run(["variant", "forbid", "digits", "int9", "--group", "all"]) == ExitCode.OK
    assert "no version of digits has a variant int9 yet" in capsys.readouterr().err
