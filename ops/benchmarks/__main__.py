"""`python -m ops.benchmarks NAME [--json] [--quick]`: run one benchmark and print what it found.

With `--json` the last line of standard output is one JSON object. Progress goes to standard error.
"""

import argparse
import importlib
import json
import time

from ops.benchmarks.findings import machine, revision, table

NAMES = ("poll", "ingest", "compress", "trust")


def main() -> None:
    """Run the benchmark that the command line names; each is a module with `measure(quick)`."""
    parser = argparse.ArgumentParser(prog="./run bench", description="Measure a part of the project on this machine.")
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds, the same keys, under a minute")
    chosen = parser.parse_args()
    started = time.monotonic()
    found = importlib.import_module(f"ops.benchmarks.{chosen.name}").measure(chosen.quick)
    seconds = round(time.monotonic() - started, 1)
    whole = {"bench": chosen.name, "commit": revision(), "machine": machine(), "seconds": seconds, **found}
    print(json.dumps(whole) if chosen.json else table(whole))


if __name__ == "__main__":
    main()
