"""The plain parts of in-toto statements: how files, data, tools and runs are written into one and read out of it.

Formats: in-toto Statement v1 with its resource descriptors, SLSA v1 "Provenance", in-toto "Test Result" v0.1. Every
number in a statement is a string, so that no reader rounds it.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.fields import SHA256_HEX, Fields, format_utc

STATEMENT = "https://in-toto.io/Statement/v1"
SLSA = "https://slsa.dev/provenance/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
INPUT = "input"
"""The role of a file that a step was given; its other dependencies are data and tools."""
_TOOL = "tool"
_DATA_ROLES = frozenset({"evaluation", "calibration"})
_TOOL_URI = "pkg:pypi/"

Files = Mapping[str, str]
"""sha256 by name."""


def as_words(value: Any) -> Any:
    """Return JSON with every number as the decimal that JSON writes; true, false and null stay as they are."""
    if isinstance(value, Mapping):
        return {str(name): as_words(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_words(item) for item in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return json.dumps(value)
    return value


def read_files(fields: Fields, name: str) -> dict[str, str]:
    """Read a list of in-toto resource descriptors as sha256 by name; at least one, no name twice."""
    found = fields.children(name, _read_file, most=128)
    if not found or len(dict(found)) != len(found):
        raise malformed(f"{name} names {[file for file, _ in found]}; expected one file or more, and none twice")
    return dict(found)


def make_statement(subject: Files, predicate_type: str, predicate: Mapping[str, Any]) -> bytes:
    """Return a statement in its one encoding: sorted keys, no spaces."""
    named = {"_type": STATEMENT, "subject": described(subject), "predicateType": predicate_type}
    return json.dumps({**named, "predicate": predicate}, sort_keys=True, separators=(",", ":")).encode()


def make_provenance(
    build_type: str, external: Mapping[str, Any], dependencies: list[Any], key: str, started: datetime, ended: datetime
) -> dict[str, Any]:
    """Return a SLSA provenance predicate; `key` identifies the run."""
    return {
        "buildDefinition": {
            "buildType": build_type,
            "externalParameters": external,
            "resolvedDependencies": dependencies,
        },
        "runDetails": {
            "builder": {"id": "urn:edgefleet:controller"},
            "metadata": {
                "invocationId": key,
                "startedOn": format_utc(started),
                "finishedOn": format_utc(ended),
            },
        },
    }


def described(files: Files, role: str | None = None) -> list[dict[str, Any]]:
    """Return files as resource descriptors, by name."""
    noted = {"annotations": {"role": role}} if role else {}
    return [{"name": name, "digest": {"sha256": sha256}, **noted} for name, sha256 in sorted(files.items())]


def described_data(data: Files) -> list[dict[str, Any]]:
    """Return data, by role, as resource descriptors."""
    return [entry for role, sha256 in sorted(data.items()) for entry in described({role: sha256}, role)]


def described_tools(tools: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return releases of tools, by name, as resource descriptors (package URLs)."""
    return [
        {"uri": f"{_TOOL_URI}{name}@{release}", "annotations": {"role": _TOOL}}
        for name, release in sorted(tools.items())
    ]


def read_dependencies(definition: Fields) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Read the input files, the data by role and the tools' releases of a build definition."""
    return read_by_role(definition, "resolvedDependencies")


def read_by_role(fields: Fields, name: str) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Sort resource descriptors into input files, data by role, and tools' releases by name."""
    inputs: dict[str, str] = {}
    data: dict[str, str] = {}
    tools: dict[str, str] = {}
    for entry in fields.children(name, lambda found: found, most=256):
        role = entry.child("annotations").text("role", most=32)
        if role == _TOOL:
            tool, _, release = entry.text("uri").removeprefix(_TOOL_URI).rpartition("@")
            tools[tool] = release
        elif role == INPUT:
            file, sha256 = _read_file(entry)
            if inputs.setdefault(file, sha256) != sha256:
                raise malformed(f"{name} names the input {file} twice")
        elif role in _DATA_ROLES:
            data[role] = _read_file(entry)[1]
    return inputs, data, tools


def read_run(statement: Fields) -> tuple[datetime, datetime, str]:
    """Read when a run began and ended, and what identifies it."""
    metadata = statement.child("predicate").child("runDetails").child("metadata")
    return metadata.moment("startedOn"), metadata.moment("finishedOn"), metadata.text("invocationId", most=128)


def _read_file(fields: Fields) -> tuple[str, str]:
    return fields.text("name", most=256), fields.child("digest").text("sha256", pattern=SHA256_HEX)


def whole_number(fields: Fields, name: str) -> int:
    """Read a whole number that is written as a string."""
    text = fields.text(name, most=16)
    if not (text.isascii() and text.isdigit()):
        raise malformed(f"{name} is {text!r}; expected a whole number in digits")
    return int(text)


def plain_object(fields: Fields, name: str) -> dict[str, Any]:
    """Return an object as it is."""
    fields.child(name)
    value: dict[str, Any] = fields.raw(name)
    return value


def malformed(message: str) -> ProtocolError:
    """Return the error about a statement that does not have its form."""
    return ProtocolError(Code.MALFORMED, message, role="provenance")
