from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from controller.artifacts.graph.sessions import Session, Tensors
from ops.benchmarks.reference_models import cache, convolution, digits, tabular, transformer
from ops.benchmarks.reference_models.cache import trained
from ops.benchmarks.reference_models.dense import dense_model, train_dense


def answers(model: object, inputs: Tensors) -> Tensors:
    return Session(model.SerializeToString()).run(inputs)  # type: ignore[attr-defined]


def test_boosted_trees_answer_as_scikit_learn_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    reference = tabular.tabular_gradient_boosting()
    with threadpool_limits(1):
        fitted = tabular.fit_trees()
    got = answers(reference.model, reference.inputs)
    rows = reference.inputs["row"]
    assert np.array_equal(got["label"], fitted.predict(rows))
    assert np.allclose(got["probabilities"], fitted.predict_proba(rows), atol=1e-5)
    assert (got["label"] == reference.labels).mean() > 0.92
    assert len(reference.model.SerializeToString()) > 200_000


def test_rows_to_judge_by_are_none_of_those_to_calibrate_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    reference = tabular.tabular_mlp()
    judged = {row.tobytes() for row in reference.inputs["row"]}
    assert len(judged) == len(reference.labels)
    assert judged.isdisjoint({row.tobytes() for row in reference.calibration["row"]})


def test_a_dense_network_of_two_classes_answers_with_two_logits_that_tell_what_scikit_learn_tells() -> None:
    drawn = np.random.default_rng(1)
    rows = drawn.normal(size=(2000, 4)).astype(np.float32)
    labels = (rows[:, 0] > rows[:, 1]).astype(np.int64)
    model = dense_model("dense", train_dense(rows, labels, (16,), 60, 0), "row")
    scores = answers(model, {"row": rows})["scores"]
    assert scores.shape == (2000, 2)
    assert (scores.argmax(axis=1) == labels).mean() > 0.9


def test_gradients_of_the_convolutional_network_are_what_small_changes_of_a_weight_show() -> None:
    drawn = np.random.default_rng(2)
    weights = convolution._initial((3, 4), 6, drawn)
    images = drawn.random((5, 8, 8)).astype(np.float32)
    labels = np.arange(5)
    found = convolution._gradients(weights, images, labels)
    # In doubles, so that a difference of losses is more than rounding.
    exact = {name: array.astype(np.float64) for name, array in weights.items()}
    for name, gradient in found.items():
        place = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
        losses = []
        for change in (1e-5, -1e-5):
            changed = exact[name].copy()
            changed[place] += change
            losses.append(loss(exact | {name: changed}, images.astype(np.float64), labels))
        assert gradient[place] == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=2e-3, abs=1e-5), name


def loss(weights: Tensors, images: np.ndarray, labels: np.ndarray) -> float:
    first, _ = convolution._block(weights, "conv1", images[..., None])
    second, _ = convolution._block(weights, "conv2", first)
    pooled = second.reshape(len(images), 4, 2, 4, 2, -1).max(axis=(2, 4)).transpose(0, 3, 1, 2)
    flat = pooled.reshape(len(images), -1)
    hidden = np.maximum(flat @ weights["dense1_w"] + weights["dense1_b"], 0)
    shares = convolution._softmax(hidden @ weights["dense2_w"] + weights["dense2_b"])
    return float(-np.log(shares[np.arange(len(images)), labels]).mean())


def test_a_trained_convolutional_network_recognises_digits_as_a_graph() -> None:
    seen, held, of_seen, of_held = digits._split()
    weights = convolution.train(seen.reshape(-1, 8, 8), of_seen, (8, 16), 64, 10, 0)
    scores = answers(digits._conv_model(weights), {"image": held.reshape(-1, 1, 8, 8)})["scores"]
    assert (scores.argmax(axis=1) == of_held).mean() > 0.9


def test_the_transformer_is_of_real_size_and_answers_a_row_alone_as_in_company() -> None:
    drawn = np.random.default_rng(3)
    head = {
        "weight": drawn.normal(size=(transformer.WIDTH, transformer.CLASSES)).astype(np.float32),
        "bias": np.zeros(transformer.CLASSES, np.float32),
    }
    model = transformer._model(head)
    ids, _ = transformer._texts(3, 0)
    together = answers(model, {"ids": ids})["scores"]
    alone = answers(model, {"ids": ids[1:2]})["scores"]
    assert together.shape == (3, transformer.CLASSES)
    assert np.allclose(alone[0], together[1], atol=1e-4)
    assert 20e6 < model.ByteSize() < 40e6


def test_a_text_is_more_about_its_own_topic_than_about_any_other() -> None:
    ids, topics = transformer._texts(500, 4)
    start, owned = transformer.VOCABULARY // 2, transformer.TOPIC_TOKENS * transformer.CLASSES
    inside = (ids >= start) & (ids < start + owned)
    counts = np.stack(
        [(inside & ((ids - start) % transformer.CLASSES == topic)).sum(axis=1) for topic in range(transformer.CLASSES)]
    )
    assert 0.85 < (counts.argmax(axis=0) == topics).mean() < 0.97


def test_what_was_trained_is_kept_until_the_code_that_trains_it_changes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = []

    def train() -> Tensors:
        calls.append(len(calls))
        return {"weights": np.full(3, len(calls))}

    first = trained("network", train, convolution, folder=tmp_path)
    again = trained("network", train, convolution, folder=tmp_path)
    assert np.array_equal(first["weights"], again["weights"])
    assert calls == [0]
    monkeypatch.setattr(cache.inspect, "getsource", lambda _module: "other code")
    changed = trained("network", train, convolution, folder=tmp_path)
    assert calls == [0, 1]
    assert changed["weights"].tolist() == [2, 2, 2]
    assert len(list(tmp_path.iterdir())) == 1
