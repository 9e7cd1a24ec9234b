import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner

from controller.trust.lineage.lineage_rules import LineageCode
from controller.trust.lineage.provenance import VariantName
from controller.trust.lineage.statements import make_statement
from controller.trust.lineage.verification import (
    LineageBreak,
    LineageReport,
    lineage_bundle,
    read_bundle,
    verify_lineage,
)
from device_agent.protocol.manifest import GOLDEN_FILE, ArtifactEntry
from tests.support.attacks import Group, attack
from tests.support.lineages import (
    ABOUT,
    FIGURES,
    GOLDEN,
    JUDGED,
    UPLOAD,
    Lineage,
    a_step,
    digest,
    manifest_of,
    signed,
)


@pytest.fixture
def lineage() -> Lineage:
    return Lineage()


def edited(envelope: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """Return the envelope with another payload under the old signature."""
    document = json.loads(envelope)
    statement = json.loads(base64.b64decode(document["payload"]))
    change(statement)
    return json.dumps({**document, "payload": base64.b64encode(json.dumps(statement).encode()).decode()}).encode()


def test_a_whole_chain_is_reported_from_the_upload_to_the_figures(lineage: Lineage) -> None:
    report = lineage.verify()
    assert isinstance(report, LineageReport)
    assert (report.source.actor, report.source.sha256) == ("ada", digest("source"))
    assert [step.step for step in report.steps] == ["prune_structured", "quantize_dynamic"]
    assert report.steps[0].parameters == {"fraction": "0.5", "seed": "7"}
    assert report.golden
    assert report.golden.outputs == {GOLDEN_FILE: digest("golden")}
    assert report.evaluation
    assert report.evaluation.figures["value"] == "0.97"
    assert report.signed_by == (lineage.key.public_key.keyid,)
    assert json.loads(json.dumps(report.to_json()))["steps"][1]["finished"] == "2026-03-01T12:00:00Z"


def test_the_order_in_which_statements_come_does_not_matter(lineage: Lineage) -> None:
    envelopes = lineage.envelopes()
    bundle = lineage_bundle(envelopes)
    assert lineage_bundle(reversed(envelopes)) == bundle
    assert read_bundle(bundle) == tuple(envelopes)
    assert isinstance(lineage.verify(envelopes[::-1]), LineageReport)


def test_an_opaque_version_needs_its_upload_alone(lineage: Lineage) -> None:
    envelopes = [signed(replace(UPLOAD, format="opaque", data={}).to_statement(), lineage.key)]
    whole = manifest_of(envelopes)
    opaque = replace(
        whole,
        main="artifact.bin",
        artifacts=(ArtifactEntry("artifact.bin", 1, digest("source"), (digest("source"),)),),
        behaviour=replace(whole.behaviour, golden=None, evaluation={}),
        recipe={"name": "opaque"},
    )
    report = lineage.verify(envelopes, opaque)
    assert isinstance(report, LineageReport)
    assert (report.steps, report.golden, report.evaluation) == ((), None, None)


@pytest.mark.parametrize("number", range(5))
def test_an_edited_statement_is_refused(lineage: Lineage, number: int) -> None:
    envelopes = lineage.envelopes()
    manifest = manifest_of(envelopes)
    envelopes[number] = edited(envelopes[number], lambda statement: statement.update(note="better"))
    assert code_of(lineage.verify(envelopes, manifest)) == LineageCode.SIGNATURE


def test_a_statement_under_another_key_is_refused(lineage: Lineage) -> None:
    envelopes = lineage.envelopes()
    envelopes[1] = signed(a_step(1).to_statement(), CryptoSigner.generate_ed25519())
    found = lineage.verify(envelopes)
    assert code_of(found) == LineageCode.SIGNATURE


def test_a_rotated_key_is_known_beside_its_successor(lineage: Lineage) -> None:
    envelopes = lineage.envelopes()
    newer = CryptoSigner.generate_ed25519()
    envelopes[-1] = signed(JUDGED.to_statement(), newer)
    keys = [newer.public_key, lineage.key.public_key]
    report = verify_lineage(envelopes, manifest_of(envelopes), keys)
    assert isinstance(report, LineageReport)
    assert len(report.signed_by) == 2


def test_a_manifest_that_names_no_lineage_has_none(lineage: Lineage) -> None:
    envelopes = lineage.envelopes()
    manifest = replace(manifest_of(envelopes), lineage=None)
    assert code_of(lineage.verify(envelopes, manifest)) == LineageCode.MISSING
    assert code_of(lineage.verify([], manifest_of(envelopes))) == LineageCode.MISSING


def test_statements_that_the_manifest_does_not_name_are_refused_though_all_is_well_with_them(lineage: Lineage) -> None:
    manifest = manifest_of(lineage.envelopes())
    again = Lineage(upload=replace(UPLOAD, actor="eve"), key=lineage.key)
    assert code_of(again.verify(manifest=manifest)) == LineageCode.HASH


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"steps": [a_step(2)]}, LineageCode.MISSING),
        ({"steps": [a_step(1)]}, LineageCode.MISSING),
        ({"golden": None}, LineageCode.MISSING),
        ({"judgement": None}, LineageCode.MISSING),
        ({"judgement": replace(JUDGED, passed=False)}, LineageCode.MISSING),
        ({"steps": [a_step(1), a_step(2), replace(a_step(2), number=3)]}, LineageCode.SUBJECT),
        ({"steps": [a_step(1), a_step(2), a_step(2, key=digest("again"))]}, LineageCode.SUBJECT),
    ],
)
def test_a_chain_without_one_of_its_statements_or_with_one_too_many_is_refused(
    changes: dict[str, Any], code: LineageCode
) -> None:
    assert code_of(Lineage(**changes).verify()) == code


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": [a_step(1, inputs={"model.onnx": digest("other")}), a_step(2)]},
        {"steps": [a_step(1, outputs={"model.onnx": digest("other")}), a_step(2)]},
        {"steps": [a_step(1), a_step(2, data={"calibration": digest("unknown")})]},
        {"steps": [a_step(1), a_step(2, data={"evaluation": digest("unknown")})]},
        {"golden": replace(GOLDEN, inputs={"model.onnx": digest("after 1")})},
        {"judgement": replace(JUDGED, data={"evaluation": digest("unknown")})},
    ],
)
def test_a_parent_that_is_not_among_the_materials_breaks_the_chain(changes: dict[str, Any]) -> None:
    assert code_of(Lineage(**changes).verify()) == LineageCode.PARENT


@pytest.mark.parametrize(
    "changes",
    [
        {"upload": replace(UPLOAD, sha256=digest("other"))},
        {"upload": replace(UPLOAD, version=2)},
        {"upload": replace(UPLOAD, model="faces")},
        {"steps": [a_step(1), a_step(2, outputs={"model.onnx": digest("other")})]},
        {"steps": [a_step(1), a_step(2, step="float16")]},
        {"steps": [a_step(1, parameters={"fraction": 0.9}), a_step(2)]},
        {"steps": [a_step(1), a_step(2, about=VariantName("digits", 1, "other"))]},
        {"steps": [a_step(1), a_step(2, about=replace(ABOUT, version=2))]},
        {"golden": replace(GOLDEN, outputs={GOLDEN_FILE: digest("other")})},
        {"judgement": replace(JUDGED, files={"model.onnx": digest("other")})},
        {"judgement": replace(JUDGED, figures={**FIGURES, "value": 0.99})},
    ],
)
def test_a_statement_about_other_bytes_or_another_variant_breaks_the_chain(changes: dict[str, Any]) -> None:
    assert code_of(Lineage(**changes).verify()) == LineageCode.SUBJECT


def test_a_step_taken_from_another_variant_is_refused_though_its_bytes_fit(lineage: Lineage) -> None:
    other = a_step(1, about=VariantName("digits", 1, "small-and-more"))
    envelopes = [signed(other.to_statement(), lineage.key), *lineage.envelopes()[:1], *lineage.envelopes()[2:]]
    found = lineage.verify(envelopes)
    assert code_of(found) == LineageCode.SUBJECT
    assert isinstance(found, LineageBreak)
    assert "small-and-more" in found.detail


@pytest.mark.parametrize(
    ("envelope", "code"),
    [
        (b"{", "E_MALFORMED[provenance]"),
        (b"[" * 100_000, "E_MALFORMED[provenance]"),
        (b"0" * 300_000, "E_ENDLESS_DATA[provenance]"),
        (
            json.dumps({"payload": "", "payloadType": "text/plain", "signatures": []}).encode(),
            "E_WRONG_TYPE[provenance]",
        ),
    ],
)
def test_what_is_no_envelope_is_refused_by_name(lineage: Lineage, envelope: bytes, code: str) -> None:
    envelopes = lineage.envelopes()
    assert code_of(lineage.verify([*envelopes, envelope], manifest_of(envelopes))) == code


def test_a_signed_statement_of_an_unknown_type_is_refused(lineage: Lineage) -> None:
    envelopes = lineage.envelopes()
    unknown = signed(make_statement({"a": digest("a")}, "urn:unknown", {}), lineage.key)
    assert code_of(lineage.verify([*envelopes, unknown], manifest_of(envelopes))) == "E_WRONG_TYPE[provenance]"


def test_more_statements_than_any_recipe_makes_are_not_even_read(lineage: Lineage) -> None:
    envelopes = lineage.envelopes()
    assert code_of(lineage.verify(envelopes * 20, manifest_of(envelopes))) == "E_ENDLESS_DATA[provenance]"


@pytest.mark.parametrize("recipe", [{"steps": "all"}, {"steps": [1]}, {"steps": [{}]}, {"steps": None}])
def test_a_manifest_whose_recipe_has_no_form_is_refused(lineage: Lineage, recipe: dict[str, Any]) -> None:
    envelopes = lineage.envelopes()
    found = lineage.verify(envelopes, replace(manifest_of(envelopes), recipe=recipe))
    assert code_of(found) == "E_MALFORMED[recipe]"


@pytest.mark.parametrize("given", [0.5, [1, 2.0], {"a": 1}, True, None, "x"])
def test_a_parameter_is_recognised_whatever_its_kind(lineage: Lineage, given: object) -> None:
    lineage.steps[0] = a_step(1, parameters={"fraction": given})
    manifest = manifest_of(lineage.envelopes())
    uses = [{"step": "prune_structured", "parameters": {"fraction": given}}, {"step": "quantize_dynamic"}]
    assert isinstance(lineage.verify(manifest=replace(manifest, recipe={"steps": uses})), LineageReport)


def code_of(found: LineageReport | LineageBreak) -> str:
    assert isinstance(found, LineageBreak), found
    return found.code


class TestAttacks:
    @attack(Group.PAYLOAD, "A signed statement about a step is edited", "E_SIG_THRESHOLD[provenance]")
    def test_an_edited_step(self, lineage: Lineage) -> str:
        envelopes = lineage.envelopes()
        manifest = manifest_of(envelopes)
        envelopes[1] = edited(envelopes[1], lambda statement: statement["subject"][0].update(name="other.onnx"))
        return code_of(lineage.verify(envelopes, manifest))

    @attack(Group.PAYLOAD, "A statement is signed with a key that is not the signer's", "E_SIG_THRESHOLD[provenance]")
    def test_another_key(self, lineage: Lineage) -> str:
        envelopes = [*lineage.envelopes()[:-1], signed(JUDGED.to_statement(), CryptoSigner.generate_ed25519())]
        return code_of(lineage.verify(envelopes))

    @attack(Group.PAYLOAD, "The lineage is that of other bytes", "E_PROVENANCE_SUBJECT")
    def test_other_bytes(self) -> str:
        return code_of(Lineage(steps=[a_step(1), a_step(2, outputs={"model.onnx": digest("back door")})]).verify())

    @attack(Group.PAYLOAD, "A step began with bytes that no step before it made", "E_PROVENANCE_PARENT")
    def test_a_parent_from_elsewhere(self) -> str:
        return code_of(Lineage(steps=[a_step(1), a_step(2, inputs={"model.onnx": digest("back door")})]).verify())

    @attack(Group.PAYLOAD, "A step learned from data that nobody uploaded", "E_PROVENANCE_PARENT")
    def test_data_from_elsewhere(self) -> str:
        return code_of(Lineage(steps=[a_step(1), a_step(2, data={"calibration": digest("poison")})]).verify())

    @attack(Group.PAYLOAD, "A step is left out of the lineage", "E_PROVENANCE_MISSING")
    def test_a_step_left_out(self) -> str:
        return code_of(Lineage(steps=[a_step(2)]).verify())

    @attack(Group.PAYLOAD, "The statement about a step is taken from another variant", "E_PROVENANCE_SUBJECT")
    def test_a_step_of_another_variant(self) -> str:
        return code_of(Lineage(steps=[a_step(1, about=VariantName("digits", 1, "other")), a_step(2)]).verify())

    @attack(Group.PAYLOAD, "Better figures are stated than the manifest carries", "E_PROVENANCE_SUBJECT")
    def test_better_figures(self) -> str:
        return code_of(Lineage(judgement=replace(JUDGED, figures={**FIGURES, "value": 1.0})).verify())

    @attack(Group.PAYLOAD, "The lineage is exchanged after the manifest was signed", "E_HASH_MISMATCH[lineage]")
    def test_an_exchanged_lineage(self, lineage: Lineage) -> str:
        manifest = manifest_of(lineage.envelopes())
        return code_of(Lineage(upload=replace(UPLOAD, actor="eve"), key=lineage.key).verify(manifest=manifest))
