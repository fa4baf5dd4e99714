"""What Plaid says became of transfers, from its list of events: a webhook says only that there are some.

Source: plaid.com/docs/api/products/transfer/reading-transfers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from plaid.model.transfer_event_sync_request import TransferEventSyncRequest

from services.chassis.process.telemetry import log
from services.chassis.values.text import clean_text, read_text
from services.transactions.domain.webhooks import ProviderEvent
from services.transactions.providers.plaid.client import PlaidClient
from services.transactions.providers.protocols import (
    TEXT_CHARACTERS_MAX,
    EventPage,
    OutcomeUnknown,
    ask_provider,
)

EVENTS_MAX: Final = 100


class PlaidEvents:
    """
    Args:
        feed: Whose events they are: other keys have others.
        timeout_seconds: Of all that is asked for one answer.
    """

    def __init__(self, client: PlaidClient, feed: str, *, timeout_seconds: float) -> None:
        self.feed = feed
        self._client = client
        self._timeout_seconds = timeout_seconds

    async def begin(self) -> EventPage:
        return await self.list_oldest()

    async def list_oldest(self) -> EventPage:
        return await self.list_events("0")

    async def list_events(self, after_id: str) -> EventPage:
        """What became of transfers after the event with this number, in its order. Raises: OutcomeUnknown."""
        return await ask_provider(self._list_events(int(after_id)), self._timeout_seconds)

    async def _list_events(self, after_id: int) -> EventPage:
        asked = TransferEventSyncRequest(after_id=after_id, count=EVENTS_MAX)
        answer = await self._client.call(self._client.api.transfer_event_sync, asked)
        events, numbered = answer.get("transfer_events"), {}
        if not isinstance(events, list):
            raise OutcomeUnknown("the provider's answer is no list of events")
        for each in events:
            try:
                numbered[int(each["event_id"])] = each
            except (KeyError, ValueError, TypeError):
                log.warning("event_not_read", event_id="")
        if events and not numbered:
            raise OutcomeUnknown("none of the provider's events has a number")
        later, has_more = sorted(number for number in numbered if number > after_id), bool(answer.get("has_more"))
        told = [event for number in later if (event := _read_event(number, numbered[number])) is not None]
        return EventPage(told, str(later[-1] if later else after_id), has_more and bool(later))


def _read_event(number: int, event: Mapping[str, Any]) -> tuple[ProviderEvent, bytes] | None:
    """Of sweeps, which are about many transfers, it names none: those are only stored. None of what names a transfer
    that cannot be one of ours; of one that can be, whatever else it says is no reason not to look at it.
    """
    try:
        transfer_id = read_text(event.get("transfer_id") or "", TEXT_CHARACTERS_MAX // 2, empty=True)
    except ValueError:
        log.warning("event_not_read", event_id=str(number))
        return None
    kind = clean_text(str(event.get("event_type")), TEXT_CHARACTERS_MAX // 2)
    # Numbers begin anew with other keys; a transfer's id is nobody else's.
    told = ProviderEvent(f"transfer-event:{number}:{transfer_id}", f"transfer.{kind}", transfer_id)
    return told, json.dumps(event, default=str).encode()
