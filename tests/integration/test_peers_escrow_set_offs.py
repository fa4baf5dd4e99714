"""What payees owe, set off before they are paid: one test body over the fake and over the real service."""

from __future__ import annotations

from typing import Any

import pytest
from realco.escrow.v1 import postings_pb2

from services.chassis.calls.auth import acting_as
from services.chassis.values.money import Money
from services.distributions.domain.payout import PayoutType
from tests.support.escrow import key, usd
from tests.support.peers.books import Callers, MemoryBook, RealBook, balances
from tests.support.peers.orders import payout

DISTRIBUTION, OTHER = "dist_" + "0" * 26, "inv_" + "1" * 26
OF_A_DEBTOR = "returns_receivable:inv-001"


def item(account: str, type_: str, minor: int, **values: Any) -> postings_pb2.SetOffReceivablesRequest.Payout:
    named = {"DISTRIBUTION": {"distribution_id": DISTRIBUTION}, "REFUND": {"investment_id": OTHER}}.get(type_, {})
    given = {"idempotency_key": key(), "party_id": "inv-001", **named, **values}
    return postings_pb2.SetOffReceivablesRequest.Payout(
        escrow_account_id=account, type=type_, amount=usd(minor), **given
    )


async def set_off(
    book: MemoryBook | RealBook,
    callers: Callers,
    *items: postings_pb2.SetOffReceivablesRequest.Payout,
    gives_up: bool = False,
) -> list[int]:
    book.order_set_offs(*items)
    request = postings_pb2.SetOffReceivablesRequest(payouts=items, gives_up=gives_up)
    answer = await callers.ask("set_off_receivables", request)
    assert [each.idempotency_key for each in answer.set_offs] == [each.idempotency_key for each in items]
    return [each.set_off_amount.amount_minor for each in answer.set_offs]


@pytest.mark.parametrize(
    ("type_", "source"),
    [("DISTRIBUTION", "payable:inv-001"), ("ESCROW_WITHDRAWAL", "issuer_proceeds"), ("REFUND", "subscription:inv-001")],
)
@pytest.mark.parametrize(
    ("there", "owed", "asked", "taken"),
    [
        (100, 30, 100, 30),  # what is owed
        (100, 130, 100, 100),  # all of the payout
        (100, 130, 60, 60),
        (40, 130, 60, 40),  # what is there
        (100, 0, 100, 0),
    ],
)
async def test_what_a_payee_owes_is_set_off_as_far_as_both_go_and_the_rest_can_be_paid(
    book: MemoryBook | RealBook,
    callers: Callers,
    type_: str,
    source: str,
    there: int,
    owed: int,
    asked: int,
    taken: int,
) -> None:
    account = await book.open()
    await book.fund(account, source, there)
    await book.fund(account, "fees", owed + 1)  # cash that the bank takes some of
    if owed:
        await book.fund(account, OF_A_DEBTOR, -owed)
    before = await balances(callers, account)
    order = item(account, type_, asked)
    assert await set_off(book, callers, order) == [taken]
    assert await set_off(book, callers, order) == [taken], "what was set off is answered again, and not done again"
    after = await balances(callers, account)
    kind = source.partition(":")[0]
    changed = {each: after.get(each, 0) - before.get(each, 0) for each in before | after}
    expected = {kind: -taken, "returns_receivable": -taken}
    assert {each: minor for each, minor in changed.items() if minor} == {k: v for k, v in expected.items() if v}
    if rest := min(asked, there) - taken:
        [result] = await callers.book_payouts(payout(account, type_, rest))
        assert result.HasField("journal_entry") == (owed <= taken), result


async def test_nothing_is_set_off_of_what_is_held_or_frozen_or_owed_elsewhere_or_by_others(
    book: MemoryBook | RealBook, callers: Callers
) -> None:
    account, elsewhere, frozen = [await book.open() for _ in range(3)]
    for each in (account, frozen):
        await book.fund(each, "payable:inv-001", 100)
        await book.fund(each, "payable:inv-002", 100)
    await book.fund(elsewhere, "fees", 10)
    await book.fund(elsewhere, OF_A_DEBTOR, -10)
    await book.fund(frozen, OF_A_DEBTOR, -10)
    await book.freeze(frozen)
    orders = [item(each, "DISTRIBUTION", 100) for each in (account, frozen)]
    assert await set_off(book, callers, *orders, item(account, "DISTRIBUTION", 50, party_id="inv-002")) == [0, 0, 0]
    await book.fund(account, OF_A_DEBTOR, -90)
    await book.hold(account, "payable:inv-001", 70)
    other = item(account, "DISTRIBUTION", 50, party_id="inv-002")
    assert await set_off(book, callers, item(account, "DISTRIBUTION", 100), other) == [30, 0]


async def test_whoever_decides_reads_what_is_set_off_and_what_is_paid(
    book: MemoryBook | RealBook, callers: Callers
) -> None:
    account = await book.open()
    for party_id in ("inv-001", "inv-002"):
        await book.fund(account, f"payable:{party_id}", 60)
    await book.fund(account, OF_A_DEBTOR, -50)
    paid = {"inv-001": Money(60, "USD"), "inv-002": Money(60, "USD")}
    with acting_as(callers.admin):
        preview = await callers.of_distributions.get_transaction_preview(
            account, PayoutType.DISTRIBUTION, paid, sets_off=True
        )
    told = {each.rule: each for each in preview.explanations}
    assert told["RECEIVABLES_SET_OFF"].statement == (
        "inv-001 owes 0.50 USD that the bank took back:"
        " 0.50 USD is set off against what they are owed, and 0.10 USD paid."
    )
    assert told["RECEIVABLES_SET_OFF"].operands == (
        ("gate", "open"),
        ("inv-001", "owes 0.50 USD, 0.50 USD set off, 0.10 USD paid"),
    )
    assert "enough to pay 0.70 USD" in told["CASH_COVERS"].statement
    assert "PARTY_OWES" not in told
    effects = {each.kind: (each.before.amount_minor, each.after.amount_minor) for each in preview.effects}
    assert effects == {"CASH": (70, 0), "PAYABLE": (120, 0), "RETURNS_RECEIVABLE": (50, 0)}
    orders = [item(account, "DISTRIBUTION", 60, party_id=party_id) for party_id in paid]
    assert await set_off(book, callers, *orders) == [50, 0]
    rest = [payout(account, "DISTRIBUTION", 10), payout(account, "DISTRIBUTION", 60, party_id="inv-002")]
    assert all(each.HasField("journal_entry") for each in await callers.book_payouts(*rest))


async def test_what_is_given_up_is_not_set_off_any_more_and_what_was_before_is_told(
    book: MemoryBook | RealBook, callers: Callers
) -> None:
    account = await book.open()
    for name, minor in (("payable:inv-001", 100), ("fees", 31), (OF_A_DEBTOR, -30)):
        await book.fund(account, name, minor)
    before, after = item(account, "DISTRIBUTION", 20), item(account, "DISTRIBUTION", 20)
    assert await set_off(book, callers, before) == [20]
    assert await set_off(book, callers, before, after, gives_up=True) == [20, 0]
    assert await set_off(book, callers, before, after) == [20, 0], "a call that comes late sets nothing off"
    assert (await balances(callers, account))["returns_receivable"] == 10
    assert await set_off(book, callers, item(account, "DISTRIBUTION", 20)) == [10]
