"""An installation with two published versions whose release keys two people hold, and a desk that checks releases."""

import base64
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
from securesystemslib.signer import CryptoSigner, Signature
from sqlalchemy import select, update

from controller.api.app import create_app
from controller.domain.releases import ReleaseKind
from controller.release_desk.announcement import Announcement
from controller.release_desk.draft import Terms
from controller.release_desk.lineage import AttestationKeys
from controller.release_desk.report import Check, DeskReport
from controller.release_desk.sign import sign_draft
from controller.release_desk.source import Source
from controller.release_desk.verify import Desk, VerifiedDraft, verify_release
from controller.settings import Settings
from controller.store import tables
from controller.trust.ceremonies import single_operator
from controller.trust.custody.keys import KeyName
from controller.trust.images.image_roles import release_role
from controller.trust.lineage.provenance import UPLOAD_TYPE, Judgement, StepRun, Upload
from controller.trust.lineage.statements import TEST_RESULT, as_words
from controller.trust.lineage.verification import lineage_bundle, read_bundle
from controller.trust.signer.interface import StatementKind
from controller.use_cases.propose_release import ReleaseOffice
from controller.use_cases.variant_work import Workshop
from controller.wiring import Services, build
from device_agent.protocol.fields import Fields
from device_agent.protocol.manifest import LineageEntry, Manifest, parse_manifest, target_path
from tests.support.device_server import serving
from tests.support.digits import digits_evaluation, digits_model, linear_classifier
from tests.support.workshops import LIMITS, CollectedTasks, add

MODEL = "digits"
PEOPLE = ("alice", "bob")


@dataclass
class ReleaseInstallation:
    """One controller; `keys` are outside of it."""

    services: Services
    keys: Mapping[str, CryptoSigner]

    @property
    def office(self) -> ReleaseOffice:
        """What its use cases work with."""
        return ReleaseOffice(self.services.database, self.services.image_repository, self.services.settings.tuf_dir)

    @property
    def tuf_dir(self) -> Path:
        """Where its signed files are."""
        return self.services.settings.tuf_dir

    @property
    def root(self) -> bytes:
        """The first root, as a ceremony hands it to signers."""
        return (self.tuf_dir / "metadata" / "1.root.json").read_bytes()

    def variant(self, number: int, name: str = "fp32") -> Any:
        """Return a variant's row."""
        variant, version = tables.variant, tables.model_version
        query = select(variant).join(version, version.c.id == variant.c.version_id)
        with self.services.database.reading() as tx:
            return tx.execute(query.where(version.c.number == number, variant.c.recipe == name)).one()

    def manifest(self, number: int, name: str = "fp32") -> Manifest:
        """Return the published manifest of a variant."""
        row = self.variant(number, name)
        folder, _, base = row.target.rpartition("/")
        return parse_manifest((self.tuf_dir / "targets" / folder / f"{row.manifest_sha256}.{base}").read_bytes())

    def plant(self, manifest: Manifest) -> None:
        """Put another manifest in the place of a variant's, as whoever holds the controller can."""
        raw = manifest.to_bytes()
        sha256 = hashlib.sha256(raw).hexdigest()
        target = target_path(manifest.model, manifest.version, manifest.variant)
        folder = self.tuf_dir / "targets" / Path(target).parent
        (folder / f"{sha256}.manifest.json").write_bytes(raw)
        row = self.variant(manifest.version, manifest.variant)
        changed = update(tables.variant).where(tables.variant.c.id == row.id)
        with self.services.database.writing() as tx:
            tx.execute(changed.values(manifest_sha256=sha256, manifest_bytes=len(raw)))

    def plant_blob(self, content: bytes) -> str:
        """Store bytes among the artifacts; return their sha256."""
        writer = self.services.blobs.open_writer()
        writer.feed(content)
        return writer.commit().sha256

    def sign(self, document: bytes, person: str) -> Signature:
        """Return a person's signature over a draft, made without looking."""
        from tuf.api.metadata import Metadata

        return self.keys[person].sign(Metadata[Any].from_bytes(document).signed_bytes)

    @contextmanager
    def serving(self) -> Iterator[httpx.Client]:
        """Serve it over HTTP; yield a client with the operator's token."""
        with serving(create_app(self.services)) as client:
            client.headers["authorization"] = f"Bearer {self.services.operator_token}"
            yield client


@dataclass
class Bench:
    """A signer's machine, connected to a controller."""

    client: httpx.Client
    desk: Desk

    def verify(self, release: Mapping[str, Any], **terms: Any) -> tuple[DeskReport, VerifiedDraft | None]:
        """Check a release as it is announced."""
        told: list[Check] = []
        announced = Announcement.from_json(release)
        wanted = replace(Terms(announced.kind, announced.model, announced.version), **terms)
        report, verified = verify_release(self.desk, announced, wanted, told.append)
        assert tuple(told) == report.checks
        return report, verified

    def sign(self, release: Mapping[str, Any], signer: CryptoSigner) -> Signature:
        """Check a release and sign it."""
        report, verified = self.verify(release)
        assert verified is not None, report.refused
        return sign_draft(verified, signer)


def open_installation(state_dir: Path) -> Services:
    """Open the services of a state folder with its own SQLite database."""
    return build(Settings(state_dir=state_dir, database_url=f"sqlite:///{state_dir / 'controller.db'}"))


def make_installation(state_dir: Path, database: Path, keys: Mapping[str, CryptoSigner], threshold: int = 2) -> None:
    """Make a state folder in which `digits` has versions 1 and 2, both published as fp32, and none released.

    `database` is a migrated SQLite file. The role is delegated to all of the keys.
    """
    state_dir.mkdir()
    shutil.copy(database, state_dir / "controller.db")
    services = open_installation(state_dir)
    delegate(services, MODEL, keys, threshold)
    shop, tasks = workshop_of(services)
    data = state_dir.parent / "evaluation.npz"
    digits_evaluation(data)
    for number in (1, 2):
        file = state_dir.parent / f"{number}.onnx"
        digits_model(file) if number == 1 else worse_model(file)
        add(shop, file, data, recipes=["fp32"])
        tasks.run_all(shop)
    services.database.engine.dispose()


def delegate(services: Services, model: str, keys: Mapping[str, CryptoSigner], threshold: int) -> None:
    """Give a model's release role to people, as a ceremony does."""

    def change(changes: Any, _trust: Any) -> bool:
        changes.set_role(release_role(model), [signer.public_key for signer in keys.values()], threshold)
        return True

    settings = services.settings
    single_operator.change(settings.tuf_dir, settings.keys_dir / "offline", services.signer, services.clock(), change)


def workshop_of(services: Services) -> tuple[Workshop, CollectedTasks]:
    """Return a workshop on the installation's parts."""
    tasks = CollectedTasks()
    shop = Workshop(
        database=services.database,
        blobs=services.blobs,
        image_repository=services.image_repository,
        signer=services.signer,
        tasks=tasks,
        clock=services.clock,
        owner="worker-1",
        lease_s=60.0,
        limits=LIMITS,
        accuracy_drop_max=0.01,
    )
    return shop, tasks


def worse_model(file: Path) -> None:
    """Write a classifier of digits that is wrong most of the time."""
    import numpy as np

    generator = np.random.default_rng(5)
    linear_classifier(file, generator.normal(size=(64, 10)).astype(np.float32), np.zeros(10, np.float32))


def bench_for(installation: ReleaseInstallation, client: httpx.Client, folder: Path, **changes: Any) -> Bench:
    """Return a signer's machine that trusts the installation's first root and its attestation key."""
    key = installation.services.signer.public_key(KeyName.ATTESTATION)
    desk = Desk(
        folder=folder,
        source=Source(str(client.base_url)),
        root=installation.root,
        attestation=AttestationKeys((key,), unpinned=False),
        limits=LIMITS,
        clock=installation.services.clock,
    )
    return Bench(client, replace(desk, **changes))


def propose(client: httpx.Client, number: int = 1, kind: ReleaseKind = ReleaseKind.RELEASE, **terms: Any) -> Any:
    """Propose over HTTP; return the release as it is shown."""
    path = {
        ReleaseKind.RELEASE: f"/api/v1/models/{MODEL}/versions/{number}/release",
        ReleaseKind.WITHDRAW: f"/api/v1/models/{MODEL}/versions/{number}:withdraw",
        ReleaseKind.RENEW: f"/api/v1/models/{MODEL}:renew-release",
    }[kind]
    answer = client.post(path, json=terms if kind is ReleaseKind.RELEASE else None)
    assert answer.status_code == 201, answer.text
    return answer.json()


def hand_in(client: httpx.Client, release: Mapping[str, Any], signature: Signature) -> httpx.Response:
    """Hand a signature in."""
    body = {"keyid": signature.keyid, "sig": signature.signature}
    return client.post(f"/api/v1/releases/{release['id']}/signatures", json=body)


def forged_lineage(installation: ReleaseInstallation, manifest: Manifest) -> Manifest:
    """Return the manifest with statements that say what it says, signed with the installation's own key.

    So much can whoever holds the controller: every figure, file and tolerance may be a lie, and the lineage agrees.
    """
    assert manifest.lineage is not None
    files = {entry.name: entry.sha256 for entry in manifest.artifacts if entry.name != manifest.behaviour.golden}
    golden = {entry.name: entry.sha256 for entry in manifest.artifacts if entry.name == manifest.behaviour.golden}
    envelopes = []
    for line in read_bundle(installation.services.blobs.path(manifest.lineage.sha256).read_bytes()):
        statement = Fields.from_json(base64.b64decode(json.loads(line)["payload"]), "statement")
        told: Upload | StepRun | Judgement
        if statement.text("predicateType") == TEST_RESULT:
            figures = as_words(manifest.behaviour.evaluation)
            told = replace(Judgement.read(statement), files=files, figures=figures)
        elif statement.child("predicate").child("buildDefinition").text("buildType") == UPLOAD_TYPE:
            told = replace(Upload.read(statement), sha256=manifest.source_sha256)
        else:
            told = replace(StepRun.read(statement), inputs=files, outputs=golden)
        signed = installation.services.signer.sign_statement(StatementKind.PROVENANCE, told.to_statement())
        envelopes.append(signed)
    bundle = lineage_bundle(envelopes)
    return replace(manifest, lineage=LineageEntry(len(bundle), installation.plant_blob(bundle)))
