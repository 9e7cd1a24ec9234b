import json
from typing import Any

import pytest

from controller.domain.catalog import VariantState
from controller.store.views.report import report_of
from tests.support.compressed_versions import (
    SOURCE_BYTES,
    digest,
    evaluation,
    variant_row,
    variant_rows,
    version_document,
)


@pytest.fixture
def found() -> dict[str, Any]:
    return report_of(version_document(variant_rows()), [])


def variant(found: dict[str, Any], recipe: str) -> dict[str, Any]:
    (one,) = (one for one in found["variants"] if one["recipe"] == recipe)
    return dict(one)


def test_what_devices_may_run_comes_first_and_what_came_to_nothing_last(found: dict[str, Any]) -> None:
    order = [one["recipe"] for one in found["variants"]]
    assert order == ["structured-int8", "fp32", "fp16", "int8", "slim", "palette", "failing"]


def test_sizes_are_compared_with_the_upload_and_golden_tensors_travel_too(found: dict[str, Any]) -> None:
    sizes = variant(found, "structured-int8")["sizes"]
    assert (sizes["file_bytes"], sizes["packed_bytes"], sizes["golden_bytes"], sizes["wire_bytes"]) == (
        6_000,
        3_000,
        2_000,
        5_000,
    )
    assert (sizes["file_ratio"], sizes["wire_ratio"]) == (4.333, 5.2)
    assert sizes["memory"] == {"controller": 750_000}


def test_every_step_begins_with_the_bytes_that_the_one_before_left(found: dict[str, Any]) -> None:
    steps = variant(found, "structured-int8")["steps"]
    assert [(one["bytes_before"], one["bytes_after"]) for one in steps] == [(SOURCE_BYTES, 12_000), (12_000, 6_000)]
    assert steps[0]["headline"].startswith("6570 parameters became 2778")


def test_durations_are_those_of_the_class_and_the_measured_one_stays_visible(found: dict[str, Any]) -> None:
    cost = variant(found, "structured-int8")["costs"]["controller"]
    assert (cost["p50_us"], cost["p99_us"], cost["measured_p50_us"], cost["factor"]) == (80.0, 240.0, 40.0, 2.0)
    assert found["classes"] == ["camera", "controller"]


def test_a_drop_is_the_difference_to_the_source_on_the_same_samples(found: dict[str, Any]) -> None:
    assert variant(found, "structured-int8")["evaluation"]["drop"] == pytest.approx(0.005)


def test_the_source_is_told_by_the_variant_that_keeps_it_and_by_the_most_samples(found: dict[str, Any]) -> None:
    source = found["source"]
    assert (source["bytes"], source["variant"], source["wire_bytes"]) == (SOURCE_BYTES, "fp32", 15_000)
    assert source["memory"] == {"controller": 530_000, "camera": 530_000}
    assert (source["evaluation"]["value"], source["evaluation"]["samples"]) == (0.905, 400)


def test_lineage_goes_from_the_upload_over_every_step_to_the_signed_manifest(found: dict[str, Any]) -> None:
    chain = variant(found, "structured-int8")["lineage"]
    assert [(link["kind"], link["name"]) for link in chain] == [
        ("source", "upload"),
        ("recipe", "structured-int8 version 2"),
        ("step", "prune_structured model.onnx"),
        ("step", "quantize_dynamic model.onnx"),
        ("file", "model.onnx"),
        ("packed", "model.onnx"),
        ("file", "golden.npz"),
        ("manifest", "signed"),
    ]
    assert (chain[0]["sha256"], chain[-1]["sha256"]) == (digest("upload"), digest("manifest"))


def test_a_step_whose_files_were_not_kept_in_mind_stands_in_the_lineage_without_a_digest() -> None:
    forgetful = {"step": "clip", "parameters": {}, "facts": {}, "bytes": 5_000, "seconds": 1.0, "reused": True}
    row = variant_row("clipped", VariantState.ASIDE, file_bytes=5_000, steps=(forgetful,))
    (one,) = report_of(version_document([row]), [])["variants"]
    assert {"kind": "step", "name": "clip", "sha256": None} in one["lineage"]


def test_what_is_not_made_yet_has_no_figures_and_what_fell_has_its_words(found: dict[str, Any]) -> None:
    waiting = variant(found, "slim")
    assert (waiting["sizes"]["wire_bytes"], waiting["evaluation"], waiting["steps"], waiting["layers"]) == (
        None,
        None,
        [],
        [],
    )
    assert variant(found, "failing")["error"] == "the child was killed after 60 s"


@pytest.mark.parametrize(
    ("state", "search", "at_work"),
    [
        (VariantState.PUBLISHED, "done", False),
        (VariantState.PUBLISHED, "running", True),
        (VariantState.EVALUATED, "done", True),
    ],
)
def test_work_goes_on_while_a_variant_or_a_search_does(state: VariantState, search: str, *, at_work: bool) -> None:
    rows = [variant_row("int8", state, file_bytes=6_000, evaluation=evaluation(0.9))]
    assert report_of(version_document(rows), [{"state": search}])["at_work"] is at_work


def test_an_opaque_version_has_a_report_too() -> None:
    version = version_document([variant_row("opaque", VariantState.PUBLISHED, wire_bytes=SOURCE_BYTES)])
    found = report_of({**version, "format": "opaque", "inspection": None, "evaluation_sha256": None}, [])
    assert (found["source"]["parameters"], found["source"]["evaluation"]) == (None, None)
    assert variant(found, "opaque")["sizes"]["wire_bytes"] == SOURCE_BYTES


def test_a_report_is_json(found: dict[str, Any]) -> None:
    assert json.loads(json.dumps(found)) == found
