"""Plaid's own client, asked from threads: it blocks. What it cannot answer for certain is OutcomeUnknown.

It asks once: whether to ask again is for the job that orders, which looks the payment up first. It follows no
redirection and no proxy of the environment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

import orjson
import plaid
from plaid.api.plaid_api import PlaidApi

from services.chassis.process.telemetry import log
from services.transactions.providers.protocols import OutcomeUnknown

# As many as a job asks at a time. A thread whose answer nobody waits for any more is busy until it comes.
_THREADS: Final = 16
_BUSY_SECONDS: Final = 30
# That the call itself is refused, and so nothing was done; any other error may be of the moment.
# Source: plaid.com/docs/errors.
_REFUSING: Final = frozenset({"INVALID_INPUT", "INVALID_REQUEST", "TRANSFER_ERROR", "ITEM_ERROR"})
_REFUSING_US: Final = frozenset(
    {
        *("INVALID_API_KEYS", "UNAUTHORIZED_ENVIRONMENT", "UNAUTHORIZED_ROUTE_ACCESS", "UNAUTHORIZED_ACCESS"),
        *("INVALID_PRODUCT", "PRODUCT_NOT_ENABLED", "INCOMPLETE_CUSTOMER_ONBOARDING"),
    }
)


class Refused(OutcomeUnknown):
    """Plaid refuses the call. Of an order, and of nothing else, that says that nothing was done."""

    def __init__(self, code: str) -> None:
        super().__init__(f"the provider refuses the call: {code}")
        self.code = code


class PlaidClient:
    """
    Args:
        timeout_seconds: Of one answer.
    """

    def __init__(self, base_url: str, client_id: str, secret: str, timeout_seconds: float) -> None:
        settings = plaid.Configuration(host=base_url, api_key={"clientId": client_id, "secret": secret})
        settings.retries = False
        settings.connection_pool_maxsize = _THREADS
        self.api = PlaidApi(plaid.ApiClient(settings))
        self._timeout_seconds = timeout_seconds
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="plaid")

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def call(self, ask: Callable[..., Any], request: Any) -> dict[str, Any]:
        """What Plaid answers to a method of `api`.

        Raises:
            OutcomeUnknown; as Refused where Plaid says so
        """
        asked = partial(ask, request, _request_timeout=self._timeout_seconds)
        try:
            answer = await asyncio.get_running_loop().run_in_executor(self._threads, asked)
        except plaid.ApiException as error:
            raise _read_error(error) from None
        except Exception as error:  # the line, or an answer that the client cannot read
            raise OutcomeUnknown(f"the provider answered {type(error).__name__}") from None
        return dict(answer.to_dict())


def _read_error(error: plaid.ApiException) -> OutcomeUnknown:
    """Only Plaid's codes are taken of what it says."""
    try:
        body = orjson.loads(error.body)
        kind, code = str(body["error_type"]), str(body["error_code"])
    except (ValueError, KeyError, TypeError):
        kind = code = ""
    if error.status in (401, 403) or code in _REFUSING_US:
        log.error("provider_refuses_us", provider="plaid", cause=code)
        return OutcomeUnknown("the provider refuses our key")
    if error.status in (400, 404) and kind in _REFUSING:
        return Refused(code)
    is_busy = error.status == 429 or kind == "RATE_LIMIT_EXCEEDED"
    return OutcomeUnknown(f"the provider answered {error.status}", retry_after_seconds=_BUSY_SECONDS if is_busy else 0)
