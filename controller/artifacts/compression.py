"""The compression job: a recipe's steps, one after another, from the source to the variant's file.

    python -m controller.artifacts.compression RECIPE SOURCE TARGET [CALIBRATION]

Started by `jobs.compress` in a confined child.
"""

import importlib
import shutil
import sys
from pathlib import Path
from typing import Any

from controller.artifacts.confinement import answer
from controller.artifacts.findings import Compression
from controller.artifacts.graph.facts import describe
from controller.artifacts.graph.reading import read_model
from controller.artifacts.recipes import RECIPES, Recipe


def compress_file(recipe: Recipe, source: Path, target: Path, calibration: Path | None) -> Compression:
    """Write the variant to `target`, with the steps' files beside it; InvalidInput when a step does not apply."""
    current, found = source, []
    for number, use in enumerate(recipe.steps, start=1):
        step = importlib.import_module(f"controller.artifacts.steps.{use.module}")
        made = target.with_name(f"{target.stem}.{number}{target.suffix}")
        facts = step.run(current, made, calibration, **use.parameters)
        found.append({"step": use.module, "parameters": dict(use.parameters), "facts": facts})
        current = made
    shutil.copyfile(current, target)
    return Compression(describe(read_model(target)), tuple(found))


def main(arguments: list[str]) -> dict[str, Any]:
    """Compress the file named on the command line."""
    recipe, *files = arguments
    source, target, *calibration = map(Path, files)
    return compress_file(RECIPES[recipe], source, target, calibration[0] if calibration else None).to_json()


if __name__ == "__main__":
    answer(lambda: main(sys.argv[1:]))
