"""A stand-in of the outer world as a process of its own, for tests of what talks to it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
WEBHOOK_SECRET = "the-secret-of-these-tests"


def find_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


class WebhookReceiver:
    """What a stand-in sends, each body with its proof.

    Args:
        header: The one that has the proof.
    """

    def __init__(self, header: str) -> None:
        self.received: list[tuple[bytes, str]] = []
        kept = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                kept.append((body, self.headers[header]))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@contextmanager
def receive_webhooks(header: str) -> Iterator[WebhookReceiver]:
    receiver = WebhookReceiver(header)
    yield receiver
    receiver.server.shutdown()


@contextmanager
def run_stand_in(module: str, port: int, environment: Mapping[str, str]) -> Iterator[str]:
    """Its URL, while it runs."""
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen([sys.executable, "-m", module], cwd=ROOT, env=os.environ | dict(environment))
    try:
        _wait_until_up(process, url)
        yield url
    finally:
        process.kill()
        process.wait(10)


def _wait_until_up(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None, "it died at start"
        assert time.monotonic() < deadline, "it did not start in time"
        try:
            if httpx.get(f"{url}/healthz", trust_env=False, verify=False, timeout=2).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.05)
