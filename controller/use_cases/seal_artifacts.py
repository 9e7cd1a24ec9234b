"""Sealing of a variant: what its manifest's artifacts travel as, encrypted once for all devices.

The same content key and plaintext give the same bytes, so publishing once more after a crash changes nothing. The
plaintexts stay where the work left them, for the next step and for who releases. A manifest and its lineage name them
by their sha256, and are public; so before a manifest is published everything that they name is withheld from whoever
asks without an operator's token.
"""

import base64
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from controller.artifacts.blob_store import BlobStore, StoredBlob
from controller.artifacts.child_process import Heartbeat
from controller.store.database import Database
from controller.store.variants import published_in_clear
from controller.use_cases.variant_work import Job, Workshop
from device_agent.protocol.manifest import SEALED, ArtifactEntry, Manifest, Sealed
from device_agent.protocol.sealed_form import CHUNK
from device_agent.protocol.sealing import seal

BEAT_BYTES = 256 * CHUNK
"""The claim is renewed each time that so much was sealed; it takes less than a second on any machine."""
_DIGEST = re.compile(rb"[0-9a-f]{64}")


def seal_artifacts(shop: Workshop, job: Job, manifest: Manifest) -> tuple[Manifest, tuple[StoredBlob, ...]]:
    """Return the manifest with every artifact sealed, and the sealed blobs, which are stored.

    ProtocolError(HASH_MISMATCH) where a plaintext is not what the manifest says.
    """
    key_id = str(job.claim.id)
    key = shop.signer.content_key(key_id)
    sealed, stored = [], []
    for entry in manifest.artifacts:
        blob = _seal(shop.blobs, entry, key, job.heartbeat)
        form = Sealed(SEALED, blob.size_bytes, blob.sha256, shop.blobs.chunks(blob.sha256))
        sealed.append(replace(entry, sealed=form))
        stored.append(blob)
    return replace(manifest, artifacts=tuple(sealed), content_key=key_id), tuple(stored)


def withhold_plaintexts(
    database: Database, blobs: BlobStore, manifest: Manifest, envelopes: Iterable[bytes], *public: str
) -> None:
    """Withhold whatever a sealed manifest and the statements of its lineage name, but what has to travel.

    `public` are digests that stay open. So does what a model that is not sealed has published: it is no secret.
    """
    documents = [manifest.to_bytes(), *(base64.b64decode(json.loads(one)["payload"]) for one in envelopes)]
    named = {match.group().decode() for document in documents for match in _DIGEST.finditer(document)}
    named -= {entry.sealed.sha256 for entry in manifest.artifacts if entry.sealed} | set(public)
    held = sorted(digest for digest in named if blobs.path(digest).is_file())
    with database.reading() as tx:
        in_clear = published_in_clear(tx, held)
    for digest in held:
        if digest not in in_clear:
            blobs.withhold(digest)


def _seal(blobs: BlobStore, entry: ArtifactEntry, key: bytes, heartbeat: Heartbeat) -> StoredBlob:
    plain = entry.clear.sha256
    writer = blobs.open_writer()
    try:
        for piece in seal(_beating(blobs.path(plain), heartbeat), key=key, sha256=plain):
            writer.feed(piece)
    except BaseException:
        writer.abort()
        raise
    return writer.commit()


def _beating(path: Path, heartbeat: Heartbeat) -> Iterator[bytes]:
    with path.open("rb") as file:
        for piece in iter(lambda: file.read(CHUNK), b""):
            yield piece
            if file.tell() % BEAT_BYTES == 0:
                heartbeat.beat()
