"""The controller's public files, as far as this machine believes them: signed manifests, and the artifacts they name.

Everything starts from a root of trust: a file that the operator names, else the one that `edgefleet server start`
keeps in this folder, else the one that the controller shows, which is then taken on trust and said aloud.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from securesystemslib.exceptions import VerificationError
from tuf.api import exceptions as tuf_errors
from tuf.ngclient import Updater, UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface

from controller.cli.client import TIMEOUT
from controller.cli.errors import CommandFailed
from device_agent.protocol.errors import Code, ProtocolError
from device_agent.protocol.manifest import MANIFEST_BYTES_MAX, Manifest, parse_manifest, target_path

LOCAL_ROOT = Path(".edgefleet/tuf/metadata/1.root.json")
"""Where `edgefleet server start` keeps the first root; found when a command runs in the same folder."""
CHANNELS = ("prod", "dev")
ROOT_BYTES_MAX = 512 * 1024
_CODES: tuple[tuple[type[Exception], Code], ...] = (
    (tuf_errors.ExpiredMetadataError, Code.EXPIRED),
    (tuf_errors.UnsignedMetadataError, Code.SIGNATURE),
    (tuf_errors.BadVersionNumberError, Code.ROLLBACK_OR_MIX),
    (tuf_errors.LengthOrHashMismatchError, Code.HASH_MISMATCH),
    (tuf_errors.DownloadLengthMismatchError, Code.ENDLESS_DATA),
    (VerificationError, Code.SIGNATURE),
)


class Broken(Exception):
    """Something is not what was signed."""

    def __init__(self, code: str, detail: str) -> None:
        """Keep the code apart from the words."""
        self.code = code
        super().__init__(detail)


@dataclass(frozen=True)
class TrustedRoot:
    """The root document that everything is checked from, and where it was found."""

    content: bytes
    place: str
    believed: bool = True
    """False where the controller itself was asked, so that it vouches for itself."""

    @property
    def sha256(self) -> str:
        """What to compare by another way, such as a telephone."""
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True)
class SignedManifest:
    """A manifest as the image repository signs it."""

    manifest: Manifest
    sha256: str
    target: str

    @property
    def is_released(self) -> bool:
        """Tell whether release keys vouch for it, and not the controller alone."""
        return self.target.startswith("prod/")


class PublicFiles:
    """The public files of one controller. Use it as a context manager."""

    def __init__(self, server: str, *, transport: httpx.BaseTransport | None = None, token: str | None = None) -> None:
        """Take the controller's address, and for tests a transport that needs no network.

        With an operator's `token` the controller also sends the plaintexts of sealed models.
        """
        self.server = server.rstrip("/")
        self._shown = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(base_url=self.server, timeout=TIMEOUT, transport=transport)

    def __enter__(self) -> "PublicFiles":
        """Keep the connections for the whole command."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self._http.close()

    def trusted_root(self, file: Path | None) -> TrustedRoot:
        """Return the root of trust: the file's, else the one in this folder, else the controller's own."""
        if file is None and LOCAL_ROOT.is_file():
            file = LOCAL_ROOT
        if file is not None:
            return TrustedRoot(file.read_bytes(), str(file))
        try:
            content = b"".join(self.pieces("/tuf/metadata/1.root.json", ROOT_BYTES_MAX))
        except tuf_errors.DownloadHTTPError as error:
            raise CommandFailed(f"{self.server} shows no root of trust ({error}); name one with --root FILE") from error
        return TrustedRoot(content, f"{self.server}/tuf/metadata/1.root.json", believed=False)

    def pieces(self, path: str, bytes_max: int) -> Iterator[bytes]:
        """Yield a file piece by piece; DownloadHTTPError for another status than 200, Broken when it does not end."""
        size_bytes = 0
        try:
            shown = self._shown if path.startswith("/artifacts/") else {}
            with self._http.stream("GET", path, headers=shown) as response:
                if response.status_code != httpx.codes.OK:
                    raise tuf_errors.DownloadHTTPError(f"{path} answered {response.status_code}", response.status_code)
                for piece in response.iter_bytes():
                    size_bytes += len(piece)
                    if size_bytes > bytes_max:
                        raise Broken(f"{Code.ENDLESS_DATA}[target]", f"{path} has more than {bytes_max} bytes")
                    yield piece
        except httpx.HTTPError as error:
            raise CommandFailed(f"GET {self.server}{path}: {str(error) or type(error).__name__}") from error

    def fetch(self, name: str, sha256: str, bytes_max: int, target: Path | None = None) -> int:
        """Download an artifact, into a file where one is named; return its length. Broken when it is another one."""
        digest, size_bytes = hashlib.sha256(), 0
        try:
            with (target or Path(os.devnull)).open("wb") as file:
                for piece in self.pieces(f"/artifacts/sha256/{sha256}", bytes_max):
                    digest.update(piece)
                    size_bytes += file.write(piece)
        except tuf_errors.DownloadHTTPError as error:
            raise Broken(f"{Code.HTTP}[target]", f"{name}: {error}") from error
        if digest.hexdigest() != sha256:
            detail = f"{name} has {size_bytes} bytes and the sha256 {digest.hexdigest()}; signed is {sha256}"
            raise Broken(f"{Code.HASH_MISMATCH}[target]", detail)
        return size_bytes


class ImageRepositoryView:
    """The image repository as it was when it was refreshed, verified from a trusted root."""

    def __init__(self, files: PublicFiles, root: TrustedRoot, folder: Path) -> None:
        """Follow the root and read the newest signed state, with `folder` for what is fetched; Broken where none is."""
        self._folder = folder
        self._updater: Updater = _checked(lambda: self._opened(files, root.content))
        _checked(self._updater.refresh)

    def _opened(self, files: PublicFiles, root: bytes) -> Updater:
        return Updater(
            str(self._folder),
            f"{files.server}/tuf/metadata/",
            str(self._folder),
            f"{files.server}/tuf/targets/",
            fetcher=_Fetcher(files),
            config=UpdaterConfig(targets_max_length=2**20, snapshot_max_length=2**19, max_delegations=8),
            bootstrap=root,
        )

    def manifest(self, model: str, version: int, variant: str) -> SignedManifest:
        """Return the signed manifest, the released one where there is one; Broken where there is none."""
        for channel in CHANNELS:
            path = target_path(model, version, variant, channel)
            target = _checked(lambda path=path: self._updater.get_targetinfo(path))
            if target is not None:
                break
        else:
            raise Broken(Code.NOT_IN_IMAGE_REPO, f"the image repository signs no {path}")
        if target.length > MANIFEST_BYTES_MAX:
            raise Broken(f"{Code.ENDLESS_DATA}[manifest]", f"{path} has {target.length} bytes")
        file = str(self._folder / "manifest.json")
        raw = Path(_checked(lambda: self._updater.download_target(target, file))).read_bytes()
        try:
            manifest = parse_manifest(raw)
        except ProtocolError as error:
            raise Broken(error.label, str(error)) from error
        if (manifest.model, manifest.version, manifest.variant) != (model, version, variant):
            named = f"{manifest.model} version {manifest.version}, {manifest.variant}"
            raise Broken(f"{Code.WRONG_SLOT}[manifest]", f"the manifest at {path} is that of {named}")
        return SignedManifest(manifest, hashlib.sha256(raw).hexdigest(), path)


class _Fetcher(FetcherInterface):
    def __init__(self, files: PublicFiles) -> None:
        self._files = files

    def _fetch(self, url: str) -> Iterator[bytes]:
        # The library stops at the length that each file may have.
        pieces = self._files.pieces(url.removeprefix(self._files.server), 2**30)
        first = next(pieces, b"")
        return _chained(first, pieces)


def _chained(first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from pieces


def _checked(call: Any) -> Any:
    try:
        return call()
    except tuf_errors.DownloadError as error:
        if isinstance(error.__cause__, CommandFailed):
            raise error.__cause__ from None
        raise _broken(error) from error
    except (tuf_errors.RepositoryError, VerificationError, ValueError) as error:
        raise _broken(error) from error


def _broken(error: Exception) -> Broken:
    code = next((code for kind, code in _CODES if isinstance(error, kind)), Code.METADATA)
    return Broken(f"{code}[image]", f"{type(error).__name__}: {error}")
