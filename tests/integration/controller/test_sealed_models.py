"""A sealed model from upload to a real agent: what travels, what lies in the store, and who may read it."""

import base64
import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from sqlalchemy import select, update

from controller.api.app import create_app
from controller.domain.assignments import RENEW_AFTER
from controller.domain.catalog import VariantState
from controller.domain.errors import InvalidInput
from controller.domain.gates import GatePolicy
from controller.domain.ids import DeviceId, VariantId, VersionId
from controller.release_desk.artifacts import Downloads
from controller.release_desk.report import DeskRefusal
from controller.release_desk.source import Source
from controller.store import tables
from controller.store.database import Database, open_engine
from controller.trust.director import open_director
from controller.trust.images.image_repository import ImageRepository
from controller.trust.signer.content_keys import MASTER_FILE
from controller.trust.signer.verbs import open_local_signer
from controller.use_cases.add_version import VersionRequest, add_version
from controller.use_cases.create_model import create_model
from controller.use_cases.create_rollout import RolloutRequest, create_rollout
from controller.use_cases.explain_device import explain_device
from controller.use_cases.issue_assignments import issue_assignments
from controller.use_cases.publish_variant import publish_variant
from controller.use_cases.set_pin import set_pin
from controller.use_cases.variant_work import Workshop
from controller.wiring import Services, system_clock
from device_agent.protocol.assignment import parse_assignment
from device_agent.protocol.manifest import Manifest, parse_manifest
from device_agent.protocol.sealing import content_key_info, unseal, unwrap_content_key
from tests.support.agents import AgentProcess, Reached
from tests.support.device_server import services_at, serving
from tests.support.digits import digits_evaluation, digits_model
from tests.support.fleet import Fleet, plain_director, profile
from tests.support.waiting import wait_until
from tests.support.workshops import CollectedTasks, add, add_opaque, open_workshop, upload, variant_rows


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Path:
    """A state folder in which version 1 of the sealed model `digits` is published as fp32 and int8."""
    folder = tmp_path_factory.mktemp("sealed") / "state"
    folder.mkdir()
    shutil.copy(sqlite_template, folder / "controller.db")
    shop, tasks = open_shop(folder)
    create_model(shop.database, "digits", "", sealed=True, now=shop.clock())
    digits_model(folder / "digits.onnx")
    digits_evaluation(folder / "evaluation.npz")
    add(shop, folder / "digits.onnx", folder / "evaluation.npz")
    tasks.run_all(shop)
    for uploaded in ("digits.onnx", "evaluation.npz"):
        (folder / uploaded).unlink()
    shop.database.engine.dispose()
    return folder


def open_shop(folder: Path) -> tuple[Workshop, CollectedTasks]:
    tasks = CollectedTasks()
    return open_workshop(
        Database(open_engine(f"sqlite:///{folder / 'controller.db'}")), folder, tasks, system_clock
    ), tasks


@pytest.fixture
def state(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "state"))


@pytest.fixture
def shop(state: Path) -> Iterator[Workshop]:
    shop, _ = open_shop(state)
    yield shop
    shop.database.engine.dispose()


@pytest.fixture
def services(state: Path) -> Iterator[Services]:
    services = services_at(state, f"sqlite:///{state / 'controller.db'}")
    yield services
    services.database.engine.dispose()


@pytest.fixture
def anyone(services: Services) -> Iterator[httpx.Client]:
    """Somebody without a token."""
    with serving(create_app(services)) as client:
        yield client


def rows_of(shop: Workshop) -> dict[str, Any]:
    with shop.database.reading() as tx:
        [version_id] = tx.execute(select(tables.model_version.c.id)).scalars()
    return variant_rows(shop.database, VersionId(version_id))


def manifest_of(state: Path, row: Any) -> Manifest:
    folder = state / "tuf" / "targets" / Path(row.target).parent
    return parse_manifest((folder / f"{row.manifest_sha256}.manifest.json").read_bytes())


def plain_digests(manifest: Manifest) -> set[str]:
    packed = {entry.packed.sha256 for entry in manifest.artifacts if entry.packed}
    return {entry.sha256 for entry in manifest.artifacts} | packed | {manifest.source_sha256}


def sealed_digests(manifest: Manifest) -> set[str]:
    return {entry.travels.sha256 for entry in manifest.artifacts}


def test_what_is_published_is_sealed_and_opens_to_what_was_proven(shop: Workshop, state: Path) -> None:
    for row in rows_of(shop).values():
        manifest = manifest_of(state, row)
        assert manifest.content_key == row.content_key == row.id
        assert (
            row.wire_bytes == manifest.wire_bytes == sum(shop.blobs.size_bytes(one) for one in sealed_digests(manifest))
        )
        key = shop.signer.content_key(row.id)
        for entry in manifest.artifacts:
            form = shop.blobs.path(entry.travels.sha256).read_bytes()
            opened = b"".join(unseal([form], key=key, sha256=entry.clear.sha256))
            assert hashlib.sha256(opened).hexdigest() == entry.clear.sha256


def test_variants_are_sealed_with_keys_of_their_own(shop: Workshop) -> None:
    keys = {shop.signer.content_key(row.id) for row in rows_of(shop).values()}
    assert len(keys) == 2


def test_plaintext_is_in_the_store_as_upload_and_results_of_the_work_alone_and_only_operators_may_have_it(
    shop: Workshop, services: Services, anyone: httpx.Client, state: Path
) -> None:
    operator = {"Authorization": f"Bearer {services.operator_token}"}
    for row in rows_of(shop).values():
        manifest = manifest_of(state, row)
        for digest in sealed_digests(manifest) | {row.lineage_sha256}:
            assert anyone.get(f"/artifacts/sha256/{digest}").status_code == 200
        for digest in plain_digests(manifest):
            answer = anyone.get(f"/artifacts/sha256/{digest}", headers={"If-None-Match": f'"sha256-{digest}"'})
            assert (answer.status_code, digest in answer.text) == (401, False)
            assert anyone.head(f"/artifacts/sha256/{digest}").status_code == 401
            given = anyone.get(f"/artifacts/sha256/{digest}", headers=operator)
            assert hashlib.sha256(given.content).hexdigest() == digest
            assert given.headers["cache-control"] == "private, no-store"


def test_nothing_that_the_public_documents_name_is_public_but_what_travels(
    shop: Workshop, anyone: httpx.Client, state: Path
) -> None:
    rows = rows_of(shop).values()
    travels = {digest for row in rows for digest in sealed_digests(manifest_of(state, row))}
    travels |= {row.lineage_sha256 for row in rows}
    blobs = {path.name for path in (state / "artifacts" / "sha256").glob("*/*")}
    public = {digest for digest in blobs if anyone.get(f"/artifacts/sha256/{digest}").status_code == 200}
    assert public == travels


def test_whoever_releases_downloads_every_form_with_a_token_and_nothing_without(
    shop: Workshop, services: Services, anyone: httpx.Client, state: Path, tmp_path: Path
) -> None:
    manifest = manifest_of(state, rows_of(shop)["int8"])
    folders = [tmp_path / "with", tmp_path / "without"]
    for folder in folders:
        folder.mkdir()
    url = str(anyone.base_url)
    with closing(Source(url, token=services.operator_token)) as source:
        files = Downloads(source, folders[0]).of_manifest(manifest)
    assert files.keys() == {entry.name for entry in manifest.artifacts}
    assert sealed_digests(manifest) < {path.name for path in folders[0].iterdir()}
    with closing(Source(url)) as source, pytest.raises(DeskRefusal, match="status 401"):
        Downloads(source, folders[1]).of_manifest(manifest)


def test_storing_a_withheld_artifact_again_does_not_open_it(shop: Workshop, state: Path, tmp_path: Path) -> None:
    [digest, *_] = plain_digests(manifest_of(state, rows_of(shop)["fp32"]))
    again = tmp_path / "again"
    again.write_bytes(shop.blobs.path(digest).read_bytes())
    assert shop.blobs.add_file(again).sha256 == digest
    assert shop.blobs.is_withheld(digest)


def test_what_another_model_publishes_in_clear_is_no_secret(shop: Workshop, state: Path, tmp_path: Path) -> None:
    source = manifest_of(state, rows_of(shop)["fp32"]).source_sha256
    assert shop.blobs.is_withheld(source)
    file = tmp_path / "same.bin"
    file.write_bytes(shop.blobs.path(source).read_bytes())
    in_clear(shop, file)
    assert not shop.blobs.is_withheld(source)
    # A further version of the sealed model that is made of the same upload takes it from nobody.
    version = add(shop, file, recipes=["fp32"])
    shop.tasks.run_all(shop)  # type: ignore[attr-defined]
    [row] = variant_rows(shop.database, version).values()
    assert (row.state, row.content_key) == (VariantState.PUBLISHED, row.id)
    assert not shop.blobs.is_withheld(source)


def in_clear(shop: Workshop, file: Path) -> None:
    """Publish a file under a model that is not sealed."""
    create_model(shop.database, "open", "", now=shop.clock())
    wanted = VersionRequest("open", upload(shop, file), format="opaque")
    add_version(shop.database, shop.blobs, shop.tasks, wanted, shop.limits, signer=shop.signer, now=shop.clock())
    shop.tasks.run_all(shop)  # type: ignore[attr-defined]


def test_a_publication_that_is_repeated_after_a_crash_gives_the_same_bytes(
    shop: Workshop, state: Path, tmp_path: Path
) -> None:
    version = add_opaque(shop, tmp_path)
    [row] = variant_rows(shop.database, version).values()
    shop.tasks.waiting.clear()  # type: ignore[attr-defined]
    dying = DiesAfterSigning(state / "tuf", shop.signer)
    with pytest.raises(ConnectionError):
        publish_variant(replace(shop, image_repository=dying), VariantId(row.id))
    before = {path.name for path in (state / "artifacts" / "sha256").glob("*/*")}

    later = replace(shop, clock=lambda: system_clock() + timedelta(seconds=120))
    assert publish_variant(later, VariantId(row.id)) is VariantState.PUBLISHED
    after = {path.name for path in (state / "artifacts" / "sha256").glob("*/*")}
    assert after == before
    assert len(dying.published) == 1
    [row] = variant_rows(shop.database, version).values()
    assert dying.published == [row.manifest_sha256]


class DiesAfterSigning(ImageRepository):
    """An image repository whose process ends right after the signature."""

    published: list[str]

    def publish(self, manifests: Any, now: Any) -> tuple[str, ...]:
        super().publish(manifests, now)
        self.published = [hashlib.sha256(one).hexdigest() for one in manifests]
        raise ConnectionError("the process ended here")


def test_a_plaintext_that_was_damaged_is_not_sealed(shop: Workshop, tmp_path: Path) -> None:
    version = add_opaque(shop, tmp_path)
    [row] = variant_rows(shop.database, version).values()
    digest = hashlib.sha256(b"opaque").hexdigest()
    shop.blobs.path(digest).write_bytes(b"opaquE")
    assert publish_variant(shop, VariantId(row.id)) is VariantState.FAILED
    [row] = variant_rows(shop.database, version).values()
    assert "E_HASH_MISMATCH" in row.error


def test_no_key_is_in_the_database_the_signed_files_or_the_journal(shop: Workshop, state: Path) -> None:
    keys = [shop.signer.content_key(row.id) for row in rows_of(shop).values()]
    master = state / "signer" / "keys" / MASTER_FILE
    forms = {form for key in (*keys, master.read_bytes()) for form in (key, key.hex().encode())}
    for path in state.rglob("*"):
        if path.is_file() and path != master:
            content = path.read_bytes()
            assert not [form for form in forms if form in content], path


class TestAnAgent:
    @pytest.fixture
    def agent(self, services: Services, anyone: httpx.Client, tmp_path: Path) -> Iterator[AgentProcess]:
        """An enrolled agent on this controller, for which version 1 is pinned."""
        anyone.headers["authorization"] = f"Bearer {services.operator_token}"
        set_pin(services.database, "digits", 1, "all", soak_s=0.0, now=services.clock())
        url = str(anyone.base_url).rstrip("/")
        token = Reached(url, lambda: str(anyone.post("/api/v1/tokens", json={"uses": 1}).json()["token"]))
        agent = AgentProcess(token, tmp_path, precision="int8")
        try:
            agent.start()
            yield agent
        finally:
            agent.end()

    def test_runs_a_sealed_model(self, agent: AgentProcess, shop: Workshop, tmp_path: Path) -> None:
        row = rows_of(shop)["int8"]
        model = tmp_path / "agent" / "models" / row.manifest_sha256 / "model.onnx"
        wait_until(model.exists, what="the model on the device", timeout_s=90)
        assert hashlib.sha256(model.read_bytes()).hexdigest() == row.artifact_sha256
        wait_until(lambda: self._good(agent) == row.manifest_sha256, what="the model to be confirmed", timeout_s=90)
        key, told = shop.signer.content_key(row.id), agent.log.read_bytes()
        assert key.hex().encode() not in told
        assert key not in told

    def _good(self, agent: AgentProcess) -> str | None:
        slot = agent.status()["slots"].get("digits")
        return slot and str(slot["good"])


def test_a_device_without_an_encryption_key_gets_no_sealed_model_and_is_told_why(services: Services) -> None:
    fleet = Fleet(services.database, plain_director(), services.clock())
    device_id = fleet.enrol("old", profile())
    set_pin(services.database, "digits", 1, "all", now=fleet.now)
    assert fleet.runs(DeviceId(device_id)) is None
    words = " ".join(explain_device(services.database, device_id)["models"]["digits"])
    assert "is sealed, and this device has no encryption key" in words
    gate = GatePolicy(success_share=0.5, failure_share=0.5, soak_s=5, silent_after_s=90)
    with pytest.raises(InvalidInput, match="has no encryption key"):
        create_rollout(services.database, RolloutRequest("digits", 1, "all", (100.0,), gate), now=fleet.now)


def test_an_assignment_with_a_wrapped_key_stays_good_until_it_is_renewed(
    services: Services, shop: Workshop, state: Path
) -> None:
    private, now = X25519PrivateKey.generate(), services.clock()
    moment = [now]
    signer = open_local_signer(state / "signer", state / "tuf", clock=lambda: moment[0])
    director = open_director(state / "tuf" / "director", signer, now)
    device_id = Fleet(services.database, director, now).enrol("cam", profile())
    public = base64.b64encode(private.public_key().public_bytes_raw()).decode()
    with services.database.writing() as tx:
        tx.execute(update(tables.device).values(encryption_key=public))
    set_pin(services.database, "digits", 1, "all", now=now)

    def poll(at: datetime) -> bytes:
        moment[0] = at
        issued = issue_assignments(services.database, director, [device_id], None, poll_s=60.0, now=at)
        return issued.of[device_id].envelope

    def key_in(envelope: bytes) -> bytes:
        slot = parse_assignment(base64.b64decode(json.loads(envelope)["payload"])).slots["digits"]
        assert slot
        return unwrap_content_key(slot.content_key, private, content_key_info(device_id, slot.sha256))

    first = poll(now)
    assert poll(now + RENEW_AFTER / 2) == first
    renewed = poll(now + RENEW_AFTER)
    assert renewed != first
    assert poll(now + RENEW_AFTER + timedelta(hours=1)) == renewed
    keys = {shop.signer.content_key(row.id) for row in rows_of(shop).values()}
    assert key_in(first) == key_in(renewed)
    assert key_in(first) in keys


def test_the_api_creates_a_sealed_model_and_shows_that_it_is(services: Services, anyone: httpx.Client) -> None:
    anyone.headers["authorization"] = f"Bearer {services.operator_token}"
    made = anyone.post("/api/v1/models", json={"name": "faces", "sealed": True}).json()
    other = anyone.post("/api/v1/models", json={"name": "doors"}).json()
    assert (made["sealed"], other["sealed"]) == (True, False)
    listed = {one["name"]: one["sealed"] for one in anyone.get("/api/v1/models").json()["items"]}
    assert listed == {"digits": True, "doors": False, "faces": True}
