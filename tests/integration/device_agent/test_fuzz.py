"""What a device reads over HTTP, damaged: the image repository's files, the controller's answers, HTTP itself.

Each answer ends in a value or in a ProtocolError, whatever was served.
"""

import json
import socketserver
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_agent.controller_client import ControllerClient, Session
from device_agent.director_trust import DirectorTrust
from device_agent.identity import Identity
from device_agent.image_client import ImageRepository
from device_agent.protocol.errors import ProtocolError
from device_agent.protocol.messages import EnrolmentRequest
from device_agent.protocol.profile import DeviceProfile
from device_agent.transport import Transport
from tests.support.hostile_bytes import DEPTHS, mangled, towers
from tests.support.manifests import a_manifest
from tests.support.signed_repository import Director, Release, SignedRepository
from tests.support.static_files import StaticFiles, static_files
from tests.unit.device_agent.protocol.test_fuzz import signed_document

FEW = settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
IDENTITY = Identity("dv_1", "http://127.0.0.1", b"{}", b"{}", ec.generate_private_key(ec.SECP256R1()))
PROFILE = DeviceProfile("camera", "x86_64", "onnxruntime", "1.20", 17, ("int8",), 2**30)


class Looker:
    """A device that looks at a repository of which one file is damaged."""

    def __init__(self, served: StaticFiles, cache: Path) -> None:
        self.served, self._cache = served, cache
        self.images = SignedRepository()
        self.release: Release = self.images.publish(a_manifest())
        self.put()
        self._transport = Transport(silence_s=5)
        self.look()

    def put(self, **files: bytes) -> None:
        """Serve the repository, with some of its metadata replaced."""
        self.served.files = {f"/tuf/{name}": raw for name, raw in self.images.files.items()}
        self.served.files |= {f"/tuf/metadata/{name}.json": raw for name, raw in files.items()}

    def raw(self, role: str) -> bytes:
        """Return what is published of a role."""
        return self.images.files[f"metadata/{role}.json"]

    def look(self) -> None:
        """Do what an agent does, without what it knew before."""
        for path in self._cache.rglob("*.json"):
            path.unlink()
        url = f"{self.served.url}/tuf"
        view = ImageRepository(self._transport, url, self._cache, self.images.bootstrap, datetime.now(UTC))
        view.refresh({})
        view.manifest("digits", self.release.assigned(), hardware="camera")

    def look_at(self, **files: bytes) -> None:
        """Look at a repository with these files; only ProtocolError may come of it."""
        self.put(**files)
        try:
            self.look()
        except ProtocolError:
            return


@pytest.fixture(scope="module")
def looker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Looker]:
    with static_files() as served:
        yield Looker(served, tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize("signed", [False, True], ids=["on its way", "before it was signed"])
@FEW
@given(data=st.data())
def test_a_damaged_timestamp_is_refused_as_what_it_is(looker: Looker, signed: bool, data: st.DataObject) -> None:
    valid = looker.raw("timestamp")
    if signed:
        content = json.dumps(json.loads(valid)["signed"]).encode()
        raw = signed_document(data.draw(mangled(content)), looker.images.keys["timestamp"])
    else:
        raw = data.draw(mangled(valid))
    looker.look_at(timestamp=raw)


@pytest.mark.parametrize("issued", [5, 1.5, [], {}, True, "", "yesterday", "2026-13-01T00:00:00Z", "\ud800Z", 10**30])
def test_whatever_a_timestamp_says_of_its_time_is_a_moment_or_refused(looker: Looker, issued: object) -> None:
    content = json.loads(looker.raw("timestamp"))["signed"] | {"x-issued": issued}
    looker.look_at(timestamp=signed_document(json.dumps(content).encode(), looker.images.keys["timestamp"]))


@pytest.mark.parametrize("custom", [5, "slot", [], ["slot"], None, {"slot": []}, {"slot": "digits", "release": {}}])
def test_whatever_is_signed_beside_a_target_is_taken_or_refused(tmp_path: Path, custom: object) -> None:
    with static_files() as served:
        looker = Looker(served, tmp_path)
        for targets in looker.images._bins.values():
            for target in targets.values():
                target.unrecognized_fields["custom"] = custom
        for name, targets in looker.images._bins.items():
            if targets:
                looker.images.set_bin_version(name, 9)
        looker.images.sign_top()
        looker.put()
        with pytest.raises(ProtocolError):
            looker.look()


@FEW
@given(data=st.data())
def test_a_damaged_next_root_is_refused_as_what_it_is(looker: Looker, data: st.DataObject) -> None:
    content = json.loads(looker.raw("1.root"))["signed"] | {"version": 2}
    valid = signed_document(json.dumps(content).encode(), looker.images.keys["root"])
    raw = data.draw(mangled(valid))
    looker.look_at(**{"2.root": raw})


def test_no_depth_of_nesting_is_too_much_for_the_repository(looker: Looker) -> None:
    for depth in DEPTHS[::6]:
        for raw in list(towers(looker.raw("timestamp"), depth))[:6]:
            looker.look_at(timestamp=raw)


# What the controller says.


class OneAnswer:
    """A server that gives every connection the same bytes."""

    def __init__(self) -> None:
        self.raw = b""
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                self.request.settimeout(5)
                self.request.recv(65536)
                self.request.sendall(outer.raw)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, *_words: object) -> None:
                return

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="module")
def answering() -> Iterator[OneAnswer]:
    server = OneAnswer()
    yield server
    server.close()


PROBLEM = json.dumps({"type": "about:blank", "title": "no", "status": 409, "code": "E_X", "detail": "no"}).encode()
ENROLLED = json.dumps({"device": "dv_1", "image_root": "e30=", "director_root": "e30=", "certificate": None}).encode()
OPENED = json.dumps({"challenge": "c", "token": "t", "expires_s": 3600, "certificate": "-----"}).encode()


def http(status: int, body: bytes) -> bytes:
    return (
        b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\nRetry-After: 3\r\n\r\n"
        % (
            status,
            len(body),
        )
        + body
    )


def ask_all(url: str) -> None:
    """Make every call of a device; each must return a value."""
    client = ControllerClient(Transport(silence_s=2, connect_s=2), url)
    session = Session("t", 60)
    client.open_session(IDENTITY)
    client.enrol(EnrolmentRequest("t", "csr", "camera-1", PROFILE, {}, "A" * 43 + "="))
    client.poll(session, None)
    client.send(session, b"{}", "")
    client.renew_certificate(session, b"{}")


@FEW
@given(
    status=st.sampled_from([200, 201, 202, 304, 400, 401, 403, 409, 422, 429, 500]),
    body=st.sampled_from([PROBLEM, ENROLLED, OPENED]).flatmap(mangled),
)
def test_every_answer_of_the_controller_is_a_value(answering: OneAnswer, status: int, body: bytes) -> None:
    answering.raw = http(status, body)
    ask_all(answering.url)


@FEW
@given(data=st.data())
def test_every_answer_that_is_hardly_http_is_a_value(answering: OneAnswer, data: st.DataObject) -> None:
    answering.raw = data.draw(mangled(http(200, ENROLLED)))
    ask_all(answering.url)


@FEW
@given(data=st.data())
def test_a_director_root_over_http_is_a_link_or_refused(
    looker: Looker, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    director = Director()
    trust = DirectorTrust(tmp_path_factory.mktemp("director"), director.bootstrap, looker.images.bootstrap)
    director.rotate()
    raw = data.draw(mangled(director.roots[2]))
    try:
        trust.update(lambda version: raw if version == 2 else None, datetime.now(UTC))
    except ProtocolError:
        assert trust.root.version == 1
