"""Record an upload: bytes that the blob store holds become an artifact that versions may name."""

from dataclasses import dataclass
from datetime import datetime

from controller.artifacts.blob_store import StoredBlob
from controller.store.artifacts import put_artifact
from controller.store.database import Database


@dataclass(frozen=True)
class StoredUpload:
    """An artifact, as the uploader names it from now on."""

    sha256: str
    size_bytes: int


def record_upload(database: Database, stored: StoredBlob, *, now: datetime) -> StoredUpload:
    """Record the artifact; the same bytes uploaded twice are one artifact."""
    with database.writing() as tx:
        put_artifact(tx, stored.sha256, stored.size_bytes, now)
    return StoredUpload(stored.sha256, stored.size_bytes)
