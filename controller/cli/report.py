"""`edgefleet report`: what compression made of a version, as tables on the screen or as a file to be kept."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from controller.cli.client import Client, Json, path_of
from controller.cli.errors import CommandFailed, ExitCode
from controller.cli.options import DEFAULTS, Options
from controller.cli.render import (
    ACCURACY,
    Column,
    cell,
    field,
    metric_drop,
    metric_value,
    notices,
    percent,
    print_json,
    screen,
    show_one,
    size,
    table,
)

KINDS = {".html": "html", ".htm": "html", ".json": "json"}


def report(
    model: str,
    version: int | None = None,
    /,
    *,
    out: Path | None = None,
    profile: str = "controller",
    layers: Annotated[bool, Parameter(negative="")] = False,
    options: Options = DEFAULTS,
) -> None:
    """Report what compression made of a version: sizes, accuracy, latency, what each step bought.

    Parameters
    ----------
    model
        Name of the model.
    version
        Number of the version; the newest when it is left out.
    out
        Write a file instead: FILE.html is the whole report with its charts in one file, FILE.json its facts.
    profile
        The device class whose memory and latency are shown.
    layers
        Show the layers of every variant, too: zero weights, bits, error.
    """
    kind = _kind_of(out) if out else None
    with options.client() as client:
        number = _newest(client, model) if version is None else version
        path = path_of("models", model, "versions", number, "report")
        if out and kind:
            _write(out, client.text(path, format=kind))
            return
        found = client.get(path)
    if options.output == "json":
        print_json(found)
        return
    _show(found, profile, layers=layers)


def _kind_of(out: Path) -> str:
    try:
        return KINDS[out.suffix.lower()]
    except KeyError:
        message = f"{out} is neither a page nor JSON by its name; end it with .html or .json"
        raise CommandFailed(message, ExitCode.USAGE) from None


def _write(out: Path, content: str) -> None:
    try:
        out.write_text(content, encoding="utf-8")
    except OSError as error:
        raise CommandFailed(f"{out} cannot be written: {error.strerror}") from error
    notices().print(f"wrote {out}, {size(len(content.encode()))}", soft_wrap=True)


def _newest(client: Client, model: str) -> int:
    newest = client.get(path_of("models", model))["newest_version"]
    if newest is None:
        raise CommandFailed(
            f"the model {model} has no versions; upload one: edgefleet version upload {model} FILE", ExitCode.NOT_FOUND
        )
    return int(newest)


def _show(found: Json, profile: str, *, layers: bool) -> None:
    show_one(found, HEAD, "table")
    # What fell has its words below; without figures there is nothing to compare yet.
    standing = [one for one in found["variants"] if not _has_fallen(one)]
    fallen = [one for one in found["variants"] if _has_fallen(one)]
    _section("Variants", standing, _variant_columns(profile))
    _section("What each step bought", list(_step_rows(found["variants"])), STEPS)
    if layers:
        _section("Layers", list(_layer_rows(found["variants"])), LAYERS)
    _section("Refused and failed", fallen, FALLEN)
    for search in found["searches"]:
        screen().print()
        screen().print(cell(f"search {search['state']}: {search['explanation']}"), soft_wrap=True)


def _section(heading: str, items: list[Json], columns: tuple[Column, ...]) -> None:
    if items:
        screen().print()
        screen().print(heading, style="bold")
        screen().print(table(items, columns))


def _has_fallen(variant: Json) -> bool:
    return variant["state"] in {"refused", "failed", "cancelled"}


def _step_rows(variants: list[Json]) -> Iterator[Json]:
    for variant in variants:
        for step in variant["steps"]:
            yield {**step, "recipe": variant["recipe"]}


def _layer_rows(variants: list[Json]) -> Iterator[Json]:
    for variant in variants:
        for layer in variant["layers"]:
            yield {**layer, "recipe": variant["recipe"]}


def _source_value(found: Json) -> str | None:
    evaluation = found["source"]["evaluation"]
    if evaluation is None:
        return None
    told = f"{evaluation['metric']} {metric_value(evaluation['value'], evaluation['metric'])}"
    return f"{told}{_interval(evaluation['value_ci'], evaluation['metric'])} on {evaluation['samples']} samples"


def _interval(ends: list[float] | None, metric: str | None) -> str:
    if not ends:
        return ""
    scale, digits = (100, 2) if metric == ACCURACY else (1, 4)
    return f" ({' to '.join(f'{end * scale:.{digits}f}' for end in ends)})"


def _valued(variant: Json) -> str | None:
    found: dict[str, Any] = variant["evaluation"] or {}
    value = metric_value(found.get("value"), found.get("metric"))
    return None if value is None else f"{value}{_interval(found['value_ci'], found['metric'])}"


def _lost(variant: Json) -> str | None:
    found: dict[str, Any] = variant["evaluation"] or {}
    drop, metric = found.get("drop"), found.get("metric")
    told = metric_drop(drop, metric)
    return told and f"{told}{_interval(found['drop_ci'], metric)}"


def _reduced(size_bytes: int | None, ratio: float | None) -> str | None:
    return None if size_bytes is None else f"{size(size_bytes)} {f'{ratio:.3g}x' if ratio else ''}".strip()


def _state(variant: Json) -> str:
    progress = variant["progress"]
    if not progress:
        return str(variant["state"])
    return f"{variant['state']} ({progress['job']} {progress['share'] * 100:.0f} %)"


def _milliseconds(microseconds: float | None) -> str | None:
    return None if microseconds is None else f"{microseconds / 1000:.3f} ms"


def _variant_columns(profile: str) -> tuple[Column, ...]:
    def cost(variant: Json, name: str) -> Any:
        return variant["costs"].get(profile, {}).get(name)

    return (
        field("RECIPE", "recipe"),
        Column("STATE", _state),
        Column("FILE", lambda one: _reduced(one["sizes"]["file_bytes"], one["sizes"]["file_ratio"]), "right"),
        Column("ON THE WIRE", lambda one: _reduced(one["sizes"]["wire_bytes"], one["sizes"]["wire_ratio"]), "right"),
        Column("MEMORY", lambda one: size(cost(one, "peak_bytes")), "right"),
        Column("VALUE", _valued, "right"),
        Column("LOST", _lost, "right"),
        Column("P50", lambda one: _milliseconds(cost(one, "p50_us")), "right"),
        Column("P99", lambda one: _milliseconds(cost(one, "p99_us")), "right"),
    )


HEAD = (
    field("MODEL", "model"),
    field("VERSION", "number"),
    field("STATE", "state"),
    Column("SOURCE", lambda found: f"{size(found['source']['bytes'])} {found['format']}"),
    Column("PARAMETERS", lambda found: found["source"]["parameters"]),
    Column("VALUE", _source_value),
    field("NOTES", "notes"),
)
STEPS = (
    field("RECIPE", "recipe"),
    field("STEP", "step"),
    Column("BEFORE", lambda step: size(step["bytes_before"]), "right"),
    Column("AFTER", lambda step: size(step["bytes_after"]), "right"),
    Column("TOOK", lambda step: f"{step['seconds']:.1f} s", "right"),
    field("DID", "headline"),
)
LAYERS = (
    field("RECIPE", "recipe"),
    field("LAYER", "name"),
    field("OPERATOR", "operator"),
    Column("SHAPE", lambda layer: "x".join(map(str, layer["shape"]))),
    field("BITS", "bits", "right"),
    Column("ZERO", lambda layer: percent(layer["sparsity"]), "right"),
    Column("ERROR", lambda layer: None if layer["error"] is None else f"{layer['error']:.2g}", "right"),
)
FALLEN = (field("RECIPE", "recipe"), field("STATE", "state"), field("WHY", "error"))
