import base64
from typing import Any

import pytest

from controller.domain.promise import Promise
from controller.domain.releases import ReleaseKind
from controller.release_desk.announcement import Announcement
from controller.release_desk.report import DeskCode, DeskRefusal

ANNOUNCED: dict[str, Any] = {
    "id": "rl_1",
    "kind": "release",
    "model": "digits",
    "version": 2,
    "document": base64.b64encode(b"draft").decode(),
    "manifests": {"prod/digits/2/int8/manifest.json": base64.b64encode(b"manifest").decode()},
    "data": {
        "source_sha256": "a" * 64,
        "source_bytes": 10,
        "evaluation_sha256": "b" * 64,
        "evaluation_bytes": 20,
    },
    "promise": {"metric": "accuracy", "drop_max": 0.01, "rule": "point"},
    "state": "proposed",
}


def test_an_announcement_is_read_with_everything_that_a_desk_needs() -> None:
    found = Announcement.from_json(ANNOUNCED)
    assert (found.kind, found.model, found.version) == (ReleaseKind.RELEASE, "digits", 2)
    assert (found.document, found.manifests) == (b"draft", {"prod/digits/2/int8/manifest.json": b"manifest"})
    assert (found.source_bytes, found.evaluation) == (10, ("b" * 64, 20))
    assert found.promise == Promise("accuracy", 0.01)


def test_a_renewal_has_neither_version_nor_data() -> None:
    found = Announcement.from_json(
        {**ANNOUNCED, "kind": "renew", "version": None, "manifests": {}, "data": None, "promise": None}
    )
    assert (found.version, found.evaluation, found.promise) == (None, None, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "steal"},
        {"model": "../x"},
        {"version": "2"},
        {"version": 0},
        {"document": "not base64!"},
        {"document": 7},
        {"document": None},
        {"manifests": []},
        {"manifests": {"prod/x": 7}},
        {"manifests": {"prod/x": "~"}},
        {"data": {"source_bytes": -1}},
        {"data": {**ANNOUNCED["data"], "evaluation_sha256": "short"}},
        {"promise": {"metric": "accuracy", "drop_max": -1, "rule": "point"}},
        {"promise": []},
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DeskRefusal) as refused:
        Announcement.from_json({**ANNOUNCED, **changes})
    assert refused.value.code is DeskCode.MALFORMED
