"""Statements of how artifacts came to be: an upload, a compression step, a judgement. Not signed yet.

    Upload     SLSA provenance v1     subject: the source            who uploaded it, and which data came with it
    StepRun    SLSA provenance v1     subject: the files it made     the files it was given, data, tools, parameters
    Judgement  in-toto test-result    subject: the files judged      the figures and the promise they were held to

Each goes to an in-toto statement and comes back from one; its numbers come back as words.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from controller.trust.lineage.statements import (
    INPUT,
    SLSA,
    TEST_RESULT,
    Files,
    as_words,
    described,
    described_data,
    described_tools,
    make_provenance,
    make_statement,
    malformed,
    plain_object,
    read_by_role,
    read_dependencies,
    read_files,
    read_run,
    whole_number,
)
from device_agent.protocol.fields import Fields, format_utc
from device_agent.protocol.manifest import NAME

UPLOAD_TYPE = "urn:edgefleet:upload:v1"
STEP_TYPE = "urn:edgefleet:step:v1"
JUDGEMENT = "urn:edgefleet:judgement:v1"
"""What a test result says beyond its format is below this name."""
SOURCE = "source"
"""How the uploaded file is called, whose own name nobody keeps."""
GOLDEN_STEP = "golden"
"""The step that draws the golden tensors; it belongs to no recipe."""


@dataclass(frozen=True)
class VariantName:
    """What a statement is about."""

    model: str
    version: int
    variant: str

    def to_json(self) -> dict[str, str]:
        """Return the form inside a statement."""
        return {"model": self.model, "version": str(self.version), "variant": self.variant}

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Read what `to_json` wrote."""
        return cls(
            fields.text("model", pattern=NAME), whole_number(fields, "version"), fields.text("variant", pattern=NAME)
        )

    def __str__(self) -> str:
        return f"{self.model} version {self.version}, {self.variant}"


@dataclass(frozen=True)
class Upload:
    """A source that somebody uploaded as a version of a model."""

    model: str
    version: int
    format: str
    sha256: str
    actor: str
    """Who uploaded it."""
    at: datetime
    data: Files
    """The `evaluation` and `calibration` data that were declared with it."""
    tools: Mapping[str, str]
    key: str
    """The version's id."""

    def to_statement(self) -> bytes:
        """Return the statement."""
        parameters = {"model": self.model, "version": str(self.version), "format": self.format, "actor": self.actor}
        dependencies = [*described_data(self.data), *described_tools(self.tools)]
        provenance = make_provenance(UPLOAD_TYPE, parameters, dependencies, self.key, self.at, self.at)
        return make_statement({SOURCE: self.sha256}, SLSA, provenance)

    @classmethod
    def read(cls, statement: Fields) -> Self:
        """Read what `to_statement` wrote."""
        subject, definition = read_files(statement, "subject"), statement.child("predicate").child("buildDefinition")
        if subject.keys() != {SOURCE}:
            raise malformed(f"an upload is about one file called {SOURCE}, not {sorted(subject)}")
        parameters, (_, data, tools) = definition.child("externalParameters"), read_dependencies(definition)
        _, finished, key = read_run(statement)
        return cls(
            model=parameters.text("model", pattern=NAME),
            version=whole_number(parameters, "version"),
            format=parameters.text("format", pattern=NAME),
            sha256=subject[SOURCE],
            actor=parameters.text("actor"),
            at=finished,
            data=data,
            tools=tools,
            key=key,
        )


@dataclass(frozen=True)
class StepRun:
    """A compression step as it ran for a variant, or the drawing of its golden tensors (GOLDEN_STEP)."""

    about: VariantName
    number: int
    """Counted from 1, in the order of the recipe."""
    step: str
    parameters: Mapping[str, Any]
    inputs: Files
    outputs: Files
    data: Files
    """The `evaluation` or `calibration` data that it learned or drew from."""
    tools: Mapping[str, str]
    """Versions of the libraries and of this program, by name."""
    key: str
    """The digest of everything that the result depends on, under which it is remembered."""
    started: datetime
    finished: datetime
    reused: bool = False
    """Stated from memory: the same work had been done before, for another variant or in an earlier attempt."""

    def to_statement(self) -> bytes:
        """Return the statement."""
        external = {
            **self.about.to_json(),
            "number": str(self.number),
            "step": self.step,
            "parameters": as_words(self.parameters),
        }
        dependencies = [*described(self.inputs, INPUT), *described_data(self.data), *described_tools(self.tools)]
        provenance = make_provenance(STEP_TYPE, external, dependencies, self.key, self.started, self.finished)
        provenance["buildDefinition"]["internalParameters"] = {"reused": self.reused}
        return make_statement(self.outputs, SLSA, provenance)

    @classmethod
    def read(cls, statement: Fields) -> Self:
        """Read what `to_statement` wrote; the numbers among the parameters stay words."""
        definition = statement.child("predicate").child("buildDefinition")
        external, (inputs, data, tools) = definition.child("externalParameters"), read_dependencies(definition)
        started, finished, key = read_run(statement)
        return cls(
            about=VariantName.read(external),
            number=whole_number(external, "number"),
            step=external.text("step", most=64),
            parameters=plain_object(external, "parameters"),
            inputs=inputs,
            outputs=read_files(statement, "subject"),
            data=data,
            tools=tools,
            key=key,
            started=started,
            finished=finished,
            reused=definition.child("internalParameters").raw("reused") is True,
        )


@dataclass(frozen=True)
class Judgement:
    """How a variant's files behaved beside their source, and whether they kept their promise."""

    about: VariantName
    files: Files
    passed: bool
    words: str
    """The outcome for people."""
    figures: Mapping[str, Any]
    promise: Mapping[str, Any]
    data: Files
    """The `evaluation` data; empty where there is none, and then nothing is promised."""
    tools: Mapping[str, str]
    key: str
    finished: datetime

    def to_statement(self) -> bytes:
        """Return the statement."""
        predicate = {
            "result": "PASSED" if self.passed else "FAILED",
            "configuration": [*described_data(self.data), *described_tools(self.tools)],
            ("passedTests" if self.passed else "failedTests"): ["promise"],
            JUDGEMENT: {
                **self.about.to_json(),
                "words": self.words,
                "figures": as_words(self.figures),
                "promise": as_words(self.promise),
                "invocationId": self.key,
                "finishedOn": format_utc(self.finished),
            },
        }
        return make_statement(self.files, TEST_RESULT, predicate)

    @classmethod
    def read(cls, statement: Fields) -> Self:
        """Read what `to_statement` wrote; the numbers among the figures stay words."""
        predicate = statement.child("predicate")
        told = predicate.child(JUDGEMENT)
        _, data, tools = read_by_role(predicate, "configuration")
        return cls(
            about=VariantName.read(told),
            files=read_files(statement, "subject"),
            passed=predicate.text("result", most=16) == "PASSED",
            words=told.text("words", most=4096),
            figures=plain_object(told, "figures"),
            promise=plain_object(told, "promise"),
            data=data,
            tools=tools,
            key=told.text("invocationId", most=128),
            finished=told.moment("finishedOn"),
        )
