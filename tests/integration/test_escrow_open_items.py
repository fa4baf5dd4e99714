"""What is open in an escrow account is told with the commit by which it changes, and only then."""

from __future__ import annotations

from typing import Any

import pytest
from realco.escrow.v1 import events_pb2 as events

from tests.support.escrow import Escrow
from tests.support.escrow_payments import Payment
from tests.support.ledger_accounts import name_of

SUBSCRIPTION = "subscription:inv-001"
OWED = "returns_receivable:inv-001"


async def told(escrow: Escrow) -> list[tuple[str, int, int]]:
    found: list[Any] = await escrow.events(events.OpenItemChanged)
    return [
        (name_of(each.ledger_account), each.previous_amount.amount_minor, each.amount.amount_minor) for each in found
    ]


async def release_and_pay_out(escrow: Escrow, account: str, amount_minor: int) -> None:
    await escrow.post(account, (SUBSCRIPTION, amount_minor), ("issuer_proceeds", -amount_minor))
    await escrow.post(account, ("issuer_proceeds", amount_minor), ("cash", -amount_minor))


async def test_what_a_party_owes_and_what_is_overdrawn_is_told_until_nothing_is(escrow):
    account = await escrow.open()
    payment = Payment(account, "ESCROW_DEPOSIT", 100)
    await payment.happens(escrow, "SUBMITTED", "SETTLED", "COMPLETED")
    await release_and_pay_out(escrow, account, 70)
    assert await told(escrow) == [], "nothing is missing while it goes as it should"
    await payment.happens(escrow, "RETURNED")
    assert sorted(await told(escrow)) == [("cash", 0, 70), (OWED, 0, 70)]
    for each in await escrow.events(events.OpenItemChanged):
        assert each.escrow_account_id == account
        assert each.transaction_id == payment.transaction.transaction_id
        assert each.investment_id == payment.transaction.investment_id
    await escrow.post(account, ("cash", 30), (OWED, -30))
    await escrow.post(account, ("cash", 40), ("distributable", -40))
    await escrow.post(account, ("distributable", 40), (OWED, -40))
    assert (await told(escrow))[2:] == [("cash", 70, 40), (OWED, 70, 40), ("cash", 40, 0), (OWED, 40, 0)]


@pytest.mark.parametrize(("fees", "expected"), [([3], [(0, 3)]), ([3, 3, 18, 0], [(0, 3), (3, 18), (18, 0)])])
async def test_what_a_provider_kept_and_nobody_paid_in_is_told_each_time_that_it_changes(escrow, fees, expected):
    account = await escrow.open()
    payment = Payment(account, "ESCROW_DEPOSIT", 100, method="CARD")
    await payment.costs(escrow, fees[0], fact="SETTLED")
    for fee in fees[1:]:
        await payment.costs(escrow, fee)
    assert await told(escrow) == [("provider_fees", *each) for each in expected]


async def test_what_came_while_an_account_was_frozen_is_told_until_it_is_applied(escrow):
    account = await escrow.open()
    await escrow.freeze(account)
    await Payment(account, "ESCROW_DEPOSIT", 100, method="WIRE").happens(escrow, "SETTLED")
    assert await told(escrow) == [("unapplied:inv-001", 0, 100)]
    await escrow.unfreeze(account)
    await escrow.post(account, ("unapplied:inv-001", 100), (SUBSCRIPTION, -100))
    assert (await told(escrow))[1:] == [("unapplied:inv-001", 100, 0)]
