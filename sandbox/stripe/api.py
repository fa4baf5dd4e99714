"""The stand-in's HTTP face: Stripe's paths, forms and errors, and the page on which a holder confirms an account."""

from __future__ import annotations

import hmac
import html
import re
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from sandbox.stripe.answers import Answer, Answers, StripeRefusal, encode
from sandbox.stripe.behaviours import BEHAVIOURS, DESCRIPTOR_CODE, ROUTING_NUMBER
from sandbox.stripe.desk import Desk
from sandbox.stripe.forms import parse_form

BODY_BYTES_MAX = 64 * 1024
_TERM = re.compile(r"""(?:metadata\['(?P<name>\w+)'\]|(?P<field>status)):'(?P<value>[^']*)'""")


class Api:
    def __init__(self, desk: Desk, answers: Answers, api_key: str) -> None:
        self._desk = desk
        self._answers = answers
        self._api_key = api_key

    def application(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/customers", self.create_customer, methods=["POST"]),
                Route("/v1/payment_methods", self.create_method, methods=["POST"]),
                Route("/v1/charges", self.list_charges, methods=["GET"]),
                Route("/v1/payment_intents", self.create_intent, methods=["POST"]),
                Route("/v1/payment_intents/search", self.search_intents, methods=["GET"]),
                Route("/v1/payment_intents/{intent_id}", self.get_intent, methods=["GET"]),
                Route("/v1/payment_intents/{intent_id}/verify_microdeposits", self.verify, methods=["POST"]),
                Route("/v1/payment_intents/{intent_id}/cancel", self.cancel, methods=["POST"]),
                Route("/v1/disputes", self.list_disputes, methods=["GET"]),
                Route("/v1/events", self.list_events, methods=["GET"]),
                Route("/microdeposits/{intent_id}", self.confirm_page, methods=["GET", "POST"]),
                Route("/test-values", self.test_values, methods=["GET"]),
                Route("/healthz", self.health, methods=["GET"]),
            ],
            exception_handlers={StripeRefusal: _answer_refusal},
        )

    async def create_customer(self, request: Request) -> Response:
        form = await self._read(request)
        return self._once(request, form, lambda: self._desk.create_customer(form))

    async def create_method(self, request: Request) -> Response:
        form = await self._read(request)
        return self._once(request, form, lambda: self._desk.create_method(form))

    async def create_intent(self, request: Request) -> Response:
        form = await self._read(request)
        return self._once(request, form, lambda: self._desk.create_intent(form))

    async def verify(self, request: Request) -> Response:
        form = await self._read(request)
        return self._once(request, form, lambda: self._desk.verify(request.path_params["intent_id"], form))

    async def cancel(self, request: Request) -> Response:
        form = await self._read(request)
        return self._once(request, form, lambda: self._desk.cancel(request.path_params["intent_id"]))

    async def get_intent(self, request: Request) -> Response:
        form = await self._read(request)
        intent = self._desk.require(request.path_params["intent_id"], "payment_intent")
        return _json(self._desk.show(intent, form.get("expand", [])))

    async def search_intents(self, request: Request) -> Response:
        form = await self._read(request)
        terms = {}
        for text in form.get("query", "").split(" AND "):
            term = _TERM.fullmatch(text.strip())
            if term is None:
                raise StripeRefusal(400, "invalid_request_error", "The query is not understood.", param="query")
            terms[f"metadata.{term['name']}" if term["name"] else term["field"]] = term["value"]
        expand = [each.removeprefix("data.") for each in form.get("expand", [])]
        found = [self._desk.show(each, expand) for each in self._desk.search_intents(terms)]
        return _json({"object": "search_result", "url": request.url.path, "has_more": False, "data": found})

    async def list_charges(self, request: Request) -> Response:
        form = await self._read(request)
        found = self._desk.list_charges(form.get("payment_intent"))
        return _json({"object": "list", "url": request.url.path, "has_more": False, "data": found})

    async def list_disputes(self, request: Request) -> Response:
        form = await self._read(request)
        found = self._desk.list_disputes(form.get("charge"))
        return _json({"object": "list", "url": request.url.path, "has_more": False, "data": found})

    async def list_events(self, request: Request) -> Response:
        form = await self._read(request)
        limit = int(form.get("limit", 10))
        newer_than, older_than = form.get("ending_before"), form.get("starting_after")
        found, has_more = self._desk.list_events(form.get("types", []), newer_than, older_than, limit)
        return _json({"object": "list", "url": request.url.path, "has_more": has_more, "data": found})

    async def confirm_page(self, request: Request) -> Response:
        """Where the holder says what was deposited."""
        intent_id = request.path_params["intent_id"]
        said = "Which code stands beside the deposit on your statement?"
        if request.method == "POST":
            form = parse_form((await request.body()).decode("utf-8", "replace"))
            answer = self._answers.give_once("", request.url.path, form, lambda: self._desk.verify(intent_id, form))
            said = "Thank you: the account is yours." if answer.status == 200 else "That is not what was deposited."
        page = (
            "<!doctype html><title>Confirm your bank account</title><form method=post>"
            f"<p>{html.escape(said)}<p><input name=descriptor_code placeholder={DESCRIPTOR_CODE}>"
            " <button>Confirm</button>"
        )
        return HTMLResponse(page)

    async def test_values(self, request: Request) -> Response:
        values = [{"account_number": number, "says": each.says} for number, each in BEHAVIOURS.items()]
        return _json({"routing_number": ROUTING_NUMBER, "descriptor_code": DESCRIPTOR_CODE, "data": values})

    async def health(self, request: Request) -> Response:
        return _json({"status": "ok"})

    async def _read(self, request: Request) -> dict[str, Any]:
        """The parameters, of who has the key."""
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self._api_key.encode()):
            raise StripeRefusal(401, "invalid_request_error", "Invalid API Key provided.")
        if request.method == "GET":
            return parse_form(request.url.query)
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_BYTES_MAX:
                raise StripeRefusal(413, "invalid_request_error", "The body is too long.")
        return parse_form(body.decode("utf-8", "replace"))

    def _once(self, request: Request, form: dict[str, Any], run: Any) -> Response:
        key = request.headers.get("Idempotency-Key", "")
        answer: Answer = self._answers.give_once(key, request.url.path, form, run)
        headers = {"Idempotent-Replayed": "true"} if answer.replayed else {}
        return Response(answer.body, answer.status, headers, media_type="application/json")


def _json(value: object) -> Response:
    return Response(encode(value), media_type="application/json")


async def _answer_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, StripeRefusal)
    return Response(error.body(), error.status, media_type="application/json")
