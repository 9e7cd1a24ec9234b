"""A device's view of an image repository: python-tuf's own client on the published files, without HTTP."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import Updater
from tuf.ngclient.fetcher import FetcherInterface


class DirectoryFetcher(FetcherInterface):
    """Serves `https://repository.test/...` from a directory, 404 for what is not there."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.fetched: list[str] = []

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = url.removeprefix("https://repository.test/")
        self.fetched.append(path)
        try:
            return iter([(self._directory / path).read_bytes()])
        except FileNotFoundError as error:
            raise DownloadHTTPError(f"no {path}", 404) from error


class ImageClient:
    """A device that keeps what it has verified in `state`, and trusts the first root of the repository."""

    def __init__(self, repository: Path, state: Path) -> None:
        self._state = state
        self._state.mkdir()
        self._root = (repository / "metadata" / "1.root.json").read_bytes()
        self._repository = repository

    def download(self, path: str, now: datetime) -> bytes | None:
        """Refresh and return the verified target, None where the repository does not list it."""
        updater = self.refreshed(now)
        target = updater.get_targetinfo(path)
        if target is None:
            return None
        return Path(updater.download_target(target, str(self._state / "downloaded"))).read_bytes()

    def refreshed(self, now: datetime) -> Updater:
        """Return an updater that has followed the repository to its present state."""
        updater = Updater(
            str(self._state),
            "https://repository.test/metadata/",
            str(self._state),
            "https://repository.test/targets/",
            fetcher=DirectoryFetcher(self._repository),
            bootstrap=self._root,
        )
        updater._trusted_set.reference_time = now
        updater.refresh()
        return updater
