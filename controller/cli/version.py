"""`edgefleet version`: releases of a model and the variants that the controller makes of them."""

import time
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from cyclopts.types import ExistingFile
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from controller.cli.client import Client, Json, path_of
from controller.cli.errors import CommandFailed, ExitCode
from controller.cli.options import DEFAULTS, Options
from controller.cli.render import (
    Column,
    field,
    metric_drop,
    metric_value,
    moment,
    notices,
    print_json,
    screen,
    show_list,
    show_one,
    size,
    table,
)

app = App(name="version")
# Named, so that the other commands do not wait for what only these need.
app.command("controller.cli.lineage:verify", name="verify", help="Check a version from its source to a device, here.")
app.command("controller.cli.lineage:export", name="export", help="Write a variant with its OpenSSF model signature.")

POLL_S = 0.3
FINAL_VARIANT_STATES = frozenset({"published", "aside", "refused", "failed", "cancelled"})

COLUMNS = (
    field("MODEL", "model"),
    field("VERSION", "number", "right"),
    field("STATE", "state"),
    field("RELEASE", "release"),
    field("FORMAT", "format"),
    Column("SIZE", lambda version: size(version["artifact"]["size_bytes"]), "right"),
    Column("VARIANTS", lambda version: ", ".join(f"{v['recipe']} {v['state']}" for v in _wanted(version))),
    field("NOTES", "notes"),
    moment("CREATED", "created_at"),
)


def _wanted(version: Json) -> list[Json]:
    # What a search tried and set aside is shown with the search.
    return [variant for variant in version["variants"] if variant["state"] != "aside"]


def _evaluation(variant: Json, key: str) -> Any:
    return (variant.get("evaluation") or {}).get(key)


def _drop(variant: Json) -> str | None:
    source, value = _evaluation(variant, "source_value"), _evaluation(variant, "value")
    return None if source is None or value is None else metric_drop(source - value, _evaluation(variant, "metric"))


def _value(variant: Json) -> str | None:
    return metric_value(_evaluation(variant, "value"), _evaluation(variant, "metric"))


def _at(variant: Json) -> str:
    progress = variant.get("progress")
    if not progress:
        return str(variant["state"])
    return f"{variant['state']} ({progress['job']} {progress['share'] * 100:.0f} % {progress['words']})".replace(
        " )", ")"
    )


VARIANT_COLUMNS = (
    field("VARIANT", "recipe"),
    Column("STATE", _at),
    Column("ON THE WIRE", lambda variant: size(variant.get("wire_bytes")), "right"),
    Column("VALUE", _value, "right"),
    Column("DROP", _drop, "right"),
    Column("METRIC", lambda variant: _evaluation(variant, "metric")),
    field("ERROR", "error"),
)


@app.command
def upload(
    model: str,
    file: ExistingFile,
    /,
    *,
    evaluation: ExistingFile | None = None,
    calibration: ExistingFile | None = None,
    metric: str | None = None,
    drop_max: float | None = None,
    rule: Literal["point", "interval"] = "point",
    notes: str = "",
    file_format: Annotated[Literal["onnx", "opaque"] | None, Parameter(name="--format")] = None,
    recipe: Annotated[list[str] | None, Parameter(negative="")] = None,
    wait: Annotated[bool, Parameter(negative="")] = False,
    timeout: float = 600.0,
    options: Options = DEFAULTS,
) -> int:
    """Upload a file as the next version of a model.

    Parameters
    ----------
    model
        Name of the model.
    file
        An ONNX file, or any other file to be signed and delivered as it is.
    evaluation
        An .npz file with `inputs` and `labels`; compressed variants must keep their accuracy on it.
    calibration
        An .npz file with `inputs` alone, which recipes may learn from. Without it they learn from half of the
        evaluation data, and only the other half judges.
    metric
        `accuracy`, `r2`, `cosine` or `plugin:NAME`; what fits the evaluation data unless set.
    drop_max
        How far variants may fall below the source in that metric: 0.01 is one point of accuracy.
    rule
        `point`: the measured drop counts; `interval`: the upper end of its 95 % interval does.
    notes
        What is new, for people.
    file_format
        `onnx` is inspected, compressed and proven; `opaque` is delivered. Default: by the file's name.
    recipe
        Make only this variant; give it once per recipe.
    wait
        Wait until every variant is published, refused or failed; exit code 3 if none is published.
    timeout
        Give up waiting after this many seconds (exit code 8).
    """
    body: Json = {"format": file_format or ("onnx" if file.suffix == ".onnx" else "opaque"), "notes": notes}
    if recipe:
        body["recipes"] = recipe
    if metric or drop_max is not None or rule != "point":
        body["promise"] = {"metric": metric or "auto", "drop_max": drop_max, "rule": rule}
    files = {"artifact_sha256": file, "evaluation_sha256": evaluation, "calibration_sha256": calibration}
    with options.client() as client:
        body |= {name: send(client, sent)["sha256"] for name, sent in files.items() if sent}
        version = client.post(path_of("models", model, "versions"), body)
        if wait:
            version = until_final(client, version, timeout)
    show_version(version, options.output)
    return ExitCode.NOT_COMPLETED if wait and version["state"] == "failed" else ExitCode.OK


@app.command(name="list")
def list_versions(model: str, /, *, options: Options = DEFAULTS) -> None:
    """List the versions of a model."""
    with options.client() as client:
        versions = client.items(path_of("models", model, "versions"))
    empty = f"No versions. Upload one: edgefleet version upload {model} FILE"
    show_list(versions, COLUMNS, options.output, empty=empty)


@app.command
def get(model: str, number: int | None = None, /, *, options: Options = DEFAULTS) -> None:
    """Show a version and its variants: state, size, accuracy and how much of it compression cost.

    Parameters
    ----------
    model
        Name of the model.
    number
        Number of the version; the newest when it is left out.
    """
    with options.client() as client:
        if number is None:
            number = _newest(client, model)
        show_version(client.get(path_of("models", model, "versions", number)), options.output)


def send(client: Client, file: Path) -> Json:
    """Upload one file with a progress bar on stderr; return its sha256 and size."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=notices(), transient=True) as progress:
        task = progress.add_task(file.name, total=file.stat().st_size)
        return client.upload(file, lambda sent: progress.update(task, advance=sent))


def until_final(client: Client, version: Json, timeout_s: float) -> Json:
    """Wait until the controller has finished with every variant; say on stderr what it is at."""
    path = path_of("models", version["model"], "versions", version["number"])
    deadline = time.monotonic() + timeout_s
    with notices().status("") as status:
        while not _is_final(version):
            if time.monotonic() > deadline:
                raise CommandFailed(
                    f"version {version['number']} of {version['model']} is still {version['state']} after "
                    f"{timeout_s:g} s; look again: edgefleet version get {version['model']} {version['number']}",
                    ExitCode.STILL_RUNNING,
                )
            words = ", ".join(f"{variant['recipe']} is {_at(variant)}" for variant in _wanted(version))
            status.update(f"version {version['number']}: {words or version['state']}")
            time.sleep(POLL_S)
            version = client.get(path)
    return version


def _is_final(version: Json) -> bool:
    return version["state"] != "processing" and all(v["state"] in FINAL_VARIANT_STATES for v in _wanted(version))


def _newest(client: Client, model: str) -> int:
    versions = client.items(path_of("models", model, "versions"))["items"]
    if not versions:
        raise CommandFailed(f"the model {model} has no versions", ExitCode.NOT_FOUND)
    return max(int(version["number"]) for version in versions)


def show_version(version: Json, output: str) -> None:
    """Print a version and its variants."""
    if output == "json":
        print_json(version)
        return
    show_one(version, [column for column in COLUMNS if column.heading != "VARIANTS"], output)
    if _wanted(version):
        screen().print()
        screen().print(table(_wanted(version), VARIANT_COLUMNS))
