"""Bad input as an operator would hand it in, over HTTP and by the command: refused with a way out, without a trace."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from controller.cli.main import run
from tests.support import bad_uploads
from tests.support.agents import AgentProcess, Reached
from tests.support.installation import Installation, add_version, an_installation, wait_for_variants
from tests.support.machines import Machine
from tests.support.onnx_models import golden_rows, linear_model
from tests.support.refusals import Refusal, traces
from tests.support.waiting import wait_until

UPLOAD_BYTES_MAX = 100_000
ROWS = bad_uploads.ROWS


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A controller with a device, two versions of `digits`, and a rollout that waits for the device."""
    folder = tmp_path_factory.mktemp("bad-input")
    with (
        an_installation(folder, EDGEFLEET_ARTIFACT_BYTES_MAX=str(UPLOAD_BYTES_MAX)) as running,
        running.client() as client,
        httpx.Client(base_url=running.url) as http,
    ):
        assert Machine(http, "camera").enrol(running.token()).status_code == 201
        client.post("/models", {"name": "digits"})
        linear_model(folder / "model.onnx")
        version = add_version(client, "digits", folder / "model.onnx", recipes=["fp32"])
        assert wait_for_variants(client, version)["state"] == "ready"
        client.post("/groups", {"name": "lyon", "selector": "site=lyon"})
        rollout = client.post("/rollouts", {"model": "digits", "version": 1, "stages": [100]})
        wait_until(
            lambda: "waits:" in client.get(f"/rollouts/{rollout['id']}")["explanation"], what="the rollout to settle"
        )
        yield running


@pytest.fixture
def http(installation: Installation) -> Iterator[httpx.Client]:
    """The REST API with the operator's token."""
    headers = {"Authorization": f"Bearer {installation.operator_token}"}
    with httpx.Client(base_url=f"{installation.url}/api/v1", headers=headers, timeout=60) as client:
        yield client


@pytest.fixture
def command(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """The command line: runs `edgefleet ARGUMENTS` and returns its exit code and what it said on stderr."""
    monkeypatch.setenv("EDGEFLEET_SERVER", installation.url)
    monkeypatch.setenv("EDGEFLEET_TOKEN", installation.operator_token)

    def run_command(*arguments: str) -> tuple[int, str]:
        code = run(arguments)
        return code, capsys.readouterr().err

    return run_command


@dataclass
class BadUpload:
    """A model, with evaluation data where they are what is bad."""

    model: Callable[[Path], None]
    refusal: Refusal
    evaluation: dict[str, Any] = field(default_factory=dict)


def bad_model(make: Callable[[Path], None], code: str, *words: str) -> BadUpload:
    return BadUpload(make, Refusal(422, code, words, "/artifact_sha256"))


def bad_evaluation(code: str, *words: str, **arrays: Any) -> BadUpload:
    return BadUpload(linear_model, Refusal(422, code, words, "/evaluation_sha256"), arrays)


BAD_UPLOADS = {
    "not ONNX": bad_model(bad_uploads.text, "not_onnx", "b'epoch,lo'", "export the model again"),
    "truncated": bad_model(bad_uploads.truncated, "truncated_onnx", "cut off after 102 bytes", "upload it again"),
    "reaching outside": bad_model(
        bad_uploads.reaching_outside, "external_data", "'../../operator.token'", "save the model as one file"
    ),
    "unknown operator": bad_model(bad_uploads.of_unknown_operator, "unknown_operator", "Frobnicate"),
    "functions that unfold without end": bad_model(
        bad_uploads.unfolding_without_end, "too_many_parts", "more than 10^12 nodes", "split it"
    ),
    "future opset": bad_model(bad_uploads.of_future_opset, "unsupported_opset", "export for an older"),
    "rows of the wrong width": bad_evaluation(
        "evaluation_shape", f"[{ROWS}, 5]", "the model takes ['rows', 4]", inputs=golden_rows(ROWS, 5)
    ),
    "rows without labels": bad_evaluation("evaluation_shape", f"{ROWS - 1} rows", inputs=golden_rows(ROWS - 1)),
    "wrong dtype": bad_evaluation(
        "evaluation_dtype", "float64", ".astype('float32')", inputs=golden_rows(ROWS).astype(np.float64)
    ),
    "label out of range": bad_evaluation("evaluation_labels", "a label is 3", "0 to 2", labels=np.full(ROWS, 3)),
}


@pytest.mark.parametrize("bad", BAD_UPLOADS.values(), ids=BAD_UPLOADS)
def test_a_version_that_cannot_be_used_is_refused_and_takes_no_number(
    bad: BadUpload,
    installation: Installation,
    http: httpx.Client,
    command: Callable[..., tuple[int, str]],
    tmp_path: Path,
) -> None:
    model, evaluation = tmp_path / "model.onnx", tmp_path / "evaluation.npz"
    bad.model(model)
    body = {"artifact_sha256": uploaded(http, model), "recipes": ["fp32"]}
    arguments = [str(model)]
    if bad.evaluation:
        bad_uploads.evaluation_with(evaluation, **bad.evaluation)
        body["evaluation_sha256"] = uploaded(http, evaluation)
        arguments += ["--evaluation", str(evaluation)]
    before = traces(installation)
    bad.refusal.check(http.post("/models/digits/versions", json=body))
    bad.refusal.check_command(command("version", "upload", "digits", *arguments))
    assert traces(installation) == before


def uploaded(http: httpx.Client, file: Path) -> str:
    return str(http.post("/uploads", content=file.read_bytes()).raise_for_status().json()["sha256"])


@dataclass
class BadRequest:
    """A document that does not fit what is there, and the command that sends the same."""

    path: str
    body: dict[str, Any]
    command: str
    refusal: Refusal


def bad_rollout(refusal: Refusal, stages: str = "100", group: str = "all") -> BadRequest:
    shares = [float(share) for share in stages.split(",")]
    body = {"model": "digits", "version": 1, "group": group, "stages": shares}
    return BadRequest("/rollouts", body, f"rollout create digits 1 --group {group} --stages {stages}", refusal)


BAD_REQUESTS = {
    "model name taken": BadRequest(
        "/models",
        {"name": "digits"},
        "model create digits",
        Refusal(409, "model_name_taken", ("'digits'", "upload a version to it")),
    ),
    "stages that go down": bad_rollout(
        Refusal(422, "invalid_input", ("stages are 50, 20, 100", "each must be above the last"), "/stages"), "50,20,100"
    ),
    "stages that end early": bad_rollout(
        Refusal(422, "invalid_input", ("stages are 10, 50", "the last must be 100"), "/stages"), "10,50"
    ),
    "group that matches nothing": bad_rollout(
        Refusal(422, "group_matches_nothing", ("group lyon", "edgefleet device list"), "/group"), group="lyon"
    ),
    "second rollout of the same devices": bad_rollout(
        Refusal(409, "rollout_overlaps", ("is running", "wait for its end or abort it"))
    ),
}


@pytest.mark.parametrize("bad", BAD_REQUESTS.values(), ids=BAD_REQUESTS)
def test_a_request_that_does_not_fit_changes_nothing(
    bad: BadRequest, installation: Installation, http: httpx.Client, command: Callable[..., tuple[int, str]]
) -> None:
    before = traces(installation)
    bad.refusal.check(http.post(bad.path, json=bad.body))
    bad.refusal.check_command(command(*bad.command.split()))
    assert traces(installation) == before


@pytest.mark.parametrize("is_announced", [True, False], ids=["announced", "streamed"])
def test_an_upload_over_the_limit_is_refused_before_it_fills_the_disk(
    installation: Installation,
    http: httpx.Client,
    command: Callable[..., tuple[int, str]],
    tmp_path: Path,
    is_announced: bool,
) -> None:
    refusal = Refusal(413, "too_large", (f"more than {UPLOAD_BYTES_MAX} bytes", "artifact_bytes_max"))
    content = bytes(UPLOAD_BYTES_MAX + 1)
    large = tmp_path / "large.onnx"
    large.write_bytes(content)
    before = traces(installation)
    refusal.check(
        http.post("/uploads", content=content if is_announced else iter([content[:50_000], content[50_000:]]))
    )
    refusal.check_command(command("version", "upload", "digits", str(large)))
    assert traces(installation) == before


def test_an_upload_that_would_fill_the_disk_is_refused_and_leaves_nothing(
    command: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    refusal = Refusal(507, "disk_full", ("bytes are free", "free some space"))
    linear_model(tmp_path / "model.onnx")
    with an_installation(tmp_path, EDGEFLEET_DISK_RESERVE_BYTES=str(2**60)) as full, full.client() as client:
        client.post("/models", {"name": "digits"})
        before = traces(full)
        headers = {"Authorization": f"Bearer {full.operator_token}"}
        refusal.check(httpx.post(f"{full.url}/api/v1/uploads", headers=headers, content=b"some bytes"))
        monkeypatch.setenv("EDGEFLEET_SERVER", full.url)
        monkeypatch.setenv("EDGEFLEET_TOKEN", full.operator_token)
        refusal.check_command(command("version", "upload", "digits", str(tmp_path / "model.onnx")))
        assert traces(full) == before


def test_an_enrolment_token_serves_one_machine(installation: Installation, tmp_path: Path) -> None:
    token = installation.token()
    with httpx.Client(base_url=installation.url) as http:
        assert Machine(http, "first").enrol(token).status_code == 201
        before = traces(installation)
        again = Machine(http, "second").enrol(token)
    Refusal(401, "E_ENROL_TOKEN", ("is used up", "ask for a new one"), "/token").check(again)
    agent = AgentProcess(Reached(installation.url, lambda: token), tmp_path, name="third")
    agent.start()
    assert agent.process
    assert agent.process.wait(60) == 2
    assert "is used up" in agent.log.read_text()
    assert traces(installation) == before
