"""The lineage of a variant: signed statements that lead from its manifest's files back to what somebody uploaded.

    manifest's files <- last step's outputs <- ... <- first step's inputs <- uploaded source
    manifest's golden tensors <- drawn from the manifest's files      manifest's figures <- judgement of those files

The bundle that a manifest names is one envelope a line (JSON Lines), the upload first. Verification is pure: it is
the same in the controller, on an operator's machine and where a release is signed.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import Key

from controller.trust.lineage.lineage_rules import (
    Broken,
    LineageCode,
    check_behaviour,
    check_chain,
    check_recipe,
    only_one,
    source_of,
)
from controller.trust.lineage.provenance import (
    GOLDEN_STEP,
    JUDGEMENT,
    STEP_TYPE,
    UPLOAD_TYPE,
    Judgement,
    StepRun,
    Upload,
    VariantName,
)
from controller.trust.lineage.statements import PAYLOAD_TYPE, SLSA, STATEMENT, TEST_RESULT
from device_agent.protocol.dsse import parse_envelope
from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.fields import Fields, format_utc
from device_agent.protocol.manifest import Manifest

ENVELOPE_BYTES_MAX = 256 * 1024
ENVELOPES_MAX = 64
_ROLE = "provenance"


@dataclass(frozen=True)
class LineageBreak:
    """Where the chain is broken: a LineageCode or the label of a ProtocolError, and words for people."""

    code: str
    detail: str

    def to_json(self) -> dict[str, str]:
        """Return the form that the API shows."""
        return {"code": str(self.code), "detail": self.detail}


@dataclass(frozen=True)
class LineageReport:
    """What a lineage that holds together says. Numbers among parameters and figures are words, as they were signed."""

    source: Upload
    steps: tuple[StepRun, ...]
    """In the order of the recipe; none where the upload is delivered as it is."""
    golden: StepRun | None
    evaluation: Judgement | None
    """Both None for opaque artifacts."""
    signed_by: tuple[str, ...]
    """Ids of the keys."""

    def to_json(self) -> dict[str, Any]:
        """Return the form that the API shows."""
        return {
            "source": _plain(self.source),
            "steps": [_plain(step) for step in self.steps],
            "golden": self.golden and _plain(self.golden),
            "evaluation": self.evaluation and _plain(self.evaluation),
            "signed_by": list(self.signed_by),
        }


def lineage_bundle(envelopes: Iterable[bytes]) -> bytes:
    """Return the bundle of these envelopes, the same for any order; ProtocolError for what is no statement."""
    return b"".join(envelope + b"\n" for envelope in sorted(envelopes, key=_place))


def read_bundle(bundle: bytes) -> tuple[bytes, ...]:
    """Return the envelopes of a bundle."""
    return tuple(line for line in bundle.split(b"\n") if line)


def verify_lineage(envelopes: Sequence[bytes], manifest: Manifest, keys: Sequence[Key]) -> LineageReport | LineageBreak:
    """Check the statements against the manifest that names them; return what they say, or where the chain is broken.

    `keys` are the attestation keys that the caller knows; each envelope must be signed by one of them. The manifest
    itself must come from where it is trusted: the image repository.
    """
    try:
        return _verify(envelopes, manifest, keys)
    except Broken as broken:
        return LineageBreak(broken.code, str(broken))
    except ProtocolError as error:
        return LineageBreak(error.label, str(error))
    except RecursionError:
        return LineageBreak(f"{Code.MALFORMED}[{_ROLE}]", "a statement is nested too deep")


def _verify(envelopes: Sequence[bytes], manifest: Manifest, keys: Sequence[Key]) -> LineageReport:
    if manifest.lineage is None or not envelopes:
        raise Broken(LineageCode.MISSING, "nobody has stated how these files were made")
    if len(envelopes) > ENVELOPES_MAX:
        raise ProtocolError(Code.ENDLESS_DATA, f"{len(envelopes)} statements; at most {ENVELOPES_MAX}", role=_ROLE)
    opened = [_open(envelope, keys) for envelope in envelopes]
    told = [_read(payload) for payload, _ in opened]
    uploads, steps, judgements = (_of_kind(told, kind) for kind in (Upload, StepRun, Judgement))
    about = VariantName(manifest.model, manifest.version, manifest.variant)
    for named in (*steps, *judgements):
        if named.about != about:
            raise Broken(LineageCode.SUBJECT, f"a statement is about {named.about}; the manifest is {about}")
    source = source_of(uploads, manifest)
    runs = sorted((step for step in steps if step.step != GOLDEN_STEP), key=lambda step: step.number)
    golden = only_one([step for step in steps if step.step == GOLDEN_STEP], "drawing of golden tensors")
    judgement = only_one(judgements, "judgement")
    check_recipe(runs, manifest)
    check_chain(runs, source, manifest)
    check_behaviour(golden, judgement, source, manifest)
    # Last of all, so that a break has the name of what is wrong with it where one can be told.
    _check_bundle(envelopes, manifest)
    return LineageReport(source, tuple(runs), golden, judgement, tuple(sorted({key for _, key in opened})))


def _open(envelope: bytes, keys: Sequence[Key]) -> tuple[bytes, str]:
    opened = parse_envelope(envelope, payload_type=PAYLOAD_TYPE, bytes_max=ENVELOPE_BYTES_MAX, role=_ROLE)
    try:
        signed_by = opened.verify(list(keys), 1)
    except (VerificationError, ValueError) as error:
        ids = ", ".join(keyid[:12] for keyid in opened.signatures) or "nobody"
        detail = f"a statement is signed by {ids}, not by an attestation key that is known here: {error}"
        raise Broken(LineageCode.SIGNATURE, detail) from error
    return opened.payload, next(iter(signed_by))


def _read(payload: bytes) -> Upload | StepRun | Judgement:
    statement = Fields.from_json(payload, _ROLE)
    kind, predicate = statement.text("predicateType"), statement.child("predicate")
    if statement.text("_type") == STATEMENT:
        if kind == TEST_RESULT and predicate.optional_child(JUDGEMENT):
            return Judgement.read(statement)
        build_type = predicate.child("buildDefinition").text("buildType") if kind == SLSA else None
        if build_type == UPLOAD_TYPE:
            return Upload.read(statement)
        if build_type == STEP_TYPE:
            return StepRun.read(statement)
    raise ProtocolError(Code.WRONG_TYPE, f"a statement of the type {kind!r} is not known here", role=_ROLE)


def _place(envelope: bytes) -> tuple[int, int, bytes]:
    opened = parse_envelope(envelope, payload_type=PAYLOAD_TYPE, bytes_max=ENVELOPE_BYTES_MAX, role=_ROLE)
    told = _read(opened.payload)
    if isinstance(told, StepRun):
        return 2 if told.step == GOLDEN_STEP else 1, told.number, envelope
    return 0 if isinstance(told, Upload) else 3, 0, envelope


def _of_kind(told: Sequence[object], kind: type[Any]) -> list[Any]:
    return [one for one in told if isinstance(one, kind)]


def _check_bundle(envelopes: Sequence[bytes], manifest: Manifest) -> None:
    assert manifest.lineage, "checked first"
    bundle = lineage_bundle(envelopes)
    found = hashlib.sha256(bundle).hexdigest()
    if (len(bundle), found) != (manifest.lineage.length, manifest.lineage.sha256):
        detail = f"these statements have the sha256 {found}; the manifest names {manifest.lineage.sha256}"
        raise Broken(LineageCode.HASH, detail)


def _plain(told: Upload | StepRun | Judgement) -> dict[str, Any]:
    moments = ("at", "started", "finished")
    return {name: format_utc(value) if name in moments else value for name, value in asdict(told).items()}
