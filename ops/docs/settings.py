"""Writes docs/reference/settings.md from the settings themselves: `python -m ops.docs.settings`."""

import sys
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from controller.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"

INTRODUCTION = """# Settings of the controller

Written by `python -m ops.docs.settings` from `controller/settings.py`; do not edit it here.

A setting is read from the environment, else from the TOML file that `EDGEFLEET_CONFIG` names, else it has its default.
In the file the name is in lower case and without the prefix: `port = 8600`. A name that does not exist is refused.
"""


def render() -> str:
    """Return the page."""
    prefix = Settings.model_config["env_prefix"]
    sections = (_section(f"{prefix}{name.upper()}", field) for name, field in Settings.model_fields.items())
    return "\n".join([INTRODUCTION, *sections])


def _section(variable: str, field: FieldInfo) -> str:
    kind = getattr(field.annotation, "__name__", str(field.annotation))
    limits = ", ".join(filter(None, (_limit(rule) for rule in field.metadata)))
    facts = [kind, *([limits] if limits else []), f"default {_default(field.default)}"]
    return f"## `{variable}`\n\n{field.description}\n\n{'; '.join(facts)}.\n"


def _limit(rule: Any) -> str:
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below", "pattern": "matches"}
    return ", ".join(
        f"{word} `{getattr(rule, name)}`" for name, word in words.items() if getattr(rule, name, None) is not None
    )


def _default(value: object) -> str:
    if value is PydanticUndefined:
        return "none: it must be set"
    return f"`{value}`" if str(value) else "empty"


if __name__ == "__main__":
    PAGE.write_text(render())
    sys.stdout.write(f"{PAGE}\n")
