"""What the gateway answers by itself: its description, its documentation, its health."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from gateway.app import Gateway
from gateway.problems import Problem
from gateway.routing import Template
from gateway.upstream import Upstream
from services.chassis.process.health import Alarms, tell_alarms


class Pages:
    """Serves them; `stop` set means that this process is about to end, and `alarms` what waits for a person in it."""

    def __init__(self, openapi: dict[str, Any], upstream: Upstream, stop: asyncio.Event, alarms: Alarms) -> None:
        self._openapi = orjson.dumps(openapi)
        self._docs = (files("gateway") / "docs.html").read_text(encoding="utf-8")
        self._upstream = upstream
        self._stop = stop
        self._alarms = alarms

    def add_to(self, gateway: Gateway) -> None:
        for path, endpoint in {
            "/openapi.json": self.openapi,
            "/docs": self.docs,
            "/readyz": self.readyz,
        }.items():
            gateway.add("GET", Template(path), endpoint)
        # Else who restarts what is not healthy would end the requests of all that are under way.
        gateway.add("GET", Template("/healthz"), self.healthz, always=True)

    async def openapi(self, request: Request, values: Sequence[str]) -> Response:
        return Response(self._openapi, media_type="application/json")

    async def docs(self, request: Request, values: Sequence[str]) -> Response:
        nonce = secrets.token_urlsafe(18)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        page = self._docs.replace("{{nonce}}", nonce)
        return Response(page, headers={"Content-Security-Policy": policy}, media_type="text/html")

    async def healthz(self, request: Request, values: Sequence[str]) -> Response:
        """This process runs."""
        return Response(b'{"status":"ok"}', media_type="application/json")

    async def readyz(self, request: Request, values: Sequence[str]) -> Response:
        """Requests can be served: every service says that it is ready, and this process is not about to end.

        What waits for a person is listed, and keeps nobody from being served.
        """
        health = await self._upstream.health()
        alarms = {"gateway": tell_alarms(self._alarms)} | {area: found.alarms for area, found in health.items()}
        away = [area for area, found in health.items() if not found.ready]
        if self._stop.is_set() or away:
            detail = f"Not ready: {', '.join(away)}." if away else "Not ready: shutting down."
            raise Problem(503, "UNAVAILABLE", detail, headers={"Retry-After": "1"})
        answer = {
            "status": "ok",
            "services": {area: found.ready for area, found in health.items()},
            "alarms": {area: told for area, told in alarms.items() if told},
        }
        return Response(orjson.dumps(answer), media_type="application/json")
