"""A machine that speaks the device API over HTTP, without an agent: enrols, opens a session, polls, reports."""

import json
import platform
from dataclasses import dataclass, field
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner

from device_agent.protocol.messages import SESSION_PAYLOAD_TYPE, EnrolmentRequest, ReportBatch, ServingItem
from device_agent.protocol.profile import DeviceProfile


@dataclass
class Machine:
    """One machine with its own P-256 key."""

    http: httpx.Client
    name: str
    labels: dict[str, str] = field(default_factory=dict)
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    device_id: str = ""
    token: str = "none"

    def csr_pem(self) -> str:
        """Return a certificate signing request of the key."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        signed = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(self.key, hashes.SHA256())
        return signed.public_bytes(Encoding.PEM).decode()

    def enrol(self, token: str) -> httpx.Response:
        """Show a one-time token; keep the id when the controller gives one."""
        profile = DeviceProfile("camera", platform.machine(), "onnxruntime", "1.32.0", 26, ("fp32",), 10**9)
        request = EnrolmentRequest(token, self.csr_pem(), self.name, profile, self.labels)
        answer = self.http.post("/device/v1/enrol", json=request.to_json())
        self.device_id = answer.json().get("device", "")
        return answer

    def open_session(self, *, challenge: str | None = None) -> httpx.Response:
        """Sign a challenge; keep the session's token when the controller gives one."""
        challenge = challenge or self.http.get("/device/v1/challenge").json()["challenge"]
        payload = json.dumps({"device": self.device_id, "challenge": challenge}).encode()
        envelope = Envelope(payload, SESSION_PAYLOAD_TYPE, {})
        envelope.sign(CryptoSigner(self.key))
        answer = self.http.post("/device/v1/session", json=envelope.to_dict())
        self.token = answer.json().get("token", "")
        return answer

    def poll(self, etag: str | None = None, *, over: httpx.Client | None = None) -> httpx.Response:
        """Ask for the assignment, of another process where `over` leads to one."""
        headers = self._authorization() | ({"If-None-Match": etag} if etag else {})
        return (over or self.http).get("/device/v1/assignment", headers=headers)

    def report(self, batch: ReportBatch | dict[str, Any]) -> httpx.Response:
        """Send a batch of reports."""
        body = batch.to_json() if isinstance(batch, ReportBatch) else batch
        return self.http.post("/device/v1/reports", headers=self._authorization(), json=body)

    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


def serving_batch(name: str, *items: ServingItem) -> ReportBatch:
    """Return a batch of what slots served."""
    return ReportBatch(name, "boot", 0, items)
