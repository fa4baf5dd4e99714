"""What a caller may do with a resource now: the contract lets it call, and the rules of the book let it happen."""

from __future__ import annotations

from functools import cache
from typing import Any

from realco.escrow.v1 import escrow_pb2 as pb
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.access import Rule, rules_of
from services.chassis.calls.auth import current_principal
from services.escrow import store
from services.escrow.domain import account
from services.escrow.domain.account import Status
from services.escrow.domain.refusals import BalancesNotZero


async def of_escrow_account(tx: AsyncConnection, row: Any) -> list[str]:
    """The actions for EscrowAccount.allowed_actions, from the account's row."""
    status = Status(row.status)
    possible = {
        "update": ("UpdateEscrowAccount", True),
        "freeze": ("FreezeEscrowAccount", account.may_move(status, Status.FROZEN)),
        "unfreeze": ("UnfreezeEscrowAccount", status is Status.FROZEN),
        "close": ("CloseEscrowAccount", account.may_move(status, Status.CLOSED)),
        "post": ("PostJournalEntry", account.takes_postings(status)),
        "hold": ("PlaceHold", account.takes_holds(status)),
    }
    allowed = [action for action, (rpc, open_) in possible.items() if open_ and _may_call(rpc)]
    if "close" in allowed and not await _is_empty(tx, row):
        allowed.remove("close")
    return allowed


def of_hold(row: Any) -> list[str]:
    """The actions for Hold.allowed_actions, from the hold's row with the status of its escrow account."""
    if row.status != "PLACED" or not account.lets_holds_end(Status(row.escrow_account_status)):
        return []
    rpcs = {"capture": "CaptureHold", "release": "ReleaseHold"}
    return [action for action, rpc in rpcs.items() if _may_call(rpc)]


def of_journal_entry(status: str, *, is_reversed: bool) -> list[str]:
    """The actions for JournalEntry.allowed_actions, in an escrow account of this status."""
    if is_reversed or not account.takes_postings(Status(status)):
        return []
    return ["reverse"] if _may_call("PostJournalEntry") else []


async def _is_empty(tx: AsyncConnection, row: Any) -> bool:
    try:
        account.check_empty(await store.list_balances(tx, row.org_id, row.escrow_account_id))
    except BalancesNotZero:
        return False
    return True


def _may_call(rpc: str) -> bool:
    return _rules()[f"/{pb.DESCRIPTOR.package}.EscrowService/{rpc}"].admits(current_principal())


@cache
def _rules() -> dict[str, Rule]:
    return rules_of([pb.DESCRIPTOR.services_by_name["EscrowService"]])
