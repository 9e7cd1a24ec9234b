"""What `version verify` checks of a variant, one after another: each check holds, or is broken with a code and words.

Nothing that the controller says of itself counts: the manifest is the one that the image repository signs, and the
rest follows from it. The statements' keys are the controller's own word unless the operator names them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.signer import Key, SSlibKey

from controller.cli.client import Json
from controller.cli.errors import CommandFailed, ExitCode
from controller.cli.render import size
from controller.cli.signed_files import Broken, ImageRepositoryView, PublicFiles, SignedManifest
from controller.trust.lineage.model_signing import why_not_signed
from controller.trust.lineage.verification import LineageBreak, LineageReport, verify_lineage

SOURCE_BYTES_MAX = 2**40
NOT_ACTIVE = "E_NOT_ACTIVE"
"""A device says that it runs something else."""
MODEL_SIGNATURE = "E_MODEL_SIGNATURE"


@dataclass(frozen=True)
class Check:
    """What was checked and what came of it; `code` is None where it holds."""

    what: str
    words: str
    code: str | None = None

    def to_json(self) -> Json:
        """Return the form that scripts read."""
        return {"what": self.what, "holds": self.code is None, "code": self.code, "words": self.words}


@dataclass
class Proof:
    """All that was checked of one variant."""

    variant: str
    checks: list[Check] = field(default_factory=list)
    signed: SignedManifest | None = None
    report: LineageReport | None = None

    @property
    def holds(self) -> bool:
        """Tell whether nothing is broken."""
        return all(check.code is None for check in self.checks)

    def to_json(self) -> Json:
        """Return the form that scripts read."""
        return {
            "variant": self.variant,
            "target": self.signed and self.signed.target,
            "released": self.signed is not None and self.signed.is_released,
            "manifest_sha256": self.signed and self.signed.sha256,
            "checks": [check.to_json() for check in self.checks],
            "report": self.report and self.report.to_json(),
        }


@dataclass(frozen=True)
class Keys:
    """Which keys may have signed statements; None for those that the controller names."""

    named: tuple[Json, ...] | None = None

    @classmethod
    def read(cls, files: Sequence[Path]) -> "Keys":
        """Read public keys in PEM; without files nobody but the controller names any."""
        return cls(tuple(_key_of(file).keyval for file in files) or None)

    def among(self, shown: Sequence[Json]) -> list[Key]:
        """Return the keys that count among those that the controller shows."""
        keys = map(_key_shown, shown)
        return [key for key in keys if self.named is None or key.keyval in self.named]


def prove(
    files: PublicFiles, view: ImageRepositoryView, lineage: Json, shown: Json, keys: Keys, signing: Json
) -> Proof:
    """Check one variant: `shown` is what the lineage of the version says of it, `signing` its OpenSSF bundle."""
    proof = Proof(shown["variant"])
    try:
        proof.signed = view.manifest(lineage["model"], lineage["version"], shown["variant"])
    except Broken as broken:
        proof.checks.append(_broken("image repository", broken))
        return proof
    proof.checks.append(_image(proof.signed, shown))
    found = verify_lineage(
        [envelope.encode() for envelope in shown["envelopes"]], proof.signed.manifest, keys.among(shown["keys"])
    )
    if isinstance(found, LineageBreak):
        proof.checks.append(Check("lineage", found.detail, found.code))
    else:
        proof.report = found
        proof.checks.append(Check("lineage", _signed_by(found, shown, keys)))
    proof.checks.append(_artifacts(files, proof.signed))
    proof.checks.append(_model_signing(proof.signed, signing))
    return proof


def device_check(proof: Proof, device: Json, model: str) -> Check:
    """Compare what a device reports as active with what is signed."""
    slot = next((slot for slot in device["slots"] if slot["slot"] == model), None)
    what = f"device {device['name']}"
    if slot is None:
        return Check(what, f"it has reported nothing of {model}", NOT_ACTIVE)
    running = slot.get("manifest_sha256")
    if proof.signed is None or running != proof.signed.sha256:
        said = f"version {slot['version'] or '-'}, {slot['variant'] or '-'}, manifest {str(running)[:12]}"
        return Check(what, f"it reports {said} as active", NOT_ACTIVE)
    return Check(what, f"it reports manifest {running[:12]} as active, {slot['state']}")


def _image(signed: SignedManifest, shown: Json) -> Check:
    if signed.sha256 != shown["manifest_sha256"]:
        detail = f"{signed.target} is signed with {signed.sha256}; the controller shows {shown['manifest_sha256']}"
        return Check("image repository", detail, "E_HASH_MISMATCH[manifest]")
    by = "released: release keys vouch for it" if signed.is_released else "development: the controller alone signs it"
    return Check("image repository", f"{signed.target}, manifest {signed.sha256[:12]}; {by}")


def _signed_by(report: LineageReport, shown: Json, keys: Keys) -> str:
    ids = ", ".join(keyid[:12] for keyid in report.signed_by)
    whose = "that was named here" if keys.named else "that the controller names"
    return f"{len(shown['envelopes'])} statements under the attestation key {ids} {whose}"


def _artifacts(files: PublicFiles, signed: SignedManifest) -> Check:
    manifest = signed.manifest
    fetched = 0
    try:
        for entry in manifest.artifacts:
            fetched += files.fetch(entry.name, entry.sha256, entry.length)
        if manifest.source_sha256 not in {entry.sha256 for entry in manifest.artifacts}:
            fetched += files.fetch("the source", manifest.source_sha256, SOURCE_BYTES_MAX)
    except Broken as broken:
        return _broken("artifacts", broken)
    names = ", ".join(entry.name for entry in manifest.artifacts)
    return Check("artifacts", f"{names} and the source have the digests that are signed ({size(fetched)} downloaded)")


def _model_signing(signed: SignedManifest, signing: Json) -> Check:
    files = {entry.name: entry.sha256 for entry in signed.manifest.artifacts}
    why = why_not_signed(signing["bundle"], signing["public_key"].encode(), files)
    if why:
        return Check("model signing", why, MODEL_SIGNATURE)
    hint = signing["bundle"]["verificationMaterial"]["publicKey"]["hint"]
    return Check("model signing", f"OpenSSF bundle of {len(files)} files under the key {hint[:12]}")


def _broken(what: str, broken: Broken) -> Check:
    return Check(what, str(broken), broken.code)


def _key_shown(shown: Json) -> Key:
    try:
        # Reading a key empties the object that it is read from.
        document = {name: shown[name] for name in ("keytype", "scheme")} | {"keyval": dict(shown["keyval"])}
        return Key.from_dict(str(shown["keyid"]), document)
    except (KeyError, ValueError, TypeError) as error:
        raise CommandFailed(f"the controller shows an attestation key that is none: {error!r}") from error


def _key_of(file: Path) -> Any:
    try:
        return SSlibKey.from_crypto(load_pem_public_key(file.read_bytes()))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CommandFailed(f"{file} is no public key in PEM: {error}", ExitCode.USAGE) from error
