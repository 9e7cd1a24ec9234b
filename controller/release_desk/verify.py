"""Check a release in every part: repository, draft, manifests, artifacts, lineage, behaviour, evaluation.

The first checks each stand on the one before, so the first that fails ends them. Variants are checked each for itself,
so that one report names everything that is wrong with a version.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NewType

from securesystemslib.signer import Key

from controller.artifacts.child_process import Limits
from controller.domain.promise import Promise
from controller.domain.releases import ReleaseKind
from controller.release_desk import behaviour
from controller.release_desk.announcement import Announcement
from controller.release_desk.artifacts import Downloads
from controller.release_desk.draft import Draft, Terms, check_draft, read_draft
from controller.release_desk.lineage import AttestationKeys, check_lineage
from controller.release_desk.published_role import PublishedRole, RepositoryFolder, check_key
from controller.release_desk.report import Check, DeskCode, DeskRefusal, DeskReport, Tell
from controller.release_desk.source import Source
from device_agent.protocol.manifest import Manifest

DATA_BYTES_MAX = 8 * 1024**3
"""Larger uploads and evaluation data are not downloaded."""


@dataclass(frozen=True)
class Desk:
    """What a signer checks with."""

    folder: Path
    """The signer's own, kept from one release to the next."""
    source: Source
    root: bytes
    """The root document that the signer trusts."""
    attestation: AttestationKeys
    limits: Limits
    clock: Callable[[], datetime]
    promises: tuple[Promise, ...] = ()
    """What the signer asks of a variant beside the version's own promise."""
    evaluation: Path | None = None
    """The evaluation data as the signer knows it; None takes what the controller names."""
    published: str | None = None
    """sha256 of the published role, where the signer knows it to be right although its keys were replaced."""
    key: Key | None = None
    """Whoever will sign; a key that the role does not name is refused before anything is downloaded."""


@dataclass(frozen=True)
class CheckedDraft:
    """A draft with the role that it is for."""

    draft: Draft
    published: PublishedRole
    release: str
    """The release's id."""


VerifiedDraft = NewType("VerifiedDraft", CheckedDraft)
"""A draft of which every check has passed: the only thing that `sign` takes."""


@dataclass
class _Findings:
    """The checks so far, each told as soon as it is there."""

    tell: Tell
    checks: list[Check] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def passed(self, name: str, subject: str, detail: str, **figures: object) -> None:
        """Note that nothing was found."""
        self._add(Check(name, subject, detail, figures=figures))

    @contextmanager
    def checking(self, name: str, subject: str) -> Iterator[None]:
        """Note a refusal inside, and let it go on to whoever decides what it ends."""
        try:
            yield
        except DeskRefusal as refusal:
            self._add(Check(name, subject, refusal.detail, refusal.code))
            raise

    def _add(self, check: Check) -> None:
        self.checks.append(check)
        self.tell(check)


def verify_release(
    desk: Desk, announced: Announcement, terms: Terms, tell: Tell
) -> tuple[DeskReport, VerifiedDraft | None]:
    """Make every check; return the report, and the draft if nothing speaks against it."""
    findings = _Findings(tell)
    checked: CheckedDraft | None = None
    try:
        checked = _check_role(desk, announced, terms, findings)
        if terms.kind is ReleaseKind.RELEASE:
            _check_variants(desk, announced, checked.draft, findings)
    except DeskRefusal:
        checked = None  # noted where it was found
    report = DeskReport(tuple(findings.checks), tuple(findings.warnings))
    return report, VerifiedDraft(checked) if checked and not report.refused else None


def _check_role(desk: Desk, announced: Announcement, terms: Terms, findings: _Findings) -> CheckedDraft:
    now = desk.clock()
    with findings.checking("repository", terms.model):
        folder = RepositoryFolder(desk.folder, desk.source, desk.root, desk.published)
        published = folder.follow(terms.model, now)
    findings.passed(
        "repository",
        published.name,
        f"follows from your root to root {published.root_version}; version {published.version} is published; "
        f"{published.threshold} of {len(published.keys)} keys must sign the next",
        published_sha256=published.sha256,
    )
    if desk.key is not None:
        with findings.checking("key", published.name):
            check_key(desk.key, published)
    with findings.checking("draft", published.name):
        _refuse_other_release(announced, terms)
        draft = check_draft(published, read_draft(announced.document), announced.manifests, terms, now)
    findings.passed("draft", published.name, _draft_words(draft, terms))
    return CheckedDraft(draft, published, announced.id)


def _refuse_other_release(announced: Announcement, terms: Terms) -> None:
    if (announced.kind, announced.model, announced.version) != (terms.kind, terms.model, terms.number):
        told = f"{announced.kind} of {announced.model} version {announced.version}"
        raise DeskRefusal(DeskCode.MALFORMED, f"release {announced.id} is the {told}, not what was asked for")


def _draft_words(draft: Draft, terms: Terms) -> str:
    signed = draft.document.signed
    what = {
        ReleaseKind.RELEASE: f"the published role and {len(draft.manifests)} variants of version {terms.number}",
        ReleaseKind.WITHDRAW: f"the published role without version {terms.number}",
        ReleaseKind.RENEW: "the published role, nothing changed",
    }[terms.kind]
    limits = [f"floor {draft.floor}"] if draft.floor is not None else []
    limits += [f"only {', '.join(draft.hardware)}"] if draft.hardware else []
    terms_told = f"; {'; '.join(limits)}" if limits else ""
    return f"is {what}{terms_told}; version {signed.version}, good until {signed.expires:%Y-%m-%d}"


def _check_variants(desk: Desk, announced: Announcement, draft: Draft, findings: _Findings) -> None:
    if desk.attestation.unpinned:
        findings.warnings.append(
            "the attestation key is the controller's own word: whoever holds the controller can attest any lineage; "
            "pin it with --attestation-key FILE"
        )
    if desk.evaluation is None and announced.evaluation is not None:
        findings.warnings.append(
            "the evaluation data is the controller's own word: name the data that you know with --evaluation FILE"
        )
    desk.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=desk.folder, prefix="release-") as folder:
        downloads = Downloads(desk.source, _made(Path(folder) / "blobs"))
        for raw, manifest in draft.manifests.values():
            try:
                place = _made(Path(folder) / manifest.variant)
                _check_variant(desk, announced, downloads, place, raw, manifest, findings)
            except DeskRefusal:
                continue  # noted; the other variants may have faults of their own


def _check_variant(
    desk: Desk,
    announced: Announcement,
    downloads: Downloads,
    place: Path,
    raw: bytes,
    manifest: Manifest,
    findings: _Findings,
) -> None:
    variant = manifest.variant
    with findings.checking("artifacts", variant):
        files = downloads.of_manifest(manifest)
        source = downloads.get(manifest.source_sha256, length=min(announced.source_bytes, DATA_BYTES_MAX))
    findings.passed("artifacts", variant, f"{len(files)} artifacts, {manifest.artifact_bytes} bytes, as signed")
    with findings.checking("lineage", variant):
        lineage = check_lineage(manifest, downloads, desk.attestation)
    findings.passed("lineage", variant, lineage)
    with findings.checking("behaviour", variant):
        told = behaviour.prove(place, raw, manifest, files, desk.limits)
    findings.passed("behaviour", variant, told)
    if manifest.behaviour.golden is None:
        return
    with findings.checking("evaluation", variant):
        data = _evaluation_data(desk, announced, downloads)
        found = behaviour.evaluate(place, manifest, source, data, desk.limits)
        promises = (*filter(None, [announced.promise]), *desk.promises)
        told = behaviour.compare(manifest, found, promises)
    findings.passed("evaluation", variant, told, **found.figures())


def _evaluation_data(desk: Desk, announced: Announcement, downloads: Downloads) -> Path | None:
    """Return the data to judge by: the signer's own where he names it, else what the controller names."""
    if desk.evaluation is not None or announced.evaluation is None:
        return desk.evaluation
    sha256, length = announced.evaluation
    return downloads.get(sha256, length=min(length, DATA_BYTES_MAX))


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
