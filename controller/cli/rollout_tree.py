"""A rollout as people watch it: one tree of stages with bars, counts and the explanation, or plain lines."""

import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from controller.cli.client import Client, Json, path_of
from controller.cli.errors import CommandFailed, ExitCode
from controller.cli.render import cell

POLL_S = 0.3
BAR_CELLS = 24
FINAL_STATES = frozenset({"succeeded", "aborted"})


def title(rollout: Json) -> str:
    """Return what the rollout is about, in one line."""
    before = rollout["from_version"]
    move = f"{before} -> {rollout['to_version']}" if before else f"version {rollout['to_version']}"
    return f"{rollout['model']} {move} on {rollout['group']}"


def tree(rollout: Json) -> RenderableType:
    """Return the rollout as a tree: the same facts, in the same order, as the page shows them."""
    head = Text.assemble((title(rollout), "bold"), "  ", cell(rollout["state"]), "  ", (rollout["id"], "dim"))
    root = Tree(head, guide_style="dim")
    root.add(_stages(rollout))
    root.add(Text(counts(rollout)))
    if rollout.get("approved_by"):
        root.add(Text(f"proposed by {rollout['proposed_by']}, approved by {rollout['approved_by']}"))
    if rollout.get("dev_only"):
        root.add(Text("one person decided it: devices on the channel dev alone follow it", style="yellow"))
    for hit in rollout["hit_devices"]:
        root.add(Text(f"{hit['name']}: {_why(hit)}", style="red"))
    for reason, devices in rollout.get("incompatible", {}).items():
        root.add(Text(f"{devices} devices are left out: {reason}", style="yellow"))
    if rollout["explanation"]:
        root.add(Text(rollout["explanation"], style="italic"))
    return root


def _why(hit: Json) -> str:
    if not hit["code"]:
        return "fell silent"
    return f"{hit['code']} in {hit['stage']}: {hit['message'] or 'no message'}"


def counts(rollout: Json) -> str:
    """Return the outcomes in words."""
    found = rollout["counts"]
    words = f"{found['healthy']} healthy, {found['taken']} at work, {found['failed']} failed, {found['silent']} silent"
    return f"{words}; {rollout['not_back']} not back yet" if rollout["state"] == "reverting" else words


def line(rollout: Json) -> str:
    """Return the present situation as one plain line, for logs and pipes."""
    place = f"stage {rollout['stage']}/{len(rollout['stages'])}"
    words = f"{title(rollout)}: {rollout['state']}, {place}, {counts(rollout)}"
    return f"{words}; {rollout['explanation']}" if rollout["explanation"] else words


def watch(
    client: Client,
    rollout: Json,
    console: Console,
    *,
    timeout_s: float,
    beside: Callable[[], RenderableType] = Text,
) -> Json:
    """Show a rollout until it has ended and return its last state.

    On a terminal the tree is redrawn in place, with what `beside` returns below it; elsewhere each change is a
    line. Raises CommandFailed(STILL_RUNNING) when the time has passed.
    """
    states = follow(client, rollout, timeout_s)
    if not console.is_terminal:
        return _print_changes(states, console)
    with Live(console=console, auto_refresh=False) as live:
        for state in states:
            live.update(Group(tree(state), beside()), refresh=True)
    return state


def follow(client: Client, rollout: Json, timeout_s: float) -> Iterator[Json]:
    """Yield a rollout's states, the given one first, until it has ended."""
    deadline = time.monotonic() + timeout_s
    yield rollout
    while rollout["state"] not in FINAL_STATES:
        if time.monotonic() > deadline:
            words = f"rollout {rollout['id']} is still {rollout['state']} after {timeout_s:g} s"
            raise CommandFailed(f"{words}: {rollout['explanation']}", ExitCode.STILL_RUNNING)
        time.sleep(POLL_S)
        rollout = client.get(path_of("rollouts", rollout["id"]))
        yield rollout


def _print_changes(states: Iterator[Json], console: Console) -> Json:
    last = ""
    for state in states:
        words = line(state)
        if words != last:
            console.print(words, soft_wrap=True, markup=False)
            last = words
    return state


def _stages(rollout: Json) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    for number, stage in enumerate(rollout["stages"], start=1):
        grid.add_row(*_stage(rollout, number, stage))
    return grid


def _stage(rollout: Json, number: int, stage: dict[str, Any]) -> tuple[RenderableType, ...]:
    started = number <= rollout["stage"] and rollout["state"] != "proposed"
    passed = number < rollout["stage"] or rollout["state"] == "succeeded"
    healthy = min(rollout["counts"]["healthy"], stage["devices"]) if started else 0
    stopped = not passed and rollout["state"] in {"reverting", "aborted"} and started
    mark = "passed" if passed else "stopped" if stopped else "now" if started else "waits"
    colour = {"passed": "green", "stopped": "red", "now": "cyan", "waits": "dim"}[mark]
    bar = ProgressBar(stage["devices"], healthy, BAR_CELLS, complete_style=colour, finished_style=colour)
    return (
        Text(f"stage {number}"),
        Text(f"{stage['percent']:g} %", justify="right"),
        bar,
        Text(f"{healthy}/{stage['devices']} healthy"),
        Text(mark, style=colour),
    )
