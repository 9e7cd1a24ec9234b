"""The REST API as the commands use it: JSON in, JSON out, every refusal raised as `Refused`."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx
from rich.console import Console

from controller.cli.errors import CommandFailed, ExitCode, Refused

Json = dict[str, Any]

CUSTODY_HEADER = "Edgefleet-Custody"
"""What the controller says of itself where one person holds every key."""
CHUNK_BYTES = 256 * 1024
PAGE_SIZE = 500
TIMEOUT = httpx.Timeout(75.0, connect=5.0)
"""The longest answer is that to an upload, which is inspected meanwhile (inspection_timeout_s)."""


def path_of(*parts: object) -> str:
    """Join path segments, each quoted: a name with a slash never reaches another resource."""
    return "".join(f"/{quote(str(part), safe='')}" for part in parts)


class Client:
    """One controller, spoken to with the operator's token. Use it as a context manager."""

    def __init__(self, server: str, token: str | None, *, transport: httpx.BaseTransport | None = None) -> None:
        """Take the controller's address, the token, and for tests a transport that needs no network."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.server = server.rstrip("/")
        self.token = token
        self._has_told = False
        self._http = httpx.Client(
            base_url=f"{self.server}/api/v1", headers=headers, timeout=TIMEOUT, transport=transport
        )

    def __enter__(self) -> Self:
        """Keep the connections for the whole command."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, **query: object) -> Json:
        """Return one document."""
        return self._call("GET", path, query=query)

    def items(self, path: str, **query: object) -> Json:
        """Return a whole list as one document, however many pages it has."""
        found: list[Json] = []
        page = self.get(path, page_size=PAGE_SIZE, **query)
        found.extend(page["items"])
        while page.get("next_page_token"):
            page = self.get(path, page_size=PAGE_SIZE, page_token=page["next_page_token"], **query)
            found.extend(page["items"])
        return {**page, "items": found}

    def text(self, path: str, **query: object) -> str:
        """Return what is not JSON, such as a page to be kept."""
        response = self._respond("GET", path, query=query)
        if not response.is_success:
            _document(response)
        return response.text

    def post(self, path: str, body: Json | None = None, **query: object) -> Json:
        """Create something, or act on it."""
        return self._call("POST", path, query=query, json=body)

    def put(self, path: str, body: Json) -> Json:
        """Set something."""
        return self._call("PUT", path, json=body)

    def delete(self, path: str, **query: object) -> Json:
        """Remove something."""
        return self._call("DELETE", path, query=query)

    def upload(self, file: Path, progress: Callable[[int], object] = lambda _: None) -> Json:
        """Stream a file to the artifact store, telling `progress` how many bytes each chunk had."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(file.stat().st_size)}

        def chunks() -> Iterator[bytes]:
            with file.open("rb") as source:
                while chunk := source.read(CHUNK_BYTES):
                    yield chunk
                    progress(len(chunk))

        return self._call("POST", "/uploads", content=chunks(), headers=headers)

    def _call(self, method: str, path: str, **request: Any) -> Json:
        return _document(self._respond(method, path, **request))

    def _respond(
        self, method: str, path: str, *, query: dict[str, object] | None = None, **request: Any
    ) -> httpx.Response:
        params = {key: str(value) for key, value in (query or {}).items() if value is not None}
        try:
            response = self._http.request(method, path, params=params, **request)
        except httpx.ConnectError as error:
            raise CommandFailed(
                f"nothing answers at {self.server} ({error}); start it with `edgefleet server start`, or name "
                "another with --server or EDGEFLEET_SERVER"
            ) from error
        except httpx.HTTPError as error:
            raise CommandFailed(f"{method} {self.server}{path}: {str(error) or type(error).__name__}") from error
        self._tell_custody(response.headers.get(CUSTODY_HEADER))
        return response

    def _tell_custody(self, custody: str | None) -> None:
        """Say once a command, to people alone, that one person decides here."""
        if custody and not self._has_told and sys.stderr.isatty():
            self._has_told = True
            Console(stderr=True, highlight=False).print(f"{custody} installation: edgefleet key doctor", style="dim")


def _document(response: httpx.Response) -> Json:
    try:
        document = response.json() if response.content else {}
    except ValueError:
        document = {}
    if response.is_success and isinstance(document, dict):
        return document
    if response.is_success:
        raise CommandFailed(
            f"{response.url} answered something else than a JSON object; is this an edgefleet controller?"
        )
    refused = Refused(response.status_code, document if isinstance(document, dict) else {})
    if refused.exit_code is ExitCode.NOT_ALLOWED:
        refused.args = (f"{refused} (the token comes from --token-file, EDGEFLEET_TOKEN or .edgefleet/operator.token)",)
    raise refused
