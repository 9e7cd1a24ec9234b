"""Who a device is, over HTTP and on both databases: enrolment, sessions, reports, renewal, revocation, and attacks."""

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import Table, func, select

from controller.api.app import create_app
from controller.settings import Settings
from controller.store import tables
from controller.store.trust_tables import audit_entry, spent_challenge
from controller.trust.identity.device_ca import ClientCertificate, make_device_certificate, verify_client_certificate
from controller.use_cases.forget_challenges import forget_challenges
from controller.use_cases.revoke_device import revoke_device
from controller.wiring import Services, build
from device_agent.protocol.errors import ProtocolError
from device_agent.protocol.time_answer import verify_time_answer
from tests.support.attacks import Group, plays
from tests.support.device_server import services_at, serving
from tests.support.machines import Machine, new_token, serving_batch
from tests.support.waiting import wait_until


@pytest.fixture
def services(state_dir: Path, database_url: str) -> Iterator[Services]:
    services = services_at(state_dir, database_url)
    yield services
    services.database.engine.dispose()


@pytest.fixture
def http(services: Services) -> Iterator[httpx.Client]:
    with serving(create_app(services)) as client:
        yield client


@contextmanager
def served_with(services: Services, **settings: Any) -> Iterator[httpx.Client]:
    """Serve the same installation under other settings."""
    changed = build(Settings(**{**services.settings.model_dump(), **settings}))
    with serving(create_app(changed)) as client:
        yield client
    changed.database.engine.dispose()


@pytest.fixture
def camera(services: Services, http: httpx.Client) -> Machine:
    """An enrolled device with an open session."""
    return a_device(services, http, "cam")


def a_device(services: Services, http: httpx.Client, name: str) -> Machine:
    machine = Machine(http, name)
    assert machine.enrol(new_token(services)).status_code == 201
    assert machine.open_session().status_code == 200
    return machine


def codes(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def count(services: Services, table: Table) -> int:
    with services.database.reading() as tx:
        return int(tx.execute(select(func.count()).select_from(table)).scalar_one())


def stored(services: Services, name: str) -> Any:
    with services.database.reading() as tx:
        return tx.execute(select(tables.device).where(tables.device.c.name == name)).one()


def operator(services: Services, http: httpx.Client, path: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {services.operator_token}"}
    return http.post(f"/api/v1{path}", headers=headers)


class TestEnrolment:
    def test_a_device_gets_a_certificate_of_its_key_and_what_it_told_is_kept(
        self, services: Services, http: httpx.Client
    ) -> None:
        machine = Machine(http, "cam", serial="S-7")
        answer = machine.enrol(new_token(services)).json()
        certificate = x509.load_pem_x509_certificate(answer["certificate"].encode())
        der, now = certificate.public_bytes(Encoding.DER), services.clock()
        found = verify_client_certificate(der, services.signer.ca_certificate(), now)
        assert isinstance(found, ClientCertificate)
        row = stored(services, "cam")
        assert (found.device, found.serial) == (row.id, row.certificate_serial)
        assert (row.serial, row.certificate_expires_at) == ("S-7", certificate.not_valid_after_utc)
        assert (row.public_key_pem, len(base64.b64decode(row.encryption_key))) == (found.public_key_pem, 32)

    @plays(Group.IDENTITY, "an enrolment token is used a second time", "E_ENROL_TOKEN")
    def test_a_token_that_was_used_is_refused_to_another_machine(self, services: Services, http: httpx.Client) -> None:
        token = new_token(services)
        Machine(http, "one").enrol(token)
        refused = Machine(http, "two").enrol(token)
        assert codes(refused) == (401, "E_ENROL_TOKEN")
        assert "used up" in refused.json()["detail"]

    @plays(Group.IDENTITY, "an expired enrolment token is used", "E_ENROL_TOKEN")
    def test_an_expired_token_is_refused(self, services: Services, http: httpx.Client) -> None:
        refused = Machine(http, "cam").enrol(new_token(services, age=timedelta(hours=2)))
        assert codes(refused) == (401, "E_ENROL_TOKEN")
        assert "expired" in refused.json()["detail"]

    @pytest.mark.parametrize("serial", [None, "S-8"])
    @plays(
        Group.IDENTITY,
        "a found enrolment token is used on another machine than the one it is bound to",
        "E_ENROL_TOKEN",
    )
    def test_a_token_that_is_bound_to_another_serial_number_is_refused_and_not_used_up(
        self, services: Services, http: httpx.Client, serial: str | None
    ) -> None:
        token = new_token(services, serial="S-7")
        refused = Machine(http, "cam", serial=serial).enrol(token)
        assert codes(refused) == (401, "E_ENROL_TOKEN")
        assert "S-7" not in refused.json()["detail"]
        assert Machine(http, "cam", serial="S-7").enrol(token).status_code == 201

    @pytest.mark.parametrize("spoil", [lambda t: t.replace("_", "_0", 1), lambda t: t[:-40] + "0" + t[-39:], str.upper])
    @plays(Group.IDENTITY, "an enrolment token is made up", "E_ENROL_TOKEN")
    def test_a_token_that_was_never_given_out_is_refused(
        self, services: Services, http: httpx.Client, spoil: Callable[[str], str]
    ) -> None:
        assert codes(Machine(http, "cam").enrol(spoil(new_token(services)))) == (401, "E_ENROL_TOKEN")

    def test_a_machine_that_was_registered_before_gets_the_name_it_was_given(
        self, services: Services, http: httpx.Client
    ) -> None:
        token = new_token(services, serial="S-7", device_name="cam-1")
        assert Machine(http, "some-host", serial="S-7").enrol(token).status_code == 201
        assert stored(services, "cam-1").state == "approved"


class TestApproval:
    def test_a_device_that_waits_asks_with_the_same_request_until_it_is_approved(
        self, services: Services, http: httpx.Client
    ) -> None:
        token, machine = new_token(services, needs_approval=True), Machine(http, "cam")
        waiting = [machine.enrol(token) for _ in range(2)]
        expected = (202, {"device": machine.device_id, "status": "pending"})
        assert [(answer.status_code, answer.json()) for answer in waiting] == [expected, expected]
        assert operator(services, http, "/devices/cam:approve").json()["state"] == "approved"
        approved = machine.enrol(token)
        assert (approved.status_code, approved.json()["device"]) == (201, machine.device_id)
        assert count(services, tables.device) == 1

    @plays(Group.IDENTITY, "a machine that nobody approved opens a session", "E_DEVICE_PENDING")
    def test_a_device_that_waits_opens_no_session(self, services: Services, http: httpx.Client) -> None:
        machine = Machine(http, "cam")
        machine.enrol(new_token(services, needs_approval=True))
        assert codes(machine.open_session()) == (401, "E_DEVICE_PENDING")

    def test_a_device_that_waits_is_in_no_group_and_its_explanation_says_so(
        self, services: Services, http: httpx.Client
    ) -> None:
        Machine(http, "cam").enrol(new_token(services, needs_approval=True))
        headers = {"Authorization": f"Bearer {services.operator_token}"}
        assert http.get("/api/v1/groups/all", headers=headers).json()["devices"] == 0
        assert http.get("/api/v1/devices/cam/explanation", headers=headers).json()["state"] == "pending"
        [shown] = http.get("/api/v1/devices", headers=headers).json()["items"]
        assert shown["state"] == "pending"

    def test_a_revoked_device_is_never_approved_again(self, services: Services, http: httpx.Client) -> None:
        a_device(services, http, "cam")
        operator(services, http, "/devices/cam:revoke")
        assert codes(operator(services, http, "/devices/cam:approve")) == (409, "device_revoked")

    def test_what_people_decide_about_devices_is_in_the_audit_log_once(
        self, services: Services, http: httpx.Client
    ) -> None:
        machine = Machine(http, "cam")
        machine.enrol(new_token(services, needs_approval=True))
        for verb in ("approve", "approve", "revoke", "revoke"):
            assert operator(services, http, f"/devices/{machine.device_id}:{verb}").status_code == 200
        with services.database.reading() as tx:
            actions = list(tx.execute(select(audit_entry.c.action).order_by(audit_entry.c.seq)).scalars())
        assert actions == ["token.created", "device.approved", "device.revoked"]

    def test_a_device_that_calls_itself_by_anothers_id_is_not_decided_in_its_place(
        self, services: Services, http: httpx.Client, camera: Machine
    ) -> None:
        Machine(http, camera.device_id).enrol(new_token(services))
        assert operator(services, http, f"/devices/{camera.device_id}:revoke").json()["name"] == "cam"


class TestSession:
    def test_a_challenge_opens_one_session(self, camera: Machine) -> None:
        challenge = camera.challenge()
        assert camera.open_session(challenge=challenge).status_code == 200
        assert codes(camera.open_session(challenge=challenge)) == (401, "E_REPLAY")

    @plays(Group.IDENTITY, "a captured answer to a challenge is sent to another process of the controller", "E_REPLAY")
    def test_a_captured_answer_opens_no_second_session_in_another_process(
        self, services: Services, camera: Machine, http: httpx.Client
    ) -> None:
        captured = camera.session_envelope(camera.challenge())
        assert http.post("/device/v1/session", json=captured).status_code == 200
        with served_with(services) as other:
            assert codes(other.post("/device/v1/session", json=captured)) == (401, "E_REPLAY")

    @plays(Group.IDENTITY, "a session is opened in another device's name", "E_REQUEST_SIGNATURE")
    def test_another_machines_key_opens_no_session_and_spends_nothing(
        self, services: Services, http: httpx.Client, camera: Machine
    ) -> None:
        spent, challenge = count(services, spent_challenge), camera.challenge()
        thief = Machine(http, "thief", device_id=camera.device_id)
        assert codes(thief.open_session(challenge=challenge)) == (401, "E_REQUEST_SIGNATURE")
        assert count(services, spent_challenge) == spent
        assert camera.open_session(challenge=challenge).status_code == 200

    @plays(Group.IDENTITY, "a signed session request is changed on its way", "E_REQUEST_SIGNATURE")
    def test_an_answer_that_was_changed_is_refused(self, http: httpx.Client, camera: Machine) -> None:
        body = camera.session_envelope(camera.challenge())
        payload = json.loads(base64.b64decode(body["payload"]))
        changed = json.dumps({**payload, "audience": "https://other"}).encode()
        body["payload"] = base64.b64encode(changed).decode()
        assert codes(http.post("/device/v1/session", json=body)) == (401, "E_REQUEST_SIGNATURE")

    @plays(Group.IDENTITY, "a man in the middle passes on what a device signed for him", "E_REQUEST_SIGNATURE")
    def test_an_answer_to_somebody_between_is_refused_by_the_controller(
        self, services: Services, camera: Machine
    ) -> None:
        with served_with(services, device_audiences="https://fleet.example.org, https://10.0.0.7:8600") as client:
            machine = camera.copy(http=client)
            assert codes(machine.open_session(audience="https://thief")) == (401, "E_REQUEST_SIGNATURE")
            assert machine.open_session(audience="https://10.0.0.7:8600").status_code == 200

    def test_a_stranger_opens_no_session(self, http: httpx.Client) -> None:
        assert codes(Machine(http, "stranger", device_id="dv_no").open_session()) == (401, "E_DEVICE_UNKNOWN")

    def test_spent_challenges_are_forgotten_when_they_are_over_and_not_before(
        self, services: Services, camera: Machine
    ) -> None:
        assert camera.token
        assert forget_challenges(services.database, now=services.clock()) == 0
        assert forget_challenges(services.database, now=services.clock() + timedelta(minutes=2)) == 1


class TestReports:
    @plays(Group.IDENTITY, "a report without a signature, or with one of another body", "E_SIG_THRESHOLD[report]")
    def test_a_report_that_nobody_signed_is_dropped(self, camera: Machine) -> None:
        body = json.dumps(camera.numbered(serving_batch("b")).to_json()).encode()
        for signature in ("", "AAAA", camera.report_signature(body + b" ")):
            assert codes(camera.send(body, signature=signature)) == (400, "E_SIG_THRESHOLD[report]")

    @plays(Group.IDENTITY, "a report that another device signed, in a stolen session", "E_SIG_THRESHOLD[report]")
    def test_a_report_that_another_device_signed_is_dropped(
        self, services: Services, http: httpx.Client, camera: Machine
    ) -> None:
        other = a_device(services, http, "other")
        body = json.dumps(other.numbered(serving_batch("b")).to_json()).encode()
        assert codes(camera.send(body, signature=other.report_signature(body))) == (400, "E_SIG_THRESHOLD[report]")

    @plays(Group.IDENTITY, "a device reports in the name of another one", "E_WRONG_DEVICE")
    def test_a_report_in_the_name_of_another_device_is_refused(
        self, services: Services, http: httpx.Client, camera: Machine
    ) -> None:
        other = a_device(services, http, "other")
        batch = replace(camera.numbered(serving_batch("b")), device=other.device_id)
        assert codes(camera.send(json.dumps(batch.to_json()).encode())) == (403, "E_WRONG_DEVICE")
        assert count(services, tables.report_batch) == 0

    @plays(Group.IDENTITY, "a captured report is sent again after later ones", "E_REPORT_REPLAY")
    def test_a_captured_report_is_a_replay(self, camera: Machine) -> None:
        captured = json.dumps(camera.numbered(serving_batch("b1")).to_json()).encode()
        assert camera.send(captured).status_code == 200
        assert camera.report(serving_batch("b2")).status_code == 200
        assert codes(camera.send(captured)) == (409, "E_REPORT_REPLAY")

    @plays(Group.IDENTITY, "a disk is copied, and two machines report under one key", "E_CLONE_SUSPECTED")
    def test_two_machines_with_one_key_are_suspected_until_an_operator_clears_them(
        self, services: Services, http: httpx.Client, camera: Machine
    ) -> None:
        twin = camera.copy(name="twin")
        assert camera.report(serving_batch("of-the-first")).status_code == 200
        assert codes(twin.report(serving_batch("of-the-second"))) == (409, "E_CLONE_SUSPECTED")
        assert codes(camera.report(serving_batch("next"))) == (409, "E_CLONE_SUSPECTED")
        assert camera.poll().status_code == 200
        assert "two machines" in stored(services, "cam").suspicion
        assert operator(services, http, "/devices/cam:clear-suspicion").json()["suspicion"] is None
        assert camera.report(serving_batch("later")).status_code == 200


class TestRenewal:
    def test_a_device_renews_its_certificate_for_the_same_key(self, services: Services, camera: Machine) -> None:
        before = stored(services, "cam")
        renewed = camera.renew()
        after = stored(services, "cam")
        assert renewed.status_code == 200
        serial = x509.load_pem_x509_certificate(renewed.json()["certificate"].encode()).serial_number
        assert (after.certificate_serial, after.public_key_pem) == (f"{serial:x}", before.public_key_pem)
        assert after.certificate_serial != before.certificate_serial

    @plays(Group.IDENTITY, "a copied key is used after the device has replaced it", "E_REQUEST_SIGNATURE")
    def test_with_a_new_key_the_old_one_is_worth_nothing(self, camera: Machine) -> None:
        old = camera.copy()
        assert camera.renew(key=ec.generate_private_key(ec.SECP256R1())).status_code == 200
        assert camera.open_session().status_code == 200
        assert camera.report(serving_batch("under-the-new-key")).status_code == 200
        assert codes(old.open_session()) == (401, "E_REQUEST_SIGNATURE")
        assert codes(old.renew()) == (401, "E_REQUEST_SIGNATURE")

    @plays(Group.IDENTITY, "a stolen session asks for a certificate of a key of its own", "E_REQUEST_SIGNATURE")
    def test_only_the_key_of_the_device_renews_it(
        self, services: Services, http: httpx.Client, camera: Machine
    ) -> None:
        thief = Machine(http, "thief", device_id=camera.device_id, token=camera.token)
        assert codes(thief.renew()) == (401, "E_REQUEST_SIGNATURE")
        other = a_device(services, http, "other")
        assert codes(camera.renew(device_id=other.device_id)) == (403, "E_WRONG_DEVICE")

    def test_without_a_session_nothing_is_renewed(self, camera: Machine) -> None:
        assert codes(camera.copy(token="none").renew()) == (401, "session_over")

    def test_a_key_on_another_curve_is_refused(self, camera: Machine) -> None:
        assert codes(camera.renew(key=ec.generate_private_key(ec.SECP384R1()))) == (422, "E_KEY_TYPE")

    @pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff", b"[" * 9000])
    def test_what_is_no_envelope_is_refused(self, http: httpx.Client, camera: Machine, body: bytes) -> None:
        headers = {"Authorization": f"Bearer {camera.token}"}
        answer = http.post("/device/v1/certificate", headers=headers, content=body)
        assert codes(answer) == (422, "E_MALFORMED")


class TestRevocation:
    @plays(Group.IDENTITY, "a stolen device goes on after it was revoked", "E_DEVICE_REVOKED")
    def test_a_revoked_device_gets_nothing_more_in_any_process(
        self, services: Services, http: httpx.Client, camera: Machine
    ) -> None:
        with served_with(services) as elsewhere:
            tags = {client: camera.poll(over=client).headers["etag"] for client in (http, elsewhere)}
            assert operator(services, http, "/devices/cam:revoke").json()["state"] == "revoked"
            for client, tag in tags.items():
                wait_until(
                    lambda client=client, tag=tag: camera.poll(tag, over=client).status_code == 401,
                    what="the revocation",
                )
        assert codes(camera.open_session()) == (401, "E_DEVICE_REVOKED")

    def test_its_reports_and_its_renewal_are_refused_at_once(self, services: Services, camera: Machine) -> None:
        revoke_device(services.database, "cam", now=services.clock())
        assert codes(camera.report(serving_batch("b"))) == (401, "E_DEVICE_REVOKED")
        assert codes(camera.renew()) == (401, "E_DEVICE_REVOKED")

    def test_its_enrolment_is_not_answered_again(self, services: Services, http: httpx.Client) -> None:
        token, machine = new_token(services), Machine(http, "cam")
        machine.enrol(token)
        revoke_device(services.database, "cam", now=services.clock())
        assert codes(machine.enrol(token)) == (401, "E_DEVICE_REVOKED")


class TestTime:
    def test_the_director_says_the_time_to_whoever_made_up_the_nonce(
        self, services: Services, http: httpx.Client
    ) -> None:
        answer = http.post("/device/v1/time", json={"nonce": "ab" * 16})
        assert answer.status_code == 200
        said = verify_time_answer(answer.content, root=services.director.root, nonce="ab" * 16)
        assert abs(said - services.clock()) < timedelta(seconds=30)
        with pytest.raises(ProtocolError, match="E_TIME_REPLAY"):
            verify_time_answer(answer.content, root=services.director.root, nonce="cd" * 16)

    @pytest.mark.parametrize("nonce", ["ab" * 7, "ab" * 33, "AB" * 16, "xyz" * 8, 7, None, "ab" * 16 + "\n"])
    def test_a_nonce_that_is_no_16_to_64_hexadecimal_digits_is_refused(self, http: httpx.Client, nonce: object) -> None:
        assert codes(http.post("/device/v1/time", json={"nonce": nonce})) == (400, "E_MALFORMED[time]")

    def test_an_endless_question_is_refused(self, http: httpx.Client) -> None:
        assert codes(http.post("/device/v1/time", content=b" " * 10_000)) == (400, "E_ENDLESS_DATA[body]")


class TestClientCertificates:
    """The test speaks from the loopback address, as a proxy would that is trusted there."""

    @pytest.fixture
    def proxied(self, services: Services) -> Iterator[httpx.Client]:
        with served_with(services, client_certificates="required", trusted_proxies="127.0.0.1/32") as client:
            yield client

    def certificate_of(self, services: Services, name: str) -> bytes:
        row = stored(services, name)
        pem = services.signer.issue_certificate(row.id, row.public_key_pem)
        return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)

    def header(self, der: bytes) -> dict[str, str]:
        return {"Client-Cert": f":{base64.b64encode(der).decode()}:"}

    def test_a_device_opens_a_session_with_its_own_certificate(
        self, services: Services, camera: Machine, proxied: httpx.Client
    ) -> None:
        headers = self.header(self.certificate_of(services, "cam"))
        assert camera.copy(http=proxied).open_session(headers=headers).status_code == 200

    @plays(Group.IDENTITY, "a device shows no client certificate where one is asked for", "E_DEVICE_CERT")
    def test_without_a_certificate_no_session_is_opened(self, camera: Machine, proxied: httpx.Client) -> None:
        assert codes(camera.copy(http=proxied).open_session()) == (401, "E_DEVICE_CERT")

    @plays(Group.IDENTITY, "a device shows another one's client certificate", "E_DEVICE_CERT")
    def test_another_devices_certificate_opens_no_session(
        self, services: Services, http: httpx.Client, camera: Machine, proxied: httpx.Client
    ) -> None:
        a_device(services, http, "other")
        headers = self.header(self.certificate_of(services, "other"))
        assert codes(camera.copy(http=proxied).open_session(headers=headers)) == (401, "E_DEVICE_CERT")

    @plays(Group.IDENTITY, "a client certificate is forged in the CA's name", "E_DEVICE_CERT")
    def test_a_certificate_of_another_ca_opens_no_session(
        self, services: Services, camera: Machine, proxied: httpx.Client
    ) -> None:
        row, key = stored(services, "cam"), ec.generate_private_key(ec.SECP256R1())
        ca = x509.load_pem_x509_certificate(services.signer.ca_certificate())
        forged = make_device_certificate(ca, key, row.id, row.public_key_pem, services.clock())
        headers = self.header(forged.public_bytes(Encoding.DER))
        assert codes(camera.copy(http=proxied).open_session(headers=headers)) == (401, "E_DEVICE_CERT")

    def test_a_certificate_of_a_key_that_was_replaced_opens_no_session(
        self, services: Services, camera: Machine, proxied: httpx.Client
    ) -> None:
        headers = self.header(self.certificate_of(services, "cam"))
        camera.renew(key=ec.generate_private_key(ec.SECP256R1()))
        assert codes(camera.copy(http=proxied).open_session(headers=headers)) == (401, "E_DEVICE_CERT")

    @plays(Group.IDENTITY, "a revoked client certificate is shown", "E_DEVICE_CERT")
    def test_a_revoked_certificate_opens_no_session(
        self, services: Services, camera: Machine, proxied: httpx.Client
    ) -> None:
        headers = self.header(self.certificate_of(services, "cam"))
        revoke_device(services.database, "cam", now=services.clock())
        assert codes(camera.copy(http=proxied).open_session(headers=headers)) == (401, "E_DEVICE_CERT")

    @plays(Group.IDENTITY, "a good certificate is claimed in a header, past the proxy", "E_DEVICE_CERT")
    def test_a_header_from_anybody_but_the_proxy_is_worth_nothing(self, services: Services, camera: Machine) -> None:
        headers = self.header(self.certificate_of(services, "cam"))
        with served_with(services, client_certificates="required", trusted_proxies="10.9.9.0/24, unix:") as client:
            assert codes(camera.copy(http=client).open_session(headers=headers)) == (401, "E_DEVICE_CERT")

    def test_where_no_certificates_are_asked_for_the_header_is_not_looked_at(self, camera: Machine) -> None:
        assert camera.open_session(headers=self.header(b"anything")).status_code == 200

    def test_certificates_cannot_be_asked_for_without_a_proxy_that_sees_them(self, services: Services) -> None:
        with pytest.raises(ValueError, match="trusted_proxies is empty"):
            Settings(**{**services.settings.model_dump(), "client_certificates": "required"})
