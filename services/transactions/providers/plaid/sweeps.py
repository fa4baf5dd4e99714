"""What Plaid moves between its balance and the custodian's bank account: its sweeps, and of what each consists.

Those are events of transfers that name the sweep: of what was swept, and of what was taken back of it when a transfer
came back. They add up to the sweep. Of a sweep that somebody ordered there (a withdrawal of Plaid's ledger) no event
of a transfer tells.

Source: plaid.com/docs/api/products/transfer/reading-transfers (/transfer/sweep/list, /transfer/event/list),
plaid.com/docs/transfer/reconciling-transfers. An amount is signed as it stands on the custodian's statement.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from types import MappingProxyType
from typing import Any, Final

from plaid.model.transfer_event_list_request import TransferEventListRequest
from plaid.model.transfer_sweep_list_request import TransferSweepListRequest

from services.chassis.process.telemetry import log
from services.chassis.values.money import Money
from services.chassis.values.text import clean_text, read_text
from services.transactions.domain.sweeps import LineKind, ProviderLine, ProviderSweep, SweepList, SweepStatus
from services.transactions.providers.pages import Page, list_all
from services.transactions.providers.plaid.client import PlaidClient
from services.transactions.providers.plaid.states import read_amount
from services.transactions.providers.protocols import NOT_READ, TEXT_CHARACTERS_MAX, OutcomeUnknown, ask_provider

_LISTED_MAX: Final = 25  # as many as one answer has at most
# Of events: more than a day has at a platform that is larger than most.
_PAGES_MAX: Final = 800
_STATUSES: Final[Mapping[str, SweepStatus]] = MappingProxyType(
    {
        **dict.fromkeys(("pending", "posted"), SweepStatus.PENDING),
        **dict.fromkeys(("settled", "funds_available"), SweepStatus.SETTLED),
        **dict.fromkeys(("returned", "failed"), SweepStatus.FAILED),
    }
)
# That a sweep or a transfer went on is no movement of its own (`swept_settled`).
_KINDS: Final[Mapping[str, LineKind]] = MappingProxyType(
    {
        "swept": LineKind.PAYMENT,
        "return_swept": LineKind.RETURN,
        "refund.swept": LineKind.REFUND,
        "refund.return_swept": LineKind.REFUND,
    }
)


class PlaidSweeps:
    """
    Args:
        feed: Whose sweeps they are: other keys have others.
        timeout_seconds: Of one page of what is asked for.
    """

    def __init__(self, client: PlaidClient, feed: str, *, timeout_seconds: float) -> None:
        self.feed = feed
        self._client = client
        self._timeout_seconds = timeout_seconds

    async def list_sweeps(self, since: datetime) -> SweepList:
        """Its answer does not say whether there are more: a page that is not full is the last one."""

        async def ask_behind(found: Mapping[str, Any]) -> Page:
            asked = TransferSweepListRequest(start_date=since, count=_LISTED_MAX, offset=len(found))
            listed = _read_list(await self._ask(self._client.api.transfer_sweep_list, asked), "sweeps")
            by_id = {clean_text(str(each.get("id")), TEXT_CHARACTERS_MAX): each for each in listed}
            return Page(by_id, has_more=len(listed) >= _LISTED_MAX)

        sweeps, unread_ids = [], []
        for sweep_id, sweep in (await list_all(ask_behind, pages_max=_PAGES_MAX)).items():
            try:
                sweeps.append(_read_sweep(sweep))
            except NOT_READ:
                log.warning("sweep_not_read", provider="plaid", sweep_id=sweep_id, cause="its answer cannot be read")
                unread_ids.append(sweep_id)
        return SweepList(sweeps, unread_ids)

    async def list_lines(self, sweep: ProviderSweep) -> list[ProviderLine]:
        async def ask_behind(found: Mapping[str, Any]) -> Page:
            asked = TransferEventListRequest(sweep_id=sweep.sweep_id, count=_LISTED_MAX, offset=len(found))
            answer = await self._ask(self._client.api.transfer_event_list, asked)
            by_number = {str(int(each["event_id"])): each for each in _read_list(answer, "transfer_events")}
            return Page(by_number, has_more=bool(answer.get("has_more")))

        try:
            events = (await list_all(ask_behind, pages_max=_PAGES_MAX)).values()
            of_it = [each for each in events if each["event_type"] in _KINDS and each["sweep_id"] == sweep.sweep_id]
            return [_read_line(each) for each in of_it]
        except NOT_READ:
            raise OutcomeUnknown("an event of it cannot be read") from None

    async def _ask(self, ask: Any, asked: Any) -> dict[str, Any]:
        return await ask_provider(self._client.call(ask, asked), self._timeout_seconds)


def _read_list(answer: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Raises: OutcomeUnknown."""
    found = answer.get(name)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise OutcomeUnknown("the provider's answer is no list")
    return found


def _read_sweep(sweep: Mapping[str, Any]) -> ProviderSweep:
    """Raises: KeyError, TypeError, ValueError and the like: it is not what Plaid calls one."""
    settled, said = sweep.get("settled"), sweep.get("status")
    made_at = sweep["created"]
    if said in (None, "null"):  # one of long ago
        said = "pending" if settled is None else "settled"
    status = _STATUSES[said]
    why = (sweep.get("failure_reason") or {}).get("failure_code") or said
    return ProviderSweep(
        sweep_id=read_text(sweep["id"], TEXT_CHARACTERS_MAX),
        status=status,
        amount=Money(_read_signed(sweep["amount"]), str(sweep["iso_currency_code"])),
        arrives_at=_read_day(settled or sweep.get("expected_funds_available_date") or made_at),
        made_at=made_at.astimezone(UTC),
        destination=read_text(sweep.get("funding_account_id") or "", TEXT_CHARACTERS_MAX, empty=True),
        is_listed=True,
        failure_code=clean_text(str(why), 64) if status is SweepStatus.FAILED else "",
    )


def _read_line(event: Mapping[str, Any]) -> ProviderLine:
    """Raises: KeyError, TypeError, ValueError and the like: it is not what Plaid calls an event of a sweep."""
    amount_minor = _read_signed(event["sweep_amount"])
    return ProviderLine(
        # Numbers begin anew with other keys; a transfer's id is nobody else's.
        movement_id=f"{event['event_id']}:{read_text(event['transfer_id'], TEXT_CHARACTERS_MAX // 2)}",
        kind=_KINDS[event["event_type"]],
        gross_minor=amount_minor,
        fee_minor=0,
        net_minor=amount_minor,
        payment_ids=(event["transfer_id"],),
    )


def _read_signed(text: Any) -> int:
    """In minor units, exactly. Raises: ValueError."""
    if isinstance(text, str) and text.startswith("-"):
        return -read_amount(text[1:])
    return read_amount(text)


def _read_day(found: Any) -> datetime:
    """The midnight in UTC of a day, or of a time's day. Raises: ValueError."""
    if not isinstance(found, date):
        raise ValueError("no day")
    day = found.astimezone(UTC).date() if isinstance(found, datetime) else found
    return datetime.combine(day, time(), UTC)
