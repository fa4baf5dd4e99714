"""What a caller may do with a resource now: the contract lets it call, and the rules of the book let it happen."""

from __future__ import annotations

from typing import Any

from realco.escrow.v1 import escrow_pb2 as pb
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.access import list_allowed_actions
from services.escrow import store
from services.escrow.domain import account
from services.escrow.domain.account import Status
from services.escrow.domain.refusals import BalancesNotZero

_PACKAGE = pb.DESCRIPTOR.package


async def of_escrow_account(tx: AsyncConnection, row: Any) -> list[str]:
    """The actions for EscrowAccount.allowed_actions, from the account's row."""
    status = Status(row.status)
    allowed = list_allowed_actions(
        _PACKAGE,
        ("update", "EscrowService/UpdateEscrowAccount", True),
        ("freeze", "EscrowService/FreezeEscrowAccount", account.may_move(status, Status.FROZEN)),
        ("unfreeze", "EscrowService/UnfreezeEscrowAccount", status is Status.FROZEN),
        ("close", "EscrowService/CloseEscrowAccount", account.may_move(status, Status.CLOSED)),
        ("post", "EscrowService/PostJournalEntry", account.takes_postings(status)),
        ("hold", "EscrowService/PlaceHold", account.takes_holds(status)),
    )
    if "close" in allowed and not await _is_empty(tx, row):
        allowed.remove("close")
    return allowed


def of_hold(row: Any) -> list[str]:
    """The actions for Hold.allowed_actions, from the hold's row with the status of its escrow account."""
    may_end = row.status == "PLACED" and account.lets_holds_end(Status(row.escrow_account_status))
    return list_allowed_actions(
        _PACKAGE,
        ("capture", "EscrowService/CaptureHold", may_end),
        ("release", "EscrowService/ReleaseHold", may_end),
    )


def of_journal_entry(status: str, *, is_reversed: bool) -> list[str]:
    """The actions for JournalEntry.allowed_actions, in an escrow account of this status."""
    may_reverse = not is_reversed and account.takes_postings(Status(status))
    return list_allowed_actions(_PACKAGE, ("reverse", "EscrowService/PostJournalEntry", may_reverse))


async def _is_empty(tx: AsyncConnection, row: Any) -> bool:
    try:
        account.check_empty(await store.list_balances(tx, row.org_id, row.escrow_account_id))
    except BalancesNotZero:
        return False
    return True
