import json
from pathlib import Path
from typing import Any

import pytest

from controller.cli.errors import ExitCode
from controller.cli.main import run
from controller.store.views.report import report_of
from tests.support.compressed_versions import variant_rows, version_document
from tests.support.fake_controller import FakeController

REPORT = "/models/digits/versions/1/report"
SEARCH = {"state": "done", "explanation": "structured-int8: smallest of 3"}


@pytest.fixture
def found(controller: FakeController) -> dict[str, Any]:
    document = report_of(version_document(variant_rows()), []) | {"searches": [SEARCH]}
    controller.answer("GET", "/models/digits", {"name": "digits", "newest_version": 1})
    controller.answer("GET", REPORT, document)
    return document


@pytest.mark.usefixtures("found")
def test_the_newest_version_is_reported_as_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", "digits"]) == ExitCode.OK
    shown = capsys.readouterr().out
    for told in ("6.0 kB 4.33x", "+0.50 points (-0.50 to 1.50)", "0.080 ms", "750.0 kB"):
        assert told in shown, told
    (step,) = (line.split() for line in shown.splitlines() if " quantize_dynamic " in line and "4.2 s" in line)
    assert step[:6] == ["structured-int8", "quantize_dynamic", "12.0", "kB", "6.0", "kB"]
    assert "queued (quantize_dynamic 50 %)" in shown
    assert "the child was killed after 60 s" in shown
    assert "search done: structured-int8: smallest of 3" in shown
    assert "LAYER" not in shown


@pytest.mark.usefixtures("found")
def test_layers_and_another_class_are_shown_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", "digits", "1", "--layers", "--profile", "camera"]) == ExitCode.OK
    shown = capsys.readouterr().out
    assert "0.090 ms" in shown
    assert "0.080 ms" not in shown
    (row,) = (line.split() for line in shown.splitlines() if " w1 " in line)
    assert row == ["structured-int8", "w1", "MatMul", "64x64", "8", "50.0", "%", "0.0097"]


def test_scripts_get_the_report_as_the_api_gives_it(found: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", "digits", "1", "-o", "json"]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out) == found


@pytest.mark.parametrize(("name", "kind"), [("kept.html", "html"), ("kept.JSON", "json")])
def test_a_file_is_written_in_the_form_that_its_name_says(
    controller: FakeController, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, kind: str
) -> None:
    controller.answer("GET", REPORT, {"model": "digits"})
    assert run(["report", "digits", "1", "--out", str(tmp_path / name)]) == ExitCode.OK
    assert (tmp_path / name).read_text() == '{"model": "digits"}'
    assert controller.received[-1].query == {"format": kind}
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"wrote {tmp_path / name}, 19 bytes")


def test_a_file_of_another_kind_is_refused_before_anything_is_asked(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", "digits", "--out", "kept.pdf"]) == ExitCode.USAGE
    assert "end it with .html or .json" in capsys.readouterr().err
    assert controller.received == []


def test_a_version_that_is_not_there_leaves_no_file(controller: FakeController, tmp_path: Path) -> None:
    controller.refuse("GET", REPORT, 404, "version_unknown", "the model digits has no version 1")
    assert run(["report", "digits", "1", "--out", str(tmp_path / "kept.html")]) == ExitCode.NOT_FOUND
    assert not (tmp_path / "kept.html").exists()


def test_a_file_that_cannot_be_written_is_named(
    controller: FakeController, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    controller.answer("GET", REPORT, {})
    assert run(["report", "digits", "1", "--out", str(tmp_path / "no" / "kept.html")]) == ExitCode.ERROR
    assert "kept.html cannot be written" in capsys.readouterr().err


def test_a_model_without_versions_says_how_to_get_one(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    controller.answer("GET", "/models/digits", {"name": "digits", "newest_version": None})
    assert run(["report", "digits"]) == ExitCode.NOT_FOUND
    assert "edgefleet version upload digits FILE" in capsys.readouterr().err
