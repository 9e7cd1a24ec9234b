"""Small models in a model store, without an engine: the store and the journal know only bytes."""

import hashlib
import lzma
from dataclasses import dataclass, replace
from pathlib import Path

from device_agent.protocol.manifest import CHUNK_BYTES, XZ, ArtifactEntry, Manifest, Packed
from device_agent.protocol.packing import DICTIONARY_BYTES
from device_agent.slots import ModelStore
from tests.support.manifests import a_manifest


def entry_of(name: str, content: bytes) -> ArtifactEntry:
    """Return the manifest's entry for some bytes."""
    chunks = [content[start : start + CHUNK_BYTES] for start in range(0, len(content), CHUNK_BYTES)]
    hashes = tuple(hashlib.sha256(chunk).hexdigest() for chunk in chunks)
    return ArtifactEntry(name, len(content), hashlib.sha256(content).hexdigest(), hashes)


def xz_stream(content: bytes, *, dictionary_bytes: int = DICTIONARY_BYTES) -> bytes:
    """Return an xz stream of some bytes, made quickly."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": dictionary_bytes}]
    return lzma.compress(content, format=lzma.FORMAT_XZ, check=lzma.CHECK_NONE, filters=filters)


def packed_entry_of(name: str, content: bytes, stream: bytes) -> ArtifactEntry:
    """Return the manifest's entry for some bytes that travel as `stream`, whatever that unpacks to."""
    form = entry_of(name, stream)
    return replace(entry_of(name, content), packed=Packed(XZ, form.length, form.sha256, form.chunks))


@dataclass(frozen=True)
class StoredModel:
    """A model with its bytes."""

    manifest: Manifest
    contents: dict[str, bytes]

    @property
    def raw(self) -> bytes:
        return self.manifest.to_bytes()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.raw).hexdigest()

    def put_parts(self, store: ModelStore) -> None:
        """Put complete part files into the stage, as a download does."""
        for name, content in self.contents.items():
            store.part(self.sha256, name).write_bytes(content)

    def publish(self, store: ModelStore) -> None:
        """Take the model into the store."""
        self.put_parts(store)
        store.publish(self.manifest, self.raw, self.sha256)


def a_stored_model(version: int = 1) -> StoredModel:
    """Return a model of two artifacts that differs by version."""
    contents = {"model.onnx": b"weights %d " % version * 100, "golden.npz": b"golden %d" % version}
    artifacts = tuple(entry_of(name, content) for name, content in contents.items())
    return StoredModel(replace(a_manifest(version=version), artifacts=artifacts), contents)


def a_store(directory: Path, reserve_bytes: int = 0) -> ModelStore:
    """Return a model store in a directory."""
    return ModelStore(directory, reserve_bytes)
