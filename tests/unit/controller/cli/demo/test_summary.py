from dataclasses import replace

import pytest

from controller.cli.demo.load import Measurement, Tally
from controller.cli.demo.summary import Findings, as_json, promises, verdict
from tests.unit.controller.cli.documents import rollout

HIT = {"name": "camera-1", "stage": "health", "code": "E_HEALTH_COMMAND", "message": ""}


def findings() -> Findings:
    return Findings(
        served={"camera-1": "2", "gateway-1": "2"},
        wanted_version="2",
        source_accuracy={"1": 0.89, "2": 0.96},
        device_accuracy={"1": 0.885, "2": 0.96},
        local=Measurement(0.885, 0.8, 2.0, 800, 400_000),
        central=Measurement(0.89, 42.0, 50.0, 100, 50_000),
        tally=Tally(answered=1000, dropped=0, wrong=0),
        good_rollout=rollout("succeeded", stage=3),
        bad_rollout=rollout("aborted", stage=1, to_version=3, hit_devices=[HIT]),
        source_bytes=669_161,
        variant_bytes=172_215,
        wire_bytes=176_000,
        seconds=61.23,
    )


def test_the_demo_is_ok_when_every_promise_held() -> None:
    checked = promises(findings())
    assert verdict(checked, 61.23) == "edgefleet demo: ok, all 6 promises held in 61 s"


BROKEN = [
    (replace(findings(), device_accuracy={"1": 0.879, "2": 0.96}), "compressed models keep their accuracy"),
    (replace(findings(), central=Measurement(0.9, 0.5, 1, 1, 1)), "answers come without a round trip"),
    (replace(findings(), tally=Tally(1000, dropped=1)), "no request is dropped or wrong while versions change"),
    (replace(findings(), tally=Tally(1000, wrong=1)), "no request is dropped or wrong while versions change"),
    (replace(findings(), tally=Tally()), "no request is dropped or wrong while versions change"),
    (replace(findings(), good_rollout=rollout("aborted")), "a good version reaches every device in stages"),
    (replace(findings(), bad_rollout=rollout("succeeded")), "a bad version is stopped and reverted by itself"),
    (replace(findings(), served={"camera-1": "3"}), "every device serves version 2 at the end"),
    (replace(findings(), served={}), "every device serves version 2 at the end"),
]


@pytest.mark.parametrize(("found", "claim"), BROKEN)
def test_a_promise_that_did_not_hold_is_named_in_the_verdict(found: Findings, claim: str) -> None:
    checked = promises(found)
    assert [promise.claim for promise in checked if not promise.held] == [claim]
    assert verdict(checked, 1.0) == f"edgefleet demo: NOT ok after 1 s: {claim}"
    assert as_json(found, checked)["ok"] is False


def test_the_result_for_scripts_has_its_documented_fields() -> None:
    found = findings()
    assert as_json(found, promises(found)) == {
        "ok": True,
        "agents": 2,
        "versions": {"camera-1": "2", "gateway-1": "2"},
        "accuracy": {"source": {"1": 0.89, "2": 0.96}, "devices": {"1": 0.885, "2": 0.96}},
        "latency_ms": {"device": {"p50": 0.8, "p99": 2.0}, "central": {"p50": 42.0, "p99": 50.0}},
        "dropped_requests": 0,
        "rollouts": [
            {"version": 2, "state": "succeeded", "stages": [1, 3, 6], "hit_devices": []},
            {"version": 3, "state": "aborted", "stages": [1, 3, 6], "hit_devices": ["camera-1"]},
        ],
        "bytes": {"source": 669_161, "variant": 172_215, "wire": 176_000},
        "seconds": 61.2,
    }
