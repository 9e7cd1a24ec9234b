import io
import sys

import httpx
import pytest

from controller.cli.client import Client


class _Screen(io.StringIO):
    """A standard error that somebody looks at, or not."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


def _told(monkeypatch: pytest.MonkeyPatch, custody: str | None, *, is_terminal: bool) -> str:
    headers = {"Edgefleet-Custody": custody} if custody else {}
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, json={}, headers=headers))
    screen = _Screen(is_terminal=is_terminal)
    monkeypatch.setattr(sys, "stderr", screen)
    with Client("http://controller.test", "flt_token", transport=transport) as client:
        client.get("/overview")
        client.get("/trust")
    return screen.getvalue()


def test_a_command_against_a_single_operator_says_so_once_to_people(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _told(monkeypatch, "single-operator", is_terminal=True).count("single-operator installation") == 1


def test_scripts_and_other_installations_are_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _told(monkeypatch, "single-operator", is_terminal=False) == ""
    assert _told(monkeypatch, None, is_terminal=True) == ""
