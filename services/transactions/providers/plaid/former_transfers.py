"""What a former life of our database made at Plaid: transfers that a restored database may know nothing of.

All that Plaid has of that time is listed once, beside whoever waits for it: thousands of transfers take longer than the
lease of a payment. Nothing of it changes any more, so it is kept as long as the process lives.
Source: plaid.com/docs/api/products/transfer/reading-transfers, /transfer/list: newest first.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextvars import Context
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from plaid.model.transfer_list_request import TransferListRequest

from services.transactions.domain.payments import FormerLife
from services.transactions.providers.pages import Page, list_all
from services.transactions.providers.plaid.client import PlaidClient
from services.transactions.providers.protocols import OutcomeUnknown, ask_provider

# How many transfers one answer lists at most, and how many answers there may be: more than a platform makes in weeks.
_LISTED_MAX: Final = 25
_PAGES_MAX: Final = 10_000
# How far Plaid's clock may be from ours.
_CLOCKS_DIFFER: Final = timedelta(days=1)

Transfers = Mapping[str, Sequence[Mapping[str, Any]]]  # by the reference that each says that it has


class _Listing(NamedTuple):
    """What is being listed, or was.

    Args:
        progress: How many transfers there are by now.
    """

    life: FormerLife
    found: asyncio.Task[Transfers]
    progress: list[int]


class FormerTransfers:
    """
    Args:
        answer_seconds: In which one answer comes.
        wait_seconds: For how long somebody waits for all of them.
    """

    def __init__(self, client: PlaidClient, *, answer_seconds: float, wait_seconds: float) -> None:
        self._client = client
        self._answer_seconds, self._wait_seconds = answer_seconds, wait_seconds
        self._listing: _Listing | None = None
        self._wanted_since: datetime | None = None

    def close(self) -> None:
        if self._listing is not None:
            self._listing.found.cancel()

    async def list_transfers(self, reference: str, life: FormerLife) -> Sequence[Mapping[str, Any]]:
        """Those that say that they are of our reference, whoever made them.

        Raises: OutcomeUnknown: Plaid does not say, or has not said all yet.
        """
        listing = self._find_listing(life)
        await asyncio.wait([listing.found], timeout=self._wait_seconds)
        if not listing.found.done() or listing.life.since > life.since:
            raise OutcomeUnknown(f"its transfers of before the restore are still listed: {listing.progress[0]} by now")
        if listing.found.exception() is not None:
            self._listing = None
        return listing.found.result().get(reference, ())

    def _find_listing(self, life: FormerLife) -> _Listing:
        """The one that goes on; or another one where that has ended and does not reach back so far."""
        listing = self._listing
        if listing is None or listing.life.until != life.until:
            self.close()
            return self._begin(life)
        self._wanted_since = min(self._wanted_since or life.since, life.since)
        if listing.found.done() and listing.life.since > self._wanted_since:
            return self._begin(FormerLife(self._wanted_since, life.until))
        return listing

    def _begin(self, life: FormerLife) -> _Listing:
        progress = [0]
        # A context of its own: whoever is first gives it neither a name nor a deadline.
        found = asyncio.get_running_loop().create_task(self._list_all(life, progress), context=Context())
        self._listing, self._wanted_since = _Listing(life, found, progress), life.since
        return self._listing

    async def _list_all(self, life: FormerLife, progress: list[int]) -> Transfers:
        async def ask_behind(listed: Mapping[str, Any]) -> Page:
            progress[0] = len(listed)
            asked = TransferListRequest(
                start_date=min(life.since, life.until) - _CLOCKS_DIFFER,
                end_date=life.until + _CLOCKS_DIFFER,
                count=_LISTED_MAX,
                offset=progress[0],
            )
            return await ask_provider(self._list_page(asked), self._answer_seconds)

        found = defaultdict[str, list[Mapping[str, Any]]](list)
        for each in (await list_all(ask_behind, pages_max=_PAGES_MAX)).values():
            if reference := _read_reference(each):
                found[reference].append(each)
        return found

    async def _list_page(self, asked: TransferListRequest) -> Page:
        answer = await self._client.call(self._client.api.transfer_list, asked)
        listed = answer.get("transfers")
        if not isinstance(listed, list):
            raise OutcomeUnknown("the provider's answer is no list of transfers")
        # One of which nobody can read the id takes no other's place.
        numbered = {f"{asked.offset} {number}": each for number, each in enumerate(listed)}
        by_id = {_read_id(each) or number: each for number, each in numbered.items()}
        return Page(by_id, has_more=bool(answer.get("has_more")))


def _read_id(transfer: Any) -> str:
    return str(transfer.get("id") or "") if isinstance(transfer, dict) else ""


def _read_reference(transfer: Any) -> str:
    metadata = transfer.get("metadata") if isinstance(transfer, dict) else None
    return str(metadata.get("reference") or "") if isinstance(metadata, dict) else ""
