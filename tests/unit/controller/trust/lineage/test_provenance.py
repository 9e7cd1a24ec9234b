import json
from dataclasses import replace

import pytest

from controller.trust.lineage.provenance import GOLDEN_STEP, Judgement, StepRun, Upload
from controller.trust.lineage.statements import SLSA, STATEMENT, TEST_RESULT, as_words
from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.fields import Fields
from tests.support.lineages import EVALUATION, GOLDEN, JUDGED, TOOLS, UPLOAD, a_step, digest


def read(kind: type, statement: bytes) -> object:
    return kind.read(Fields.from_json(statement, "provenance"))


def test_an_upload_says_who_brought_what_and_comes_back_as_it_was() -> None:
    statement = json.loads(UPLOAD.to_statement())
    assert (statement["_type"], statement["predicateType"]) == (STATEMENT, SLSA)
    assert statement["subject"] == [{"name": "source", "digest": {"sha256": digest("source")}}]
    definition = statement["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["actor"] == "ada"
    assert definition["externalParameters"]["version"] == "1"
    assert read(Upload, UPLOAD.to_statement()) == UPLOAD


def test_a_step_says_what_it_was_given_and_its_numbers_come_back_as_words() -> None:
    run = a_step(1, reused=True)
    statement = json.loads(run.to_statement())
    dependencies = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert [entry.get("name", entry.get("uri")) for entry in dependencies] == [
        "model.onnx",
        "evaluation",
        "pkg:pypi/edgefleet@0.1.0",
        "pkg:pypi/onnxruntime@1.32.0",
    ]
    assert statement["predicate"]["runDetails"]["metadata"]["invocationId"] == run.key
    assert read(StepRun, run.to_statement()) == replace(run, parameters={"fraction": "0.5", "seed": "7"})


def test_golden_tensors_are_a_step_of_no_recipe() -> None:
    found = read(StepRun, GOLDEN.to_statement())
    assert isinstance(found, StepRun)
    assert (found.step, found.number, [*found.outputs]) == (GOLDEN_STEP, 3, ["golden.npz"])


@pytest.mark.parametrize(("passed", "result"), [(True, "PASSED"), (False, "FAILED")])
def test_a_judgement_is_a_test_result_with_its_figures(*, passed: bool, result: str) -> None:
    judged = replace(JUDGED, passed=passed)
    statement = json.loads(judged.to_statement())
    assert (statement["predicateType"], statement["predicate"]["result"]) == (TEST_RESULT, result)
    assert read(Judgement, judged.to_statement()) == replace(
        judged, figures=as_words(judged.figures), promise=as_words(judged.promise)
    )


def test_the_same_facts_give_the_same_bytes_in_whatever_order_they_are_told() -> None:
    turned = replace(UPLOAD, tools=dict(reversed(TOOLS.items())), data=dict(EVALUATION))
    assert turned.to_statement() == UPLOAD.to_statement()


def test_no_number_is_left_in_a_statement() -> None:
    words = as_words({"a": [1, 0.1, 1e-9], "b": True, "c": None, "d": "x"})
    assert words == {"a": ["1", "0.1", "1e-09"], "b": True, "c": None, "d": "x"}


@pytest.mark.parametrize(
    "change",
    [
        {"subject": []},
        {"subject": [{"name": "a", "digest": {"sha256": "A" * 64}}]},
        {"subject": [{"name": "a", "digest": {"sha256": "a" * 64}}, {"name": "a", "digest": {"sha256": "b" * 64}}]},
        {"predicate": {}},
        {"predicate": None},
    ],
)
def test_a_statement_without_its_form_is_malformed(change: dict[str, object]) -> None:
    statement = {**json.loads(a_step(1).to_statement()), **change}
    with pytest.raises(ProtocolError) as refusal:
        StepRun.read(Fields(statement, "provenance"))
    assert refusal.value.code is Code.MALFORMED


def test_a_version_that_is_no_number_is_malformed() -> None:
    statement = UPLOAD.to_statement().replace(b'"version":"1"', b'"version":"one"')
    with pytest.raises(ProtocolError, match="whole number in digits"):
        read(Upload, statement)


def test_an_input_with_two_contents_is_malformed() -> None:
    statement = json.loads(a_step(1).to_statement())
    dependencies = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    dependencies.append({**dependencies[0], "digest": {"sha256": digest("other")}})
    with pytest.raises(ProtocolError, match=r"names the input model\.onnx twice"):
        StepRun.read(Fields(statement, "provenance"))
