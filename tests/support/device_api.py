"""A controller as the agent sees it: the real interface over real HTTP, with real signatures and faults on demand."""

import base64
import json
import secrets
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from device_agent.protocol.assignment import SlotAssignment
from device_agent.protocol.dsse import pre_authentication_encoding
from device_agent.protocol.messages import (
    RENEWAL_PAYLOAD_TYPE,
    REPORT_PAYLOAD_TYPE,
    SESSION_PAYLOAD_TYPE,
    SIGNATURE_HEADER,
    EnrolmentRequest,
    EnrolmentToken,
    parse_report_batch,
    trust_pin,
)
from tests.support.signed_repository import Clock, Director, SignedRepository, an_assignment, wall_clock


@dataclass
class Fault:
    """What happens to one answer; a field that is not set changes nothing."""

    status: int | None = None
    code: str = "E_FAULT"
    retry_after: str | None = None
    cut_after: int | None = None
    flip_at: int | None = None
    ignore_range: bool = False
    content_range: str | None = None
    byte_every_s: float | None = None


@dataclass
class Reply:
    """One answer before its fault."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def problem(status: int, code: str) -> Reply:
    """Return an error as the API makes it."""
    body = json.dumps({"type": "about:blank", "title": code, "status": status, "code": code, "detail": code})
    return Reply(status, body.encode(), {"Content-Type": "application/problem+json"})


class DeviceApi:
    """The device API of one controller; a test reads and changes its fields while it serves."""

    def __init__(self, clock: Clock = wall_clock) -> None:
        self.clock = clock
        """The time as the controller has it, and tells it."""
        self.images = SignedRepository(clock)
        self.director = Director(clock)
        self.artifacts: dict[str, bytes] = {}
        self.faults: dict[str, list[Fault]] = {}
        """Faults by the beginning of a path: each is used for one answer."""
        self.down = False
        self.device: str | None = None
        self.device_key: SSlibKey | None = None
        self.request: EnrolmentRequest | None = None
        self.needs_approval = False
        self.barred: str | None = None
        """Why the device gets no session: `E_DEVICE_REVOKED`, `E_DEVICE_PENDING`."""
        self.old_nonce: str | None = None
        """The nonce that time answers carry instead of the one that was asked with."""
        self.certificate_life: timedelta | None = None
        """How long certificates are valid; none are issued where it is not set."""
        self.certificate_age = timedelta()
        """How long ago certificates claim to have been issued."""
        self.certificate_key = ec.generate_private_key(ec.SECP256R1())
        self.tokens: set[str] = set()
        self.sessions: set[str] = set()
        self.counter = 100
        self.envelope: bytes | None = None
        self.batches: dict[str, Any] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.sent_bytes = 0
        self.url = ""
        self.lock = threading.Lock()

    def token(self) -> str:
        """Return a new enrolment token with the pin of the two roots."""
        pin = trust_pin(self.images.bootstrap, self.director.bootstrap)
        token = str(EnrolmentToken("t1", secrets.token_hex(8), pin))
        self.tokens.add(token)
        return token

    def assign(self, slots: dict[str, SlotAssignment | None], *, counter: int | None = None, **changes: Any) -> int:
        """Sign a new assignment for the enrolled device; return its counter. `changes` are those of `an_assignment`."""
        assert self.device
        assert self.request
        self.counter = counter or self.counter + 1
        profile = self.request.profile
        said = {"issued": self.clock(), "hardware": profile.name, "channel": profile.channel, **changes}
        self.envelope = self.director.sign(an_assignment(self.device, self.counter, slots, **said))
        return self.counter

    def items(self, kind: str = "lifecycle") -> list[dict[str, Any]]:
        """Return the report items that were accepted, in order."""
        with self.lock:
            return [item for batch in self.batches.values() for item in batch["items"] if item["kind"] == kind]

    def states(self, counter: int) -> list[str]:
        """Return the lifecycle states reported for an assignment."""
        return [item["state"] for item in self.items() if item["counter"] == counter]

    def paths(self, prefix: str) -> list[str]:
        """Return the paths that were asked for under a prefix."""
        return [path for _, path, _ in self.requests if path.startswith(prefix)]

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        """Answer one request."""
        self.requests.append((method, path, headers))
        if self.down:
            return problem(503, "E_DOWN")
        routes = {
            ("POST", "/device/v1/enrol"): self._enrol,
            ("GET", "/device/v1/challenge"): lambda _h, _b: Reply(200, b'{"challenge": "c-1"}'),
            ("POST", "/device/v1/session"): self._session,
            ("GET", "/device/v1/assignment"): self._assignment,
            ("POST", "/device/v1/reports"): self._reports,
            ("POST", "/device/v1/time"): self._time,
            ("POST", "/device/v1/certificate"): self._certificate,
        }
        route = routes.get((method, path))
        if route:
            return route(headers, body)
        content = self._static(path)
        return Reply(200, content) if content is not None else problem(404, "not_found")

    def _static(self, path: str) -> bytes | None:
        if path.startswith("/artifacts/sha256/"):
            return self.artifacts.get(path.rsplit("/", 1)[1])
        if path.startswith("/tuf/director/"):
            return self.director.roots.get(int(path.rsplit("/", 1)[1].removesuffix(".root.json")))
        return self.images.files.get(path.removeprefix("/tuf/"))

    def _enrol(self, headers: dict[str, str], body: bytes) -> Reply:
        assert headers["content-type"] == "application/json"
        request = EnrolmentRequest.parse(body)
        if request.token not in self.tokens:
            return problem(401, "token_used")
        if self.needs_approval:
            return Reply(202, b'{"device": "dv_test", "status": "pending"}')
        self.tokens.discard(request.token)
        csr = x509.load_pem_x509_csr(request.csr_pem.encode())
        assert csr.is_signature_valid
        self.request = request
        self.device = "dv_test"
        self.device_key = SSlibKey.from_crypto(csr.public_key())  # type: ignore[arg-type]
        roots = {"image_root": self.images.bootstrap, "director_root": self.director.bootstrap}
        encoded = {name: base64.b64encode(raw).decode() for name, raw in roots.items()}
        certificate = self._issue(request.csr_pem)
        return Reply(201, json.dumps({"device": self.device, **encoded, "certificate": certificate}).encode())

    def _session(self, headers: dict[str, str], body: bytes) -> Reply:
        assert headers["content-type"] == "application/json"
        envelope = Envelope.from_dict(json.loads(body))
        payload = json.loads(envelope.payload)
        assert envelope.payload_type == SESSION_PAYLOAD_TYPE
        if self.barred:
            return problem(401, self.barred)
        if self.device_key is None or payload != {"device": self.device, "challenge": "c-1", "audience": self.url}:
            return problem(401, "unknown_device")
        try:
            envelope.verify([self.device_key], 1)
        except VerificationError:
            return problem(401, "bad_signature")
        token = secrets.token_hex(8)
        self.sessions.add(token)
        return Reply(200, json.dumps({"token": token, "expires_s": 3600}).encode())

    def _is_over(self, headers: dict[str, str]) -> bool:
        return headers.get("authorization", "").removeprefix("Bearer ") not in self.sessions

    def _time(self, headers: dict[str, str], body: bytes) -> Reply:
        assert headers["content-type"] == "application/json"
        nonce = self.old_nonce or json.loads(body)["nonce"]
        return Reply(200, self.director.sign_time(nonce, self.clock()))

    def _certificate(self, headers: dict[str, str], body: bytes) -> Reply:
        if self._is_over(headers):
            return problem(401, "session_over")
        envelope = Envelope.from_dict(json.loads(body))
        assert envelope.payload_type == RENEWAL_PAYLOAD_TYPE
        assert self.device_key
        envelope.verify([self.device_key], 1)
        payload = json.loads(envelope.payload)
        assert payload["device"] == self.device
        return Reply(200, json.dumps({"certificate": self._issue(payload["csr_pem"])}).encode())

    def _issue(self, csr_pem: str) -> str | None:
        if self.certificate_life is None:
            return None
        csr, now = x509.load_pem_x509_csr(csr_pem.encode()), datetime.now(UTC) - self.certificate_age
        builder = x509.CertificateBuilder().subject_name(csr.subject).public_key(csr.public_key())
        builder = builder.issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")]))
        builder = builder.not_valid_before(now).not_valid_after(now + self.certificate_life)
        signed = builder.serial_number(x509.random_serial_number()).sign(self.certificate_key, hashes.SHA256())
        return signed.public_bytes(Encoding.PEM).decode()

    def _is_signed(self, headers: dict[str, str], body: bytes) -> bool:
        assert self.request
        key = x509.load_pem_x509_csr(self.request.csr_pem.encode()).public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        signature = base64.b64decode(headers[SIGNATURE_HEADER.lower()], validate=True)
        try:
            key.verify(signature, pre_authentication_encoding(REPORT_PAYLOAD_TYPE, body), ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True

    def _assignment(self, headers: dict[str, str], _body: bytes) -> Reply:
        if self._is_over(headers):
            return problem(401, "session_over")
        if self.envelope is None:
            return problem(503, "nothing_yet")
        tag = {"ETag": f'"{self.counter}"'}
        unchanged = headers.get("if-none-match") == tag["ETag"]
        return Reply(304, b"", tag) if unchanged else Reply(200, self.envelope, tag)

    def _reports(self, headers: dict[str, str], body: bytes) -> Reply:
        assert headers["content-type"] == "application/json"
        if self._is_over(headers):
            return problem(401, "session_over")
        batch = parse_report_batch(body)
        if not self._is_signed(headers, body) or batch.device != self.device:
            return problem(401, "E_REPORT_SIGNATURE")
        with self.lock:
            self.batches.setdefault(batch.batch, batch.to_json())
        return Reply(200, b"{}")

    def fault(self, path: str) -> Fault:
        """Take the next fault for a path."""
        for prefix, faults in self.faults.items():
            if path.startswith(prefix) and faults:
                return faults.pop(0)
        return Fault()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: DeviceApi

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def _answer(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        fault = self.api.fault(self.path)
        reply = self.api.answer(method, self.path, headers, body)
        if fault.status:
            reply = problem(fault.status, fault.code)
        if reply.status == 200 and self.path.startswith("/artifacts/"):
            reply = _ranged(reply, headers, self.path.rsplit("/", 1)[1], fault)
        if fault.retry_after:
            reply.headers["Retry-After"] = fault.retry_after
        try:
            self._send(reply, fault)
        except OSError:
            self.close_connection = True  # the agent went away in the middle

    def _send(self, reply: Reply, fault: Fault) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if fault.byte_every_s:
            for byte in reply.body:
                self.wfile.write(bytes([byte]))
                time.sleep(fault.byte_every_s)
            return
        body = reply.body if fault.cut_after is None else reply.body[: fault.cut_after]
        self.wfile.write(body)
        self.api.sent_bytes += len(body)
        self.close_connection = fault.cut_after is not None


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # an agent that went away is no error here
            super().handle_error(request, client_address)


def _ranged(reply: Reply, headers: dict[str, str], digest: str, fault: Fault) -> Reply:
    body = bytearray(reply.body)
    if fault.flip_at is not None:
        body[fault.flip_at] ^= 1
    tag = {"ETag": f'"sha256-{digest}"'}
    wanted = headers.get("range")
    if not wanted or fault.ignore_range or headers.get("if-range") != tag["ETag"]:
        return Reply(200, bytes(body), tag)
    start = int(wanted.removeprefix("bytes=").rstrip("-"))
    given = fault.content_range or f"bytes {start}-{len(body) - 1}/{len(body)}"
    return Reply(206, bytes(body[start:]), {**tag, "Content-Range": given})


@contextmanager
def device_api(clock: Clock = wall_clock) -> Iterator[DeviceApi]:
    """Serve a device API on a free loopback port; `clock` is the controller's."""
    api = DeviceApi(clock)
    handler = type("Handler", (_Handler,), {"api": api})
    server = _Server(("127.0.0.1", 0), handler)
    api.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
