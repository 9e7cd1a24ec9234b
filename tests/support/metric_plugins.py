"""A real installed distribution that offers metrics as entry points, made in a folder."""

from pathlib import Path

METRICS = """
import numpy as np


def margin(outputs, labels, inputs):
    scores = outputs["scores"]
    assert labels is not None and len(inputs["image"]) == len(scores)
    others = np.where(np.arange(scores.shape[1]) == labels[:, None], -np.inf, scores).max(axis=1)
    return np.clip(scores[np.arange(len(scores)), labels] - others, -1, 1)


def loud(outputs, labels, inputs):
    print("noise")
    return np.ones(len(labels))


def raising(outputs, labels, inputs):
    raise ZeroDivisionError("nothing to divide")


def leaving(outputs, labels, inputs):
    raise SystemExit(3)


def writing(outputs, labels, inputs):
    labels[:] = 0
    return np.ones(len(labels))


def wrong_shape(outputs, labels, inputs):
    return np.ones((len(labels), 2))


def one_number(outputs, labels, inputs):
    return 0.5


def texts(outputs, labels, inputs):
    return np.array(["good"] * len(labels))


def not_finite(outputs, labels, inputs):
    return np.full(len(labels), np.nan)
"""
NAMES = ("margin", "loud", "raising", "leaving", "writing", "wrong_shape", "one_number", "texts", "not_finite")


def install_metrics(folder: Path) -> None:
    """Write the module `fleet_metrics` and its distribution, for a process whose PYTHONPATH has the folder.

    `absent` is an entry point to something that is not there; `twice` is offered by two distributions.
    """
    (folder / "fleet_metrics.py").write_text(METRICS)
    lines = [f"{name} = fleet_metrics:{name}" for name in NAMES]
    _distribution(folder, "fleet-metrics", [*lines, "absent = fleet_metrics:absent", "twice = fleet_metrics:loud"])
    _distribution(folder, "other-metrics", ["twice = fleet_metrics:margin"])


def _distribution(folder: Path, name: str, lines: list[str]) -> None:
    about = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("\n".join(["[edgefleet.metrics]", *lines, ""]))
