"""One look of a device at an image repository, in a process of its own: what it costs in time.

    python -m ops.benchmarks.device_look ours|stock URL STATE TARGET

`ours` is the agent's own client, `stock` python-tuf's as it comes. Prints the CPU milliseconds of the look, without the
start of the interpreter and the imports. STATE keeps the cache and the marks from one look to the next, as on a device.
"""

import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from tuf.ngclient import Updater

from device_agent.image_client import ImageRepository
from device_agent.journal import RoleMark
from device_agent.transport import Transport

BOOTSTRAP = "bootstrap.json"
"""The root that the device was enrolled with, inside STATE."""
_MARKS = "marks.json"


def _ours(url: str, state: Path, target: str) -> Callable[[], None]:
    kept = state / _MARKS
    marks = {name: RoleMark(**mark) for name, mark in json.loads(kept.read_text()).items()} if kept.exists() else {}
    bootstrap = (state / BOOTSTRAP).read_bytes()

    def look() -> None:
        repository = ImageRepository(Transport(), url, state / "cache", bootstrap, datetime.now(UTC))
        seen = repository.refresh(marks)
        kept.write_text(json.dumps({name: vars(mark) for name, mark in seen.items()}))
        if repository.find(target) is None:
            raise LookupError(f"{target} is not signed")

    return look


def _stock(url: str, state: Path, target: str) -> Callable[[], None]:
    cache = state / "cache"
    cache.mkdir(exist_ok=True)
    bootstrap = (state / BOOTSTRAP).read_bytes()

    def look() -> None:
        updater = Updater(str(cache), f"{url}/metadata/", str(cache), f"{url}/targets/", bootstrap=bootstrap)
        updater.refresh()
        if updater.get_targetinfo(target) is None:
            raise LookupError(f"{target} is not signed")

    return look


def main() -> None:
    """Look once and print the CPU milliseconds."""
    kind, url, state, target = sys.argv[1:]
    look = {"ours": _ours, "stock": _stock}[kind](url, Path(state), target)
    began = time.process_time()
    look()
    print(json.dumps({"cpu_ms": 1000 * (time.process_time() - began)}))


if __name__ == "__main__":
    main()
