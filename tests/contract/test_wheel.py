"""What is shipped: one wheel with both programs, the scripts of the database, and no tests."""

import configparser
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def build_command(target: Path) -> list[str | Path]:
    """The two ways in which `./run` can have made the environment can also build."""
    own = ROOT / ".tools" / "bin" / "uv"
    uv = shutil.which("uv") or (own if own.exists() else None)
    if uv:
        return [uv, "build", "--wheel", "--quiet", "--out-dir", target, ROOT]
    return [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir", target, ROOT]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built once."""
    target = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(build_command(target), capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (file,) = target.glob("*.whl")
    return zipfile.ZipFile(file)


def test_every_source_file_of_the_packages_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    packages = ("controller", "device_agent", "migrations")
    expected = {
        str(file.relative_to(ROOT))
        for package in packages
        for file in (ROOT / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert expected - set(wheel.namelist()) == set()


def test_nothing_but_the_packages_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"controller", "device_agent", "migrations"}


def test_the_wheel_carries_the_licence_and_both_programs(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
    parser = configparser.ConfigParser()
    parser.read_string(wheel.read(entry_points).decode())
    assert set(parser["console_scripts"]) == {"edgefleet", "edgefleet-agent"}
