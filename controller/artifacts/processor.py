"""The processor that measurements are made on: a duration means nothing without it."""

import platform
from contextlib import suppress
from pathlib import Path


def processor_name() -> str:
    """Return the name of this machine's processor, or its architecture where the system tells no name."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.machine()
