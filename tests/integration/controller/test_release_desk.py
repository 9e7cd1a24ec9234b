"""What a signer's machine finds out about a controller that lies, each time against a real one over HTTP."""

import base64
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from securesystemslib.signer import CryptoSigner
from sqlalchemy import update
from tuf.api.metadata import Metadata, TargetFile, Targets

from controller.domain.promise import Promise
from controller.release_desk.lineage import AttestationKeys
from controller.release_desk.published_role import check_key
from controller.release_desk.report import DeskCode, DeskRefusal, DeskReport
from controller.store.trust_tables import release as release_table
from device_agent.protocol.manifest import Manifest
from tests.support.release_installation import (
    MODEL,
    Bench,
    ReleaseInstallation,
    forged_lineage,
    hand_in,
    propose,
)
from tests.support.release_roles import ReleaseRepository

PATH = f"prod/{MODEL}/1/fp32/manifest.json"
CHECKS = ["repository", "draft", "artifacts", "lineage", "behaviour", "evaluation"]


def refused(report: DeskReport, code: DeskCode, words: str) -> None:
    assert [check.code for check in report.refused] == [code], report.checks
    assert words in report.refused[0].detail


def refuses(bench: Bench, release: Any, code: DeskCode, words: str, **terms: Any) -> None:
    report, verified = bench.verify(release, **terms)
    assert verified is None
    refused(report, code, words)


def plant_document(installation: ReleaseInstallation, release: Any, document: bytes) -> Any:
    """Put another draft in the place of the proposed one, as whoever holds the controller can."""
    changed = update(release_table).where(release_table.c.id == release["id"])
    with installation.services.database.writing() as tx:
        tx.execute(changed.values(document=document))
    return {**release, "document": base64.b64encode(document).decode()}


def figures(manifest: Manifest, **changes: Any) -> Manifest:
    behaviour = manifest.behaviour
    return replace(manifest, behaviour=replace(behaviour, evaluation={**behaviour.evaluation, **changes}))


def test_an_honest_version_passes_every_check_with_its_figures(client: httpx.Client, bench: Bench) -> None:
    report, verified = bench.verify(propose(client, floor=1, hardware=["camera"]), floor=1, hardware=("camera",))
    assert verified is not None, report.refused
    assert [check.name for check in report.checks] == CHECKS
    assert report.checks[-1].figures["samples"] == 400
    assert "measured here: accuracy" in report.checks[-1].detail
    assert "floor 1; only camera" in report.checks[1].detail
    (warning,) = report.warnings
    assert "evaluation data is the controller's own word" in warning
    assert [path.name for path in bench.desk.folder.iterdir() if path.name.startswith("release-")] == []


def test_keys_that_are_the_controllers_own_word_are_told(
    installation: ReleaseInstallation, client: httpx.Client, bench: Bench
) -> None:
    keys = replace(bench.desk.attestation, unpinned=True)
    report, verified = Bench(client, replace(bench.desk, attestation=keys)).verify(propose(client))
    assert verified is not None
    assert any("attestation key is the controller's own word" in warning for warning in report.warnings)


def test_a_draft_with_another_target_is_refused_and_nothing_is_downloaded(
    installation: ReleaseInstallation, client: httpx.Client, bench: Bench
) -> None:
    release = propose(client)
    document = Metadata[Targets].from_bytes(base64.b64decode(release["document"]))
    other = TargetFile.from_data(f"prod/{MODEL}/2/fp32/manifest.json", b"anything", ["sha256"])
    other.unrecognized_fields["custom"] = {"slot": MODEL, "release": 2}
    document.signed.targets[other.path] = other
    release = plant_document(installation, release, document.to_bytes())
    refuses(bench, release, DeskCode.TARGETS, "also lists prod/digits/2")


def test_a_manifest_that_is_not_the_signed_one_is_refused(client: httpx.Client, bench: Bench) -> None:
    release = propose(client)
    raw = base64.b64decode(release["manifests"][PATH]).replace(b'"opset":17', b'"opset":18')
    release["manifests"][PATH] = base64.b64encode(raw).decode()
    refuses(bench, release, DeskCode.MANIFEST, PATH)


@pytest.mark.parametrize("form", ["artifact", "packed"])
def test_an_artifact_with_other_bytes_is_refused(
    installation: ReleaseInstallation, client: httpx.Client, bench: Bench, form: str
) -> None:
    entry = installation.manifest(1).artifacts[0]
    assert entry.packed is not None
    sha256 = entry.sha256 if form == "artifact" else entry.packed.sha256
    path = installation.services.blobs.path(sha256)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    refuses(bench, propose(client), DeskCode.ARTIFACT, "was sent with sha256")


def test_an_artifact_that_is_longer_than_signed_is_refused_before_it_is_there(
    installation: ReleaseInstallation, client: httpx.Client, bench: Bench
) -> None:
    path = installation.services.blobs.path(installation.manifest(1).artifacts[0].sha256)
    path.write_bytes(path.read_bytes() + b"more")
    refuses(bench, propose(client), DeskCode.ARTIFACT, "goes on behind")


def test_a_packed_form_that_unpacks_to_something_else_is_refused(
    installation: ReleaseInstallation, client: httpx.Client, bench: Bench
) -> None:
    manifest, other = installation.manifest(1), installation.manifest(2)
    entry = replace(manifest.artifacts[0], packed=other.artifacts[0].packed)
    installation.plant(replace(manifest, artifacts=(entry, *manifest.artifacts[1:])))
    refuses(bench, propose(client), DeskCode.ARTIFACT, "unpacks to")


def test_a_worse_model_behind_honest_figures_is_refused(
    installation: ReleaseInstallation, client: httpx.Client, bench: Bench
) -> None:
    honest = installation.manifest(1).behaviour.evaluation
    assert honest["value"] > 0.8
    lying = figures(installation.manifest(2), value=honest["value"], source_value=honest["source_value"])
    installation.plant(forged_lineage(installation, lying))
    refuses(bench, propose(client, 2), DeskCode.EVALUATION, "on the same 400 samples")


def test_a_tolerance_that_lets_everything_pass_is_refused(
    installation: ReleaseInstallation, client: httpx.Client, bench: Bench
) -> None:
    manifest = installation.manifest(1)
    loose = replace(manifest, behaviour=replace(manifest.behaviour, absolute_tolerance=1e6))
    installation.plant(forged_lineage(installation, loose))
    refuses(bench, propose(client), DeskCode.BEHAVIOUR, "absolute_tolerance is 1e+06")


def test_a_model_that_does_not_give_its_golden_outputs_is_refused(
    installation: ReleaseInstallation, client: httpx.Client, bench: Bench
) -> None:
    manifest, other = installation.manifest(1), installation.manifest(2)
    swapped = replace(
        manifest, artifacts=(other.artifacts[0], manifest.artifacts[1]), source_sha256=other.source_sha256
    )
    installation.plant(forged_lineage(installation, swapped))
    refuses(bench, propose(client), DeskCode.BEHAVIOUR, "devices would refuse it")


def test_figures_without_data_to_measure_them_with_are_refused(client: httpx.Client, bench: Bench) -> None:
    release = propose(client)
    release["data"] |= {"evaluation_sha256": None, "evaluation_bytes": None}
    refuses(bench, release, DeskCode.EVALUATION, "there is no evaluation data")


def test_a_lineage_that_another_key_attested_is_refused(client: httpx.Client, bench: Bench) -> None:
    pinned = AttestationKeys((CryptoSigner.generate_ed25519().public_key,), unpinned=False)
    refuses(
        Bench(client, replace(bench.desk, attestation=pinned)),
        propose(client),
        DeskCode.LINEAGE,
        "E_SIG_THRESHOLD[provenance]",
    )


def test_a_manifest_that_names_no_lineage_is_refused(
    installation: ReleaseInstallation, client: httpx.Client, bench: Bench
) -> None:
    installation.plant(replace(installation.manifest(1), lineage=None))
    refuses(bench, propose(client), DeskCode.LINEAGE, "nobody has attested")


def test_a_lineage_of_other_files_is_refused(
    installation: ReleaseInstallation, client: httpx.Client, bench: Bench
) -> None:
    manifest, other = installation.manifest(1), installation.manifest(2)
    installation.plant(replace(manifest, lineage=other.lineage))
    refuses(bench, propose(client), DeskCode.LINEAGE, "E_PROVENANCE_SUBJECT")


def test_a_controller_under_another_root_is_refused(client: httpx.Client, bench: Bench) -> None:
    foreign = replace(bench.desk, root=ReleaseRepository({}).bootstrap)
    refuses(Bench(client, foreign), propose(client), DeskCode.ROOT, "does not follow from your root")


def test_a_draft_that_the_role_has_moved_past_is_refused(
    installation: ReleaseInstallation, client: httpx.Client, bench: Bench
) -> None:
    first = propose(client)
    client.post(f"/api/v1/releases/{first['id']}:cancel")
    second = propose(client, 2)
    for person in installation.keys:
        assert hand_in(client, second, installation.sign(base64.b64decode(second["document"]), person)).is_success
    refuses(bench, first, DeskCode.STALE, "propose again")


def test_a_key_that_is_not_of_the_role_is_refused_before_anything_is_checked(
    client: httpx.Client, bench: Bench
) -> None:
    stranger = CryptoSigner.generate_ed25519()
    report, verified = Bench(client, replace(bench.desk, key=stranger.public_key)).verify(propose(client))
    assert verified is None
    assert [check.name for check in report.checks] == ["repository", "key"]
    refused(report, DeskCode.KEY, "may not sign prod-digits")


def test_a_key_that_only_calls_itself_one_of_the_role_is_refused(
    installation: ReleaseInstallation, client: httpx.Client, bench: Bench
) -> None:
    _, verified = bench.verify(propose(client))
    assert verified is not None
    alice = installation.keys["alice"].public_key
    impostor = replace_keyid(CryptoSigner.generate_ed25519(), alice.keyid)
    with pytest.raises(DeskRefusal) as refusal:
        check_key(impostor.public_key, verified.published)
    assert refusal.value.code is DeskCode.KEY


def replace_keyid(signer: CryptoSigner, keyid: str) -> CryptoSigner:
    signer.public_key.keyid = keyid
    return signer


@pytest.mark.parametrize("terms", [{"floor": 2}, {"hardware": ("camera",)}, {"variants": ("int8",)}])
def test_other_terms_than_asked_for_are_refused(client: httpx.Client, bench: Bench, terms: dict[str, Any]) -> None:
    refuses(bench, propose(client), DeskCode.TERMS, "you asked for", **terms)


def test_the_signers_own_promise_is_asked_of_the_variant(client: httpx.Client, bench: Bench) -> None:
    promise = Promise("r2", 0.5)
    report, verified = Bench(client, replace(bench.desk, promises=(promise,))).verify(propose(client))
    assert verified is None
    refused(report, DeskCode.EVALUATION, "breaks its promise")


def test_the_signers_own_data_takes_the_place_of_the_controllers(
    installation: ReleaseInstallation, client: httpx.Client, bench: Bench, tmp_path: Path
) -> None:
    import numpy as np

    from tests.support.digits import digits

    images, labels = digits()
    np.savez(tmp_path / "own.npz", inputs=images[-300:], labels=labels[-300:])
    report, verified = Bench(client, replace(bench.desk, evaluation=tmp_path / "own.npz")).verify(propose(client))
    assert verified is None
    refused(report, DeskCode.EVALUATION, "the manifest says 400 samples")


def test_a_withdrawal_and_a_renewal_are_checked_without_downloads(
    installation: ReleaseInstallation, client: httpx.Client, bench: Bench
) -> None:
    from controller.domain.releases import ReleaseKind

    release = propose(client)
    for person in installation.keys:
        hand_in(client, release, installation.sign(base64.b64decode(release["document"]), person))
    for kind in (ReleaseKind.RENEW, ReleaseKind.WITHDRAW):
        proposed = propose(client, 1, kind)
        report, verified = bench.verify(proposed)
        assert verified is not None, report.refused
        assert [check.name for check in report.checks] == CHECKS[:2]
        client.post(f"/api/v1/releases/{proposed['id']}:cancel")


def test_what_is_signed_is_what_was_checked(
    installation: ReleaseInstallation, client: httpx.Client, bench: Bench
) -> None:
    release = propose(client)
    signature = bench.sign(release, installation.keys["alice"])
    document = Metadata[Targets].from_bytes(base64.b64decode(release["document"]))
    installation.keys["alice"].public_key.verify_signature(signature, document.signed_bytes)
    raw = base64.b64decode(release["manifests"][PATH])
    assert document.signed.targets[PATH].hashes["sha256"] == hashlib.sha256(raw).hexdigest()
