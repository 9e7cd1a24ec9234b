"""Finding the browser that the page tests drive."""

import shutil
from pathlib import Path

from tests.support.services import MissingProgramError

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
"""Programs that Playwright can drive, the smallest and fastest first."""


def find_browser() -> Path:
    """Return the first of these programs on PATH."""
    for name in NAMES:
        found = shutil.which(name)
        if found:
            return Path(found)
    raise MissingProgramError("a browser is missing: apt-get install chromium-headless-shell")
