"""How a variant came to be: the signed statements that its manifest names, from the upload to the files themselves."""

from dataclasses import dataclass

from securesystemslib.signer import Key

from controller.release_desk.artifacts import Downloads
from controller.release_desk.report import DeskCode, DeskRefusal
from controller.trust.lineage.verification import (
    ENVELOPE_BYTES_MAX,
    ENVELOPES_MAX,
    LineageBreak,
    read_bundle,
    verify_lineage,
)
from device_agent.protocol.manifest import Manifest

BUNDLE_BYTES_MAX = ENVELOPE_BYTES_MAX * ENVELOPES_MAX


@dataclass(frozen=True)
class AttestationKeys:
    """The keys that statements must be signed with."""

    keys: tuple[Key, ...]
    unpinned: bool
    """They are the controller's own word, not the signer's."""


def check_lineage(manifest: Manifest, downloads: Downloads, attestation: AttestationKeys) -> str:
    """Verify the statements and say in words what they tell. DeskRefusal(LINEAGE) where the chain is broken."""
    named = manifest.lineage
    if named is None:
        raise DeskRefusal(
            DeskCode.LINEAGE,
            "nobody has attested how these files were made; upload the version again with this release of the "
            "controller, which attests every step",
        )
    if named.length > BUNDLE_BYTES_MAX:
        raise DeskRefusal(DeskCode.LINEAGE, f"the statements have {named.length} bytes; at most {BUNDLE_BYTES_MAX}")
    bundle = downloads.get(named.sha256, length=named.length).read_bytes()
    report = verify_lineage(read_bundle(bundle), manifest, attestation.keys)
    if isinstance(report, LineageBreak):
        raise DeskRefusal(DeskCode.LINEAGE, f"{report.code}: {report.detail}")
    steps = ", ".join(step.step for step in report.steps) or "no compression"
    signed_by = ", ".join(keyid[:12] for keyid in report.signed_by)
    return f"from the upload of {report.source.actor} through {steps}; attested by {signed_by}"
