"""`edgefleet compress`: search a version's variants for one that keeps a budget."""

import time
from typing import Annotated

from cyclopts import Parameter
from rich.live import Live

from controller.cli.client import Client, Json, path_of
from controller.cli.errors import CommandFailed, ExitCode
from controller.cli.options import DEFAULTS, Options
from controller.cli.render import (
    Column,
    cell,
    field,
    metric_drop,
    metric_value,
    notices,
    print_json,
    screen,
    size,
    table,
)
from controller.cli.scatter import scatter

POLL_S = 0.5
RUNNING = "running"


def _state(candidate: Json) -> str:
    progress = candidate.get("progress")
    if not progress:
        return str(candidate["state"])
    return f"{progress['job']} {progress['share'] * 100:.0f} %"


def _verdict(candidate: Json) -> str | None:
    if candidate["is_chosen"]:
        return "chosen"
    if candidate["error"]:
        return str(candidate["error"])
    if candidate["exceeds"]:
        return "; ".join(candidate["exceeds"])
    return "on the front" if candidate["is_on_front"] else None


def _drop(candidate: Json) -> str | None:
    drop = candidate["drop"]
    if drop is None:
        return None
    interval, metric = candidate.get("drop_ci"), candidate["metric"]
    told = metric_drop(drop, metric)
    return f"{told} ({' to '.join(str(metric_drop(end, metric)) for end in interval)})" if interval else told


def _latency(candidate: Json) -> str | None:
    latency_us = candidate["latency_us"]
    return None if latency_us is None else f"{latency_us / 1000:.3f} ms"


COLUMNS = (
    field("RECIPE", "recipe"),
    Column("STATE", _state),
    Column("ON THE WIRE", lambda candidate: size(candidate["wire_bytes"]), "right"),
    Column("MEMORY", lambda candidate: size(candidate["memory_bytes"]), "right"),
    Column("LATENCY", _latency, "right"),
    Column("VALUE", lambda candidate: metric_value(candidate["value"], candidate["metric"]), "right"),
    Column("DROP", _drop, "right"),
    Column("", _verdict),
)


def compress(
    model: str,
    version: int,
    /,
    *,
    budget: str = "",
    profile: str = "controller",
    thorough: Annotated[bool, Parameter(negative="")] = False,
    publish: bool = True,
    recipe: Annotated[list[str] | None, Parameter(negative="")] = None,
    wait: bool = True,
    timeout: float = 3600.0,
    options: Options = DEFAULTS,
) -> int:
    """Search for the variant that keeps a budget: cheap recipes first, the Pareto front at the end.

    Parameters
    ----------
    model
        Name of the model.
    version
        Number of the version.
    budget
        Such as `size<=200kB,latency<=1ms,memory<=8MB,drop<=1pt,prefer=size`; every part may be left out.
    profile
        The device class that latency and memory are measured for.
    thorough
        Try every recipe, also when a cheap one keeps the budget.
    publish
        Publish the chosen variant; with --no-publish it is only named.
    recipe
        Choose from this recipe; give it once per recipe. Every recipe that can be followed unless set.
    wait
        Wait for the end and show it; exit code 3 when nothing keeps the budget.
    timeout
        Give up waiting after this many seconds (exit code 8). The search goes on.
    """
    asked = {"budget": budget, "profile": profile, "thorough": thorough, "publish": publish, "recipes": recipe}
    with options.client() as client:
        search = client.post(path_of("models", model, "versions", version, "searches"), asked)
        if wait:
            search = _until_ended(client, search, timeout)
    show_search(search, options.output)
    return ExitCode.NOT_COMPLETED if wait and search["chosen"] is None else ExitCode.OK


def _until_ended(client: Client, search: Json, timeout_s: float) -> Json:
    deadline_s = time.monotonic() + timeout_s
    with Live(console=notices(), transient=True, auto_refresh=False) as live:
        while search["state"] == RUNNING or _is_being_published(search):
            if time.monotonic() > deadline_s:
                raise CommandFailed(
                    f"search {search['id']} still runs after {timeout_s:g} s: {search['explanation']}",
                    ExitCode.STILL_RUNNING,
                )
            live.update(table(search["candidates"], COLUMNS), refresh=True)
            time.sleep(POLL_S)
            search = client.get(path_of("searches", search["id"]))
    return search


def _is_being_published(search: Json) -> bool:
    chosen = [candidate for candidate in search["candidates"] if candidate["is_chosen"]]
    return bool(search["publish"] and chosen and not chosen[0]["final"])


def show_search(search: Json, output: str) -> None:
    """Print a search: its candidates, a chart of the front, and the reason for the choice."""
    if output == "json":
        print_json(search)
        return
    ranked = sorted(search["candidates"], key=_rank)
    screen().print(table(ranked, COLUMNS))
    front = [candidate for candidate in ranked if candidate["is_on_front"] and candidate["value"] is not None]
    if len(front) > 1:
        screen().print()
        points = [(one["wire_bytes"], one["value"], one["recipe"], one["is_chosen"]) for one in front]
        screen().print(scatter(points, x="bytes on the wire", y="value"), soft_wrap=True)
    screen().print()
    screen().print(cell(search["explanation"]), soft_wrap=True)


def _rank(candidate: Json) -> tuple[bool, bool, float, str]:
    unmeasured = candidate["latency_us"] is None
    return not candidate["is_chosen"], unmeasured, candidate["wire_bytes"] or 0.0, candidate["recipe"]
