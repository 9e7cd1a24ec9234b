"""A machine that speaks the device API over HTTP, without an agent: enrols, opens a session, polls, reports."""

import base64
import json
import platform
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner

from controller.trust.identity.enrolment import new_enrolment_token
from controller.use_cases.create_enrolment_token import TokenTerms, create_enrolment_token
from controller.wiring import Services
from device_agent.protocol.dsse import pre_authentication_encoding
from device_agent.protocol.messages import (
    RENEWAL_PAYLOAD_TYPE,
    REPORT_PAYLOAD_TYPE,
    SESSION_PAYLOAD_TYPE,
    SIGNATURE_HEADER,
    EnrolmentRequest,
    ReportBatch,
    ServingItem,
)
from device_agent.protocol.profile import DeviceProfile

ENCRYPTION_KEY = base64.b64encode(bytes(range(32))).decode()
"""Stands for an X25519 key where none is used."""


@dataclass
class Machine:
    """One machine with its own P-256 key, which numbers its reports by itself."""

    http: httpx.Client
    name: str
    labels: dict[str, str] = field(default_factory=dict)
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    device_id: str = ""
    token: str = "none"
    serial: str | None = None
    spool: str = "spool-1"
    seq: int = 0

    def copy(self, **changes: Any) -> "Machine":
        """Return another machine with all that this one has: what a copied disk makes."""
        return replace(self, **changes)

    def csr_pem(self, key: ec.EllipticCurvePrivateKey | None = None) -> str:
        """Return a certificate signing request of the key, or of another one."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
        return builder.sign(key or self.key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()

    def enrol(self, token: str) -> httpx.Response:
        """Show a one-time token; keep the id when the controller gives one."""
        profile = DeviceProfile("camera", platform.machine(), "onnxruntime", "1.32.0", 26, ("fp32",), 10**9)
        request = EnrolmentRequest(token, self.csr_pem(), self.name, profile, self.labels, ENCRYPTION_KEY, self.serial)
        answer = self.http.post("/device/v1/enrol", json=request.to_json())
        self.device_id = answer.json().get("device", self.device_id)
        return answer

    def challenge(self) -> str:
        """Return a challenge of the controller."""
        return str(self.http.get("/device/v1/challenge").json()["challenge"])

    def session_envelope(self, challenge: str, *, audience: str | None = None) -> dict[str, Any]:
        """Return the signed answer to a challenge."""
        payload = {"device": self.device_id, "challenge": challenge, "audience": audience or str(self.http.base_url)}
        return self.envelope(payload, SESSION_PAYLOAD_TYPE)

    def open_session(
        self, *, challenge: str | None = None, audience: str | None = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """Sign a challenge; keep the session's token when the controller gives one."""
        body = self.session_envelope(challenge or self.challenge(), audience=audience)
        answer = self.http.post("/device/v1/session", json=body, headers=headers)
        self.token = answer.json().get("token", self.token)
        return answer

    def poll(self, etag: str | None = None, *, over: httpx.Client | None = None) -> httpx.Response:
        """Ask for the assignment, of another process where `over` leads to one."""
        headers = self._authorization() | ({"If-None-Match": etag} if etag else {})
        return (over or self.http).get("/device/v1/assignment", headers=headers)

    def numbered(self, batch: ReportBatch) -> ReportBatch:
        """Return the batch as this machine's next one."""
        self.seq += 1
        return replace(batch, device=self.device_id, spool=self.spool, seq=self.seq)

    def report(self, batch: ReportBatch) -> httpx.Response:
        """Send a batch as this machine's next one."""
        return self.send(json.dumps(self.numbered(batch).to_json()).encode())

    def send(self, body: bytes, *, signature: str | None = None) -> httpx.Response:
        """Send a body as a report, signed unless another signature is given."""
        signature = self.report_signature(body) if signature is None else signature
        headers = {**self._authorization(), "Content-Type": "application/json", SIGNATURE_HEADER: signature}
        return self.http.post("/device/v1/reports", headers=headers, content=body)

    def report_signature(self, body: bytes) -> str:
        """Return what goes beside a report."""
        return signature_of(self.key, body)

    def renew(self, *, key: ec.EllipticCurvePrivateKey | None = None, device_id: str | None = None) -> httpx.Response:
        """Ask for a new certificate, for a new key where one is given; the machine keeps it from then on."""
        payload = {"device": device_id or self.device_id, "csr_pem": self.csr_pem(key)}
        body = self.envelope(payload, RENEWAL_PAYLOAD_TYPE)
        answer = self.http.post("/device/v1/certificate", headers=self._authorization(), json=body)
        if key and answer.status_code == 200:
            self.key = key
        return answer

    def envelope(self, payload: dict[str, Any], payload_type: str) -> dict[str, Any]:
        """Return a DSSE envelope under this machine's key."""
        envelope = Envelope(json.dumps(payload).encode(), payload_type, {})
        envelope.sign(CryptoSigner(self.key))
        signed: dict[str, Any] = envelope.to_dict()
        return signed

    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


def new_token(
    services: Services, *, ttl: timedelta = timedelta(hours=1), age: timedelta = timedelta(0), **terms: Any
) -> str:
    """Return the text of an enrolment token that was made so long ago; what `TokenTerms` does not know is a label."""
    named = {name: terms.pop(name) for name in [*terms] if name in TokenTerms.__dataclass_fields__}
    token = new_enrolment_token(services.image_repository.roots.first_bytes(), services.director_root)
    wanted = TokenTerms(ttl, labels=terms, **named)
    return create_enrolment_token(services.database, token, wanted, now=services.clock() - age).text


def signature_of(key: ec.EllipticCurvePrivateKey, body: bytes) -> str:
    """Return a device's signature of a report, as the header carries it."""
    signed = pre_authentication_encoding(REPORT_PAYLOAD_TYPE, body)
    return base64.b64encode(key.sign(signed, ec.ECDSA(hashes.SHA256()))).decode()


def serving_batch(name: str, *items: ServingItem) -> ReportBatch:
    """Return a batch of what slots served, to be numbered by the machine that sends it."""
    return ReportBatch(name, "boot", 0, items, "", "", 0)
