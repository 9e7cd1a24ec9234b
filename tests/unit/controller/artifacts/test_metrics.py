"""Metrics of outputs that are written down, against values worked out otherwise."""

import numpy as np
import pytest
from sklearn.metrics import r2_score

from controller.artifacts.behaviour.bootstrap import paired_intervals
from controller.artifacts.behaviour.comparison import compare, worst_class
from controller.artifacts.behaviour.metrics import cosines, measure
from controller.artifacts.behaviour.samples import Samples
from controller.domain.errors import InvalidInput

ROWS = 60


def samples(labels: np.ndarray | None, rows: int = ROWS) -> Samples:
    return Samples({"x": np.zeros((rows, 1), np.float32)}, labels, 1)


def regression(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels with what a good source and a worse variant answer."""
    generator = np.random.default_rng(0)
    labels = generator.normal(100, [5, 50][: shape[-1]] if len(shape) > 1 else 5, size=shape)
    return labels, labels + generator.normal(0, 1, shape), labels + generator.normal(0, 4, shape)


def refusal_of(metric: str, given: Samples, outputs: dict[str, np.ndarray]) -> InvalidInput:
    with pytest.raises(InvalidInput) as refusal:
        compare(metric, given, outputs, outputs)
    return refusal.value


class TestRegression:
    @pytest.mark.parametrize("shape", [(ROWS,), (ROWS, 1), (ROWS, 2)])
    def test_r2_is_that_of_the_text_books(self, shape: tuple[int, ...]) -> None:
        labels, source, variant = regression(shape)
        figures = compare("auto", samples(labels), {"y": source}, {"y": variant})
        assert figures["metric"] == "r2"
        assert figures["value"] == pytest.approx(r2_score(labels, variant))
        assert figures["source_value"] == pytest.approx(r2_score(labels, source))
        assert figures["drop_ci"][0] < figures["source_value"] - figures["value"] < figures["drop_ci"][1]
        assert (figures["agreement"], figures["worst_class"], figures["calibration"]) == (None, None, None)

    def test_a_resample_has_the_r2_of_its_own_rows(self) -> None:
        labels, source, variant = regression((ROWS,))
        measured = measure("r2", samples(labels), {"y": source}, {"y": variant})
        drawn = np.random.default_rng(1).integers(0, ROWS, ROWS)
        assert measured.value(measured.variant[drawn].mean(axis=0)) == pytest.approx(
            r2_score(labels[drawn], variant[drawn])
        )

    def test_the_interval_is_there_when_some_resamples_have_no_spread(self) -> None:
        labels = np.array([1.0, 2.0])
        measured = measure("r2", samples(labels, 2), {"y": labels}, {"y": labels + 0.1})
        assert paired_intervals(measured.variant, measured.source, measured.value)

    def test_counts_may_be_predicted_too_when_the_promise_says_so(self) -> None:
        labels = np.arange(ROWS)
        assert compare("r2", samples(labels), {"y": labels + 0.5}, {"y": labels + 0.5})["metric"] == "r2"

    def test_labels_that_are_all_the_same_have_no_r2(self) -> None:
        refusal = refusal_of("auto", samples(np.ones(ROWS)), {"y": np.ones(ROWS)})
        assert (refusal.code, refusal.field) == ("metric_failed", "/promise/metric")
        assert "the same in every row" in refusal.detail

    @pytest.mark.parametrize("shape", [(ROWS, 3), (ROWS - 1, 1)])
    def test_outputs_of_another_width_or_length_do_not_fit(self, shape: tuple[int, ...]) -> None:
        refusal = refusal_of("auto", samples(np.arange(ROWS) / 2), {"y": np.ones(shape)})
        assert (refusal.code, refusal.field) == ("evaluation_shape", "/evaluation_sha256")


class TestSimilarity:
    def test_cosines_are_of_rows_whatever_their_length(self) -> None:
        source = {"e": np.array([[1, 0], [1, 0], [1, 0], [0, 0], [0, 0]], np.float32)}
        variant = {"e": np.array([[9, 0], [1, 1], [-2, 0], [0, 0], [1, 0]], np.float32)}
        assert cosines(source, variant, 5) == pytest.approx([1, np.sqrt(0.5), -1, 1, 0])

    def test_without_labels_embeddings_are_compared_with_the_sources(self) -> None:
        source = np.random.default_rng(0).normal(size=(ROWS, 8)).astype(np.float32)
        figures = compare("auto", samples(None), {"e": source}, {"e": source + 0.1})
        assert (figures["metric"], figures["source_value"]) == ("cosine", 1.0)
        assert 0.9 < figures["value"] == figures["similarity"] < 1
        assert figures["value_ci"][0] < figures["value"] < figures["value_ci"][1]
        assert figures["source_ci"] == (1.0, 1.0)

    def test_outputs_without_fractions_cannot_be_similar(self) -> None:
        assert refusal_of("auto", samples(None), {"n": np.arange(ROWS)}).code == "evaluation_output"

    def test_values_beyond_the_finite_numbers_have_no_similarity(self) -> None:
        outputs = {"e": np.full((ROWS, 2), np.inf)}
        assert refusal_of("cosine", samples(None), outputs).code == "metric_failed"
        assert compare("accuracy", samples(np.zeros(ROWS, np.int64)), outputs, outputs)["similarity"] is None


class TestClasses:
    def test_every_figure_of_a_classifier_is_there(self) -> None:
        labels = np.arange(ROWS) % 3
        source = np.eye(3)[labels]
        variant = source.copy()
        variant[np.flatnonzero(labels == 2)[:5]] = [0.6, 0.1, 0.3]
        figures = compare("auto", samples(labels), {"p": source}, {"p": variant})
        assert (figures["metric"], figures["samples"]) == ("accuracy", ROWS)
        assert (figures["value"], figures["source_value"]) == (pytest.approx(55 / 60), 1.0)
        assert figures["agreement"] == figures["value"]
        assert figures["worst_class"] == {"class": 2, "value": 0.75, "source_value": 1.0, "samples": 20}
        assert figures["calibration"] == {"value": pytest.approx(5 * 0.6 / 60), "source_value": 0.0}
        assert 0 < figures["drop_ci"][0] < 5 / 60 < figures["drop_ci"][1] < 0.2

    def test_labels_of_the_wrong_kind_do_not_have_the_metric(self) -> None:
        refusal = refusal_of("accuracy", samples(np.ones(ROWS)), {"p": np.ones((ROWS, 3))})
        assert (refusal.code, refusal.field) == ("metric_failed", "/promise/metric")
        assert "whole numbers" in refusal.detail

    def test_rare_classes_are_not_the_worst(self) -> None:
        labels = np.array([0] * 10 + [1] * 4)
        wrong = np.zeros(14, np.int64)
        assert worst_class(labels, labels, wrong) == {"class": 0, "value": 1.0, "source_value": 1.0, "samples": 10}
        assert worst_class(labels[6:], labels[6:], wrong[6:]) is None

    def test_of_two_classes_that_are_found_alike_the_worse_is_the_one_that_lost_more(self) -> None:
        labels = np.array([0] * 6 + [1] * 6)
        source = np.array([1] * 6 + [1] * 6)
        found = worst_class(labels, source, np.full(12, 2))
        assert found
        assert found["class"] == 1


def test_an_unknown_metric_is_refused_with_the_known_ones() -> None:
    refusal = refusal_of("f1", samples(None), {"e": np.ones((ROWS, 2))})
    assert (refusal.code, refusal.field) == ("metric_unknown", "/promise/metric")
    assert "auto, accuracy, r2, cosine" in refusal.detail
