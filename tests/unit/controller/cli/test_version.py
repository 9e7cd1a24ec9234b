import json
from pathlib import Path

import pytest

from controller.cli.errors import ExitCode
from controller.cli.main import run
from tests.support.fake_controller import FakeController
from tests.unit.controller.cli.documents import version

STORED = {"sha256": "a" * 64, "size_bytes": 3}
VERSIONS = "/models/digits/versions"


@pytest.fixture
def network(tmp_path: Path) -> Path:
    file = tmp_path / "digits.onnx"
    file.write_bytes(b"\x00" * 700_000)
    return file


def test_an_upload_streams_the_bytes_and_then_names_them_by_digest(controller: FakeController, network: Path) -> None:
    controller.answer("POST", "/uploads", STORED, 201)
    controller.answer("POST", VERSIONS, version("processing"), 201)
    assert run(["version", "upload", "digits", str(network), "--notes", "better"]) == ExitCode.OK
    upload, created = controller.received
    assert upload.body == network.read_bytes()
    assert upload.headers["content-type"] == "application/octet-stream"
    assert "transfer-encoding" not in upload.headers
    assert created.json == {
        "artifact_sha256": "a" * 64,
        "format": "onnx",
        "notes": "better",
    }


def test_evaluation_data_is_uploaded_beside_the_network(
    controller: FakeController, network: Path, tmp_path: Path
) -> None:
    evaluation = tmp_path / "proof.npz"
    evaluation.write_bytes(b"proof")
    controller.answer("POST", "/uploads", STORED, 201)
    controller.answer("POST", "/uploads", {"sha256": "b" * 64, "size_bytes": 5}, 201)
    controller.answer("POST", VERSIONS, version(), 201)
    assert run(["version", "upload", "digits", str(network), "--evaluation", str(evaluation)]) == ExitCode.OK
    assert controller.received[-1].json["evaluation_sha256"] == "b" * 64


def test_a_file_that_is_not_onnx_by_name_is_delivered_as_it_is(controller: FakeController, tmp_path: Path) -> None:
    (tmp_path / "engine.bin").write_bytes(b"engine")
    controller.answer("POST", "/uploads", STORED, 201)
    controller.answer("POST", VERSIONS, version(), 201)
    assert run(["version", "upload", "digits", "engine.bin"]) == ExitCode.OK
    assert controller.received[-1].json["format"] == "opaque"


def test_a_file_that_is_not_there_is_a_wrong_call(controller: FakeController) -> None:
    with pytest.raises(SystemExit) as ended:
        run(["version", "upload", "digits", "nowhere.onnx"])
    assert ended.value.code == ExitCode.USAGE


def test_waiting_ends_with_the_last_variant(
    controller: FakeController, network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    controller.answer("POST", "/uploads", STORED, 201)
    controller.answer("POST", VERSIONS, version("processing"), 201)
    controller.answer("GET", f"{VERSIONS}/2", version("processing"))
    controller.answer("GET", f"{VERSIONS}/2", version("ready"))
    assert run(["version", "upload", "digits", str(network), "--wait", "-o", "json"]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["state"] == "ready"


def test_waiting_for_a_version_that_fails_has_an_exit_code_of_its_own(
    controller: FakeController, network: Path
) -> None:
    controller.answer("POST", "/uploads", STORED, 201)
    controller.answer("POST", VERSIONS, version("failed"), 201)
    assert run(["version", "upload", "digits", str(network), "--wait"]) == ExitCode.NOT_COMPLETED


def test_waiting_too_long_says_how_to_look_again(
    controller: FakeController, network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    controller.answer("POST", "/uploads", STORED, 201)
    controller.answer("POST", VERSIONS, version("processing"), 201)
    controller.answer("GET", f"{VERSIONS}/2", version("processing"))
    arguments = ["version", "upload", "digits", str(network), "--wait", "--timeout", "0"]
    assert run(arguments) == ExitCode.STILL_RUNNING
    assert "edgefleet version get digits 2" in capsys.readouterr().err


def test_the_newest_version_is_shown_when_no_number_is_given(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    controller.answer("GET", VERSIONS, {"items": [version(), version(number=1)]})
    controller.answer("GET", f"{VERSIONS}/2", version())
    assert run(["version", "get", "digits"]) == ExitCode.OK
    shown = capsys.readouterr().out
    assert "177.3 kB" in shown
    assert "98.25 %" in shown
    assert "+0.25 points" in shown


def test_a_model_without_versions_has_no_newest(controller: FakeController) -> None:
    controller.answer("GET", VERSIONS, {"items": []})
    assert run(["version", "get", "digits"]) == ExitCode.NOT_FOUND


LINEAGE = f"{VERSIONS}/2/lineage"


def test_a_controller_that_shows_no_root_cannot_be_verified_without_one(
    controller: FakeController, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["version", "verify", "digits", "2"]) == ExitCode.ERROR
    assert "shows no root of trust" in capsys.readouterr().err
    assert controller.received[-1].path == "/tuf/metadata/1.root.json"


def test_a_root_that_is_none_verifies_nothing(
    controller: FakeController, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root.json"
    root.write_text("{}")
    controller.answer("GET", LINEAGE, {"model": "digits", "version": 2, "variants": []})
    assert run(["version", "verify", "digits", "2", "--root", str(root)]) == ExitCode.NOT_COMPLETED
    assert "E_METADATA[image]: the image repository cannot be believed" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["verify", "export"])
def test_what_needs_the_libraries_of_trust_is_loaded_when_it_is_called(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["version", command, "--help"]) == ExitCode.OK
    assert "--root" in capsys.readouterr().out
