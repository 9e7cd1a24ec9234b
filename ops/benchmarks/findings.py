"""What every benchmark prints beside its own figures, and how."""

import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
Findings = dict[str, Any]


def machine() -> Findings:
    """Return the processor, the number of cores that this process may use, and the Python version."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0))
    return {"cpu": names[0] if names else platform.processor(), "cores": cores, "python": platform.python_version()}


def revision() -> str | None:
    """Return the commit of the checkout, marked where files differ from it; None outside a checkout."""
    asked = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    found = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip() or None


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median over the rounds of our figure by theirs in the same round."""
    return round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 3)


def progress(words: str) -> None:
    """Say what is being done, where it does not disturb the findings."""
    print(words, file=sys.stderr, flush=True)


def table(findings: Findings, indent: int = 0) -> str:
    """Return the findings as lines of name and value."""
    lines = []
    for name, value in findings.items():
        if isinstance(value, dict):
            lines += [" " * indent + name, table(value, indent + 2)]
        else:
            lines.append(f"{' ' * indent}{name:<{28 - indent}}{value}")
    return "\n".join(lines)
