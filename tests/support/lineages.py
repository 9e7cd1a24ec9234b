"""A manifest with the lineage that leads to it: one upload, two steps, golden tensors, a judgement. Really signed."""

import hashlib
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner

from controller.trust.lineage.provenance import GOLDEN_STEP, Judgement, StepRun, Upload, VariantName
from controller.trust.lineage.statements import PAYLOAD_TYPE
from controller.trust.lineage.verification import LineageBreak, LineageReport, lineage_bundle, verify_lineage
from device_agent.protocol.manifest import GOLDEN_FILE, ArtifactEntry, Behaviour, LineageEntry, Manifest
from tests.support.manifests import a_manifest

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ABOUT = VariantName("digits", 1, "small")
TOOLS = {"edgefleet": "0.1.0", "onnxruntime": "1.32.0"}
FIGURES = {"metric": "accuracy", "value": 0.97, "samples": 400, "worst_class": None, "drop_ci": [0.0, 0.01]}
STEPS = [
    {"step": "prune_structured", "parameters": {"fraction": 0.5}},
    {"step": "quantize_dynamic", "parameters": {}},
]


def digest(words: str) -> str:
    """Return the sha256 that stands for something."""
    return hashlib.sha256(words.encode()).hexdigest()


EVALUATION = {"evaluation": digest("evaluation")}
UPLOAD = Upload("digits", 1, "onnx", digest("source"), "ada", NOW, EVALUATION, TOOLS, "ve_1")


def a_step(number: int, **changes: Any) -> StepRun:
    """Return the run of a step: `after 0` is the source, `after 2` what the manifest names."""
    use = STEPS[number - 1]
    run = StepRun(
        about=ABOUT,
        number=number,
        step=use["step"],
        parameters={**use["parameters"], "seed": 7},
        inputs={"model.onnx": digest("source" if number == 1 else f"after {number - 1}")},
        outputs={"model.onnx": digest(f"after {number}")},
        data=EVALUATION,
        tools=TOOLS,
        key=digest(f"work {number}"),
        started=NOW,
        finished=NOW,
    )
    return replace(run, **changes)


GOLDEN = replace(
    a_step(2),
    number=3,
    step=GOLDEN_STEP,
    parameters={"rows": 32},
    inputs={"model.onnx": digest("after 2")},
    outputs={GOLDEN_FILE: digest("golden")},
)
JUDGED = Judgement(
    about=ABOUT,
    files={"model.onnx": digest("after 2")},
    passed=True,
    words="accuracy 0.97",
    figures=FIGURES,
    promise={"drop_max": 0.01},
    data=EVALUATION,
    tools=TOOLS,
    key=digest("judged"),
    finished=NOW,
)


@dataclass
class Lineage:
    """Statements that may be changed, dropped and exchanged before they are signed; the manifest names the result."""

    upload: Upload = UPLOAD
    steps: list[StepRun] = field(default_factory=lambda: [a_step(1), a_step(2)])
    golden: StepRun | None = GOLDEN
    judgement: Judgement | None = JUDGED
    key: CryptoSigner = field(default_factory=CryptoSigner.generate_ed25519)

    def envelopes(self) -> list[bytes]:
        """Return the statements, signed."""
        told = [self.upload, *self.steps, self.golden, self.judgement]
        return [signed(one.to_statement(), self.key) for one in told if one is not None]

    def verify(
        self, envelopes: list[bytes] | None = None, manifest: Manifest | None = None
    ) -> LineageReport | LineageBreak:
        """Verify the statements as whoever trusts this key."""
        found = self.envelopes() if envelopes is None else envelopes
        return verify_lineage(found, manifest or manifest_of(found), [self.key.public_key])


def signed(statement: bytes, key: CryptoSigner) -> bytes:
    """Return the DSSE envelope of a statement."""
    envelope = Envelope(statement, PAYLOAD_TYPE, {})
    envelope.sign(key)
    return json.dumps(envelope.to_dict()).encode()


def manifest_of(envelopes: list[bytes]) -> Manifest:
    """Return the manifest of `digits` version 1, small, that names these statements."""
    files = {"model.onnx": digest("after 2"), GOLDEN_FILE: digest("golden")}
    bundle = lineage_bundle(envelopes)
    return replace(
        a_manifest(variant="small"),
        artifacts=tuple(ArtifactEntry(name, 1, sha256, (sha256,)) for name, sha256 in files.items()),
        behaviour=Behaviour(GOLDEN_FILE, 1e-3, 1e-2, FIGURES),
        recipe={"name": "small", "version": 1, "steps": STEPS},
        source_sha256=digest("source"),
        lineage=LineageEntry(len(bundle), hashlib.sha256(bundle).hexdigest()),
    )
