"""House rules that no linter knows: sizes, names, docstrings, and nothing of the machine it was written on."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("controller", "device_agent", "migrations", "ops", "tests")
DOCUMENTS = ("docs", ".ci", *PACKAGES)

FILE_LINES_MAX = 400
TEST_FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 60

BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "misc", "manager", "service", "models"}
"""Names that say nothing: a room needs a name on its door. And `model` here is a machine-learning model."""

FOREIGN = [
    # In two pieces, so that this file does not find itself.
    "/" + path
    for path in ("work/", "root/", "home/", "Users/", "opt/pypi", "opt/wheels")
] + [host + ".org" for host in ("pypi", "pythonhosted", "registry.npmjs")]
"""Folders of somebody's machine, and hosts of package registries, which everybody's own configuration names."""


def sources() -> list[Path]:
    return sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))


def texts() -> Iterator[tuple[Path, str]]:
    """Every text file that is written by hand."""
    folders = [file for folder in DOCUMENTS for file in (ROOT / folder).rglob("*")]
    files = [file for file in (*folders, *ROOT.iterdir()) if file.is_file() and "__pycache__" not in file.parts]
    for file in files:
        try:
            yield file.relative_to(ROOT), file.read_text()
        except UnicodeDecodeError:
            continue


def test_every_module_begins_with_a_docstring() -> None:
    """A file of tests is the exception, its name says it all; and so is an empty file."""
    without = [
        str(file.relative_to(ROOT))
        for file in sources()
        for tree in [ast.parse(file.read_text())]
        if tree.body and ast.get_docstring(tree) is None and not file.name.startswith("test_")
    ]
    assert without == []


def test_no_file_is_too_long_to_be_read_in_one_go() -> None:
    too_long = {
        str(file.relative_to(ROOT)): lines
        for file in sources()
        for lines in [len(file.read_text().splitlines())]
        if lines > (TEST_FILE_LINES_MAX if ROOT / "tests" in file.parents else FILE_LINES_MAX)
    }
    assert too_long == {}


def test_no_function_is_too_long_to_be_seen_at_once() -> None:
    too_long = {
        f"{file.relative_to(ROOT)}: {node.name}": lines
        for file in sources()
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for lines in [(node.end_lineno or node.lineno) - node.lineno + 1]
        if lines > FUNCTION_LINES_MAX
    }
    assert too_long == {}


def test_every_module_has_a_name_that_says_what_is_inside() -> None:
    named = [file for file in sources() if BANNED_NAMES & {file.stem, *file.relative_to(ROOT).parts}]
    assert named == []


@pytest.mark.parametrize("foreign", FOREIGN)
def test_no_file_names_a_machine_or_a_registry(foreign: str) -> None:
    assert [str(file) for file, text in texts() if foreign in text] == []


def test_every_test_lies_in_the_folder_of_its_kind() -> None:
    from tests.conftest import KINDS

    stray = [file for file in (ROOT / "tests").rglob("test_*.py") if file.relative_to(ROOT).parts[1] not in KINDS]
    assert stray == []


def test_no_test_is_skipped_or_mocked() -> None:
    """A test that does not run, or runs against a pretence, is worse than none: it is believed."""
    forbidden = ["pytest." + "skip", "mark." + "skip", "mark." + "xfail", "unittest." + "mock", "import" + "orskip"]
    found = [
        (str(file.relative_to(ROOT)), word)
        for file in sources()
        for word in forbidden
        if ROOT / "tests" in file.parents and word in file.read_text()
    ]
    assert found == []
