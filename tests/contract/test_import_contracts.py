"""The layers of ARCHITECTURE hold, and the linter that says so would notice if they did not."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

VIOLATIONS = {
    "controller/domain/clock.py": ("import time\n", "What decides is pure"),
    "controller/store/keys.py": ("import controller.trust\n", "Controller layers point inwards"),
    "controller/use_cases/reply.py": ("import controller.api\n", "Controller layers point inwards"),
    "controller/utilities.py": ("", "Controller layers point inwards"),
    "device_agent/query.py": ("import sqlalchemy\n", "The agent knows nothing of the controller"),
    "device_agent/peek.py": ("import controller.domain\n", "The agent knows nothing of the controller"),
    "controller/artifacts/run.py": ("import device_agent.lifecycle\n", "Of the agent, the controller imports"),
}
"""What somebody might add, and the contract that must break."""


def lint_imports(project: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run([program, "--no-cache"], cwd=project, capture_output=True, text=True, env={"PYTHONPATH": "."})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the sources and of the contracts."""
    for name in ("controller", "device_agent"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_sources_keep_every_import_contract(project: Path) -> None:
    checked = lint_imports(project)
    assert checked.returncode == 0, checked.stdout


def test_each_kind_of_forbidden_import_is_noticed(project: Path) -> None:
    for file, (statement, _) in VIOLATIONS.items():
        (project / file).write_text(f'"""Seeded."""\n\n{statement}')

    checked = lint_imports(project)

    assert checked.returncode != 0
    broken = [line for line in checked.stdout.splitlines() if line.rstrip().endswith("BROKEN")]
    expected = {contract for _, contract in VIOLATIONS.values()}
    assert {contract for contract in expected if any(contract in line for line in broken)} == expected
    for file in VIOLATIONS:
        assert file.removesuffix(".py").replace("/", ".") in checked.stdout, f"{file} was not noticed"


def test_no_contract_ignores_imports() -> None:
    """An exception would be invisible: whoever needs one changes the contract itself."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert [contract["name"] for contract in contracts if "ignore_imports" in contract] == []
