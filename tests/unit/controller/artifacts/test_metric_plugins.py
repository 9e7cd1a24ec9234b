"""Metrics of the operator's own, called without a child: which names there are, and what is not a score."""

from pathlib import Path

import numpy as np
import pytest

from controller.artifacts.metric_plugins import check_metric, row_scores
from controller.domain.errors import InvalidInput
from tests.support.metric_plugins import install_metrics

ROWS = 4


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_metrics(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


def refusal_of(metric: str) -> InvalidInput:
    with pytest.raises(InvalidInput) as refusal:
        row_scores(metric, {"scores": np.ones((ROWS, 2))}, np.zeros(ROWS, np.int64), {}, ROWS)
    return refusal.value


@pytest.mark.parametrize("metric", ["auto", "accuracy", "r2", "cosine", "plugin:margin", "plugin:absent"])
def test_names_that_are_there_are_accepted_without_loading_them(metric: str) -> None:
    check_metric(metric)


@pytest.mark.parametrize("metric", ["", "f1", "plugin:", "plugin:f1", "margin"])
def test_names_that_are_not_there_are_refused_with_those_that_are(metric: str) -> None:
    with pytest.raises(InvalidInput, match="choose from auto, accuracy, r2, cosine, plugin:absent") as refusal:
        check_metric(metric)
    assert (refusal.value.code, refusal.value.field) == ("metric_unknown", "/promise/metric")


def test_a_name_that_two_packages_offer_is_refused_with_both() -> None:
    with pytest.raises(InvalidInput, match="fleet_metrics:loud, fleet_metrics:margin; uninstall"):
        check_metric("plugin:twice")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("leaving", "SystemExit: 3"),
        ("one_number", "float64 of shape []"),
        ("texts", "<U4 of shape [4]"),
        ("not_finite", "4 of 4 rows not finite"),
        ("wrong_shape", "float64 of shape [4]"),
    ],
)
def test_what_is_no_score_of_every_row_is_refused_in_words(name: str, words: str) -> None:
    refusal = refusal_of(f"plugin:{name}")
    assert refusal.code == "metric_failed"
    assert words in refusal.detail
