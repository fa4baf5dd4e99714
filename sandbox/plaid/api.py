"""The stand-in's HTTP face: Plaid's paths, all of them POSTs of JSON, and its errors."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.plaid.answers import PlaidRefusal, encode, encode_answer
from sandbox.plaid.behaviours import BEHAVIOURS, ROUTING_NUMBER
from sandbox.plaid.desk import Desk, Work
from sandbox.plaid.holders import HOLDERS
from sandbox.plaid.keys import SigningKey
from sandbox.plaid.link_page import LinkPage
from sandbox.plaid.links import Links
from sandbox.plaid.sweeps import SweepDesk

BODY_BYTES_MAX = 64 * 1024


class Api:
    def __init__(
        self, desk: Desk, sweeps: SweepDesk, links: Links, key: SigningKey, client_id: str, secret: str
    ) -> None:
        self._key = key
        self._page = LinkPage(links)
        self._client_id, self._secret = client_id, secret
        self._works: Mapping[str, Work] = {
            "/transfer/migrate_account": desk.migrate_account,
            "/transfer/authorization/create": desk.authorize,
            "/transfer/authorization/cancel": desk.cancel_authorization,
            "/transfer/create": desk.create_transfer,
            "/transfer/cancel": desk.cancel_transfer,
            "/transfer/get": desk.get_transfer,
            "/transfer/list": desk.list_transfers,
            "/transfer/event/sync": desk.sync_events,
            "/sandbox/transfer/simulate": desk.simulate,
            "/transfer/sweep/list": sweeps.list_sweeps,
            "/transfer/event/list": sweeps.list_events,
            "/sandbox/transfer/sweep/simulate": sweeps.simulate,
            "/sandbox/sweep/fail": sweeps.fail,
            "/link/token/create": links.create_link_token,
            "/sandbox/public_token/create": links.create_public_token,
            "/item/public_token/exchange": links.exchange,
            "/auth/get": links.get_auth,
            "/identity/match": links.match_identity,
            "/item/remove": links.remove_item,
            "/webhook_verification_key/get": self._get_key,
        }

    def application(self) -> Starlette:
        return Starlette(
            routes=[
                *(Route(path, self._answer_with(work), methods=["POST"]) for path, work in self._works.items()),
                Route("/link", self._page.answer, methods=["GET", "POST"]),
                Route("/test-values", self.test_values, methods=["GET"]),
                Route("/healthz", self.health, methods=["GET"]),
            ],
            exception_handlers={PlaidRefusal: _answer_refusal},
        )

    def _answer_with(self, work: Work) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            status, body = work(await self._read(request))
            return Response(body, status, media_type="application/json")

        return answer

    async def test_values(self, request: Request) -> Response:
        values = [{"account_number": number, "says": each.says} for number, each in BEHAVIOURS.items()]
        users = [{"user": name, "says": each.says} for name, each in HOLDERS.items()]
        shown = {"routing_number": ROUTING_NUMBER, "data": values, "users": users}
        return Response(encode(shown), media_type="application/json")

    async def health(self, request: Request) -> Response:
        return Response(encode({"status": "ok"}), media_type="application/json")

    def _get_key(self, asked: Mapping[str, Any]) -> tuple[int, bytes]:
        if asked.get("key_id") != self._key.key_id:
            raise PlaidRefusal(400, "INVALID_INPUT", "INVALID_WEBHOOK_VERIFICATION_KEY_ID", "no such key")
        return 200, encode_answer(key=self._key.show())

    async def _read(self, request: Request) -> Mapping[str, Any]:
        """What is asked, by who has the secret: it stands in the headers or in the body."""
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_BYTES_MAX:
                raise PlaidRefusal(413, "INVALID_REQUEST", "INVALID_BODY", "the body is too long")
        try:
            asked = json.loads(body)
        except ValueError:
            asked = None
        if not isinstance(asked, dict):
            raise PlaidRefusal(400, "INVALID_REQUEST", "INVALID_BODY", "the body is no JSON object")
        given = (
            f"{asked.get('client_id') or request.headers.get('PLAID-CLIENT-ID')}"
            f" {asked.get('secret') or request.headers.get('PLAID-SECRET')}"
        )
        if not hmac.compare_digest(given.encode(), f"{self._client_id} {self._secret}".encode()):
            raise PlaidRefusal(400, "INVALID_INPUT", "INVALID_API_KEYS", "invalid client_id or secret provided")
        return asked


async def _answer_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, PlaidRefusal)
    return Response(error.body(), error.status, media_type="application/json")
