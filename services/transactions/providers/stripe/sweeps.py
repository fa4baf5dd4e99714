"""What Stripe pays to the custodian's bank account, or draws from there: its payouts, and of what each consists.

Only of an automatic payout Stripe says which movements of its balance (balance transactions) are in it, and the payout
itself is one of those. What each is about is read from its source; a card's payment is known here by its page, so
Stripe is asked for the page on which it was paid. What Stripe says of amounts and ids is believed only where it can be.

Source: docs.stripe.com/payouts/reconciliation, docs.stripe.com/api/payouts/object,
docs.stripe.com/reports/balance-transaction-types.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from services.chassis.process.telemetry import log
from services.chassis.values.money import Money
from services.chassis.values.text import read_text
from services.transactions.domain.sweeps import (
    AMOUNT_MAX,
    LineKind,
    ProviderLine,
    ProviderSweep,
    SweepList,
    SweepStatus,
)
from services.transactions.providers.pages import Page, list_all
from services.transactions.providers.protocols import NOT_READ, TEXT_CHARACTERS_MAX, OutcomeUnknown, ask_provider
from services.transactions.providers.stripe.client import LIST_LIMIT, StripeApi, read_list

# More than a platform has that is larger than most.
_PAGES_MAX: Final = 200
_WORD = re.compile(r"[a-z0-9_]{1,64}")
_STATUSES: Final[Mapping[str, SweepStatus]] = MappingProxyType(
    {
        "pending": SweepStatus.PENDING,
        "in_transit": SweepStatus.PENDING,
        "paid": SweepStatus.SETTLED,
        "failed": SweepStatus.FAILED,
        "canceled": SweepStatus.FAILED,
    }
)
_KINDS: Final[Mapping[str, LineKind]] = MappingProxyType(
    {
        "charge": LineKind.PAYMENT,
        "payment": LineKind.PAYMENT,
        "payment_failure_refund": LineKind.RETURN,
        **dict.fromkeys(("refund", "payment_refund", "refund_failure"), LineKind.REFUND),
        **dict.fromkeys(("stripe_fee", "stripe_fx_fee", "tax_fee", "network_cost"), LineKind.FEE),
        **dict.fromkeys(("payout_failure", "payout_cancel"), LineKind.FAILED_SWEEP),
    }
)
_DEBIT: Final = "us_bank_account"


class StripeSweeps:
    """
    Args:
        timeout_seconds: Of one page of what is asked for.
    """

    def __init__(self, api: StripeApi, *, timeout_seconds: float = 6) -> None:
        self.feed = api.mode
        self._api = api
        self._timeout_seconds = timeout_seconds

    async def list_sweeps(self, since: datetime) -> SweepList:
        asked = {"created": {"gte": int(since.timestamp())}}
        found, sweeps, unread_ids = await self._list_all(self._api.v1.payouts.list_async, asked), [], []
        for payout_id, payout in found.items():
            try:
                sweeps.append(_read_sweep(payout, is_live=self._api.is_live))
            except NOT_READ:
                log.warning("sweep_not_read", provider="stripe", sweep_id=payout_id, cause="its answer cannot be read")
                unread_ids.append(payout_id)
        return SweepList(sweeps, unread_ids)

    async def list_lines(self, sweep: ProviderSweep) -> list[ProviderLine]:
        asked = {"payout": sweep.sweep_id, "expand": ["data.source"]}
        moved = await self._list_all(self._api.v1.balance_transactions.list_async, asked)
        lines: list[ProviderLine] = []
        pages: dict[str, str] = {}  # on which a card's payments were made, by their ids
        for movement_id, movement in moved.items():
            try:
                if movement["type"] == "payout" and _find_id(movement["source"]) == sweep.sweep_id:
                    lines += _read_itself(movement_id, movement, sweep)
                    continue
                intent_id = _find_intent_id(movement)
                if intent_id and intent_id not in pages and not _is_debit(movement):
                    pages[intent_id] = await self._ask_for_page(intent_id)
                lines.append(_read_line(movement_id, movement, sweep, pages.get(intent_id, "")))
            except NOT_READ:
                raise OutcomeUnknown(f"a movement of it cannot be read: {movement_id}") from None
        return lines

    async def _list_all(self, ask: Callable[[Any], Awaitable[Any]], asked: Mapping[str, Any]) -> dict[str, Any]:
        """Each of a list by its id. Raises: OutcomeUnknown: it cannot be read, or has no end."""

        async def ask_behind(found: Mapping[str, Any]) -> Page:
            behind = {"starting_after": list(found)[-1]} if found else {}
            wanted = {**asked, **behind, "limit": LIST_LIMIT}
            return await ask_provider(self._read_page(ask(wanted)), self._timeout_seconds)

        return await list_all(ask_behind, pages_max=_PAGES_MAX)

    async def _read_page(self, asked: Awaitable[Any]) -> Page:
        answer = await self._api.call(asked)
        found = {read_text(each["id"], TEXT_CHARACTERS_MAX): each for each in read_list(answer)}
        return Page(found, answer.get("has_more") not in (None, False))

    async def _ask_for_page(self, intent_id: str) -> str:
        """The id of the page on which it was paid; empty where it was on none. Raises: OutcomeUnknown."""
        sessions: Any = self._api.v1.checkout.sessions
        asked: Any = {"payment_intent": intent_id, "limit": 1}
        page = await ask_provider(self._read_page(sessions.list_async(asked)), self._timeout_seconds)
        return next(iter(page.found), "")


def _read_sweep(payout: Mapping[str, Any], *, is_live: bool) -> ProviderSweep:
    """Raises: KeyError, TypeError, ValueError and the like: it is not what Stripe calls one."""
    if payout["livemode"] is not is_live:
        raise ValueError("of test payments where money is real, or the other way round")
    status, why = _STATUSES[payout["status"]], payout.get("failure_code") or ""
    return ProviderSweep(
        sweep_id=read_text(payout["id"], TEXT_CHARACTERS_MAX),
        status=status,
        amount=Money(_read_minor(payout["amount"]), payout["currency"].upper()),
        arrives_at=_read_time(payout["arrival_date"]).replace(hour=0, minute=0, second=0),
        made_at=_read_time(payout["created"]),
        destination=read_text(_find_id(payout["destination"]), TEXT_CHARACTERS_MAX, empty=True),
        is_listed=payout["automatic"] is True and payout.get("reconciliation_status") == "completed",
        failure_code=_read_word(why or "canceled") if status is SweepStatus.FAILED else "",
    )


def _read_line(movement_id: str, movement: Mapping[str, Any], sweep: ProviderSweep, page_id: str) -> ProviderLine:
    """
    Args:
        page_id: On which the payment was made that it is about; empty for none.

    Raises: KeyError, TypeError, ValueError and the like: it is not what Stripe calls one.
    """
    if movement["currency"].upper() != sweep.amount.currency:
        raise ValueError("it is of another currency than the sweep")
    source = movement["source"]
    is_dispute = isinstance(source, dict) and source.get("object") == "dispute"
    kind = LineKind.DISPUTE if is_dispute else _KINDS.get(movement["type"], LineKind.OTHER)
    # A refund that we ordered is a transaction of its own; one that was made there is about the payment.
    refund_id = _find_id(source) if isinstance(source, dict) and source.get("object") == "refund" else ""
    known_as = (refund_id, page_id, _find_intent_id(movement))
    return ProviderLine(
        movement_id=movement_id,
        kind=kind,
        gross_minor=_read_minor(movement["amount"]),
        fee_minor=_read_minor(movement["fee"]),
        net_minor=_read_minor(movement["net"]),
        payment_ids=tuple(read_text(each, TEXT_CHARACTERS_MAX) for each in known_as if each),
        failed_sweep_id=_find_id(source) if kind is LineKind.FAILED_SWEEP else "",
    )


def _read_itself(movement_id: str, movement: Mapping[str, Any], sweep: ProviderSweep) -> list[ProviderLine]:
    """Of the payout, which takes what it brings from the balance, what it costs. Raises: KeyError, ValueError."""
    if _read_minor(movement["amount"]) != -sweep.amount.amount_minor:
        raise ValueError("a payout takes another amount from the balance than it brings")
    fee_minor = _read_minor(movement["fee"])
    return [ProviderLine(movement_id, LineKind.FEE, 0, fee_minor, -fee_minor)] if fee_minor else []


def _find_intent_id(movement: Mapping[str, Any]) -> str:
    """Of the PaymentIntent whose charge, refund or dispute moved it; empty for none."""
    source = movement["source"]
    return _find_id(source.get("payment_intent")) if isinstance(source, dict) else ""


def _is_debit(movement: Mapping[str, Any]) -> bool:
    """Whether its charge says that it is drawn from a bank account, so that there is no page."""
    details = movement["source"].get("payment_method_details")
    return isinstance(details, dict) and details.get("type") == _DEBIT


def _find_id(found: Any) -> str:
    """Of what Stripe shows whole, or by its id alone; empty where there is none."""
    named = found.get("id") if isinstance(found, dict) else found
    return named if isinstance(named, str) else ""


def _read_minor(value: Any) -> int:
    """Raises: ValueError."""
    if type(value) is not int or abs(value) > AMOUNT_MAX:
        raise ValueError("no amount in minor units")
    return value


def _read_time(value: Any) -> datetime:
    """Raises: ValueError and the like."""
    if type(value) is not int:
        raise ValueError("no time")
    return datetime.fromtimestamp(value, UTC)


def _read_word(value: Any) -> str:
    return value if isinstance(value, str) and _WORD.fullmatch(value) else "unknown"
