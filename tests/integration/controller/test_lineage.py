"""A version's lineage through real workers, a real repository, HTTP, the command line and the public verifier."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from sqlalchemy import delete, insert, select, update

from controller.api.app import create_app
from controller.cli.errors import ExitCode
from controller.cli.main import run
from controller.domain.catalog import VariantState
from controller.domain.ids import DeviceId, VariantId, VersionId
from controller.domain.observations import RunningSlot, SlotKey
from controller.store import tables
from controller.store.attestations import AttestationKind
from controller.store.database import Database, open_engine
from controller.store.reports import save_slots, variants_of
from controller.store.trust_tables import attestation
from controller.trust.images.image_repository import ImageRepository
from controller.trust.lineage.verification import read_bundle
from controller.use_cases.known_recipes import create_recipe
from controller.use_cases.publish_variant import publish_variant
from controller.use_cases.variant_work import Workshop
from controller.wiring import Services, system_clock
from device_agent.protocol.manifest import Manifest, parse_manifest
from tests.support.device_server import services_at, serving
from tests.support.digits import HELD_OUT, digits, digits_evaluation
from tests.support.networks import digits_network
from tests.support.workshops import CollectedTasks, add, add_opaque, open_workshop, variant_rows

SMALL = {
    "name": "small",
    "steps": [{"step": "prune_structured", "parameters": {"fraction": 0.5}}, {"step": "quantize_dynamic"}],
}
LINEAGE = "/api/v1/models/digits/versions/{}/lineage"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Path:
    """A state folder: version 1 of `digits` is published as fp32 and small, version 2 is an opaque file."""
    folder = tmp_path_factory.mktemp("lineage") / "state"
    folder.mkdir()
    shutil.copy(sqlite_template, folder / "controller.db")
    shop, tasks, engine = open_shop(folder)
    onnx.save(digits_network(), folder / "digits.onnx")
    digits_evaluation(folder / "evaluation.npz")
    np.savez(folder / "calibration.npz", inputs=digits()[0][:-HELD_OUT])
    create_recipe(shop.database, SMALL, now=shop.clock())
    add_digits(shop, folder, "fp32", "small")
    add_opaque(shop, folder)
    tasks.run_all(shop)
    engine.dispose()
    return folder


def add_digits(shop: Workshop, folder: Path, *recipes: str) -> VersionId:
    """Upload the same network and data as the next version."""
    files = (folder / name for name in ("digits.onnx", "evaluation.npz", "calibration.npz"))
    return add(shop, *files, recipes=[*recipes])


@pytest.fixture
def state(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "state"))


@pytest.fixture
def services(state: Path) -> Iterator[Services]:
    services = services_at(state, f"sqlite:///{state / 'controller.db'}")
    yield services
    services.database.engine.dispose()


@pytest.fixture
def api(services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    """A client with the operator's token; commands find the same controller, and run in a folder of their own."""
    with serving(create_app(services)) as client:
        client.headers["authorization"] = f"Bearer {services.operator_token}"
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("EDGEFLEET_TOKEN", services.operator_token)
        monkeypatch.setenv("EDGEFLEET_SERVER", str(client.base_url))
        monkeypatch.setenv("NO_COLOR", "1")
        yield client


def open_shop(folder: Path) -> tuple[Workshop, CollectedTasks, Any]:
    engine = open_engine(f"sqlite:///{folder / 'controller.db'}")
    tasks = CollectedTasks()
    return open_workshop(Database(engine), folder, tasks, system_clock), tasks, engine


@pytest.fixture
def shop(state: Path) -> Iterator[Workshop]:
    shop, _, engine = open_shop(state)
    yield shop
    engine.dispose()


def shown(api: httpx.Client, variant: str, number: int = 1) -> dict[str, Any]:
    answer = api.get(LINEAGE.format(number))
    assert answer.status_code == 200, answer.text
    return next(one for one in answer.json()["variants"] if one["variant"] == variant)


def manifest_of(state: Path, variant: dict[str, Any]) -> Manifest:
    folder = state / "tuf" / "targets" / Path(variant["target"]).parent
    return parse_manifest((folder / f"{variant['manifest_sha256']}.manifest.json").read_bytes())


def verify(state: Path, *arguments: str) -> int:
    root = str(state / "tuf" / "metadata" / "1.root.json")
    return run(["version", "verify", "digits", *arguments, "--root", root])


class TestWhatIsStated:
    def test_each_variant_has_a_chain_from_the_upload_to_its_figures(self, api: httpx.Client, state: Path) -> None:
        small = shown(api, "small")
        report = small["report"]
        assert small["break"] is None
        assert (report["source"]["actor"], report["source"]["format"]) == ("operator", "onnx")
        source = hashlib.sha256((state / "digits.onnx").read_bytes()).hexdigest()
        assert report["source"]["sha256"] == report["steps"][0]["inputs"]["model.onnx"] == source
        assert [step["step"] for step in report["steps"]] == ["prune_structured", "quantize_dynamic"]
        assert report["steps"][0]["parameters"]["fraction"] == "0.5"
        assert report["steps"][1]["inputs"] == report["steps"][0]["outputs"]
        assert report["steps"][1]["tools"].keys() >= {"onnxruntime", "onnx", "edgefleet"}
        manifest = manifest_of(state, small)
        assert report["evaluation"]["figures"]["value"] == json.dumps(manifest.behaviour.evaluation["value"])
        assert report["evaluation"]["promise"]["drop_max"] == "0.01"

        plain = shown(api, "fp32")["report"]
        assert plain["steps"] == []
        assert plain["evaluation"]["files"] == {"model.onnx": source}

    def test_the_manifest_names_the_bundle_which_is_an_artifact(self, api: httpx.Client, state: Path) -> None:
        small = shown(api, "small")
        named = manifest_of(state, small).lineage
        assert named
        bundle = api.get(f"/artifacts/sha256/{named.sha256}").content
        assert (len(bundle), hashlib.sha256(bundle).hexdigest()) == (named.length, named.sha256)
        assert {envelope.decode() for envelope in read_bundle(bundle)} == set(small["envelopes"])
        assert [len(shown(api, name)["envelopes"]) for name in ("fp32", "small")] == [3, 5]

    def test_an_opaque_file_has_its_upload_alone(self, api: httpx.Client) -> None:
        opaque = shown(api, "opaque", 2)
        assert len(opaque["envelopes"]) == 1
        assert (opaque["report"]["steps"], opaque["report"]["evaluation"]) == ([], None)

    def test_work_that_is_remembered_is_stated_again_for_each_variant_that_uses_it(
        self, shop: Workshop, state: Path, api: httpx.Client
    ) -> None:
        tasks = shop.tasks
        assert isinstance(tasks, CollectedTasks)
        add_digits(shop, state, "small")
        tasks.run_all(shop)
        first, again = shown(api, "small")["report"], shown(api, "small", 3)["report"]
        for one, other in zip(first["steps"], again["steps"], strict=True):
            assert (other["key"], other["outputs"]) == (one["key"], one["outputs"])
            assert (other["started"], other["finished"]) == (one["started"], one["finished"])
            assert (one["reused"], other["reused"]) == (False, True)
            assert other["about"] == {"model": "digits", "version": 3, "variant": "small"}

    def test_lineage_is_for_those_who_may_read(self, api: httpx.Client) -> None:
        del api.headers["authorization"]
        assert api.get(LINEAGE.format(1)).status_code == 401

    @pytest.mark.parametrize("path", ["versions/9/lineage", "versions/1/variants/int3/model-signing"])
    def test_what_is_not_there_is_named(self, api: httpx.Client, path: str) -> None:
        answer = api.get(f"/api/v1/models/digits/{path}")
        assert (answer.status_code, answer.json()["code"]) in {(404, "version_unknown"), (404, "variant_unknown")}


class TestPublishing:
    def test_publishing_again_after_a_crash_gives_the_same_manifest(self, shop: Workshop, state: Path) -> None:
        tasks = shop.tasks
        assert isinstance(tasks, CollectedTasks)
        version_id = add_digits(shop, state, "small")
        dying = DiesAfterSigning(state / "tuf", shop.signer)
        with pytest.raises(ConnectionError):
            tasks.run_all(replace(shop, image_repository=dying))
        row = variant_rows(shop.database, version_id)["small"]
        assert (row.state, row.lineage_sha256) == (VariantState.MEASURED, None)

        later = replace(shop, clock=lambda: system_clock() + timedelta(seconds=120))
        assert publish_variant(later, VariantId(row.id)) is VariantState.PUBLISHED
        row = variant_rows(shop.database, version_id)["small"]
        published = list((state / "tuf" / "targets" / Path(row.target).parent).glob("*.json"))
        assert [file.name for file in published] == [f"{row.manifest_sha256}.manifest.json"]

    def test_a_variant_whose_lineage_is_broken_is_not_published(self, shop: Workshop, state: Path) -> None:
        tasks = shop.tasks
        assert isinstance(tasks, CollectedTasks)
        version_id = add_digits(shop, state, "small")
        while tasks.waiting[0][0] != "publish_variant":
            tasks.run_one(shop)
        forget(shop.database, variant_rows(shop.database, version_id)["small"].id, AttestationKind.STEP)
        tasks.run_all(shop)
        row = variant_rows(shop.database, version_id)["small"]
        assert (row.state, row.manifest_sha256) == (VariantState.FAILED, None)
        assert row.error == "the lineage is broken: step 1 of 2, prune_structured, is not stated"

    def test_a_version_from_before_there_was_lineage_is_published_without_and_does_not_verify(
        self, shop: Workshop, state: Path, api: httpx.Client, capsys: pytest.CaptureFixture[str]
    ) -> None:
        tasks = shop.tasks
        assert isinstance(tasks, CollectedTasks)
        version_id = add_opaque(shop, state)
        with shop.database.writing() as tx:
            tx.execute(delete(attestation).where(attestation.c.version_id == version_id))
        tasks.run_all(shop)
        opaque = shown(api, "opaque", 3)
        assert manifest_of(state, opaque).lineage is None
        assert opaque["break"]["code"] == "E_PROVENANCE_MISSING"
        assert verify(state, "3") == ExitCode.NOT_COMPLETED
        assert "BROKEN lineage: E_PROVENANCE_MISSING" in capsys.readouterr().out


@pytest.mark.usefixtures("api")
class TestVerifying:
    def test_the_whole_tree_holds_from_the_source_to_the_device(
        self, api: httpx.Client, services: Services, state: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        running(services.database, "camera-1", shown(api, "small")["manifest_sha256"])
        assert verify(state, "1", "--device", "camera-1") == ExitCode.OK
        told = printed(capsys, "digits version 1  ")
        for words in (
            "digits version 1  verified",
            "uploaded by operator",
            "step 1, prune_structured",
            "step 2, quantize_dynamic",
            "judged: accuracy",
            "development: the controller alone signs it",
            "5 statements under the attestation key",
            "model.onnx, golden.npz and the source have the digests that are signed",
            "OpenSSF bundle of 2 files",
            "device camera-1: it reports manifest",
        ):
            assert words in told
        assert "fp32" not in told

    def test_every_published_variant_is_verified_and_scripts_read_it_as_json(
        self, state: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert verify(state, "1", "-o", "json") == ExitCode.OK
        document = json.loads(printed(capsys, "{\n"))
        assert document["holds"] is True
        assert document["root"]["believed"] is True
        assert {one["variant"]: len(one["checks"]) for one in document["variants"]} == {"fp32": 4, "small": 4}

    def test_without_a_root_the_controller_s_own_is_taken_and_said_aloud(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run(["version", "verify", "digits", "2"]) == ExitCode.OK
        told = capsys.readouterr()
        assert "NOT VERIFIED FROM OUTSIDE" in told.err
        assert "which nobody else has vouched for" in told.out

    def test_the_state_folder_s_root_is_found_in_this_folder(
        self, state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / ".edgefleet").symlink_to(state)
        assert run(["version", "verify", "digits", "2"]) == ExitCode.OK
        assert "NOT VERIFIED" not in capsys.readouterr().err

    def test_another_root_believes_nothing(
        self, tmp_path: Path, sqlite_url: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        services_at(tmp_path / "other", sqlite_url).database.engine.dispose()
        assert verify(tmp_path / "other", "1") == ExitCode.NOT_COMPLETED
        assert "E_SIG_THRESHOLD[image]: the image repository cannot be believed" in capsys.readouterr().err

    def test_an_artifact_that_was_changed_on_the_disk_is_found(
        self, api: httpx.Client, state: Path, services: Services, capsys: pytest.CaptureFixture[str]
    ) -> None:
        [entry, _] = manifest_of(state, shown(api, "small")).artifacts
        path = services.blobs.path(entry.sha256)
        path.write_bytes(path.read_bytes()[:-1] + b"~")
        assert verify(state, "1", "--variant", "small") == ExitCode.NOT_COMPLETED
        assert "BROKEN artifacts: E_HASH_MISMATCH[target]: model.onnx" in capsys.readouterr().out

    def test_an_edited_statement_in_the_database_is_found(
        self, state: Path, services: Services, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with services.database.writing() as tx:
            of_kind = attestation.c.kind == AttestationKind.EVALUATION
            sha256, envelope = tx.execute(select(attestation.c.sha256, attestation.c.envelope).where(of_kind)).first()
            edited = envelope.replace(envelope[20:24], b"AAAA", 1)
            tx.execute(update(attestation).where(attestation.c.sha256 == sha256).values(envelope=edited))
        assert verify(state, "1") == ExitCode.NOT_COMPLETED
        assert "E_SIG_THRESHOLD[provenance]" in capsys.readouterr().out

    def test_a_step_that_another_variant_was_given_is_found(
        self, state: Path, services: Services, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with services.database.writing() as tx:
            rows = {row.recipe: row.id for row in tx.execute(select(tables.variant.c.recipe, tables.variant.c.id))}
            of_kind = (attestation.c.variant_id == rows["small"]) & (attestation.c.kind == AttestationKind.STEP)
            tx.execute(update(attestation).where(of_kind).values(variant_id=rows["fp32"]))
        assert verify(state, "1") == ExitCode.NOT_COMPLETED
        told = capsys.readouterr().out
        assert "E_PROVENANCE_MISSING: step 1 of 2, prune_structured, is not stated" in told
        assert "E_PROVENANCE_SUBJECT: a statement is about digits version 1, small" in told

    def test_a_key_that_the_operator_does_not_name_signs_nothing(
        self, api: httpx.Client, state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        [named] = shown(api, "small")["keys"]
        real = Ed25519PublicKey.from_public_bytes(bytes.fromhex(named["keyval"]["public"]))
        codes = []
        for key in (real, Ed25519PrivateKey.generate().public_key()):
            file = tmp_path / "attestation.pub"
            file.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
            codes.append(verify(state, "1", "--key", str(file)))
        assert codes == [ExitCode.OK, ExitCode.NOT_COMPLETED]
        assert "that was named here" in capsys.readouterr().out

    def test_a_device_that_runs_something_else_is_found(
        self, api: httpx.Client, services: Services, state: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        running(services.database, "camera-1", shown(api, "opaque", 2)["manifest_sha256"])
        assert verify(state, "1", "--variant", "small", "--device", "camera-1") == ExitCode.NOT_COMPLETED
        assert "E_NOT_ACTIVE: it reports version 2, opaque" in capsys.readouterr().out

    def test_a_variant_that_is_not_there_is_named(self, state: Path) -> None:
        assert verify(state, "1", "--variant", "int3") == ExitCode.NOT_FOUND


@pytest.mark.usefixtures("api")
class TestOpenSsfModelSigning:
    def test_the_public_verifier_accepts_what_was_exported_and_nothing_else(
        self, state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder, root = tmp_path / "kept", str(state / "tuf" / "metadata" / "1.root.json")
        exported = ["version", "export", "digits", "1", str(folder), "--variant", "small", "--root", root]
        assert run(exported) == ExitCode.OK
        command = printed(capsys, "model_signing ").split()
        assert command[:3] == ["model_signing", "verify", "key"]
        assert sorted(file.name for file in (folder / "model").iterdir()) == ["golden.npz", "model.onnx"]
        assert len(read_bundle((folder / "lineage.jsonl").read_bytes())) == 5

        assert public_verifier(command) == 0
        (folder / "model" / "extra.txt").write_text("extra")
        assert public_verifier(command) == 1
        (folder / "model" / "extra.txt").unlink()
        assert public_verifier(command) == 0
        model = folder / "model" / "model.onnx"
        model.write_bytes(model.read_bytes() + b"~")
        assert public_verifier(command) == 1

    def test_what_is_broken_is_not_exported(self, state: Path, services: Services, tmp_path: Path) -> None:
        forget(services.database, None, AttestationKind.UPLOAD)
        folder, root = tmp_path / "kept", str(state / "tuf" / "metadata" / "1.root.json")
        exported = ["version", "export", "digits", "1", str(folder), "--variant", "small", "--root", root]
        assert run(exported) == ExitCode.NOT_COMPLETED
        assert not folder.exists()


def printed(capsys: pytest.CaptureFixture[str], start: str) -> str:
    """Return what was printed from these words on: the controller, which is in the same process, logs before it."""
    out = capsys.readouterr().out
    return out[out.index(start) :]


def public_verifier(command: list[str]) -> int:
    """Run the command of the package `model-signing` as a person would."""
    program = str(Path(sys.executable).with_name(command[0]))
    return subprocess.run([program, *command[1:]], capture_output=True, timeout=60).returncode


def forget(database: Database, variant_id: str | None, kind: AttestationKind) -> None:
    about = attestation.c.variant_id.is_(None) if variant_id is None else attestation.c.variant_id == variant_id
    with database.writing() as tx:
        tx.execute(delete(attestation).where(about, attestation.c.kind == kind))


def running(database: Database, name: str, manifest: str) -> None:
    """Write a device that has reported a manifest as active."""
    now = system_clock()
    row = {"id": f"dv_{name}", "name": name, "public_key_pem": "", "profile": {}, "labels": {}, "enrolled_at": now}
    with database.writing() as tx:
        tx.execute(insert(tables.device).values(row))
        slot = {SlotKey(DeviceId(f"dv_{name}"), "digits"): RunningSlot(manifest, "healthy")}
        save_slots(tx, slot, variants_of(tx, [manifest]), now)


class DiesAfterSigning(ImageRepository):
    """An image repository whose process ends right after the signature."""

    def publish(self, manifests: Any, now: Any) -> tuple[str, ...]:
        super().publish(manifests, now)
        raise ConnectionError("the process ended here")
