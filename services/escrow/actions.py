"""Single resources as one caller gets them: with what that caller may do with them now.

An action is offered where the contract lets the caller call it, and the rules of the book let it happen.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from realco.escrow.v1 import escrow_pb2 as pb
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.access import list_allowed_actions
from services.escrow import messages, store
from services.escrow.domain import account
from services.escrow.domain.account import Status
from services.escrow.domain.refusals import BalancesNotZero


async def answer_escrow_account(tx: AsyncConnection, row: Any) -> pb.EscrowAccount:
    """From the account's row."""
    status = Status(row.status)
    actions = list_allowed_actions(
        pb.EscrowAccount,
        ("EscrowService/UpdateEscrowAccount", account.may_change(status)),
        ("EscrowService/ChangeEscrowAccountCustodian", account.may_change(status)),
        ("EscrowService/FreezeEscrowAccount", account.may_move(status, Status.FROZEN)),
        ("EscrowService/UnfreezeEscrowAccount", status is Status.FROZEN),
        ("EscrowService/CloseEscrowAccount", account.may_move(status, Status.CLOSED)),
        ("EscrowService/PostJournalEntry", account.may_post(status)),
        ("EscrowService/PlaceHold", account.may_place_hold(status)),
    )
    if "close" in actions and not await _is_empty(tx, row):
        actions.remove("close")
    return messages.to_escrow_account(row, actions)


def answer_hold(row: Any) -> pb.Hold:
    """From the hold's row with the currency and the status of its escrow account."""
    may_end = row.status == "PLACED" and account.may_end_hold(Status(row.escrow_account_status))
    actions = list_allowed_actions(
        pb.Hold,
        ("EscrowService/CaptureHold", may_end),
        ("EscrowService/ReleaseHold", may_end),
    )
    return messages.to_hold(row, actions)


def answer_journal_entry(head: Any, legs: Iterable[Any], status: str) -> pb.JournalEntry:
    """From the entry's row, which says whether it `is_reversed`, and its legs, in an escrow account of this status."""
    may_reverse = not head["is_reversed"] and account.may_post(Status(status))
    # To reverse an entry is to post its mirror.
    may_post = list_allowed_actions(pb.JournalEntry, ("EscrowService/PostJournalEntry", may_reverse))
    return messages.to_booked_journal_entry(head, legs, ["reverse"] if may_post else [])


async def _is_empty(tx: AsyncConnection, row: Any) -> bool:
    try:
        account.check_empty(await store.list_balances(tx, row.escrow_account_id), row.currency)
    except BalancesNotZero:
        return False
    return True
