"""What the book would have of an order, as other services ask before it: over the fake and over the real service."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from realco.compliance.v1.notary_pb2 import Movement
from realco.escrow.v1 import journal_pb2 as journal_pb

from services.chassis.calls.auth import acting_as
from services.chassis.values.approval import Preview
from services.chassis.values.errors import DomainError
from services.chassis.values.explanation import Explanation
from services.chassis.values.money import Money
from services.distributions.domain.payout import PayoutType
from tests.support.peers.books import Callers, MemoryBook, RealBook, balances
from tests.support.peers.orders import declaration, payout, release

Kind = journal_pb.LedgerAccount


def preview_of(preview: Preview) -> Any:
    """By ledger account what is there and would be; and which gates are shut."""
    effects = {
        f"{each.kind.lower()}:{each.party_id or ''}".rstrip(":"): (each.before.amount_minor, each.after.amount_minor)
        for each in preview.effects
    }
    return effects, [each.rule for each in preview.explanations if ("gate", "shut") in each.operands]


async def test_what_payouts_would_do_to_the_book_is_told_and_nothing_is_done(
    book: MemoryBook | RealBook, callers: Callers
) -> None:
    account = await book.open()
    for name, minor in (("payable:inv-001", 60), ("payable:inv-002", 40)):
        await book.fund(account, name, minor)
    await book.hold(account, "payable:inv-002", 5)
    there = await balances(callers, account)

    async def preview(currency: str = "USD", **paid: int) -> Any:
        amounts = {name.replace("_", "-"): Money(minor, currency) for name, minor in paid.items()}
        with acting_as(callers.admin):
            of_distributions = callers.of_distributions
            return preview_of(
                await of_distributions.get_transaction_preview(
                    account, PayoutType.DISTRIBUTION, amounts, sets_off=False
                )
            )

    assert await preview(inv_001=60) == ({"cash": (100, 40), "payable:inv-001": (60, 0)}, [])
    both = {"cash": (100, 1), "payable": (100, 1)}
    assert await preview(inv_001=60, inv_002=39) == (both, ["AVAILABLE_BALANCE", "CASH_COVERS"]), (
        "several parties: by kind"
    )
    more = {"cash": (100, -1), "payable:inv-003": (0, -101)}
    assert await preview(inv_003=101) == (more, ["AVAILABLE_BALANCE", "CASH_COVERS"])
    await book.freeze(account)
    assert (await preview(inv_001=60))[1] == ["ESCROW_ACTIVE"]
    with pytest.raises(DomainError, match="USD"):
        await preview("EUR", inv_001=60)
    assert await balances(callers, account) == there


def drop_by_hand(preview: Preview) -> list[Explanation]:
    """Without what was posted by hand, as all is that funds these books: the fake has no journal."""
    return [each for each in preview.explanations if each.rule != "MONEY_POSTED_BY_HAND"]


@pytest.mark.parametrize(
    ("kind", "source", "order", "question"),
    [
        (Movement.CLOSE_OFFERING, "subscription:{}", release, "release_subscriptions"),
        (Movement.APPROVE_DISTRIBUTION, "distributable", declaration, "declare_distribution"),
    ],
)
async def test_what_a_movement_would_do_to_the_book_is_what_is_booked_of_it(
    book: MemoryBook | RealBook, callers: Callers, kind: Movement.Kind, source: str, order: Any, question: str
) -> None:
    account, amounts = await book.open(), {"inv-001": 60, "inv-002": 40}
    for party_id, minor in amounts.items():
        await book.fund(account, source.format(party_id), minor)
    with acting_as(callers.admin):
        money = {party_id: Money(minor, "USD") for party_id, minor in amounts.items()}
        preview = await callers.of_distributions.get_movement_preview(account, kind, money, sets_off=False)
    before = await balances(callers, account)
    booked = await callers.ask(question, order(account, *amounts.items()))
    after = await balances(callers, account)
    changed = {kind for kind in before | after if before.get(kind, 0) != after.get(kind, 0)}
    expected = {kind: (before.get(kind, 0), after.get(kind, 0)) for kind in changed}
    assert len(booked.ledger_entries) == 3
    assert preview_of(preview) == (expected, [])
    assert [each.statement for each in drop_by_hand(preview)] == [
        "There is 1.00 USD of cash that nobody holds and no payout takes, enough to pay 1.00 USD."
    ]


async def test_who_owes_money_that_went_back_is_named_before_more_goes_out(
    book: MemoryBook | RealBook, callers: Callers
) -> None:
    account, paid = await book.open(), {"inv-001": Money(60, "USD"), "inv-002": Money(40, "USD")}
    await book.fund(account, "distributable", 100)
    for party_id, minor in (("inv-001", 30), ("inv-003", 5)):
        await book.fund(account, f"returns_receivable:{party_id}", -minor)
    with acting_as(callers.admin):
        of_distributions = callers.of_distributions
        declared = await of_distributions.get_movement_preview(
            account, Movement.APPROVE_DISTRIBUTION, paid, sets_off=False
        )
        one = await of_distributions.get_transaction_preview(
            account, PayoutType.DISTRIBUTION, {"inv-001": paid["inv-001"]}, sets_off=False
        )
        other = await of_distributions.get_transaction_preview(
            account, PayoutType.DISTRIBUTION, {"inv-002": paid["inv-002"]}, sets_off=False
        )
    cash, owes, missing = drop_by_hand(declared)
    assert cash.statement == (
        "There is 0.65 USD of cash that nobody holds and no payout takes, too little to pay 1.00 USD."
    )
    assert owes.operands == (("gate", "shut"), ("inv-001", Money(30, "USD")))
    assert owes.statement.startswith("inv-001 owes 0.30 USD that was paid in and taken back by the bank:")
    told = "0.35 USD is missing in the escrow account: its parties owe it, since the bank took it back."
    assert (missing.rule, missing.statement) == ("MONEY_MISSING", told)
    assert drop_by_hand(one)[-2:] == [owes, missing]
    # Whoever is paid instead is paid from what is less than it should be.
    assert "PARTY_OWES" not in [each.rule for each in other.explanations]
    assert drop_by_hand(other)[-1] == missing


async def test_of_a_payout_that_is_booked_the_rest_alone_would_be_booked(
    book: MemoryBook | RealBook, callers: Callers
) -> None:
    account = await book.open()
    await book.fund(account, "payable:inv-001", 60)
    item = payout(account, "DISTRIBUTION", 60)
    await callers.book_payouts(item)
    row: Any = SimpleNamespace(
        transaction_id=item.transaction_id,
        escrow_account_id=account,
        type="DISTRIBUTION",
        party_id="inv-001",
        amount=Money(60, "USD"),
    )
    back = ({"in_transit": (-60, 0), "payable:inv-001": (0, 60)}, [])
    for outcome, expected in (
        ("SETTLED", ({"cash": (60, 0), "in_transit": (-60, 0)}, [])),
        ("ENDED", back),
        ("RETURNED", back),
    ):
        with acting_as(callers.admin):
            assert preview_of(await callers.of_transactions.get_transaction_preview(row, outcome)) == expected
