"""Set-offs in the real book: by whose order, of which investment, and once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from realco.escrow.v1 import journal_pb2, postings_pb2

from services.chassis.calls.auth import Principal
from services.chassis.calls.validation import validate
from services.chassis.values.errors import InvalidField
from services.chassis.values.ids import new_id
from tests.support.escrow import Escrow, key, refusal, usd

FIRST, SECOND, THIRD = [f"inv_{number * 26}" for number in "123"]
OWED = "returns_receivable:inv-001"


@pytest.fixture
async def escrow(escrow_urls: SimpleNamespace) -> AsyncIterator[Escrow]:
    async with Escrow(escrow_urls) as escrow:
        yield escrow


def item(account: str, minor: int, **values: Any) -> postings_pb2.SetOffReceivablesRequest.Payout:
    given = {"idempotency_key": key(), "party_id": "inv-001", "type": "REFUND", "investment_id": THIRD, **values}
    return postings_pb2.SetOffReceivablesRequest.Payout(escrow_account_id=account, amount=usd(minor), **given)


async def set_off(
    escrow: Escrow, *items: postings_pb2.SetOffReceivablesRequest.Payout, gives_up: bool = False
) -> list[int]:
    distributions = Principal("service:distributions", "service", escrow.org_id, "admin-1")
    request = postings_pb2.SetOffReceivablesRequest(payouts=items, gives_up=gives_up)
    answer = await escrow.call("SetOffReceivables", request, distributions)
    return [each.set_off_amount.amount_minor for each in answer.set_offs]


async def owing(escrow: Escrow) -> str:
    """An account where inv-001 owes 30 of one investment and 50 of another, and has 60 of a third."""
    account = await escrow.open()
    await escrow.post(account, ("cash", 200), ("fees", -200))
    await escrow.post(account, ("cash", 60), ("subscription:inv-001", -60))
    for investment_id, minor in ((FIRST, 30), (SECOND, 50)):
        await escrow.post(account, (OWED, minor), ("cash", -minor), investment_id=investment_id)
    return account


async def list_set_offs(escrow: Escrow, account: str) -> list[tuple[str, dict[str, int]]]:
    """The entries of set-offs, oldest first: of which investment, and what each ledger account changed by as debit."""
    request = journal_pb2.ListJournalEntriesRequest(escrow_account_id=account, page_size=100)
    found = (await escrow.call("ListJournalEntries", request)).journal_entries
    sign = {journal_pb2.LedgerEntry.DEBIT: 1, journal_pb2.LedgerEntry.CREDIT: -1}
    return [
        (
            entry.investment_id,
            {
                journal_pb2.LedgerAccount.Kind.Name(leg.ledger_account.kind): sign[leg.direction]
                * leg.amount.amount_minor
                for leg in entry.ledger_entries
            },
        )
        for entry in sorted(found, key=lambda each: each.journal_sequence)
        if entry.type == journal_pb2.JournalEntry.SET_OFF
    ]


async def test_each_entry_names_the_investment_whose_money_it_is_and_the_oldest_debt_is_settled_first(
    escrow: Escrow,
) -> None:
    account = await owing(escrow)
    wanted = item(account, 40)
    escrow.order_set_offs(wanted)
    assert await set_off(escrow, wanted) == [40]
    assert await list_set_offs(escrow, account) == [
        (THIRD, {"SUBSCRIPTION": 40, "PAYABLE": -40}),
        (FIRST, {"PAYABLE": 30, "RETURNS_RECEIVABLE": -30}),
        (SECOND, {"PAYABLE": 10, "RETURNS_RECEIVABLE": -10}),
    ]
    rest = item(account, 20)
    escrow.order_set_offs(rest)
    assert await set_off(escrow, rest) == [20]
    assert (await list_set_offs(escrow, account))[3:] == [
        (THIRD, {"SUBSCRIPTION": 20, "PAYABLE": -20}),
        (SECOND, {"PAYABLE": 20, "RETURNS_RECEIVABLE": -20}),
    ]
    trial = await escrow.call("GetTrialBalance", journal_pb2.GetTrialBalanceRequest(escrow_account_id=account))
    assert trial.balanced


async def test_what_is_asked_for_many_times_at_once_is_set_off_once(escrow: Escrow) -> None:
    account = await owing(escrow)
    wanted = item(account, 40)
    escrow.order_set_offs(wanted)
    assert await asyncio.gather(*(set_off(escrow, wanted) for _ in range(6))) == [[40]] * 6
    assert len(await list_set_offs(escrow, account)) == 3


@pytest.mark.parametrize("gives_up", [False, True])
@pytest.mark.parametrize(
    "said",
    [
        {"amount": usd(41)},
        {"party_id": "inv-002"},
        {"investment_id": FIRST},
        {"type": "DISTRIBUTION"},
        {"sets_off_receivables": False},
        None,
    ],
    ids=lambda said: "nothing" if said is None else next(iter(said)),
)
async def test_what_distributions_has_not_ordered_so_is_not_set_off_nor_given_up(
    escrow: Escrow, said: dict[str, Any] | None, gives_up: bool
) -> None:
    account = await owing(escrow)
    wanted = item(account, 40)
    if said is not None:
        escrow.order_set_offs(wanted)
        order = escrow.distributions.orders[wanted.idempotency_key]
        for name, value in said.items():
            if name == "amount":
                order.amount.CopyFrom(value)
            else:
                setattr(order, name, value)
    refused = await refusal(set_off(escrow, wanted, gives_up=gives_up))
    assert refused == ("SET_OFF_NOT_ORDERED", {"idempotency_key": wanted.idempotency_key})
    assert await list_set_offs(escrow, account) == []


async def test_nobody_posts_a_set_off_by_hand(escrow: Escrow) -> None:
    entry = journal_pb2.NewJournalEntry(type=journal_pb2.JournalEntry.SET_OFF, description="a try")
    request = journal_pb2.PostJournalEntryRequest(
        idempotency_key=key(), escrow_account_id=new_id("esc"), journal_entry=entry
    )
    with pytest.raises(InvalidField) as refused:
        validate(request)
    assert "journal_entry.type" in refused.value.fields
