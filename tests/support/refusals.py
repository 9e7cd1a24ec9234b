"""What a refusal must say, over HTTP and by the command, and that it leaves no trace."""

import sqlite3
from dataclasses import dataclass
from typing import Any

import httpx

from controller.cli.errors import ExitCode
from tests.support.installation import Installation

UNRELATED = {"change_counter", "change_log", "device_seen", "lease"}
"""Tables that are written whether or not somebody asks for anything."""


def traces(installation: Installation) -> dict[str, Any]:
    """Return what a request to an embedded controller could leave: every row of every table, every artifact file."""
    database = sqlite3.connect(installation.state_dir / "controller.db")
    names = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    rows: dict[str, Any] = {name: database.execute(f"SELECT * FROM {name}").fetchall() for name in names - UNRELATED}
    database.close()
    artifacts = (installation.state_dir / "artifacts").rglob("*")
    rows["files"] = sorted(path for path in artifacts if path.is_file())
    return rows


@dataclass
class Refusal:
    """What a refusal must say."""

    status: int
    code: str
    words: tuple[str, ...]
    pointer: str | None = None

    def check(self, answer: httpx.Response) -> None:
        """Compare it with a problem document."""
        assert answer.headers["content-type"] == "application/problem+json", answer.text
        problem = answer.json()
        assert (answer.status_code, problem["status"], problem["code"]) == (self.status, self.status, self.code), (
            problem
        )
        for words in self.words:
            assert words in problem["detail"]
        assert [error["pointer"] for error in problem["errors"]] == ([self.pointer] if self.pointer else [])
        assert problem["request_id"] == answer.headers["x-request-id"]

    def check_command(self, ended: tuple[int, str]) -> None:
        """Compare it with how a command ended."""
        exit_code, said = ended
        assert exit_code == {409: ExitCode.CONFLICT, 507: ExitCode.ERROR}.get(self.status, ExitCode.INVALID)
        for words in (f"edgefleet: {self.code}: ", *self.words):
            assert words in said
