"""The signer's desk at the command line: find the open proposal, check it here, ask, sign, hand the signature in."""

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from cyclopts import Parameter
from cyclopts.types import ExistingFile

from controller.cli.client import Client, Json, path_of
from controller.cli.errors import CommandFailed, ExitCode
from controller.cli.render import notices, print_json

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

    from controller.release_desk.draft import Terms
    from controller.release_desk.lineage import AttestationKeys
    from controller.release_desk.report import Check, DeskReport
    from controller.release_desk.verify import Desk, VerifiedDraft
    from controller.settings import Settings

HOME = Path("~/.edgefleet/desk")
"""Where a signer's folders are: what was seen of each controller's repository, so that it can never go back."""
ROOT_FILE = "root.json"
JOB_TIMEOUT_S = 1800.0
JOB_MEMORY_BYTES = 4 * 1024**3


@Parameter(name="*")
@dataclass(frozen=True)
class DeskOptions:
    """What a signer trusts and checks with."""

    root: Annotated[ExistingFile | None, Parameter(env_var="EDGEFLEET_RELEASE_ROOT")] = None
    """Root of the image repository that you trust, from its ceremony and not from the controller; kept for later."""
    attestation_key: Annotated[list[ExistingFile] | None, Parameter(negative="")] = None
    """Public key (NAME.pub or PEM) that lineage must be attested with. Else the controller's is taken, and told."""
    evaluation: ExistingFile | None = None
    """The evaluation data as you know it. Without it the data that the controller names is taken, and told."""
    drop_max: float | None = None
    """What a variant may lose against its source, beside what its version promises."""
    published: str | None = None
    """After its keys were replaced: sha256 of the published role, as somebody tells you who checked it before."""
    desk: Annotated[Path | None, Parameter(env_var="EDGEFLEET_DESK")] = None
    """Folder of this desk. Else one per controller below ~/.edgefleet/desk."""


DESK_DEFAULTS = DeskOptions()


@dataclass(frozen=True)
class Wanted:
    """What is to be signed."""

    kind: str
    model: str
    version: int | None
    variants: list[str] | None = None
    floor: int | None = None
    hardware: list[str] | None = None

    @property
    def path(self) -> str:
        """Return where it is proposed."""
        if self.kind == "renew":
            return f"{path_of('models', self.model)}:renew-release"
        version = path_of("models", self.model, "versions", self.version)
        return f"{version}/release" if self.kind == "release" else f"{version}:withdraw"

    @property
    def body(self) -> Json | None:
        """Return what is proposed."""
        if self.kind != "release":
            return None
        return {"variants": self.variants, "floor": self.floor, "hardware": self.hardware or []}

    def terms(self) -> "Terms":
        """Return the same for the desk."""
        from controller.domain.releases import ReleaseKind
        from controller.release_desk.draft import Terms

        return Terms(
            kind=ReleaseKind(self.kind),
            model=self.model,
            number=self.version,
            variants=tuple(self.variants) if self.variants else None,
            floor=self.floor,
            hardware=tuple(sorted(set(self.hardware))) if self.hardware else None,
        )


def check(client: Client, wanted: Wanted, options: DeskOptions, *, output: str) -> int:
    """Check the open proposal and print the report."""
    release = _open_proposal(client, wanted)
    if release is None:
        raise CommandFailed(
            f"no release of {wanted.model} version {wanted.version} is proposed: edgefleet release propose "
            f"{wanted.model} {wanted.version}",
            ExitCode.NOT_FOUND,
        )
    report, verified = _verify(client, release, wanted, options, None)
    _print(release, report, output, signed_by=None)
    return ExitCode.OK if verified else ExitCode.NOT_COMPLETED


def sign_open(client: Client, wanted: Wanted, options: DeskOptions, *, key: str | None, yes: bool, output: str) -> int:
    """Check and sign the open proposal; it is made first where there is none."""
    from controller.domain.errors import EdgefleetError

    try:
        signer = _signer(key)
        release = _open_proposal(client, wanted) or client.post(wanted.path, wanted.body)
        report, verified = _verify(client, release, wanted, options, signer)
        if verified is None:
            _print(release, report, output, signed_by=None)
            return ExitCode.NOT_COMPLETED
        _confirm(release, signer, yes=yes)
        signed = _hand_in(client, release, verified, signer)
    except EdgefleetError as error:
        raise CommandFailed(f"{error.code}: {error.detail}") from error
    _print(signed, report, output, signed_by=signer.public_key.keyid)
    return ExitCode.OK


def has_key(key: str | None) -> bool:
    """Tell whether there is a key to sign with: a URI, or the release key of this machine's single operator."""
    return key is not None or _local_installation() is not None


def _open_proposal(client: Client, wanted: Wanted) -> Json | None:
    found = [one for one in client.items("/releases")["items"] if one["model"] == wanted.model]
    release = next((one for one in found if one["state"] == "proposed" and not one["stale"]), None)
    if release is None:
        return None
    if (release["kind"], release["version"]) != (wanted.kind, wanted.version):
        about = f"{release['kind']} of {release['model']} {release['version'] or ''}".strip()
        raise CommandFailed(
            f"another proposal is open: {release['id']}, the {about}; finish it, or cancel it: edgefleet release "
            f"cancel {release['id']}",
            ExitCode.CONFLICT,
        )
    return client.get(path_of("releases", release["id"]))


def _verify(
    client: Client, release: Json, wanted: Wanted, options: DeskOptions, signer: "Signer | None"
) -> "tuple[DeskReport, VerifiedDraft | None]":
    from controller.release_desk.announcement import Announcement
    from controller.release_desk.report import DeskRefusal
    from controller.release_desk.source import Source
    from controller.release_desk.verify import verify_release

    folder = options.desk or _folder_of(client.server)
    root = _root(options, folder)
    source = Source(client.server, token=client.token)
    try:
        desk = _desk(client, wanted, options, folder, root, source, signer)
        announced = Announcement.from_json(client.get(path_of("releases", release["id"])))
        report, verified = verify_release(desk, announced, wanted.terms(), _tell)
    except DeskRefusal as refusal:
        raise CommandFailed(str(refusal), ExitCode.NOT_COMPLETED) from refusal
    finally:
        source.close()
    if any(made.name == "repository" and made.passed for made in report.checks):
        _keep_root(folder, root)
    for warning in report.warnings:
        notices().print(f"[yellow]warning[/yellow]  {warning}", soft_wrap=True)
    return report, verified


def _desk(
    client: Client,
    wanted: Wanted,
    options: DeskOptions,
    folder: Path,
    root: bytes,
    source: Any,
    signer: "Signer | None",
) -> "Desk":
    from controller.artifacts.child_process import Limits
    from controller.domain.promise import Promise
    from controller.release_desk.verify import Desk

    return Desk(
        folder=folder,
        source=source,
        root=root,
        attestation=_attestation(client, wanted, options),
        limits=Limits(JOB_TIMEOUT_S, JOB_MEMORY_BYTES),
        clock=lambda: datetime.now(UTC),
        promises=() if options.drop_max is None else (Promise(drop_max=options.drop_max),),
        evaluation=options.evaluation,
        published=options.published,
        key=signer.public_key if signer else None,
    )


def _attestation(client: Client, wanted: Wanted, options: DeskOptions) -> "AttestationKeys":
    from securesystemslib.signer import Key

    from controller.release_desk.lineage import AttestationKeys
    from controller.trust.custody.public_keys import read_public_key
    from controller.trust.errors import KeyStoreError

    if wanted.kind != "release":
        return AttestationKeys((), unpinned=False)
    if options.attestation_key:
        try:
            return AttestationKeys(tuple(read_public_key(file) for file in options.attestation_key), unpinned=False)
        except KeyStoreError as error:
            raise CommandFailed(error.detail, ExitCode.INVALID) from error
    told = client.get(f"{path_of('models', wanted.model, 'versions', wanted.version)}/lineage")
    found = {key["keyid"]: dict(key) for variant in told["variants"] for key in variant["keys"]}
    keys = tuple(Key.from_dict(document.pop("keyid"), document) for document in found.values())
    return AttestationKeys(keys, unpinned=True)


def _root(options: DeskOptions, folder: Path) -> bytes:
    if options.root is not None:
        return options.root.read_bytes()
    kept = folder / ROOT_FILE
    if kept.is_file():
        return kept.read_bytes()
    local = _local_installation()
    if local is not None:
        return (local.tuf_dir / "metadata" / "1.root.json").read_bytes()
    raise CommandFailed(
        "name the root of the image repository that you trust with --root FILE (or EDGEFLEET_RELEASE_ROOT): the file "
        "that its ceremony made, not one that the controller sends",
        ExitCode.USAGE,
    )


def _keep_root(folder: Path, root: bytes) -> None:
    from controller.trust.durable_files import write_durably

    kept = folder / ROOT_FILE
    if not kept.is_file() or kept.read_bytes() != root:
        write_durably(kept, root, mode=0o600)


def _folder_of(server: str) -> Path:
    address = urlsplit(server)
    return HOME.expanduser() / f"{address.hostname}_{address.port or address.scheme}"


def _signer(key: str | None) -> "Signer":
    from controller.trust.ceremonies import single_operator
    from controller.trust.custody.key_uris import open_signer

    if key is not None:
        return open_signer(key)
    local = _local_installation()
    if local is None:
        raise CommandFailed(
            "name the release key with --key URI, such as encfile:release.pem or awskms:KEY; `edgefleet key generate` "
            "makes one",
            ExitCode.USAGE,
        )
    return single_operator.release_signer(local.keys_dir / "offline")


def _local_installation() -> "Settings | None":
    """Return the settings of this machine's installation, if a single operator runs it and its keys are here."""
    from controller.cli.server import read_settings

    settings = read_settings()
    return settings if settings.is_single_operator and (settings.keys_dir / "offline").is_dir() else None


def _confirm(release: Json, signer: "Signer", *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandFailed("every check has passed; give --yes to sign without being asked", ExitCode.USAGE)
    about = f"{release['kind']} of {release['model']} {release['version'] or ''}".strip()
    notices().print(f"Sign the {about} with key {signer.public_key.keyid[:12]}? \\[y/N] ", end="")
    if input().strip().lower() not in {"y", "yes"}:
        raise CommandFailed("nothing was signed", ExitCode.NOT_COMPLETED)


def _hand_in(client: Client, release: Json, verified: "VerifiedDraft", signer: "Signer") -> Json:
    from controller.release_desk.report import DeskRefusal
    from controller.release_desk.sign import sign_draft

    try:
        signature = sign_draft(verified, signer)
    except DeskRefusal as refusal:
        raise CommandFailed(str(refusal), ExitCode.NOT_COMPLETED) from refusal
    body = {"keyid": signature.keyid, "sig": signature.signature}
    return client.post(f"{path_of('releases', release['id'])}/signatures", body)


def _tell(made: "Check") -> None:
    mark = "[green]ok[/green]     " if made.passed else "[red]refused[/red]"
    code = f"{made.code}: " if made.code else ""
    notices().print(f"{mark}  {made.name:<10}  {made.subject:<12}  {code}", end="")
    notices().print(made.detail, markup=False, soft_wrap=True)


def _print(release: Json, report: "DeskReport", output: str, *, signed_by: str | None) -> None:
    summary = {name: value for name, value in release.items() if name not in {"document", "manifests"}}
    if output == "json":
        print_json({"release": summary, "report": report.to_json(), "signed_by": signed_by})
        return
    for line in _words(summary, report, signed_by):
        notices().print(line, soft_wrap=True)


def _words(release: Json, report: "DeskReport", signed_by: str | None) -> list[str]:
    if report.refused:
        return [f"{len(report.refused)} of {len(report.checks)} checks speak against it: nothing is signed"]
    if signed_by is None:
        return [f"every check has passed ({len(report.checks)}); nothing was signed"]
    found = release["signatures"]
    if release["state"] == "published":
        return [f"signed by {signed_by[:12]}; {release['id']} is published"]
    return [
        f"signed by {signed_by[:12]}; {found['needed']} of {found['threshold']} signatures still missing, by any of "
        + ", ".join(keyid[:12] for keyid in found["may_sign"])
    ]
