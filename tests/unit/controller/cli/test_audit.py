import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from controller.cli.errors import ExitCode
from controller.cli.main import run
from controller.domain.audit_chain import GENESIS, AuditEntry, entry_hash
from tests.support.fake_controller import FakeController

Document = dict[str, Any]


def a_log(count: int, actor: str = "alice") -> list[Document]:
    documents: list[Document] = []
    for seq in range(1, count + 1):
        previous = documents[-1]["sha256"] if documents else GENESIS
        at = datetime(2026, 5, 4, 12, 0, seq, 1, tzinfo=UTC)
        entry = AuditEntry(seq, at, actor, "pin.set", f"pi_{seq}", {"model": "digits"}, previous)
        documents.append({**vars(entry), "at": at.isoformat().replace("+00:00", "Z"), "sha256": entry_hash(entry)})
    return documents


def anchor(entry: Document) -> Document:
    return {"seq": entry["seq"], "sha256": entry["sha256"]}


def served(controller: FakeController, log: list[Document], *anchors: Document, state: str = "unbroken") -> None:
    told: Document = {"state": state, "anchors": list(anchors)}
    if state == "broken":
        told["break"] = {"seq": 9, "reason": "the log ends at entry 8, but its head says 9"}
    controller.answer("GET", "/audit/verification", told)
    half = len(log) // 2
    controller.answer("GET", "/audit", {"items": log[:half], "next_after": half})
    controller.answer("GET", "/audit", {"items": log[half:], "next_after": None})


def test_the_chain_is_computed_here_from_all_pages(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    log = a_log(5)
    served(controller, log, anchor(log[2]))
    assert run(["audit", "verify"]) == ExitCode.OK
    assert capsys.readouterr().out == f"unbroken: 5 entries, anchored up to entry 3, head {log[4]['sha256']}\n"
    assert [asked.query.get("after") for asked in controller.received[1:]] == ["0", "2"]


def test_a_controller_that_lies_about_a_changed_entry_is_found_out(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    log = a_log(5)
    log[3]["actor"] = "bob"
    served(controller, log)
    assert run(["audit", "verify"]) == ExitCode.NOT_COMPLETED
    assert capsys.readouterr().out == "broken at entry 4: entry 4 was changed after it was written\n"


def test_entries_behind_an_anchor_are_missed(controller: FakeController, capsys: pytest.CaptureFixture[str]) -> None:
    log = a_log(5)
    served(controller, log[:3], anchor(log[4]))
    assert run(["audit", "verify", "-o", "json"]) == ExitCode.NOT_COMPLETED
    found = json.loads(capsys.readouterr().out)
    assert (found["state"], found["seq"]) == ("broken", 4)
    assert "entries 4 to 5 are missing" in found["reason"]


def test_what_only_the_controller_can_see_is_told_as_well(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    served(controller, a_log(8), state="broken")
    assert run(["audit", "verify"]) == ExitCode.NOT_COMPLETED
    assert "its head says 9" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("actor", "code", "told"),
    [
        ("alice", ExitCode.OK, "unbroken: 6 entries, anchored up to entry 4"),
        ("mallory", ExitCode.NOT_COMPLETED, "broken at entry 4"),
    ],
)
def test_an_export_kept_elsewhere_proves_whether_the_log_was_written_anew(
    controller: FakeController,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    actor: str,
    code: ExitCode,
    told: str,
) -> None:
    kept = tmp_path / "audit.jsonl"
    kept.write_text("".join(json.dumps(entry) + "\n" for entry in a_log(4)))
    served(controller, a_log(6, actor))
    assert run(["audit", "verify", str(kept)]) == code
    assert told in capsys.readouterr().out


def test_an_export_is_written_to_the_file_that_is_named(controller: FakeController, tmp_path: Path) -> None:
    log, kept = a_log(2), tmp_path / "audit.jsonl"
    controller.answer("GET", "/audit", {"items": log, "next_after": None})
    assert run(["audit", "export", str(kept)]) == ExitCode.OK
    assert [json.loads(line) for line in kept.read_text().splitlines()] == log
    assert run(["audit", "export", str(tmp_path / "none" / "audit.jsonl")]) == ExitCode.ERROR


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("no json", ExitCode.INVALID),
        ('{"seq": 1}', ExitCode.INVALID),
        ("[]", ExitCode.INVALID),
        (json.dumps({**a_log(1)[0], "actor": "bob"}), ExitCode.NOT_COMPLETED),
    ],
)
def test_a_file_that_is_no_export_or_does_not_hold_is_refused(
    controller: FakeController, tmp_path: Path, content: str, code: ExitCode
) -> None:
    kept = tmp_path / "audit.jsonl"
    kept.write_text(content)
    assert run(["audit", "verify", str(kept)]) == code
    assert not controller.received
    assert run(["audit", "verify", str(tmp_path / "none")]) == ExitCode.ERROR


def test_an_export_is_a_line_of_json_for_each_entry(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    log = a_log(2)
    controller.answer("GET", "/audit", {"items": log, "next_after": None})
    assert run(["audit", "export"]) == ExitCode.OK
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == log


def test_the_newest_entries_are_listed_with_who_did_what(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    controller.answer("GET", "/audit", {"items": a_log(1), "next_after": None})
    assert run(["audit", "list", "-n", "20"]) == ExitCode.OK
    assert controller.received[-1].query == {"last": "20", "page_size": "20"}
    shown = capsys.readouterr().out
    assert "alice" in shown
    assert "model=digits" in shown
