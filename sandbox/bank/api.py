"""The bank's HTTP face: parses, refuses by field and reason, and answers as well or as badly as a test value asks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import date

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.bank.bank import Answer, Bank, BankError, encode
from sandbox.bank.behaviours import TEST_ROUTING_NUMBER, TEST_VALUES, Reply, describe_behaviour
from sandbox.bank.requests import PaymentOrder, field_errors

BODY_BYTES_MAX = 64 * 1024
LIST_LIMIT_DEFAULT = 100
LIST_LIMIT_MAX = 1000
SILENCE_SECONDS = 30


class Api:
    def __init__(self, bank: Bank, hang_up: Callable[[Request], None]) -> None:
        self._bank = bank
        self._hang_up = hang_up

    def application(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/payments", self.create, methods=["POST"]),
                Route("/v1/payments", self.list, methods=["GET"]),
                Route("/v1/payments/{payment_id}", self.get, methods=["GET"]),
                Route("/v1/payments/{payment_id}/cancel", self.cancel, methods=["POST"]),
                Route("/v1/statement", self.statement, methods=["GET"]),
                Route("/v1/test-values", self.test_values, methods=["GET"]),
                Route("/healthz", self.health, methods=["GET"]),
            ],
            exception_handlers={BankError: _answer_refusal, HTTPException: _http_refused},
        )

    async def create(self, request: Request) -> Response:
        key = _idempotency_key(request)
        order = _parse_order(await _read_body(request))
        return await self._send(request, self._bank.create(key, order))

    async def _send(self, request: Request, answer: Answer) -> Response:
        if answer.reply is Reply.ERROR_AFTER_EFFECT:
            return _json({"code": "internal", "message": "something went wrong", "errors": []}, 500)
        if answer.reply is Reply.JUNK_AFTER_EFFECT:
            return Response(b"<html>It works!", 201, media_type="application/json")
        if answer.reply is Reply.WRONG_AMOUNT:
            payment = json.loads(answer.body)
            return _json(payment | {"amount_minor": payment["amount_minor"] + 1}, answer.status)
        if answer.reply is Reply.SILENCE_AFTER_EFFECT:
            await asyncio.sleep(SILENCE_SECONDS)
            self._hang_up(request)
        headers = {"Idempotent-Replayed": "true"} if answer.replayed else {}
        return Response(answer.body, answer.status, headers, media_type="application/json")

    async def get(self, request: Request) -> Response:
        return _json(self._bank.get(request.path_params["payment_id"]))

    async def list(self, request: Request) -> Response:
        limit = request.query_params.get("limit", str(LIST_LIMIT_DEFAULT))
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:6]) <= LIST_LIMIT_MAX):
            raise _invalid("limit", f"must be a whole number from 1 to {LIST_LIMIT_MAX}")
        return _json(self._bank.list(request.query_params.get("reference"), int(limit)))

    async def cancel(self, request: Request) -> Response:
        return _json(self._bank.cancel(request.path_params["payment_id"]))

    async def statement(self, request: Request) -> Response:
        first_day, last_day = _parse_day(request, "from"), _parse_day(request, "to")
        if last_day < first_day:
            raise _invalid("to", "must not be before `from`")
        return _json(self._bank.statement(first_day, last_day))

    async def test_values(self, request: Request) -> Response:
        return _json(
            {"routing_number": TEST_ROUTING_NUMBER, "data": [describe_behaviour(value) for value in TEST_VALUES]}
        )

    async def health(self, request: Request) -> Response:
        return _json({"status": "ok"})


def _json(value: object, status: int = 200) -> Response:
    return Response(encode(value), status, media_type="application/json")


def _invalid(field: str, message: str) -> BankError:
    return BankError(400, "invalid_request", "the request is not valid", errors=({"field": field, "message": message},))


async def _answer_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, BankError)
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after else {}
    return Response(error.body(), error.status, headers, media_type="application/json")


async def _http_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    return _json({"code": code, "message": error.detail, "errors": []}, error.status_code)


def _idempotency_key(request: Request) -> str:
    key = request.headers.get("Idempotency-Key", "")
    if not (1 <= len(key) <= 255 and key.isascii() and key.isprintable()):
        raise _invalid("Idempotency-Key", "the header must have 1 to 255 printable ASCII characters")
    return key


async def _read_body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise BankError(413, "too_large", f"the body may have {BODY_BYTES_MAX} bytes")
    return body


def _parse_order(body: bytes) -> PaymentOrder:
    try:
        return PaymentOrder.model_validate_json(body)
    except ValidationError as error:
        raise BankError(400, "invalid_request", "the request is not valid", errors=tuple(field_errors(error))) from None


def _parse_day(request: Request, name: str) -> date:
    try:
        return date.fromisoformat(request.query_params[name])
    except (KeyError, ValueError):
        raise _invalid(name, "must be a date, YYYY-MM-DD") from None
