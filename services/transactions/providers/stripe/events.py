"""What Stripe says became of payments, from its list of events: also what no webhook told.

Stripe keeps events for 30 days, and nobody changes them there. Source: docs.stripe.com/api/events/list.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from services.chassis.process.telemetry import log
from services.transactions.domain.webhooks import ProviderEvent
from services.transactions.providers.protocols import NOT_READ, EventPage, ask_provider
from services.transactions.providers.signatures import read_event
from services.transactions.providers.stripe.client import LIST_LIMIT, NotThere, Refused, StripeApi, read_list
from services.transactions.providers.stripe.webhooks import find_payment_id

# Of those by which a payment, or the verification of an account, goes another way; Stripe takes 20 names.
_TYPES: Final = (
    *("payment_intent.canceled", "payment_intent.payment_failed", "payment_intent.succeeded"),
    *("charge.failed", "charge.refunded", "charge.refund.updated", "charge.dispute.created", "charge.dispute.updated"),
    *("checkout.session.completed", "checkout.session.expired"),
    *("refund.updated", "refund.failed"),
    *("charge.dispute.closed", "charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated"),
    *("setup_intent.succeeded", "setup_intent.setup_failed", "setup_intent.canceled", "mandate.updated"),
)
# As many events as a month has of a platform that is larger than most.
_PAGES_BACK_MAX: Final = 1_000


class StripeEvents:
    def __init__(self, api: StripeApi, *, timeout_seconds: float = 6) -> None:
        self.feed = api.mode
        self._api = api
        self._timeout_seconds = timeout_seconds

    async def begin(self) -> EventPage:
        """With what comes next: what is under way is looked up anyway."""
        found = read_list(await self._ask({"limit": 1}))
        return EventPage([], str(found[0]["id"]) if found else "")

    async def list_oldest(self) -> EventPage:
        """Stripe lists the newest first, so it is gone back through all of them, or through very many."""
        newest_first: list[dict[str, Any]] = []
        for pages in range(_PAGES_BACK_MAX):
            behind = {"starting_after": newest_first[-1]["id"]} if pages else {}
            answer = await self._ask({**behind, "limit": LIST_LIMIT})
            newest_first = read_list(answer) or newest_first
            if answer.get("has_more") is not True:
                break
        return _build_page(newest_first, "", has_more=pages > 0)

    async def list_events(self, after_id: str) -> EventPage:
        try:
            answer = await self._ask({"ending_before": after_id, "limit": LIST_LIMIT})
        except (NotThere, Refused):  # it is older than what Stripe keeps
            return (await self.list_oldest())._replace(is_late=True)
        return _build_page(read_list(answer), after_id, has_more=answer.get("has_more") is True)

    async def _ask(self, params: dict[str, Any]) -> dict[str, Any]:
        listed = self._api.call(self._api.v1.events.list_async({**params, "types": list(_TYPES)}))
        return await ask_provider(listed, self._timeout_seconds)


def _build_page(newest_first: Sequence[dict[str, Any]], after_id: str, *, has_more: bool) -> EventPage:
    last_id = str(newest_first[0]["id"]) if newest_first else after_id
    return EventPage(list(_read_events(reversed(newest_first))), last_id, has_more)


def _read_events(events: Iterable[dict[str, Any]]) -> Iterator[tuple[ProviderEvent, bytes]]:
    for each in events:
        try:
            yield read_event(each, find_payment_id), json.dumps(each, default=str).encode()
        except NOT_READ:  # its payment is looked up, and no other waits for it
            log.warning("event_not_read", event_id=str(each.get("id")))
