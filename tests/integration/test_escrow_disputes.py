"""What is disputed is held while it is there; what is lost has come back, whoever has the money by then."""

from __future__ import annotations

import pytest

from tests.support.escrow_payments import Payment

SUBSCRIPTION = "subscription:inv-001"
ARRIVED = {"cash": 100, SUBSCRIPTION: 100}


@pytest.mark.parametrize(
    ("facts", "posted", "held"),
    [
        (["DISPUTED"], ARRIVED, {SUBSCRIPTION: 100}),
        (["DISPUTED", "DISPUTED", "ANSWERED"], ARRIVED, {SUBSCRIPTION: 100}),
        (["DISPUTED", "ANSWERED", "AWAITED"], ARRIVED, {SUBSCRIPTION: 100}),
        (["DISPUTED", "ANSWERED", "WON"], ARRIVED, {}),
        (["DISPUTED", "WON", "ANSWERED"], ARRIVED, {}),  # said late
        (["WON"], ARRIVED, {}),
        (["DISPUTED", "RETURNED"], {}, {}),
        (["RETURNED", "DISPUTED"], {}, {}),  # said late
    ],
)
async def test_a_dispute_holds_what_is_there_until_it_is_over(escrow, facts, posted, held):
    account = await escrow.open()
    await Payment(account, "ESCROW_DEPOSIT", 100, method="CARD").happens(escrow, "SETTLED", "COMPLETED", *facts)
    assert (await escrow.posted(account), await escrow.held(account)) == (posted, held)


@pytest.mark.parametrize(("left", "owed"), [(0, 100), (30, 70)], ids=["nothing is left", "a part is left"])
async def test_what_is_lost_after_a_closing_took_it_is_owed_and_a_dispute_holds_the_rest(escrow, left, owed):
    account = await escrow.open()
    payment = Payment(account, "ESCROW_DEPOSIT", 100, method="CARD")
    await payment.happens(escrow, "SETTLED", "COMPLETED")
    await escrow.post(account, (SUBSCRIPTION, 100 - left), ("issuer_proceeds", left - 100))
    await payment.happens(escrow, "DISPUTED")
    assert await escrow.held(account) == ({SUBSCRIPTION: left} if left else {})
    await payment.happens(escrow, "RETURNED")
    assert (await escrow.posted(account))["returns_receivable:inv-001"] == owed
    assert await escrow.held(account) == {}


@pytest.mark.parametrize("applied", [0, 100, 70])
async def test_what_a_bank_takes_back_of_the_issuers_cash_that_nobody_has_applied_is_taken_from_no_other(
    escrow, applied
):
    """It came while the account was frozen; what is distributable came with another payment."""
    account = await escrow.open()
    await escrow.post(account, ("cash", 100), ("distributable", -100))
    payment = Payment(account, "DEPOSIT", 100, party="sponsor-1")
    await escrow.freeze(account)
    await payment.happens(escrow, "SETTLED")
    await escrow.unfreeze(account)
    await payment.happens(escrow, "COMPLETED")
    if applied:
        await escrow.post(account, ("unapplied:sponsor-1", applied), ("distributable", -applied))
    await payment.happens(escrow, "RETURNED")
    assert await escrow.posted(account) == {"cash": 100, "distributable": 100}


async def test_what_is_disputed_while_the_account_is_frozen_is_held_on_once_that_is_unfrozen(escrow):
    account = await escrow.open()
    payment = Payment(account, "ESCROW_DEPOSIT", 100, method="CARD")
    await payment.happens(escrow, "SETTLED")
    await escrow.freeze(account)
    await payment.happens(escrow, "COMPLETED", "DISPUTED")
    await escrow.unfreeze(account)
    await escrow.expire_holds()
    assert (await escrow.posted(account), await escrow.held(account)) == (ARRIVED, {SUBSCRIPTION: 100})
    await payment.happens(escrow, "WON")
    assert await escrow.held(account) == {}


@pytest.mark.parametrize("applied", [0, 100, 70])
async def test_a_dispute_holds_what_came_while_the_account_was_frozen_where_it_stands(escrow, applied):
    account = await escrow.open()
    payment = Payment(account, "ESCROW_DEPOSIT", 100, method="CARD")
    await escrow.freeze(account)
    await payment.happens(escrow, "SETTLED")
    await escrow.unfreeze(account)
    await payment.happens(escrow, "COMPLETED")
    if applied:
        await escrow.post(account, ("unapplied:inv-001", applied), (SUBSCRIPTION, -applied))
    await payment.happens(escrow, "DISPUTED")
    held = {SUBSCRIPTION: applied, "unapplied:inv-001": 100 - applied}
    assert await escrow.held(account) == {each: minor for each, minor in held.items() if minor}
    await payment.happens(escrow, "RETURNED")
    assert (await escrow.posted(account), await escrow.held(account)) == ({}, {})
