"""Requests that do not stop while versions change, each answer checked against what its version must say."""

import http.client
import json
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Self
from urllib.parse import SplitResult, urlsplit

PAUSE_S = 0.03
TOLERANCE = 0.5
"""What compression may change about a score; versions differ by far more."""


class BackgroundLoad:
    """Keeps asking a linear model at several addresses, one thread and one lasting connection each.

    `expected` has the scores for `row` by version. The counts are complete once the context has been left.
    """

    def __init__(self, urls: Sequence[str], row: Sequence[float], expected: Mapping[str, Sequence[float]]) -> None:
        self._expected = expected
        tensor = {"name": "x", "shape": [1, len(row)], "datatype": "FP32", "data": list(row)}
        self._body = json.dumps({"inputs": [tensor]})
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(urlsplit(url),), daemon=True) for url in urls]
        self._lock = threading.Lock()
        self.answered: Counter[str] = Counter()
        """Right answers by version."""
        self.failed: list[str] = []
        self.wrong: list[str] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, address: SplitResult) -> None:
        assert address.hostname
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
        while not self._stop.wait(PAUSE_S):
            try:
                connection.request("POST", "/v2/models/digits/infer", self._body)
                response = connection.getresponse()
                text = response.read().decode()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                self._count_failed(repr(error))
                continue
            if response.status == http.client.OK:
                self._count(text)
            else:
                self._count_failed(f"{response.status} {text}")
        connection.close()

    def _count(self, text: str) -> None:
        answer = json.loads(text)
        expected = self._expected.get(answer["model_version"])
        scores = answer["outputs"][0]["data"]
        right = expected and all(abs(got - want) < TOLERANCE for got, want in zip(scores, expected, strict=True))
        with self._lock:
            if right:
                self.answered[answer["model_version"]] += 1
            else:
                self.wrong.append(text)

    def _count_failed(self, reason: str) -> None:
        with self._lock:
            self.failed.append(reason)
