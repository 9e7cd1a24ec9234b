"""Signed documents as they are handed in from outside: parsed within bounds, and counted against a threshold."""

from typing import Any, TypeVar

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Targets

from controller.trust.errors import DocumentRefused, RefusalCode

ROOT_BYTES_MAX = 64 * 1024
TARGETS_BYTES_MAX = 256 * 1024
"""What devices take at most (`device_agent/image_client.py`)."""

S = TypeVar("S", Root, Targets)


def read_document(raw: bytes, kind: type[S], what: str) -> Metadata[S]:
    """Return a document whose signatures are not yet checked; DocumentRefused when it is no such document."""
    most = ROOT_BYTES_MAX if kind.type == Root.type else TARGETS_BYTES_MAX
    if len(raw) > most:
        raise DocumentRefused(f"{what} has {len(raw)} bytes; devices take at most {most}", code=RefusalCode.MALFORMED)
    try:
        document = Metadata[Any].from_bytes(raw)
        document.signed_bytes  # noqa: B018 - a number that canonical JSON has no form for shows here
    except (RepositoryError, ValueError) as error:
        raise DocumentRefused(f"{what} is no signed document: {error}", code=RefusalCode.MALFORMED) from error
    if not isinstance(document.signed, kind):
        raise DocumentRefused(f"{what} holds {document.signed.type}, not {kind.type}", code=RefusalCode.MALFORMED)
    return document


def check_signed(document: Metadata[S], delegator: Root | Targets, role: str, by: str) -> None:
    """Raise DocumentRefused unless the keys that `delegator` names for `role` signed it, as many as it asks for.

    `by` says whose keys they are, for the text.
    """
    found = delegator.get_verification_result(role, document.signed_bytes, document.signatures)
    if not found.verified:
        raise DocumentRefused(
            f"version {document.signed.version} of {role} has {len(found.signed)} good signatures by {by}, which asks "
            f"for {found.threshold}; let {', '.join(sorted(keyid[:12] for keyid in found.unsigned)) or 'more'} sign it",
            code=RefusalCode.SIGNATURE,
        )
