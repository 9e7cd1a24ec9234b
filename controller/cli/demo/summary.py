"""What came of the demo: the promises it checks, one table, one verdict, one JSON object."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from controller.cli.client import Json
from controller.cli.demo.load import Measurement, Tally
from controller.cli.render import percent, size

ACCURACY_DROP_MAX = 0.01
"""One point: what the devices' accuracy may be below the source model's."""


@dataclass(frozen=True)
class Findings:
    """Everything that was measured."""

    served: dict[str, str]
    """The version that each device serves at the end, by device."""
    wanted_version: str
    source_accuracy: dict[str, float]
    """Of the uncompressed networks on the unseen digits, by version."""
    device_accuracy: dict[str, float]
    """Of the devices' answers on the same digits, by version."""
    local: Measurement
    central: Measurement
    tally: Tally
    good_rollout: Json
    bad_rollout: Json
    source_bytes: int
    variant_bytes: int
    wire_bytes: int
    seconds: float


@dataclass(frozen=True)
class Promise:
    """One claim, whether it held, and the figures."""

    claim: str
    held: bool
    figures: str


def promises(found: Findings) -> list[Promise]:
    """Check every claim against what was measured."""
    tally = found.tally
    worst_drop = max(found.source_accuracy[v] - found.device_accuracy[v] for v in found.device_accuracy)
    hit = ", ".join(device["name"] for device in found.bad_rollout["hit_devices"])
    serving = sum(version == found.wanted_version for version in found.served.values())
    return [
        Promise(
            "compressed models keep their accuracy",
            worst_drop <= ACCURACY_DROP_MAX + 1e-9,
            f"worst drop {worst_drop * 100:+.2f} points, {size(found.source_bytes)} became {size(found.variant_bytes)}",
        ),
        Promise(
            "answers come without a round trip",
            found.local.p50_ms < found.central.p50_ms,
            f"p50 {found.local.p50_ms:.1f} ms, behind a 40 ms link {found.central.p50_ms:.1f} ms",
        ),
        Promise(
            "no request is dropped or wrong while versions change",
            tally.dropped == 0 and tally.wrong == 0 and tally.answered > 0,
            str(tally),
        ),
        Promise(
            "a good version reaches every device in stages",
            found.good_rollout["state"] == "succeeded",
            f"{found.good_rollout['state']} after {len(found.good_rollout['stages'])} stages",
        ),
        Promise(
            "a bad version is stopped and reverted by itself",
            found.bad_rollout["state"] == "aborted" and bool(hit),
            f"{found.bad_rollout['state']} in stage {found.bad_rollout['stage']}, hit: {hit or 'nobody'}",
        ),
        Promise(
            f"every device serves version {found.wanted_version} at the end",
            serving == len(found.served) > 0,
            f"{serving} of {len(found.served)}",
        ),
    ]


def comparison(local: Measurement, central: Measurement) -> Table:
    """Return the two ways of asking, side by side."""
    table = _table("", "on the device", "central, 40 ms away")
    table.add_row("accuracy", percent(local.accuracy), percent(central.accuracy))
    table.add_row("p50", f"{local.p50_ms:.2f} ms", f"{central.p50_ms:.2f} ms")
    table.add_row("p99", f"{local.p99_ms:.2f} ms", f"{central.p99_ms:.2f} ms")
    table.add_row("requests", str(local.requests), str(central.requests))
    table.add_row("bytes that left the device", "0 bytes", size(central.sent_bytes))
    table.add_row("bytes that stayed", size(local.sent_bytes), "0 bytes")
    return table


def table_of(checked: Sequence[Promise]) -> Table:
    """Return the promises with their figures."""
    table = _table("promise", "held", "figures")
    for promise in checked:
        held = "[green]yes[/]" if promise.held else "[red]NO[/]"
        table.add_row(promise.claim, held, promise.figures)
    return table


def verdict(checked: Sequence[Promise], seconds: float) -> str:
    """Return the one line that the demo ends with."""
    broken = [promise.claim for promise in checked if not promise.held]
    if broken:
        return f"edgefleet demo: NOT ok after {seconds:.0f} s: {'; '.join(broken)}"
    return f"edgefleet demo: ok, all {len(checked)} promises held in {seconds:.0f} s"


def as_json(found: Findings, checked: Sequence[Promise]) -> dict[str, Any]:
    """Return the result for scripts."""
    return {
        "ok": all(promise.held for promise in checked),
        "agents": len(found.served),
        "versions": found.served,
        "accuracy": {"source": _rounded(found.source_accuracy), "devices": _rounded(found.device_accuracy)},
        "latency_ms": {
            "device": {"p50": round(found.local.p50_ms, 3), "p99": round(found.local.p99_ms, 3)},
            "central": {"p50": round(found.central.p50_ms, 3), "p99": round(found.central.p99_ms, 3)},
        },
        "dropped_requests": found.tally.dropped,
        "rollouts": [_rollout(found.good_rollout), _rollout(found.bad_rollout)],
        "bytes": {"source": found.source_bytes, "variant": found.variant_bytes, "wire": found.wire_bytes},
        "seconds": round(found.seconds, 1),
    }


def _rounded(shares: dict[str, float]) -> dict[str, float]:
    return {version: round(share, 4) for version, share in shares.items()}


def _rollout(rollout: Json) -> dict[str, Any]:
    return {
        "version": rollout["to_version"],
        "state": rollout["state"],
        "stages": [stage["devices"] for stage in rollout["stages"]],
        "hit_devices": [device["name"] for device in rollout["hit_devices"]],
    }


def _table(*headings: str) -> Table:
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim", pad_edge=False)
    for heading in headings:
        table.add_column(heading)
    return table
