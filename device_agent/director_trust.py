"""The director's root: which keys may sign assignments, and how they are replaced.

The chain is that of TUF: version N+1 is believed when a threshold of version N's root keys and a threshold of
its own have signed it (TUF specification, section 5.3). It is verified from the enrolled document at
every start; the stored links are a cache that nothing depends on. Two rules are added, because python-tuf
does not check them: no key appears twice, and no key is shared with the image repository, so that one stolen
key never speaks for both.
"""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from tuf.api.exceptions import RepositoryError, UnsignedMetadataError
from tuf.api.metadata import Metadata, Root

from device_agent.durable import replace_durably
from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.key_material import all_material
from device_agent.transport import Transport

ROOT_BYTES_MAX = 64 * 1024
ROTATIONS_MAX = 256
_ROLE = "director-root"

FetchRoot = Callable[[int], bytes | None]
"""Returns the director's root of a version, None where there is none yet; ProtocolError when it cannot tell."""


def director_root_fetcher(transport: Transport, controller_url: str) -> FetchRoot:
    """Return what fetches the director's roots from a controller; its errors name the role that was at fault."""

    def fetch(version: int) -> bytes | None:
        url = f"{controller_url.rstrip('/')}/tuf/director/{version}.root.json"
        try:
            answer = transport.call("GET", url, bytes_max=ROOT_BYTES_MAX)
        except ProtocolError as error:
            error.role = _ROLE
            raise
        if answer.status in {403, 404}:
            return None
        if answer.status != 200:
            raise ProtocolError(Code.HTTP, f"status {answer.status} for {url}", role=_ROLE, status=answer.status)
        return answer.body

    return fetch


class DirectorTrust:
    """The newest verified root of the director."""

    def __init__(self, directory: Path, bootstrap: bytes, image_root: bytes) -> None:
        """Start from the enrolled document and follow the links stored in `directory`."""
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._foreign_keys = all_material(_parse(image_root).signed.keys.values())
        first = _parse(bootstrap)
        self._accept(first.signed, first)
        self.root = first.signed
        self._follow(self._stored)

    @property
    def keys(self) -> frozenset[str]:
        """The public keys of the newest verified root, none of which may speak for the image repository."""
        return all_material(self.root.keys.values())

    def update(self, fetch: FetchRoot, now: datetime) -> None:
        """Follow the chain to its newest link; ProtocolError leaves the last good root, FREEZE_EXPIRED included."""
        self._follow(fetch, store=True)
        if self.root.is_expired(now):
            raise ProtocolError(Code.EXPIRED, f"version {self.root.version} expired {self.root.expires}", role=_ROLE)

    def _stored(self, version: int) -> bytes | None:
        try:
            return self._path(version).read_bytes()
        except OSError:
            return None

    def _path(self, version: int) -> Path:
        return self._directory / f"{version}.root.json"

    def _follow(self, fetch: FetchRoot, *, store: bool = False) -> None:
        for _ in range(ROTATIONS_MAX):
            version = self.root.version + 1
            raw = fetch(version)
            if raw is None:
                return
            try:
                root = self._verify(raw, version)
            except ProtocolError:
                if not store:
                    return  # a damaged link in the cache; the next update fetches it
                raise
            if store:
                replace_durably(self._path(version), raw)
            self.root = root

    def _verify(self, raw: bytes, version: int) -> Root:
        document = _parse(raw)
        if document.signed.version != version:
            raise ProtocolError(Code.ROLLBACK, f"version {document.signed.version}; expected {version}", role=_ROLE)
        self._accept(self.root, document)
        self._accept(document.signed, document)
        return document.signed

    def _accept(self, signers: Root, document: Metadata[Root]) -> None:
        try:
            signers.verify_delegate(Root.type, document.signed_bytes, document.signatures)
        except UnsignedMetadataError as error:
            raise ProtocolError(Code.SIGNATURE, str(error), role=_ROLE) from error
        except RepositoryError as error:  # a number that canonical JSON has no form for
            raise ProtocolError(Code.MALFORMED, f"the root cannot be signed: {error!r}", role=_ROLE) from error
        keys = all_material(document.signed.keys.values())
        if len(keys) != len(document.signed.keys):
            raise ProtocolError(Code.KEY_REUSE, "one key appears under two ids", role=_ROLE)
        if keys & self._foreign_keys:
            raise ProtocolError(Code.KEY_REUSE, "a key also belongs to the image repository", role=_ROLE)


def _parse(raw: bytes) -> Metadata[Root]:
    if len(raw) > ROOT_BYTES_MAX:
        raise ProtocolError(Code.ENDLESS_DATA, f"{len(raw)} bytes; at most {ROOT_BYTES_MAX}", role=_ROLE)
    try:
        document: Metadata[Root] = Metadata.from_bytes(raw)
    except RepositoryError as error:
        raise ProtocolError(Code.MALFORMED, str(error), role=_ROLE) from error
    if document.signed.type != Root.type:
        raise ProtocolError(Code.WRONG_TYPE, f"metadata of type {document.signed.type}", role=_ROLE)
    return document
