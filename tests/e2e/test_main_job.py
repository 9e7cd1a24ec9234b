"""The main job in one story, on both wirings: upload, enrol, pin, roll out, and a bad version that reverts itself."""

import json
import sys
from pathlib import Path

import httpx
import numpy as np

from controller.cli.client import Client, Json
from tests.support.background_load import BackgroundLoad
from tests.support.installation import Installation, add_version, wait_for_end, wait_for_variants
from tests.support.onnx_models import linear_evaluation, linear_model, linear_weights
from tests.support.running_fleet import a_fleet
from tests.support.waiting import wait_until

PRECISIONS = {"camera-1": "int8", "camera-2": "int8", "gateway-1": "fp32", "gateway-2": "fp32"}
ROW = [1.0, -0.5, 2.0, 0.25]
BIAS_OF_VERSION = 10.0
"""Version n adds n times this to every score."""
GATE = {"success_share": 0.9, "failure_share": 0.1, "soak_s": 1.0, "silent_after_s": 60.0}

HEALTH_COMMAND = """
import json, os, sys, urllib.request
tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0, 0, 0, 0]}
url = f"{os.environ['EDGEFLEET_INFERENCE_URL']}/v2/models/{os.environ['EDGEFLEET_SLOT']}/infer"
with urllib.request.urlopen(url, json.dumps({"inputs": [tensor]}).encode()) as answer:
    score = json.load(answer)["outputs"][0]["data"][0]
sys.exit(f"score {score:g} is beyond what the sensor can mean" if score > 25 else 0)
"""
"""The operator's own check, which version 3 fails: an empty row must not score above 25."""


def test_a_version_reaches_the_fleet_in_stages_and_a_bad_one_is_stopped_and_reverted(
    installation: Installation, tmp_path: Path
) -> None:
    with installation.client() as client, a_fleet(installation, tmp_path, PRECISIONS, health(tmp_path)) as fleet:
        upload_three_versions(client, tmp_path)
        client.put("/pins", {"model": "digits", "version": 1, "group": "all", "soak_s": 0})
        fleet.wait_for_version("1")
        wait_until(lambda: variants_that_run(client) == PRECISIONS, what="every device to report its variant")

        with BackgroundLoad(fleet.urls(), ROW, expected_scores()) as load:
            good = roll_out(client, 2)
            assert (good["state"], good["counts"]["healthy"]) == ("succeeded", len(PRECISIONS)), good
            assert set(fleet.versions().values()) == {"2"}
            bad = roll_out(client, 3)
            assert set(fleet.versions().values()) == {"2"}
        assert (load.failed, load.wrong) == ([], [])
        assert load.answered.keys() == {"1", "2", "3"}

        check_the_bad_rollout(bad)
        check_what_people_are_told(installation, client, bad)


def health(folder: Path) -> str:
    program = folder / "health.py"
    program.write_text(HEALTH_COMMAND)
    # Without site packages Python starts in a fraction of the time.
    command = json.dumps([sys.executable, "-I", "-S", str(program)])
    return f"[health]\ncommand = {command}\ninterval_s = 0.5\n"


def upload_three_versions(client: Client, folder: Path) -> None:
    client.post("/models", {"name": "digits"})
    evaluation = folder / "evaluation.npz"
    linear_evaluation(evaluation)
    added = []
    for number in (1, 2, 3):
        file = folder / f"version-{number}.onnx"
        linear_model(file, bias=number * BIAS_OF_VERSION)
        added.append(add_version(client, "digits", file, evaluation))
    for version in added:
        variants = {variant["recipe"]: variant for variant in wait_for_variants(client, version)["variants"]}
        assert {recipe: variant["state"] for recipe, variant in variants.items()} == {
            "fp32": "published",
            "int8": "published",
        }
        assert all(variant["evaluation"]["value"] == 1.0 for variant in variants.values())


def expected_scores() -> dict[str, list[float]]:
    scores = np.array(ROW) @ linear_weights()
    return {str(number): (scores + number * BIAS_OF_VERSION).tolist() for number in (1, 2, 3)}


def variants_that_run(client: Client) -> dict[str, str]:
    devices = client.items("/devices")["items"]
    return {device["name"]: slot["variant"] for device in devices for slot in device["slots"]}


def roll_out(client: Client, version: int) -> Json:
    body = {"model": "digits", "version": version, "group": "all", "stages": [25, 100], "gate": GATE}
    return wait_for_end(client, client.post("/rollouts", body))


def check_the_bad_rollout(bad: Json) -> None:
    assert (bad["state"], bad["stage"], bad["not_back"]) == ("aborted", 1, 0)
    [hit] = bad["hit_devices"]
    assert (hit["stage"], hit["code"]) == ("health", "E_HEALTH_COMMAND")
    assert "score 30 is beyond what the sensor can mean" in hit["message"]


def check_what_people_are_told(installation: Installation, client: Client, bad: Json) -> None:
    overview = client.get("/overview")
    assert overview["devices"] == len(PRECISIONS)
    [model] = overview["models"]
    assert {row["version"]: row["devices"] for row in model["versions"]} == {2: len(PRECISIONS)}
    assert [(rollout["to_version"], rollout["state"]) for rollout in overview["rollouts"]] == [
        (3, "aborted"),
        (2, "succeeded"),
    ]
    [hit] = bad["hit_devices"]
    with httpx.Client(follow_redirects=True) as browser:
        page = browser.get(installation.page).text
    for words in ("aborted", "succeeded", bad["explanation"], hit["name"], hit["code"]):
        assert words in page
    told = installation.command("device", "explain", hit["name"]).stdout
    precision = PRECISIONS[hit["name"]]
    for words in (
        f"so it shall run dev/digits/2/{precision}/manifest.json",
        "it last reported: version 2, healthy",
        f"It has refused dev/digits/3/{precision}/manifest.json for good",
        "It last polled ",
    ):
        assert words in told
