"""The stand-in's HTTP face: Stripe's paths, forms and errors, and its pages for holders of accounts and of cards."""

from __future__ import annotations

import hmac
import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from sandbox.stripe.answers import Answer, Answers, StripeRefusal, encode
from sandbox.stripe.behaviours import BEHAVIOURS, DESCRIPTOR_CODE, ROUTING_NUMBER
from sandbox.stripe.books import Books
from sandbox.stripe.card_desk import CardDesk
from sandbox.stripe.cards import CARDS
from sandbox.stripe.desk import Desk
from sandbox.stripe.forms import parse_form
from sandbox.stripe.payouts import PayoutDesk
from sandbox.stripe.setup_desk import SetupDesk

BODY_BYTES_MAX = 64 * 1024
_TERM = re.compile(r"""(?:metadata\['(?P<name>\w+)'\]|(?P<field>status)):'(?P<value>[^']*)'""")


class Api:
    def __init__(
        self,
        books: Books,
        desk: Desk,
        setups: SetupDesk,
        cards: CardDesk,
        payouts: PayoutDesk,
        answers: Answers,
        api_key: str,
    ) -> None:
        self._books = books
        self._desk = desk
        self._setups = setups
        self._cards = cards
        self._payouts = payouts
        self._answers = answers
        self._api_key = api_key

    def application(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/customers", self.create_customer, methods=["POST"]),
                Route("/v1/customers/search", self.search_customers, methods=["GET"]),
                Route("/v1/checkout/sessions", self.sessions, methods=["GET", "POST"]),
                Route("/v1/checkout/sessions/{session_id}", self.get_session, methods=["GET"]),
                Route("/v1/checkout/sessions/{session_id}/expire", self.expire_session, methods=["POST"]),
                Route("/v1/payment_methods", self.create_method, methods=["POST"]),
                Route("/v1/charges", self.list_charges, methods=["GET"]),
                Route("/v1/payment_intents", self.create_intent, methods=["POST"]),
                Route("/v1/payment_intents/search", self.search_intents, methods=["GET"]),
                Route("/v1/payment_intents/{intent_id}", self.get_intent, methods=["GET"]),
                Route("/v1/payment_intents/{intent_id}/verify_microdeposits", self.verify, methods=["POST"]),
                Route("/v1/payment_intents/{intent_id}/cancel", self.cancel, methods=["POST"]),
                Route("/v1/setup_intents", self.setups, methods=["GET", "POST"]),
                Route("/v1/setup_intents/{setup_id}", self.get_setup, methods=["GET"]),
                Route("/v1/setup_intents/{setup_id}/cancel", self.cancel_setup, methods=["POST"]),
                Route("/v1/mandates/{mandate_id}", self.get_mandate, methods=["GET"]),
                Route("/v1/mandates/{mandate_id}/end", self.end_mandate, methods=["POST"]),
                Route("/v1/refunds", self.refunds, methods=["GET", "POST"]),
                Route("/v1/refunds/{refund_id}", self.get_refund, methods=["GET"]),
                Route("/v1/disputes", self.list_disputes, methods=["GET"]),
                Route("/v1/disputes/{dispute_id}", self.answer_dispute, methods=["POST"]),
                Route("/v1/disputes/{dispute_id}/close", self.close_dispute, methods=["POST"]),
                Route("/v1/payouts", self.payouts, methods=["GET", "POST"]),
                Route("/v1/payouts/now", self.pay_out_now, methods=["POST"]),
                Route("/v1/payouts/{payout_id}/fail", self.fail_payout, methods=["POST"]),
                Route("/v1/balance_transactions", self.movements, methods=["GET", "POST"]),
                Route("/v1/events", self.list_events, methods=["GET"]),
                Route("/pay/{session_id}", self.card_page, methods=["GET", "POST"]),
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
        intent = self._books.require(request.path_params["intent_id"], "payment_intent")
        return _json(self._books.show(intent, form.get("expand", [])))

    async def search_intents(self, request: Request) -> Response:
        return await self._search(request, "payment_intent")

    async def search_customers(self, request: Request) -> Response:
        return await self._search(request, "customer")

    async def sessions(self, request: Request) -> Response:
        form = await self._read(request)
        if request.method == "POST":
            return self._once(request, form, lambda: self._cards.create_session(form))
        wanted = {name: form.get(name) for name in ("customer", "payment_intent")}
        return self._list(request, form, self._books.list_objects("checkout.session", **wanted))

    async def get_session(self, request: Request) -> Response:
        form = await self._read(request)
        session = self._books.require(request.path_params["session_id"], "checkout.session")
        return _json(self._books.show(session, form.get("expand", [])))

    async def expire_session(self, request: Request) -> Response:
        form = await self._read(request)
        return self._once(request, form, lambda: self._cards.expire_session(request.path_params["session_id"]))

    async def list_charges(self, request: Request) -> Response:
        form = await self._read(request)
        return self._list(request, form, self._books.list_objects("charge", payment_intent=form.get("payment_intent")))

    async def list_disputes(self, request: Request) -> Response:
        form = await self._read(request)
        return self._list(request, form, self._books.list_objects("dispute", charge=form.get("charge")))

    async def answer_dispute(self, request: Request) -> Response:
        form = await self._read(request)
        return self._once(request, form, lambda: self._cards.answer_dispute(request.path_params["dispute_id"], form))

    async def close_dispute(self, request: Request) -> Response:
        form = await self._read(request)
        return self._once(request, form, lambda: self._cards.close_dispute(request.path_params["dispute_id"]))

    async def setups(self, request: Request) -> Response:
        form = await self._read(request)
        if request.method == "POST":
            return self._once(request, form, lambda: self._setups.create(form))
        wanted = {name: form.get(name) for name in ("customer", "payment_method")}
        return self._list(request, form, self._books.list_objects("setup_intent", **wanted))

    async def get_setup(self, request: Request) -> Response:
        form = await self._read(request)
        setup = self._books.require(request.path_params["setup_id"], "setup_intent")
        return _json(self._books.show(setup, form.get("expand", [])))

    async def cancel_setup(self, request: Request) -> Response:
        form = await self._read(request)
        return self._once(request, form, lambda: self._setups.cancel(request.path_params["setup_id"]))

    async def get_mandate(self, request: Request) -> Response:
        await self._read(request)
        return _json(self._books.show(self._books.require(request.path_params["mandate_id"], "mandate")))

    async def end_mandate(self, request: Request) -> Response:
        form = await self._read(request)
        return self._once(request, form, lambda: self._setups.end_mandate(request.path_params["mandate_id"]))

    async def refunds(self, request: Request) -> Response:
        form = await self._read(request)
        if request.method == "POST":
            return self._once(request, form, lambda: self._cards.create_refund(form))
        return self._list(request, form, self._books.list_objects("refund", payment_intent=form.get("payment_intent")))

    async def get_refund(self, request: Request) -> Response:
        form = await self._read(request)
        found = self._books.require(request.path_params["refund_id"], "refund")
        return _json(self._books.show(found, form.get("expand", [])))

    async def payouts(self, request: Request) -> Response:
        form = await self._read(request)
        if request.method == "POST":
            return self._once(request, form, lambda: self._payouts.create_manual(form))
        since = int(form.get("created", {}).get("gte", 0))
        found = [each for each in self._books.list_objects("payout") if each["created"] >= since]
        page, has_more = _cut(found, form)
        return _json({"object": "list", "has_more": has_more, "data": list(map(self._books.show, page))})

    async def pay_out_now(self, request: Request) -> Response:
        form = await self._read(request)
        return self._once(request, form, lambda: self._payouts.pay_out_now(form))

    async def fail_payout(self, request: Request) -> Response:
        form = await self._read(request)
        return self._once(request, form, lambda: self._payouts.fail(request.path_params["payout_id"]))

    async def movements(self, request: Request) -> Response:
        form = await self._read(request)
        if request.method == "POST":
            return self._once(request, form, lambda: self._payouts.move(form))
        page, has_more = _cut(self._payouts.list_movements(form.get("payout")), form)
        shown = self._payouts.show_movements(page, form.get("expand", []))
        return _json({"object": "list", "has_more": has_more, "data": shown})

    async def _search(self, request: Request, kind: str) -> Response:
        form = await self._read(request)
        terms = {}
        for text in form.get("query", "").split(" AND "):
            term = _TERM.fullmatch(text.strip())
            if term is None:
                raise StripeRefusal(400, "invalid_request_error", "The query is not understood.", param="query")
            terms[f"metadata.{term['name']}" if term["name"] else term["field"]] = term["value"]
        return self._list(request, form, self._books.search(kind, terms), "search_result")

    def _list(
        self, request: Request, form: dict[str, Any], found: Sequence[dict[str, Any]], kind: str = "list"
    ) -> Response:
        expand = [each.removeprefix("data.") for each in form.get("expand", [])]
        shown = [self._books.show(each, expand) for each in found[: int(form.get("limit", 10))]]
        return _json({"object": kind, "url": request.url.path, "has_more": False, "data": shown})

    async def list_events(self, request: Request) -> Response:
        form = await self._read(request)
        limit = int(form.get("limit", 10))
        newer_than, older_than = form.get("ending_before"), form.get("starting_after")
        found, has_more = self._books.list_events(form.get("types", []), newer_than, older_than, limit)
        return _json({"object": "list", "url": request.url.path, "has_more": has_more, "data": found})

    async def card_page(self, request: Request) -> Response:
        """Where the payer enters a card: one of those for tests, by its name."""
        session_id = request.path_params["session_id"]
        session, said = self._books.require(session_id, "checkout.session"), ""
        if request.method == "POST":
            form = parse_form((await request.body()).decode("utf-8", "replace"))
            try:
                with self._books.transaction():
                    card = self._cards.pay(session_id, form.get("card", ""))
                said = "The card was declined: try another one." if card is None else "Thank you: it is paid."
            except StripeRefusal as refusal:
                said = refusal.error["message"]
        cards = "".join(f"<option value={name}>{each.brand} {each.last4}: {each.says}" for name, each in CARDS.items())
        page = (
            "<!doctype html><title>Pay by card</title><form method=post>"
            f"<p>{html.escape(said) or 'Which card?'}<p>{session['amount_total']} cents of {session['currency']}"
            f"<p><select name=card>{cards}</select> <button>Pay</button></form>"
        )
        return HTMLResponse(page)

    async def confirm_page(self, request: Request) -> Response:
        """Where the holder says what was deposited."""
        intent_id = request.path_params["intent_id"]
        said = "Which code stands beside the deposit on your statement?"
        if request.method == "POST":
            form = parse_form((await request.body()).decode("utf-8", "replace"))
            verify = self._setups.verify if intent_id.startswith("seti_") else self._desk.verify
            answer = self._answers.give_once("", request.url.path, form, lambda: verify(intent_id, form))
            said = "Thank you: the account is yours." if answer.status == 200 else "That is not what was deposited."
        page = (
            "<!doctype html><title>Confirm your bank account</title><form method=post>"
            f"<p>{html.escape(said)}<p><input name=descriptor_code placeholder={DESCRIPTOR_CODE}>"
            " <button>Confirm</button>"
        )
        return HTMLResponse(page)

    async def test_values(self, request: Request) -> Response:
        values = [{"account_number": number, "says": each.says} for number, each in BEHAVIOURS.items()]
        cards = [{"card": name, "says": each.says} for name, each in CARDS.items()]
        codes = {"routing_number": ROUTING_NUMBER, "descriptor_code": DESCRIPTOR_CODE}
        return _json({**codes, "data": values, "cards": cards})

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


def _cut(found: Sequence[dict[str, Any]], form: Mapping[str, Any]) -> tuple[Sequence[dict[str, Any]], bool]:
    """The page that is asked for, and whether there are more."""
    ids, behind, limit = [each["id"] for each in found], form.get("starting_after"), int(form.get("limit", 10))
    first = ids.index(behind) + 1 if behind else 0
    return found[first : first + limit], len(found) > first + limit


def _json(value: object) -> Response:
    return Response(encode(value), media_type="application/json")


async def _answer_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, StripeRefusal)
    return Response(error.body(), error.status, media_type="application/json")
