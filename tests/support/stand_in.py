"""A process that stands in for one of ours in tests of the supervisor: `python -m tests.support.stand_in KIND`.

Kinds: `http` answers 200 on its port; `grpc` says SERVING there; `stubborn` is `http` that ignores SIGTERM; `broken`
says why and ends with status 3; `mute` runs and never serves.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Ok(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def serve_http(port: int) -> None:
    threading.Thread(target=ThreadingHTTPServer(("127.0.0.1", port), Ok).serve_forever, daemon=True).start()


def serve_grpc(port: int) -> None:
    from concurrent.futures import ThreadPoolExecutor

    import grpc
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc

    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    server = grpc.server(ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    key, certificate, ca = (Path(os.environ[f"TLS_{name}_FILE"]).read_bytes() for name in ("KEY", "CERTIFICATE", "CA"))
    credentials = grpc.ssl_server_credentials([(key, certificate)], ca, require_client_auth=True)
    server.add_secure_port(f"127.0.0.1:{port}", credentials)
    server.start()


def main(kind: str) -> int:
    if kind == "broken":
        print("the reason it cannot start", file=sys.stderr)
        return 3
    ended = threading.Event()
    signal.signal(signal.SIGTERM, signal.SIG_IGN if kind == "stubborn" else lambda *_: ended.set())
    port = next(int(os.environ[name]) for name in ("PORT", "GRPC_PORT", "SANDBOX_BANK_PORT") if name in os.environ)
    if kind == "grpc":
        serve_grpc(port)
    elif kind != "mute":
        serve_http(port)
    ended.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
