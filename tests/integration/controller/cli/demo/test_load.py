import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from controller.cli.demo.digits import Samples
from controller.cli.demo.link import DelayedLink
from controller.cli.demo.load import Endpoint, RequestFailed, SteadyLoad, measure
from tests.support.waiting import wait_until

SAMPLES = Samples(np.eye(10, 64, dtype=np.float32), np.arange(10))
IMAGES, LABELS = SAMPLES.inputs, SAMPLES.labels


class Echo(BaseHTTPRequestHandler):
    """An inference endpoint whose answer is the position of the largest input."""

    protocol_version = "HTTP/1.1"
    version = "1"
    refuses = False

    def do_POST(self) -> None:
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        output = {
            "name": "probabilities",
            "datatype": "FP32",
            "shape": [1, 10],
            "data": document["inputs"][0]["data"][:10],
        }
        content = json.dumps({"model_version": self.version, "outputs": [output]}).encode()
        self.send_response(503 if self.refuses else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_words: object) -> None:
        return


@pytest.fixture
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Echo, "refuses", True)


def url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("at_once", [True, False])
def test_a_measured_round_asks_every_endpoint_every_image(port: int, at_once: bool) -> None:
    found = measure([(url(port), SAMPLES)] * 3, at_once=at_once)
    assert (found.requests, found.accuracy) == (30, 1.0)
    assert found.p50_ms <= found.p99_ms
    assert found.sent_bytes > 30 * 64


def test_a_round_with_an_unanswered_request_is_no_measurement(port: int, refusing: None) -> None:
    with pytest.raises(RequestFailed, match="status 503"):
        measure([(url(port), SAMPLES)], at_once=False)


def test_a_link_of_forty_milliseconds_is_felt_by_every_request(port: int) -> None:
    with DelayedLink(port, 0.040) as link:
        found = measure([(link.url, SAMPLES)], at_once=False)
    assert found.accuracy == 1.0
    assert found.p50_ms >= 40


def test_a_link_that_is_cut_ends_its_connections(port: int) -> None:
    with DelayedLink(port, 0.001) as link:
        endpoint = Endpoint(link.url)
        assert endpoint.ask(IMAGES[3]).digit == 3
    with pytest.raises(RequestFailed):
        endpoint.ask(IMAGES[3])


def test_a_link_carries_large_answers_whole(port: int) -> None:
    wide = np.zeros((1, 50_000), dtype=np.float32)
    wide[0, 3] = 1
    with DelayedLink(port, 0.001) as link:
        assert measure([(link.url, Samples(wide, np.array([3])))], at_once=False).accuracy == 1.0


def test_the_steady_load_counts_right_answers_by_version(port: int) -> None:
    with SteadyLoad([url(port)] * 2, IMAGES, {"1": LABELS}) as load:
        wait_until(lambda: load.tally.answered >= 5, what="five answers")
    assert (load.tally.dropped, load.tally.wrong) == (0, 0)
    assert load.tally.by_version["1"] == load.tally.answered


@pytest.mark.parametrize("expected", [{"1": (LABELS + 1) % 10}, {"2": LABELS}])
def test_an_answer_that_is_not_what_its_version_answers_is_wrong(port: int, expected: dict[str, np.ndarray]) -> None:
    with SteadyLoad([url(port)], IMAGES, expected) as load:
        wait_until(lambda: load.tally.wrong >= 1, what="a wrong answer")
    assert load.tally.wrong == load.tally.answered


def test_a_refused_request_is_a_dropped_one(port: int, refusing: None) -> None:
    with SteadyLoad([url(port)], IMAGES, {"1": LABELS}) as load:
        wait_until(lambda: load.tally.dropped >= 1, what="a dropped request")
    assert load.tally.answered == 0
    assert "503" in load.tally.last_failure
