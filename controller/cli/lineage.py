"""`edgefleet version verify` and `version export`: a version's lineage, checked here and not where it was made."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.types import ExistingFile

from controller.cli.client import Client, Json, path_of
from controller.cli.errors import CommandFailed, ExitCode, Refused
from controller.cli.lineage_checks import Check, Keys, Proof, device_check, prove
from controller.cli.lineage_tree import tree
from controller.cli.options import DEFAULTS, Options
from controller.cli.render import notices, print_json, screen
from controller.cli.signed_files import Broken, ImageRepositoryView, PublicFiles, TrustedRoot

KeyFiles = Annotated[list[ExistingFile] | None, Parameter(negative="")]


def verify(
    model: str,
    number: int,
    /,
    *,
    variant: str | None = None,
    device: str | None = None,
    root: ExistingFile | None = None,
    key: KeyFiles = None,
    options: Options = DEFAULTS,
) -> int:
    """Check a version on this machine, from the upload of its source to the device that runs it.

    Exit code 3 when anything is broken.

    Parameters
    ----------
    model
        Name of the model.
    number
        Number of the version.
    variant
        Only this variant; every published one when it is left out.
    device
        Also compare what this device reports as active.
    root
        The image repository's root document to trust. Else .edgefleet/tuf/metadata/1.root.json in this folder, else
        the one that the controller shows.
    key
        A public key (PEM) that statements may be signed with; give it once per key. Else those that the controller
        names.
    """
    with options.client() as client, _opened(client, root) as (files, trusted, view):
        lineage = client.get(path_of("models", model, "versions", number, "lineage"))
        running = client.get(path_of("devices", device)) if device else None
        shown = _wanted(lineage, variant or _variant_on(running, model, number))
        proofs = [_prove(client, files, view, lineage, one, Keys.read(key or [])) for one in shown]
    if running:
        for proof in proofs:
            proof.checks.append(device_check(proof, running, model))
    _show(lineage, trusted, proofs, options.output)
    return ExitCode.OK if all(proof.holds for proof in proofs) else ExitCode.NOT_COMPLETED


def export(
    model: str,
    number: int,
    folder: Path,
    /,
    *,
    variant: str,
    root: ExistingFile | None = None,
    key: KeyFiles = None,
    options: Options = DEFAULTS,
) -> int:
    """Write a variant's files with their OpenSSF model signature and lineage, to be checked without this program.

    Everything is verified first; what is broken is not written (exit code 3).

    Parameters
    ----------
    model
        Name of the model.
    number
        Number of the version.
    folder
        Where to write `model/`, `model.sig`, `model.pub` and `lineage.jsonl`.
    variant
        Name of the variant.
    root
        The root document to trust, as for `version verify`.
    key
        A public key that statements may be signed with, as for `version verify`.
    """
    with options.client() as client, _opened(client, root) as (files, trusted, view):
        lineage = client.get(path_of("models", model, "versions", number, "lineage"))
        [shown] = _wanted(lineage, variant)
        signing = _signing(client, lineage, variant)
        proof = prove(files, view, lineage, shown, Keys.read(key or []), signing)
        if not proof.holds:
            _show(lineage, trusted, [proof], options.output)
            return ExitCode.NOT_COMPLETED
        _write(files, proof, signing, folder)
    signature, public_key = folder / "model.sig", folder / "model.pub"
    command = f"model_signing verify key {folder / 'model'} --signature {signature} --public_key {public_key}"
    if options.output == "json":
        print_json({**proof.to_json(), "folder": str(folder), "command": command})
    else:
        screen().print(command, soft_wrap=True, markup=False)
    return ExitCode.OK


@contextmanager
def _opened(client: Client, root: Path | None) -> Iterator[tuple[PublicFiles, TrustedRoot, ImageRepositoryView]]:
    with PublicFiles(client.server, token=client.token) as files, tempfile.TemporaryDirectory() as folder:
        try:
            trusted = files.trusted_root(root)
            if not trusted.believed:
                _say_aloud(trusted)
            yield files, trusted, ImageRepositoryView(files, trusted, Path(folder))
        except Broken as broken:
            words = f"{broken.code}: the image repository cannot be believed: {broken}"
            raise CommandFailed(words, ExitCode.NOT_COMPLETED) from broken


def _say_aloud(trusted: TrustedRoot) -> None:
    notices().print(
        f"NOT VERIFIED FROM OUTSIDE: the root of trust comes from the controller itself ({trusted.place}). Compare its "
        f"sha256 {trusted.sha256} with the one that the root's owners tell you, or name their file with --root.",
        style="bold red",
        soft_wrap=True,
        markup=False,
    )


def _wanted(lineage: Json, variant: str | None) -> list[Json]:
    name = f"{lineage['model']} version {lineage['version']}"
    known = {one["variant"]: one for one in lineage["variants"]}
    if variant is not None and variant not in known:
        raise CommandFailed(f"{name} has no variant {variant}; it has {', '.join(known)}", ExitCode.NOT_FOUND)
    shown = [one for one in known.values() if one["manifest_sha256"] and variant in (None, one["variant"])]
    if not shown:
        states = ", ".join(f"{one['variant']} is {one['state']}" for one in known.values())
        raise CommandFailed(f"{name} has nothing published to verify: {states}", ExitCode.NOT_FOUND)
    return shown


def _variant_on(device: Json | None, model: str, number: int) -> str | None:
    slots = device["slots"] if device else []
    return next((slot["variant"] for slot in slots if (slot["slot"], slot["version"]) == (model, number)), None)


def _prove(
    client: Client, files: PublicFiles, view: ImageRepositoryView, lineage: Json, shown: Json, keys: Keys
) -> Proof:
    with notices().status(f"verifying {shown['variant']}"):
        return prove(files, view, lineage, shown, keys, _signing(client, lineage, shown["variant"]))


def _signing(client: Client, lineage: Json, variant: str) -> Json:
    path = path_of("models", lineage["model"], "versions", lineage["version"], "variants", variant, "model-signing")
    try:
        return client.get(path)
    except Refused as refused:
        if refused.exit_code is not ExitCode.NOT_FOUND:
            raise
        return {"bundle": {}, "public_key": "", "files": []}


def _write(files: PublicFiles, proof: Proof, signing: Json, folder: Path) -> None:
    assert proof.signed, "only what is signed holds"
    (folder / "model").mkdir(parents=True, exist_ok=True)
    for entry in proof.signed.manifest.artifacts:
        files.fetch(entry.name, entry.sha256, entry.length, folder / "model" / entry.name)
    (folder / "model.sig").write_text(json.dumps(signing["bundle"]))
    (folder / "model.pub").write_text(signing["public_key"])
    lineage = proof.signed.manifest.lineage
    assert lineage, "only what has a lineage holds"
    files.fetch("the lineage", lineage.sha256, lineage.length, folder / "lineage.jsonl")


def _show(lineage: Json, root: TrustedRoot, proofs: Sequence[Proof], output: str) -> None:
    trusted = {"sha256": root.sha256, "place": root.place, "believed": root.believed}
    if output == "json":
        holds = all(proof.holds for proof in proofs)
        found = {"model": lineage["model"], "version": lineage["version"], "root": trusted, "holds": holds}
        print_json({**found, "variants": [proof.to_json() for proof in proofs]})
        return
    where = f"the root {root.sha256[:12]} of {root.place}"
    start = Check("root of trust", where if root.believed else f"{where}, which nobody else has vouched for")
    screen().print(tree(lineage, start, proofs), soft_wrap=True)
