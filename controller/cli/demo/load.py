"""What is sent to inference endpoints: measured rounds, and a steady load that notices every failure."""

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from controller.cli.demo.digits import Floats, Samples

MODEL = "digits"
REQUEST_TIMEOUT_S = 10.0
LOAD_PAUSE_S = 0.04
"""Between two requests of the steady load on one device: 25 a second at most."""


class RequestFailed(Exception):
    """An endpoint gave no usable answer."""


@dataclass(frozen=True)
class Answer:
    """What an endpoint said about one image."""

    version: str
    digit: int
    seconds: float
    sent_bytes: int


class Endpoint:
    """One Open Inference Protocol endpoint, asked over a connection that stays open."""

    def __init__(self, url: str) -> None:
        """Take the endpoint's base URL."""
        address = urlsplit(url)
        assert address.hostname is not None
        self._connection = http.client.HTTPConnection(address.hostname, address.port, timeout=REQUEST_TIMEOUT_S)

    def ask(self, image: Floats) -> Answer:
        """Send one image [64]; RequestFailed for anything but an answer."""
        tensor = {"name": "inputs", "datatype": "FP32", "shape": [1, len(image)], "data": image.tolist()}
        body = json.dumps({"inputs": [tensor]}).encode()
        headers = {"Content-Type": "application/json"}
        begun = time.perf_counter()
        try:
            self._connection.request("POST", f"/v2/models/{MODEL}/infer", body, headers)
            response = self._connection.getresponse()
            answered = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise RequestFailed(f"{type(error).__name__}: {error}") from error
        seconds = time.perf_counter() - begun
        if response.status != http.client.OK:
            raise RequestFailed(f"status {response.status}: {answered[:200]!r}")
        document = json.loads(answered)
        digit = int(np.argmax(document["outputs"][0]["data"]))
        return Answer(str(document["model_version"]), digit, seconds, len(body))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


@dataclass(frozen=True)
class Measurement:
    """A measured round over several endpoints."""

    accuracy: float
    p50_ms: float
    p99_ms: float
    requests: int
    sent_bytes: int


def measure(rounds: Sequence[tuple[str, Samples]], *, at_once: bool) -> Measurement:
    """Send each endpoint its samples, image by image over one connection, and return what came of it.

    `at_once` asks all endpoints in parallel, which only a link of many milliseconds hides; else one after the
    other, so that they do not compete for this machine's cores. Raises RequestFailed if any request fails.
    """
    running = [_Round(url, samples.inputs) for url, samples in rounds]
    for one in running:
        one.start()
        if not at_once:
            one.join()
    for one in running:
        one.join()
        if one.failure:
            raise one.failure
    answers = [answer for one in running for answer in one.answers]
    milliseconds = np.array([answer.seconds for answer in answers]) * 1000
    labels = np.concatenate([samples.labels for _, samples in rounds])
    digits = np.array([answer.digit for answer in answers])
    return Measurement(
        accuracy=float((digits == labels).mean()),
        p50_ms=float(np.quantile(milliseconds, 0.5)),
        p99_ms=float(np.quantile(milliseconds, 0.99)),
        requests=len(answers),
        sent_bytes=sum(answer.sent_bytes for answer in answers),
    )


class _Round(threading.Thread):
    def __init__(self, url: str, images: Floats) -> None:
        super().__init__(daemon=True)
        self._endpoint = Endpoint(url)
        self._images = images
        self.answers: list[Answer] = []
        self.failure: RequestFailed | None = None

    def run(self) -> None:
        try:
            self.answers = [self._endpoint.ask(image) for image in self._images]
        except RequestFailed as failure:
            self.failure = failure
        self._endpoint.close()


@dataclass
class Tally:
    """What the steady load has seen so far."""

    answered: int = 0
    dropped: int = 0
    wrong: int = 0
    """Answers that named no known version, or were not what that version answers."""
    by_version: Counter[str] = field(default_factory=Counter)
    last_failure: str = ""

    def __str__(self) -> str:
        versions = ", ".join(f"{count} by version {version}" for version, count in sorted(self.by_version.items()))
        words = f"{self.answered} answered ({versions or 'none'}), {self.dropped} dropped, {self.wrong} wrong"
        return f"{words}; the last drop: {self.last_failure}" if self.dropped else words


class SteadyLoad:
    """Keeps asking every device while versions change, one thread each. Use it as a context manager.

    `expected` says for each version what it answers to each image; an answer is right when it is what the
    version that it names answers.
    """

    def __init__(self, urls: Sequence[str], images: Floats, expected: Mapping[str, NDArray[np.int64]]) -> None:
        """Prepare the load; it begins on entry."""
        self._images = images
        self._expected = expected
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask, args=(url,), daemon=True) for url in urls]
        self.tally = Tally()

    def __enter__(self) -> Self:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it after the requests that are under way."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, url: str) -> None:
        endpoint, index = Endpoint(url), 0
        while not self._stop.wait(LOAD_PAUSE_S):
            try:
                answer = endpoint.ask(self._images[index])
            except RequestFailed as failure:
                self._count_dropped(str(failure))
            else:
                self._count(answer, index)
            index = (index + 1) % len(self._images)
        endpoint.close()

    def _count(self, answer: Answer, index: int) -> None:
        expected = self._expected.get(answer.version)
        right = expected is not None and answer.digit == expected[index]
        with self._lock:
            self.tally.answered += 1
            self.tally.wrong += not right
            self.tally.by_version[answer.version] += 1

    def _count_dropped(self, failure: str) -> None:
        with self._lock:
            self.tally.dropped += 1
            self.tally.last_failure = failure
