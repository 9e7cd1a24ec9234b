"""A version's lineage as people read it: one tree from the upload over every step to the device."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text
from rich.tree import Tree

from controller.cli.client import Json
from controller.cli.lineage_checks import Check, Proof
from controller.trust.lineage.provenance import Judgement, StepRun, Upload
from controller.trust.lineage.verification import LineageReport

FIGURES = ("metric", "value", "source_value", "samples")
"""What is shown of a judgement; the rest is in the JSON form."""


def tree(lineage: Json, start: Check, proofs: Sequence[Proof]) -> RenderableType:
    """Return the whole tree: what it starts from, then each variant from its source to its device."""
    broken = [check.code for proof in proofs for check in proof.checks if check.code]
    verdict = Text(f"broken: {', '.join(map(str, broken))}", "bold red") if broken else Text("verified", "bold green")
    title = Text(f"{lineage['model']} version {lineage['version']}", "bold")
    root = Tree(Text.assemble(title, "  ", verdict), guide_style="dim")
    root.add(_line(start))
    for proof in proofs:
        _add_variant(root, proof)
    return root


def _add_variant(root: Tree, proof: Proof) -> None:
    branch = root.add(Text(proof.variant, "bold"))
    made = branch
    if proof.report:
        made = _add_report(branch, proof.report)
    for check in proof.checks:
        made.add(_line(check))


def _add_report(branch: Tree, report: LineageReport) -> Tree:
    """Nest what was made in what it was made of, and return the place of the finished files."""
    place = branch.add(Text(f"source {_source(report.source)}"))
    for step in report.steps:
        place = place.add(Text(f"step {step.number}, {_step(step)}"))
    if report.evaluation:
        place.add(Text(f"judged: {_judged(report.evaluation)}"))
    return place


def _source(source: Upload) -> str:
    data = ", ".join(f"{role} data {sha256[:12]}" for role, sha256 in sorted(source.data.items())) or "no data"
    return f"{source.sha256[:12]}, uploaded by {source.actor} at {source.at:%Y-%m-%d %H:%M} UTC with {data}"


def _step(step: StepRun) -> str:
    made = ", ".join(f"{name} {sha256[:12]}" for name, sha256 in sorted(step.outputs.items()))
    given = " ".join(f"{name}={_plain(value)}" for name, value in sorted(step.parameters.items()))
    tools = " ".join(f"{name} {release}" for name, release in _tools(step.tools))
    return " ".join(f"{step.step} {given} made {made} ({tools})".split())


def _tools(tools: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, tools[name]) for name in ("edgefleet", "onnxruntime", "onnx") if name in tools]


def _judged(judgement: Judgement) -> str:
    found = {name: judgement.figures.get(name) for name in FIGURES}
    figures = " ".join(f"{name}={value}" for name, value in found.items() if value is not None)
    return f"{judgement.words} ({figures})" if figures else judgement.words


def _plain(value: Any) -> str:
    return ",".join(map(_plain, value)) if isinstance(value, list) else str(value)


def _line(check: Check) -> Text:
    if check.code:
        return Text(f"BROKEN {check.what}: {check.code}: {check.words}", "red")
    return Text.assemble(("ok ", "green"), f"{check.what}: {check.words}")
