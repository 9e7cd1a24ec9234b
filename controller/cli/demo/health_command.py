"""An operator's own health command: a few labelled digits must be read rightly where the device stands.

It is copied beside the device's other files and run by the agent, with nothing but Python's standard library.
Usage: `health_command.py LABELLED_DIGITS.json`; exit status 0 means healthy.
"""

import json
import os
import sys
import urllib.request
from pathlib import Path

ACCURACY_LEAST = 0.8
TIMEOUT_S = 5.0


def main() -> int:
    """Ask the local endpoint and compare with the labels."""
    digits = json.loads(Path(sys.argv[1]).read_text())
    body = {
        "inputs": [
            {"name": "inputs", "datatype": "FP32", "shape": [len(digits["labels"]), 64], "data": digits["inputs"]}
        ]
    }
    url = f"{os.environ['EDGEFLEET_INFERENCE_URL']}/v2/models/{os.environ['EDGEFLEET_SLOT']}/infer"
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
        output = json.load(response)["outputs"][0]
    classes = output["shape"][1]
    rows = [output["data"][start : start + classes] for start in range(0, len(output["data"]), classes)]
    answers = [row.index(max(row)) for row in rows]
    right = sum(answer == label for answer, label in zip(answers, digits["labels"], strict=True))
    accuracy = right / len(digits["labels"])
    print(f"{right} of {len(digits['labels'])} labelled digits were read rightly ({accuracy:.0%})")
    return 0 if accuracy >= ACCURACY_LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
