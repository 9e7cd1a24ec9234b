"""The manifest: the signed statement about one variant of a model version.

It is the target that the image repository signs. It names the artifacts by length and sha256, says what
they need to run and how the model must behave; a device believes nothing about a model that is not here.
"""

import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.fields import SHA256_HEX, Fields
from device_agent.protocol.sealed_form import sealed_length

MANIFEST_BYTES_MAX = 256 * 1024
"""Larger manifests are refused before they are read; 4 MB of chunk hashes would be a 16 GB model."""
CHUNK_BYTES = 256 * 1024
"""Artifacts are hashed in chunks of this size, so that a fault on the link costs one chunk."""
NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")
"""Models, variants, profiles and groups: safe in a path, a URL and a TUF role pattern."""
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""Artifact file names: a base name, never a path."""
GOLDEN_FILE = "golden.npz"
"""The artifact with golden tensors: arrays `input:NAME` and `output:NAME`, stacked along the first axis."""
XZ = "xz"
"""An xz stream within the bounds of `packing.unpack`."""
ENCODINGS = (XZ,)
"""Packed forms that devices of this release can unpack."""
SEALED = "aes-256-gcm-stream"
"""The form of `sealed_form`, made and opened by `sealing`."""
CONTENT_KEY_ID = re.compile(r"[a-z]{2}_[A-Za-z0-9_.-]{1,60}")
"""Names a content key; the key itself is nowhere but with the signer."""


@dataclass(frozen=True)
class Packed:
    """An artifact's bytes as they travel, smaller than the artifact itself."""

    encoding: str
    """One of ENCODINGS."""
    length: int
    sha256: str
    chunks: tuple[str, ...]

    @classmethod
    def read(cls, fields: Fields, name: str, length_max: int) -> "Packed":
        """Read the packed form of an artifact of `length_max` bytes.

        INCOMPATIBLE for an encoding that this release does not know: a newer agent may.
        """
        encoding = fields.text("encoding", pattern=NAME)
        if encoding not in ENCODINGS:
            raise ProtocolError(
                Code.INCOMPATIBLE,
                f"{name} is packed as {encoding!r}; this release unpacks {', '.join(ENCODINGS)}",
                role="manifest",
            )
        packed = cls(encoding, *_content(fields, f"the packed {name}"))
        if packed.length >= length_max:
            raise ProtocolError(
                Code.MALFORMED,
                f"{name} has {length_max} bytes and its packed form {packed.length}; it must have fewer",
                role="manifest",
            )
        return packed


@dataclass(frozen=True)
class Sealed:
    """An artifact's bytes as they travel, encrypted: of its packed form where there is one, else of the artifact."""

    encoding: str
    """SEALED."""
    length: int
    sha256: str
    chunks: tuple[str, ...]

    @classmethod
    def read(cls, fields: Fields, name: str, length: int) -> "Sealed":
        """Read the sealed form of `length` bytes.

        INCOMPATIBLE for an encoding that this release does not know: a newer agent may.
        """
        encoding = fields.text("encoding", pattern=NAME)
        if encoding != SEALED:
            raise ProtocolError(
                Code.INCOMPATIBLE, f"{name} is sealed as {encoding!r}; this release opens {SEALED}", role="manifest"
            )
        sealed = cls(encoding, *_content(fields, f"the sealed {name}"))
        if sealed.length != sealed_length(length):
            raise ProtocolError(
                Code.MALFORMED,
                f"the sealed {name} has {sealed.length} bytes; of {length} bytes it has {sealed_length(length)}",
                role="manifest",
            )
        return sealed


@dataclass(frozen=True)
class ArtifactEntry:
    """Immutable bytes that the device needs, under the file name it stores them as."""

    name: str
    length: int
    sha256: str
    chunks: tuple[str, ...]
    packed: Packed | None = None
    """The form that travels, where it is worth packing; None where the artifact travels as it is."""
    sealed: Sealed | None = None
    """What travels instead of either where the model is sealed."""

    @classmethod
    def read(cls, fields: Fields) -> "ArtifactEntry":
        """Read and check one entry; the number of chunk hashes must fit the length."""
        name = _file_name(fields, "name")
        length, sha256, chunks = _content(fields, name)
        packed, sealed = fields.optional_child("packed"), fields.optional_child("sealed")
        form = Packed.read(packed, name, length) if packed else None
        within = form.length if form else length
        return cls(name, length, sha256, chunks, form, Sealed.read(sealed, name, within) if sealed else None)

    @property
    def clear(self) -> "ArtifactEntry | Packed":
        """What would travel if nothing were sealed."""
        return self.packed or self

    @property
    def travels(self) -> "ArtifactEntry | Packed | Sealed":
        """What a device downloads."""
        return self.sealed or self.clear

    @property
    def wire_bytes(self) -> int:
        """How much a device downloads for it when it has nothing yet."""
        return self.travels.length

    def to_json(self) -> dict[str, Any]:
        """Return the entry as the manifest holds it; of a form that it does not have it says nothing."""
        forms = {"packed", "sealed"}
        return {name: value for name, value in asdict(self).items() if name not in forms or value is not None}


def _file_name(fields: Fields, name: str) -> str:
    """Read a base name; MANIFEST_PATH for a path, which would lead out of the model's folder."""
    value = fields.text(name, most=1024)
    if not FILE_NAME.fullmatch(value):
        message = f"{name} is {value[:80]!r}; expected a file name like {FILE_NAME.pattern}, without any folder"
        raise ProtocolError(Code.MANIFEST_PATH, message, role="manifest")
    return value


def _content(fields: Fields, what: str) -> tuple[int, str, tuple[str, ...]]:
    """Read length, sha256 and chunk hashes; MALFORMED where their number does not fit the length."""
    length, chunks = fields.integer("length"), fields.texts("chunks", most=2**16)
    sha256 = fields.text("sha256", pattern=SHA256_HEX)
    if len(chunks) != -(-length // CHUNK_BYTES):
        raise ProtocolError(
            Code.MALFORMED, f"manifest names {len(chunks)} chunks for {length} bytes of {what}", role="manifest"
        )
    return length, sha256, chunks


@dataclass(frozen=True)
class TensorSpec:
    """One input or output: Open Inference Protocol datatype (`FP32`), shape with -1 for free dimensions."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @classmethod
    def read(cls, fields: Fields) -> "TensorSpec":
        """Read one tensor's description."""
        shape = fields.raw("shape")
        if not isinstance(shape, list) or not all(isinstance(size, int) and size >= -1 for size in shape):
            raise ProtocolError(Code.MALFORMED, f"shape is {shape!r}; expected whole numbers", role="manifest")
        return cls(fields.text("name", most=256), fields.text("datatype", most=8), tuple(shape))


@dataclass(frozen=True)
class Runtime:
    """What a device must have to run the artifacts: the facts that compatibility is decided on."""

    engine: str
    """`onnxruntime`, or `opaque` for artifacts that are only delivered."""
    opset: int
    """Version of the default ONNX operator set; 0 for opaque artifacts."""
    operators: tuple[str, ...]
    precision: str
    """`fp32`, `fp16`, `int8` ...: some hardware classes run only some of them well."""
    memory_bytes: int
    """Estimated peak resident bytes of the model while it loads and runs one request."""

    @classmethod
    def read(cls, fields: Fields) -> "Runtime":
        """Read the runtime's requirements."""
        return cls(
            fields.text("engine", pattern=NAME),
            fields.integer("opset", most=1000),
            fields.texts("operators"),
            fields.text("precision", pattern=NAME),
            fields.integer("memory_bytes"),
        )


@dataclass(frozen=True)
class Behaviour:
    """How the model must behave: tolerance for the golden outputs, and the figures it was published with."""

    golden: str | None
    """File name of the golden artifact, None for opaque artifacts."""
    absolute_tolerance: float
    relative_tolerance: float
    evaluation: dict[str, Any]
    """Metric, value, samples and the source's value; shown, never decided on by the device."""

    @classmethod
    def read(cls, fields: Fields) -> "Behaviour":
        """Read the signed behaviour."""
        evaluation = fields.raw("evaluation")
        return cls(
            None if fields.raw("golden") is None else _file_name(fields, "golden"),
            fields.number("absolute_tolerance"),
            fields.number("relative_tolerance"),
            evaluation if isinstance(evaluation, dict) else {},
        )


@dataclass(frozen=True)
class LineageEntry:
    """The signed statements of how the artifacts were made, by content. Devices carry it and decide nothing on it."""

    length: int
    sha256: str

    @classmethod
    def read(cls, fields: Fields) -> "LineageEntry":
        """Read the entry."""
        return cls(fields.integer("length", least=1), fields.text("sha256", pattern=SHA256_HEX))


@dataclass(frozen=True)
class Manifest:
    """A variant as it is signed. `main` names the artifact that the runtime loads."""

    model: str
    version: int
    variant: str
    format: str
    main: str
    artifacts: tuple[ArtifactEntry, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    runtime: Runtime
    behaviour: Behaviour
    recipe: dict[str, Any]
    source_sha256: str
    lineage: LineageEntry | None = None
    """None where nobody has stated how the artifacts were made."""
    content_key: str | None = None
    """Names the key that every artifact is sealed with; None where none is."""

    @property
    def artifact_bytes(self) -> int:
        """How much the model takes on a device's disk."""
        return sum(entry.length for entry in self.artifacts)

    @property
    def wire_bytes(self) -> int:
        """How much a device downloads when it has nothing yet."""
        return sum(entry.wire_bytes for entry in self.artifacts)

    def to_bytes(self) -> bytes:
        """Return the one encoding that is signed: sorted keys, no spaces, UTF-8."""
        artifacts = [entry.to_json() for entry in self.artifacts]
        document = {"schema": 1, **asdict(self), "artifacts": artifacts}
        if self.lineage is None:
            # Manifests from before there was lineage keep their bytes.
            del document["lineage"]
        if self.content_key is None:
            del document["content_key"]
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def target_path(model: str, version: int, variant: str, channel: str = "dev") -> str:
    """Return the TUF target path of a manifest: `dev/digits/3/int8/manifest.json`."""
    return f"{channel}/{model}/{version}/{variant}/manifest.json"


def in_channel(target: str, channel: str) -> str:
    """Return the same manifest's target path in another channel."""
    return f"{channel}/{target.partition('/')[2]}"


def parse_manifest(raw: bytes) -> Manifest:
    """Read a manifest strictly; ProtocolError(MALFORMED) names the field that does not fit."""
    if len(raw) > MANIFEST_BYTES_MAX:
        raise ProtocolError(Code.ENDLESS_DATA, f"manifest has {len(raw)} bytes; at most {MANIFEST_BYTES_MAX}")
    fields = Fields.from_json(raw, "manifest")
    fields.integer("schema", least=1, most=1)
    recipe, lineage = fields.raw("recipe"), fields.optional_child("lineage")
    manifest = Manifest(
        model=fields.text("model", pattern=NAME),
        version=fields.integer("version", least=1),
        variant=fields.text("variant", pattern=NAME),
        format=fields.text("format", pattern=NAME),
        main=_file_name(fields, "main"),
        artifacts=fields.children("artifacts", ArtifactEntry.read, most=64),
        inputs=fields.children("inputs", TensorSpec.read, most=256),
        outputs=fields.children("outputs", TensorSpec.read, most=256),
        runtime=Runtime.read(fields.child("runtime")),
        behaviour=Behaviour.read(fields.child("behaviour")),
        recipe=recipe if isinstance(recipe, dict) else {},
        source_sha256=fields.text("source_sha256", pattern=SHA256_HEX),
        lineage=LineageEntry.read(lineage) if lineage else None,
        content_key=fields.optional_text("content_key", pattern=CONTENT_KEY_ID, most=64),
    )
    _check_artifacts(manifest)
    return manifest


def _check_artifacts(manifest: Manifest) -> None:
    names = [entry.name for entry in manifest.artifacts]
    wanted = {manifest.main, *filter(None, [manifest.behaviour.golden])}
    if len(set(names)) != len(names) or not wanted <= set(names):
        raise ProtocolError(
            Code.MALFORMED,
            f"artifacts {names} must be distinct and include {sorted(wanted)}",
            role="manifest",
        )
    plain = [entry.name for entry in manifest.artifacts if entry.sealed is None]
    if plain if manifest.content_key else len(plain) < len(names):
        raise ProtocolError(
            Code.MALFORMED,
            f"the content key is {manifest.content_key}, and of the artifacts {names} these are not sealed: {plain}; "
            "with a key all are sealed, without one none is",
            role="manifest",
        )
