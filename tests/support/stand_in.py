"""A process that stands in for one of ours in tests of the supervisor: `python -m tests.support.stand_in KIND`.

Kinds: `http` answers 200 on PORT or SANDBOX_BANK_PORT; `grpc` says SERVING on GRPC_PORT; `stubborn` is `http` that
ignores SIGTERM; `broken` says why and ends with status 3; `mute` runs and never serves.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc


class Ok(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def main(kind: str) -> int:
    if kind == "broken":
        print("the reason it cannot start", file=sys.stderr)
        return 3
    ended = threading.Event()
    signal.signal(signal.SIGTERM, signal.SIG_IGN if kind == "stubborn" else lambda *_: ended.set())
    if kind == "grpc":
        server = grpc.server(ThreadPoolExecutor(2))
        servicer = health.HealthServicer()
        servicer.set("", health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        server.add_insecure_port(f"127.0.0.1:{os.environ['GRPC_PORT']}")
        server.start()
    elif kind in ("http", "stubborn"):
        port = int(os.environ.get("PORT") or os.environ["SANDBOX_BANK_PORT"])
        threading.Thread(target=ThreadingHTTPServer(("127.0.0.1", port), Ok).serve_forever, daemon=True).start()
    print(f"{kind} runs", flush=True)
    ended.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
