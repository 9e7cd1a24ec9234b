"""Files in memory, served over real HTTP: what a signer's machine sees of a controller, changed at will."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class StaticFiles:
    """Bytes by their path, such as `/tuf/metadata/timestamp.json`; everything else is not found."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)


@contextmanager
def static_files() -> Iterator[StaticFiles]:
    """Serve on a free loopback port."""
    served = StaticFiles()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            moved = served.redirects.get(self.path)
            content = served.files.get(self.path, b"")
            self.send_response(302 if moved else 200 if self.path in served.files else 404)
            if moved:
                self.send_header("Location", moved)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_words: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
