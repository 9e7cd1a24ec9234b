"""Enrolment that waits for people, certificates, revocation, and reports that nobody else can make."""

import datetime as dt
import http.server
import ipaddress
import json
import ssl
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from device_agent.protocol.errors import ProtocolError
from device_agent.protocol.messages import parse_report_batch
from device_agent.transport import Transport
from tests.support.agents import AgentProcess, an_agent, publish_model
from tests.support.device_api import DeviceApi, Fault
from tests.support.waiting import wait_until

YEAR = timedelta(days=365)


def certificate_of(agent: AgentProcess) -> x509.Certificate:
    return x509.load_pem_x509_certificate((agent.state / "device.crt").read_bytes())


def make_healthy(api: DeviceApi, work: Path, version: int) -> None:
    counter = api.assign({"digits": publish_model(api, work, version).assigned()})
    wait_until(lambda: "healthy" in api.states(counter), what=f"version {version} to be healthy")


def test_a_machine_that_has_to_be_approved_waits_and_then_works(api: DeviceApi, tmp_path: Path) -> None:
    api.needs_approval = True
    with an_agent(api, tmp_path, enrolled=False, top='serial = "SN-7"\n') as agent:
        wait_until(lambda: len(api.paths("/device/v1/enrol")) >= 3, what="the machine to ask again")
        assert "waits to be approved" in agent.log.read_text()
        assert not (agent.state / "identity").exists()
        api.needs_approval = False
        wait_until(lambda: api.device, what="the approval to be noticed")
        assert api.request
        assert api.request.serial == "SN-7"
        make_healthy(api, tmp_path, 1)


def test_a_certificate_is_renewed_when_less_than_a_third_of_its_life_is_left(api: DeviceApi, tmp_path: Path) -> None:
    api.certificate_life, api.certificate_age = timedelta(days=90), timedelta(days=65)
    with an_agent(api, tmp_path) as agent:
        wait_until((agent.state / "identity").exists, what="the identity")
        first = certificate_of(agent)
        api.certificate_age = timedelta()
        wait_until(lambda: certificate_of(agent) != first, what="the new certificate")
        assert certificate_of(agent).public_key() == first.public_key()
        assert len(api.paths("/device/v1/certificate")) == 1


@pytest.mark.parametrize("code", ["E_DEVICE_REVOKED", "E_DEVICE_PENDING"])
def test_a_device_that_is_barred_slows_down_and_goes_on_serving(api: DeviceApi, tmp_path: Path, code: str) -> None:
    with an_agent(api, tmp_path) as agent:
        make_healthy(api, tmp_path, 1)
        api.barred = code
        api.sessions.clear()
        wait_until(lambda: f"the controller refuses: {code}" in agent.log.read_text(), what="the refusal")
        assert agent.answer_version() == "1"


def test_every_report_is_signed_and_numbered_and_a_batch_taken_before_is_forgotten(
    api: DeviceApi, tmp_path: Path
) -> None:
    api.faults["/device/v1/reports"] = [Fault(status=409, code="E_REPORT_REPLAY")]
    with an_agent(api, tmp_path) as agent:
        make_healthy(api, tmp_path, 1)
        wait_until(lambda: "was taken before" in agent.log.read_text(), what="the replay to be noticed")
        wait_until(lambda: len(api.batches) >= 3, what="more reports")
        numbers = [parse_report_batch(json.dumps(batch).encode()) for batch in api.batches.values()]
        assert [batch.seq for batch in numbers] == list(range(1, len(numbers) + 1))
        assert {(batch.device, batch.spool) for batch in numbers} == {("dv_test", numbers[0].spool)}


def test_a_device_that_is_suspected_to_be_a_clone_keeps_its_reports_and_goes_on_polling(
    api: DeviceApi, tmp_path: Path
) -> None:
    api.faults["/device/v1/reports"] = [Fault(status=409, code="E_CLONE_SUSPECTED")] * 100
    with an_agent(api, tmp_path) as agent:
        api.assign({"digits": publish_model(api, tmp_path, 1).assigned()})
        wait_until(lambda: "reports are kept" in agent.log.read_text(), what="the suspicion")
        wait_until(lambda: agent.serving().get("slots"), what="the model to be served all the same")
        polls = len(api.paths("/device/v1/assignment"))
        wait_until(lambda: len(api.paths("/device/v1/assignment")) > polls + 3, what="polls")
        api.faults.clear()
        assert agent.stop() == 0
        agent.start()
        wait_until(api.items, what="the reports that were kept")
        assert next(iter(api.batches.values()))["seq"] == 1


def _signed(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, issuer_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(
        issuer_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]),
        subject_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - YEAR,
        not_valid_after=now + YEAR,
    )
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = builder.add_extension(address, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=name == issuer, path_length=None), critical=True)
    return builder.sign(issuer_key, hashes.SHA256())


def _write_pair(directory: Path, name: str, issuer: str, issuer_key: ec.EllipticCurvePrivateKey | None) -> None:
    key = ec.generate_private_key(ec.SECP256R1()) if name != issuer else issuer_key
    assert key
    certificate = _signed(name, key, issuer, issuer_key or key)
    (directory / f"{name}.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (directory / f"{name}.key").write_bytes(key.private_bytes(*form))


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[str]:
    """A server that shows its certificate and asks for one."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    for name in ("ca", "server", "device"):
        _write_pair(tmp_path, name, "ca", ca_key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    context.load_verify_locations(tmp_path / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"https://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_proxy_that_asks_for_the_devices_certificate_is_shown_it(proxy: str, tmp_path: Path) -> None:
    pair = (str(tmp_path / "device.crt"), str(tmp_path / "device.key"))
    known = Transport(ca_file=str(tmp_path / "ca.crt"), client_certificate=pair)
    assert known.call("GET", proxy, bytes_max=100).status == 204
    unknown = Transport(ca_file=str(tmp_path / "ca.crt"))
    with pytest.raises(ProtocolError) as caught:
        unknown.call("GET", proxy, bytes_max=100)
    assert caught.value.label == "E_NETWORK"
