"""Have statements about artifacts signed, in the form in which they are stored.

Statements are signed before the transaction that writes them with the finding they belong to: what was found and
what is said of it are there together or not at all.
"""

import copy
import json
from collections.abc import Mapping
from datetime import timedelta
from importlib.metadata import version
from typing import Any

from securesystemslib.signer import Key

from controller.artifacts.findings import MAIN_FILE
from controller.artifacts.recipes import OPAQUE
from controller.domain.errors import Unavailable
from controller.store.attestations import Attestation, AttestationKind
from controller.trust.custody.keys import KeyName
from controller.trust.lineage.model_signing import model_statement
from controller.trust.lineage.provenance import GOLDEN_STEP, Judgement, StepRun, Upload, VariantName
from controller.trust.lineage.statements import Files
from controller.trust.signer.interface import OnlineSigner, StatementKind
from controller.use_cases.remembered_work import Remembered, libraries
from controller.use_cases.variant_work import Job, Workshop

ATTEMPTS = 3
"""How often a statement is signed anew because its key was rotated in the same moment."""


def tools() -> dict[str, str]:
    """Return the releases that results depend on: the libraries' and this program's."""
    return {**libraries(), "edgefleet": version("edgefleet")}


def attest_upload(signer: OnlineSigner, upload: Upload) -> Attestation:
    """State who uploaded what as which version."""
    return _attest(signer, AttestationKind.UPLOAD, upload.sha256, upload.to_statement())


def step_run(
    job: Job, number: int, step: str, parameters: Mapping[str, Any], inputs: Files, data: Files, done: Remembered
) -> StepRun:
    """Return what is to be stated of a step; what was remembered is told with the times of when it was done."""
    return StepRun(
        about=_about(job),
        number=number,
        step=step,
        parameters=parameters,
        inputs=inputs,
        outputs=done.files,
        data=data,
        tools=tools(),
        key=done.key,
        started=done.at - timedelta(seconds=done.seconds),
        finished=done.at,
        reused=done.reused,
    )


def attest_step(shop: Workshop, run: StepRun) -> Attestation:
    """State that a step was run."""
    kind = AttestationKind.GOLDEN if run.step == GOLDEN_STEP else AttestationKind.STEP
    subject = run.outputs.get(MAIN_FILE) or next(iter(run.outputs.values()))
    return _attest(shop.signer, kind, subject, run.to_statement())


def attest_judgement(
    shop: Workshop,
    job: Job,
    done: Remembered,
    *,
    files: Files,
    data: Files,
    figures: Mapping[str, Any],
    promise: Mapping[str, Any],
    why_not: str | None,
    words: str,
) -> Attestation:
    """State how the files were found to behave, also when they broke their promise."""
    judgement = Judgement(
        about=_about(job),
        files=files,
        passed=why_not is None,
        words=why_not or words,
        figures=figures,
        promise=promise,
        data=data,
        tools=tools(),
        key=done.key,
        finished=done.at,
    )
    return _attest(shop.signer, AttestationKind.EVALUATION, files[MAIN_FILE], judgement.to_statement())


def sign_model(shop: Workshop, job: Job, main: str, files: Files) -> Attestation:
    """Sign the list of a published variant's files, for those who have other tools than ours."""
    about = _about(job)
    statement = model_statement(f"{about.model}-{about.version}-{about.variant}", files)
    return _attest(shop.signer, AttestationKind.MODEL_SIGNING, files[main], statement)


def key_of(stated: Attestation) -> Key:
    """Return the public key that signed a statement."""
    # Reading a key empties the object that it is read from.
    return Key.from_dict(stated.keyid, copy.deepcopy(stated.public_key))


def _about(job: Job) -> VariantName:
    variant = OPAQUE if job.claim.recipe_document is None else job.claim.recipe_document["name"]
    return VariantName(job.version.model, job.version.number, variant)


def _attest(signer: OnlineSigner, kind: AttestationKind, subject: str, statement: bytes) -> Attestation:
    signs_models = kind is AttestationKind.MODEL_SIGNING
    key_name = KeyName.MODEL_SIGNING if signs_models else KeyName.ATTESTATION
    statement_kind = StatementKind.MODEL_SIGNING if signs_models else StatementKind.PROVENANCE
    for _ in range(ATTEMPTS):
        key = signer.public_key(key_name)
        envelope = signer.sign_statement(statement_kind, statement)
        if json.loads(envelope)["signatures"][0]["keyid"] == key.keyid:
            return Attestation(kind, subject, envelope, key.keyid, key.to_dict())
    raise Unavailable(f"the signer's {key_name} key is being rotated; try again", code="signer_unavailable")
