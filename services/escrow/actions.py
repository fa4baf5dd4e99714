"""Single resources as one caller gets them: with what that caller may do with them now.

An action is offered where the contract lets the caller call it, and the rules of the book let it happen.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from realco.escrow.v1 import escrow_accounts_pb2 as accounts_pb
from realco.escrow.v1 import holds_pb2 as holds_pb
from realco.escrow.v1 import journal_pb2 as journal_pb

from services.chassis.calls.access import list_allowed_actions
from services.chassis.data.reads import Source
from services.escrow import messages
from services.escrow.domain.account import (
    EscrowAccount,
    Status,
    check_empty,
    may_change,
    may_freeze,
    may_move,
    may_place_hold,
    may_post,
)
from services.escrow.domain.chart import LedgerAccountKind
from services.escrow.domain.holds import Hold
from services.escrow.domain.journal import may_be_posted_by_hand
from services.escrow.domain.refusals import BalancesNotZero
from services.escrow.store import escrow_accounts


async def answer_escrow_account(source: Source, account: EscrowAccount) -> accounts_pb.EscrowAccount:
    status = account.status
    actions = list_allowed_actions(
        accounts_pb.EscrowAccount,
        ("EscrowAccountsService/UpdateEscrowAccount", may_change(status)),
        ("EscrowAccountsService/ChangeEscrowAccountCustodian", may_change(status)),
        ("EscrowAccountsService/FreezeEscrowAccount", may_freeze(status)),
        ("EscrowAccountsService/UnfreezeEscrowAccount", status is Status.FROZEN),
        ("EscrowAccountsService/CloseEscrowAccount", may_move(status, Status.CLOSED)),
        ("JournalService/PostJournalEntry", may_post(status)),
        ("HoldsService/PlaceHold", may_place_hold(status)),
    )
    if "close" in actions and not await _is_empty(source, account):
        actions.remove("close")
    return messages.to_escrow_account(account, actions)


def answer_hold(hold: Hold) -> holds_pb.Hold:
    actions = list_allowed_actions(
        holds_pb.Hold,
        ("HoldsService/CaptureHold", hold.may_end),
        ("HoldsService/ReleaseHold", hold.may_end),
    )
    return messages.to_hold(hold, actions)


def answer_journal_entry(head: Any, legs: Iterable[Any], account: Any) -> journal_pb.JournalEntry:
    """From the entry's row, which says whether it `is_reversed`, its legs, and the row of its escrow account."""
    listed = list(legs)
    touched = {LedgerAccountKind(leg.kind) for leg in listed}
    may_reverse = not head.is_reversed and may_post(Status(account.status)) and may_be_posted_by_hand(touched)
    # To reverse an entry is to post its mirror.
    posting = list_allowed_actions(journal_pb.JournalEntry, ("JournalService/PostJournalEntry", may_reverse))
    return messages.to_booked_journal_entry(head, listed, account, ["reverse"] if posting else [])


async def _is_empty(source: Source, account: EscrowAccount) -> bool:
    try:
        check_empty(await escrow_accounts.list_balances(source, account.escrow_account_id), account.currency)
    except BalancesNotZero:
        return False
    return True
