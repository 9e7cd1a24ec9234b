"""What the controller says of a release: the draft, the manifests, and with what the variants were measured.

Nothing here is believed. It says where to look; what is found there is compared, hashed or measured.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from controller.domain.errors import InvalidInput
from controller.domain.promise import Promise
from controller.domain.releases import ReleaseKind
from controller.release_desk.report import DeskCode, DeskRefusal
from device_agent.protocol.errors import ProtocolError
from device_agent.protocol.fields import SHA256_HEX, Fields
from device_agent.protocol.manifest import MANIFEST_BYTES_MAX, NAME

DOCUMENT_CHARACTERS_MAX = 8 * 1024 * 1024
MANIFEST_CHARACTERS_MAX = 2 * MANIFEST_BYTES_MAX


@dataclass(frozen=True)
class Announcement:
    """One open proposal, as `GET /api/v1/releases/{id}` shows it."""

    id: str
    kind: ReleaseKind
    model: str
    version: int | None
    document: bytes
    manifests: Mapping[str, bytes]
    """By the path that the draft lists them under."""
    evaluation: tuple[str, int] | None
    """sha256 and length of the evaluation data; None where there is none."""
    source_bytes: int
    """Length of the upload; its digest is in each manifest."""
    promise: Promise | None

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read the document strictly. DeskRefusal(MALFORMED) names what does not fit."""
        try:
            return cls._read(Fields(dict(document), "release"))
        except (ProtocolError, InvalidInput, ValueError) as error:
            raise DeskRefusal(DeskCode.MALFORMED, f"the release cannot be read: {error}") from error

    @classmethod
    def _read(cls, fields: Fields) -> Self:
        data = fields.optional_child("data")
        promise = fields.optional_child("promise")
        manifests = fields.child("manifests")
        paths = fields.raw("manifests")
        return cls(
            id=fields.text("id", most=64),
            kind=fields.one_of("kind", ReleaseKind),
            model=fields.text("model", pattern=NAME),
            version=None if fields.raw("version") is None else fields.integer("version", least=1),
            document=_decoded(fields.text("document", most=DOCUMENT_CHARACTERS_MAX)),
            manifests={str(path): _decoded(manifests.text(path, most=MANIFEST_CHARACTERS_MAX)) for path in dict(paths)},
            evaluation=_evaluation(data) if data else None,
            source_bytes=data.integer("source_bytes") if data else 0,
            promise=Promise.from_json(dict(fields.raw("promise"))) if promise else None,
        )


def _evaluation(data: Fields) -> tuple[str, int] | None:
    if data.raw("evaluation_sha256") is None:
        return None
    return data.text("evaluation_sha256", pattern=SHA256_HEX), data.integer("evaluation_bytes")


def _decoded(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
