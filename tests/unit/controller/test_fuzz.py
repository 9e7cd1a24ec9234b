"""Every parser of the controller that takes bytes from elsewhere: devices, people, proxies, sticks, its own API host.

Each input ends in a value, in a `Refusal`, or in an error that the API turns into an answer.
"""

import base64
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner, Signature
from tuf.api.metadata import Metadata, Root, TargetFile, Targets

from controller.api.trusted_proxies import TrustedProxies
from controller.artifacts.recipes import parse_recipe
from controller.cli.errors import CommandFailed
from controller.cli.recipe import _read as read_recipe_file
from controller.domain.errors import EdgefleetError
from controller.domain.fleet import parse_selector
from controller.domain.operators import split_token
from controller.trust.approvals import Approval, open_approval, sign_approval
from controller.trust.ceremonies import ceremony
from controller.trust.ceremonies.ceremony_folder import read_ceremony
from controller.trust.ceremonies.ceremony_summary import lines
from controller.trust.ceremonies.role_changes import RoleKeys, new_trust
from controller.trust.custody.public_keys import read_public_key, write_public_key
from controller.trust.identity.device_ca import make_ca_certificate, make_device_certificate, verify_client_certificate
from controller.trust.identity.device_envelopes import is_signed_by, read_device_envelope
from controller.trust.identity.enrolment import read_csr
from controller.trust.identity.report_signatures import is_report_signed
from controller.trust.identity.sessions import SessionRequest, Sessions, read_session_request
from controller.trust.images.image_roles import manifest_target
from controller.trust.images.release_roles import ROLE_FIELD, role_named_by, status_of, with_signature
from controller.trust.images.signed_documents import read_document
from controller.trust.lineage.verification import read_bundle, verify_lineage
from controller.trust.signer.assignment_rules import AssignmentRules
from controller.trust.signer.interface import StatementKind
from controller.trust.signer.role_rules import check_role
from controller.trust.signer.statement_rules import check_statement
from device_agent.protocol.errors import ProtocolError
from device_agent.protocol.messages import (
    RENEWAL_PAYLOAD_TYPE,
    SESSION_PAYLOAD_TYPE,
    EnrolmentRequest,
    EnrolmentToken,
    parse_report_batch,
)
from device_agent.protocol.profile import DeviceProfile
from tests.support.hostile_bytes import BYTES_PER_BYTE_MAX, DEPTHS, Parser, bulks, greed_of, mangled, towers
from tests.support.key_holders import Holders, plan_for, trust_of
from tests.support.manifests import a_manifest, manifest_bytes
from tests.support.signers import GOOD

NOW = datetime.now(UTC).replace(microsecond=0)
OURS = (ProtocolError, EdgefleetError)
DEVICE_KEY, CA_KEY = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
DEVICE_PEM = DEVICE_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
CA = make_ca_certificate(CA_KEY, NOW)
CERTIFICATE = make_device_certificate(CA, CA_KEY, "dv_1", DEVICE_PEM, NOW).public_bytes(Encoding.DER)
SESSIONS = Sessions(b"s" * 32)
HOLDERS = Holders()
TRUST = trust_of(new_trust(plan_for(HOLDERS, digits=RoleKeys(HOLDERS.keys("rita", "sam"), 1)), NOW))
PROXIES = TrustedProxies("127.0.0.1")
REPORT = {
    "schema": 1, "batch": "b", "boot": "b", "dropped": 0, "device": "dv_1", "spool": "s", "seq": 1,
    "items": [{
        "kind": "lifecycle", "slot": "digits", "counter": 1, "manifest": "a" * 64, "state": "failed",
        "at": "2026-03-01T12:00:00Z", "active": None, "stage": "load", "code": "E_LOAD", "message": "no",
    }],
}  # fmt: skip
PROFILE = DeviceProfile("camera", "x86_64", "onnxruntime", "1.20", 17, ("int8",), 2**30)
RECIPE = b"name: small\ndescription: x\nsteps:\n- step: quantize_dynamic\n  parameters: {}\n"


def csr() -> str:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "camera-7")])
    made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(DEVICE_KEY, SHA256())
    return made.public_bytes(Encoding.PEM).decode()


def enveloped(payload: bytes, payload_type: str) -> bytes:
    envelope = Envelope(payload, payload_type, {})
    envelope.sign(CryptoSigner(DEVICE_KEY))
    return json.dumps(envelope.to_dict()).encode()


def session(raw: bytes) -> object:
    request = read_session_request(raw)
    if isinstance(request, SessionRequest):
        SESSIONS.check_answer(request, DEVICE_PEM, (), NOW)
    return request


def renewal(raw: bytes) -> object:
    envelope = read_device_envelope(raw, RENEWAL_PAYLOAD_TYPE, bytes_max=8192, role="renewal")
    return is_signed_by(envelope, DEVICE_PEM) if isinstance(envelope, Envelope) else envelope


def client_cert(raw: bytes) -> object:
    scope = {"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "headers": [(b"client-cert", raw)]}
    return PROXIES.client_certificate(scope)


def certificate(raw: bytes) -> object:
    return verify_client_certificate(raw, CA.public_bytes(Encoding.PEM), NOW)


def forwarded(raw: bytes) -> object:
    scope = {"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "headers": [(b"x-forwarded-for", raw)]}
    return PROXIES.client_address(scope)


def release_document() -> Targets:
    target = manifest_target(manifest_bytes(), "prod")
    named = {ROLE_FIELD: "prod-digits"}
    return Targets(3, expires=NOW + timedelta(days=90), targets={target.path: target}, unrecognized_fields=named)


RELEASE = Metadata[Any](release_document())
RELEASE.sign(HOLDERS.signer("rita"))


def release(raw: bytes) -> object:
    role_named_by(read_document(raw, Targets, "release").signed)
    return status_of(raw, TRUST.image_targets)


def signature(raw: bytes) -> object:
    said = json.loads(raw)
    if not isinstance(said, dict) or not all(isinstance(said.get(name), str) for name in ("keyid", "sig")):
        raise ProtocolError("E_MALFORMED", "the request's schema refuses it")  # type: ignore[arg-type]
    return with_signature(RELEASE.to_bytes(), Signature(said["keyid"], said["sig"]), TRUST.image_targets)


class Nothing:
    """A repository in which nothing is published."""

    def find(self, path: str) -> TargetFile | None:
        del path
        return None

    def keyids(self, name: object) -> frozenset[str]:
        del name
        return frozenset()


def read_text(read: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda raw: read(raw.decode("utf-8", "surrogateescape"))


def recipe(raw: bytes) -> object:
    return parse_recipe(read_recipe_file(raw.decode("utf-8", "replace"), "recipe.yaml"))


def lineage(raw: bytes) -> object:
    return verify_lineage(read_bundle(raw), a_manifest(), [HOLDERS.key("attestation")])


STATEMENT = json.dumps({
    "_type": "https://in-toto.io/Statement/v1",
    "subject": [{"name": "model.onnx", "digest": {"sha256": "a" * 64}}],
    "predicateType": "https://slsa.dev/provenance/v1",
    "predicate": {"buildDefinition": {"buildType": "x"}, "runDetails": {}},
}).encode()  # fmt: skip
ENROLMENT = EnrolmentRequest("eft_1_2_3", csr(), "camera-1", PROFILE, {"site": "a"}, "A" * 43 + "=", "sn")
ANSWER = {"device": "dv_1", "challenge": SESSIONS.issue_challenge(NOW), "audience": "http://c"}
PARSERS = {
    "report": Parser(parse_report_batch, json.dumps(REPORT).encode(), OURS),
    "enrolment": Parser(EnrolmentRequest.parse, json.dumps(ENROLMENT.to_json()).encode(), OURS),
    "enrolment token": Parser(read_text(EnrolmentToken.parse), b"eft_1_2_3", OURS),
    "certificate request": Parser(read_text(read_csr), csr().encode(), ()),
    "session": Parser(session, enveloped(json.dumps(ANSWER).encode(), SESSION_PAYLOAD_TYPE), ()),
    "signed session": Parser(
        lambda raw: session(enveloped(raw, SESSION_PAYLOAD_TYPE)), json.dumps(ANSWER).encode(), ()
    ),
    "renewal": Parser(renewal, enveloped(b"{}", RENEWAL_PAYLOAD_TYPE), ()),
    "session token": Parser(
        read_text(lambda text: SESSIONS.read_token(text, NOW)), SESSIONS.issue_challenge(NOW).encode(), ()
    ),
    "report signature": Parser(
        lambda raw: is_report_signed(DEVICE_KEY.public_key(), b"{}", raw), base64.b64encode(b"0" * 70), ()
    ),
    "Client-Cert": Parser(client_cert, b":" + base64.b64encode(CERTIFICATE) + b":", ()),
    "client certificate": Parser(certificate, CERTIFICATE, ()),
    "X-Forwarded-For": Parser(forwarded, b"10.0.0.1, 127.0.0.1", ()),
    "operator token": Parser(read_text(split_token), b"flo_1_2", ()),
    "release document": Parser(release, RELEASE.to_bytes(), OURS),
    "release signature": Parser(
        signature, json.dumps({"keyid": "ab", "sig": "cd"}).encode(), (*OURS, ValueError, RecursionError)
    ),
    "root document": Parser(
        lambda raw: read_document(raw, Root, "root"), Metadata[Any](TRUST.image_root).to_bytes(), OURS
    ),
    "approval": Parser(
        open_approval, sign_approval(HOLDERS.signer("amy"), Approval("ro_1", ("a" * 64,), NOW)).encode(), OURS
    ),
    "lineage": Parser(lineage, enveloped(STATEMENT, "application/vnd.in-toto+json"), OURS),
    "selector": Parser(read_text(parse_selector), b"site=a,line!=2,camera", OURS),
    "recipe": Parser(recipe, RECIPE, (*OURS, CommandFailed), 16 * 1024),
    "recipe as JSON": Parser(
        recipe, json.dumps({"name": "small", "steps": [{"step": "optimize"}]}).encode(), (*OURS, CommandFailed), 8192
    ),
    # What the signer is asked by whoever has the API host.
    "role to be signed": Parser(
        lambda raw: check_role("bin-00", raw, NOW, set()),
        Metadata[Any](Targets(3, expires=NOW + timedelta(days=9))).signed_bytes,
        OURS,
    ),
    "assignment to be signed": Parser(AssignmentRules(Nothing(), None, NOW).check, GOOD.to_payload(), OURS),
    "statement to be signed": Parser(lambda raw: check_statement(StatementKind.PROVENANCE, raw), STATEMENT, OURS),
}
SLOW = {"recipe", "recipe as JSON"}
"""Read by PyYAML, which is written in Python: a shallower tower shows the same."""


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.data())
def test_damage_ends_in_a_value_or_in_an_error_of_ours(name: str, data: st.DataObject) -> None:
    parser = PARSERS[name]
    parser.try_to_read(data.draw(mangled(parser.valid)))


@pytest.mark.parametrize("name", PARSERS)
def test_no_depth_of_nesting_is_too_much(name: str) -> None:
    parser = PARSERS[name]
    for depth in DEPTHS[:3] if name in SLOW else DEPTHS[::2]:
        for raw in towers(parser.valid, depth):
            parser.try_to_read(raw)


@pytest.mark.parametrize("name", sorted(PARSERS.keys() - SLOW))
def test_memory_is_a_small_multiple_of_the_input(name: str) -> None:
    parser = PARSERS[name]
    for raw in bulks(parser.valid, parser.bytes_max // 4):
        assert greed_of(parser, raw) < BYTES_PER_BYTE_MAX, raw[:60]


def test_a_recipe_of_aliases_of_aliases_is_refused_before_it_is_unfolded() -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    bomb = f"name: small\nsteps:\n- step: optimize\n  parameters: {{{', '.join(rows)}}}\n".encode()
    parser = PARSERS["recipe"]
    assert isinstance(parser.try_to_read(bomb), Exception)
    assert greed_of(parser, bomb) < 10 * BYTES_PER_BYTE_MAX


# Folders and files that are carried from machine to machine.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ceremony") / "stick"
    ceremony.start(path, new_trust(plan_for(HOLDERS), NOW), path / "none", "first trust")
    ceremony.sign(read_ceremony(path), HOLDERS.signer("alice-image"), NOW)
    return path


@pytest.mark.parametrize("name", ["ceremony.json", "documents/image-root.json", "documents/image-targets.json"])
@given(data=st.data())
def test_a_damaged_stick_is_refused(name: str, folder: Path, data: st.DataObject) -> None:
    kept = (folder / name).read_bytes()
    try:
        (folder / name).write_bytes(data.draw(mangled(kept)))
        Parser(lambda _raw: look_at(folder), b"", OURS).try_to_read(b"")
    finally:
        (folder / name).write_bytes(kept)


def look_at(folder: Path) -> list[str]:
    """Do what `key ceremony sign` does before it signs."""
    read = read_ceremony(folder)
    read.check(NOW)
    return [*lines(read), *(seat.role for seat in read.seats())]


@pytest.mark.parametrize("name", ["ceremony.json", "documents/image-root.json"])
def test_no_depth_of_nesting_is_too_much_for_a_stick(name: str, folder: Path, tmp_path: Path) -> None:
    copied = tmp_path / "stick"
    shutil.copytree(folder, copied)
    valid = (folder / name).read_bytes()
    for depth in DEPTHS[::4]:
        for raw in towers(valid, depth):
            (copied / name).write_bytes(raw)
            Parser(lambda _raw: look_at(copied), b"", OURS).try_to_read(b"")


@given(data=st.data())
def test_a_damaged_public_key_is_refused(folder: Path, data: st.DataObject) -> None:
    path = folder.parent / "alice.pub"
    write_public_key(path, HOLDERS.key("alice-image"), "alice")
    path.write_bytes(data.draw(mangled(path.read_bytes())))
    Parser(lambda _raw: read_public_key(path), b"", OURS).try_to_read(b"")


def test_the_valid_documents_are_valid(folder: Path) -> None:
    """Else all of the above would show nothing but one refusal."""
    refused = {"lineage", "release signature", "assignment to be signed", "statement to be signed"}
    for name in PARSERS.keys() - refused:
        found = PARSERS[name].try_to_read(PARSERS[name].valid)
        assert not isinstance(found, Exception), (name, found)
    assert look_at(folder)
