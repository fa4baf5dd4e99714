"""Somebody who answers in the place of a provider."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class Stranger:
    """Answers all that is asked with the same.

    Args:
        asked: The paths.
        bodies: What is answered instead where a path has this in it.
    """

    status: int
    body: bytes
    url: str = ""
    asked: list[str] = field(default_factory=list)
    bodies: dict[str, bytes] = field(default_factory=dict)

    def find_body(self, path: str) -> bytes:
        return next((body for part, body in self.bodies.items() if part in path), self.body)


@contextmanager
def answering(status: int, body: bytes) -> Iterator[Stranger]:
    stranger = Stranger(status, body)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # an answer in one piece is not waited for

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            stranger.asked.append(self.path)
            body = stranger.find_body(self.path)
            self.send_response(stranger.status)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, daemon=True).start()
        stranger.url = f"http://127.0.0.1:{server.server_port}"
        yield stranger
        server.shutdown()
