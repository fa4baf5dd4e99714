"""A bank takes back more than the account has: CASH is what the bank has, below zero too, from then to the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from realco.escrow.v1 import escrow_accounts_pb2 as accounts_pb
from realco.escrow.v1 import holds_pb2 as holds_pb
from realco.escrow.v1 import postings_pb2 as postings_pb

from services.chassis.calls.auth import Principal
from tests.support.escrow import SPONSOR, Escrow, key, ledger_account, refusal, usd
from tests.support.escrow_payments import Payment, transfer
from tests.support.peers.orders import release

ADA, BEN = "inv-001", "inv-002"
OWED, PAYABLE = f"returns_receivable:{BEN}", f"payable:{BEN}"
SHORT = "INSUFFICIENT_AVAILABLE_BALANCE"


@pytest.fixture
async def escrow(escrow_urls: SimpleNamespace) -> AsyncIterator[Escrow]:
    async with Escrow(escrow_urls) as escrow:
        yield escrow


class Custodian:
    """The bank's own count of the account, beside the book."""

    def __init__(self, escrow: Escrow, account: str) -> None:
        self._escrow, self._account = escrow, account
        self.has_minor = self.sent_minor = 0  # what it has, and what of that is on its way out

    async def check(self, by: int = 0, *, on_its_way: int = 0) -> dict[str, int]:
        """What is posted, once the bank has so much more, and so much of that is about to leave."""
        self.has_minor += by
        posted = await self._escrow.posted(self._account)
        assert posted.pop("cash", 0) == self.has_minor
        assert -posted.pop("in_transit", 0) == on_its_way
        balance = await self._escrow.balance(self._account)
        assert (balance.posted.amount_minor, balance.pending_out.amount_minor) == (self.has_minor, on_its_way)
        assert balance.available.amount_minor == self.has_minor - on_its_way
        assert (await self._escrow.trial_balance(self._account)).balanced
        return posted


async def pay(escrow: Escrow, bank: Custodian, kind: str, minor: int, party: str) -> None:
    payment = Payment(bank._account, kind, minor, party=party)
    assert not (await payment.submit(escrow)).HasField("failure")
    await bank.check(on_its_way=minor)
    await payment.happens(escrow, "SUBMITTED", "SETTLED", "COMPLETED")
    await bank.check(-minor)


async def overdraw(escrow: Escrow) -> tuple[str, Custodian]:
    """An account whose raise of 400 was paid to the issuer before the bank took 200 of it back."""
    account = await escrow.open()
    bank = Custodian(escrow, account)
    paid_in = {party: Payment(account, "ESCROW_DEPOSIT", 200, party=party) for party in (ADA, BEN)}
    for payment in paid_in.values():
        await payment.happens(escrow, "SETTLED", "COMPLETED")
        await bank.check(200)
    await escrow.call("ReleaseSubscriptions", release(account, (ADA, 200), (BEN, 200)), escrow.transactions)
    await pay(escrow, bank, "ESCROW_WITHDRAWAL", 400, SPONSOR)
    await paid_in[BEN].happens(escrow, "RETURNED")
    assert await bank.check(-200) == {OWED: 200}
    return account, bank


async def set_off(escrow: Escrow, account: str, minor: int) -> None:
    wanted = postings_pb.SetOffReceivablesRequest.Payout(
        idempotency_key=key(), party_id=BEN, type="DISTRIBUTION", escrow_account_id=account, amount=usd(minor)
    )
    escrow.order_set_offs(wanted)
    distributions = Principal("service:distributions", "service", escrow.org_id, "admin-1")
    request = postings_pb.SetOffReceivablesRequest(payouts=[wanted])
    answer = await escrow.call("SetOffReceivables", request, distributions)
    assert [each.set_off_amount.amount_minor for each in answer.set_offs] == [200]


@pytest.mark.parametrize("settled", ["by set-off", "by hand from what it is owed", "by hand with new money"])
async def test_cash_is_what_the_bank_has_from_a_late_return_to_the_end_of_the_account(escrow, settled):
    account, bank = await overdraw(escrow)
    deposit = Payment(account, "DEPOSIT", 600, party=SPONSOR, method="WIRE")
    await deposit.happens(escrow, "SUBMITTED", "SETTLED", "COMPLETED")
    assert await bank.check(600) == {OWED: 200, "distributable": 600}
    await escrow.post(account, ("distributable", 600), (f"payable:{ADA}", -300), (PAYABLE, -300))
    too_much = await Payment(account, "DISTRIBUTION", 300, party=BEN).submit(escrow)
    assert too_much.failure.code == "PARTY_OWES"
    await pay(escrow, bank, "DISTRIBUTION", 300, ADA)
    left = 100
    if settled == "by set-off":
        await set_off(escrow, account, 300)
    elif settled == "by hand from what it is owed":
        await escrow.post(account, (PAYABLE, 200), (OWED, -200))
    else:
        await escrow.post(account, ("cash", 200), (OWED, -200))
        await bank.check(200)
        left = 300
    assert await bank.check() == {PAYABLE: left}
    await pay(escrow, bank, "DISTRIBUTION", left, BEN)
    assert await bank.check() == {}
    await escrow.call("CloseEscrowAccount", accounts_pb.CloseEscrowAccountRequest(escrow_account_id=account))


async def test_what_payouts_are_refused_for_is_what_the_bank_has_less_what_is_on_its_way(escrow):
    account, bank = await overdraw(escrow)
    await Payment(account, "DEPOSIT", 600, party=SPONSOR, method="WIRE").happens(escrow, "SETTLED")
    await bank.check(600)
    first = Payment(account, "WITHDRAWAL", 150, party=SPONSOR)
    assert not (await first.submit(escrow)).HasField("failure")
    await bank.check(on_its_way=150)
    refused = (await Payment(account, "WITHDRAWAL", 251, party=SPONSOR).submit(escrow)).failure
    figures = {name: refused.metadata[name] for name in ("available_minor", "requested_minor", "ledger_account_kind")}
    assert (refused.code, figures) == (
        SHORT, {"available_minor": "250", "requested_minor": "251", "ledger_account_kind": "CASH"}
    )  # fmt: skip
    # What a payout gives back settles no debt.
    await first.happens(escrow, "FAILED")
    assert await bank.check() == {OWED: 200, "distributable": 600}


@pytest.mark.parametrize(
    ("asked", "verdict"),
    [
        ([("cash", 50), (OWED, -50)], None),  # some of it is paid
        ([("cash", 200), (OWED, -200)], None),
        ([("cash", 300), (OWED, -200), ("suspense", -100)], None),
        ([("cash", 30), ("cash", -10), ("suspense", -20)], None),  # it adds, as a whole
        ([("suspense", 1), ("cash", -1)], ("0", "1")),
        ([("cash", 30), ("cash", -40), ("suspense", 10)], ("0", "10")),
        ([("in_transit", 1), ("cash", -1)], ("0", "1")),
    ],
)
async def test_by_hand_cash_that_is_overdrawn_is_paid_in_and_not_taken(escrow, asked, verdict):
    account, _ = await overdraw(escrow)
    await escrow.post(account, ("cash", 10), ("suspense", -10))
    await escrow.post(account, ("cash", 20), (f"subscription:{ADA}", -20))
    assert (await Payment(account, "REFUND", 20, party=ADA).submit(escrow)).failure.code == SHORT
    before = await escrow.posted(account)
    if verdict is None:
        await escrow.post(account, *asked)
        grown = sum(minor for name, minor in asked if name == "cash")
        assert (await escrow.posted(account)).get("cash", 0) == before["cash"] + grown
        return
    reason, figures = await refusal(escrow.post(account, *asked))
    assert (reason, figures["available_minor"], figures["requested_minor"]) == (SHORT, *verdict)
    assert await escrow.posted(account) == before


async def test_what_was_held_or_booked_by_hand_leaves_no_cash_that_a_bank_took(escrow):
    account, _ = await overdraw(escrow)
    brought = await escrow.post(account, ("cash", 30), ("fees", -30))
    hold = await escrow.hold(account, "fees", 30)
    capture: dict[str, Any] = {"escrow_account_id": account, "hold_id": hold.hold_id, "idempotency_key": key()}
    asked = holds_pb.CaptureHoldRequest(to_ledger_account=ledger_account("cash"), **capture)
    assert (await refusal(escrow.call("CaptureHold", asked)))[0] == SHORT
    await escrow.call("ReleaseHold", holds_pb.ReleaseHoldRequest(**capture | {"idempotency_key": key()}))
    reversed_ = escrow.post(account, reverses_journal_entry_id=brought.journal_entry_id)
    reason, figures = await refusal(reversed_)
    assert (reason, figures["ledger_account_kind"], figures["available_minor"]) == (SHORT, "CASH", "0")
    await escrow.post(account, ("cash", 200), ("fees", -200))
    reason, figures = await refusal(escrow.post(account, ("fees", 31), ("cash", -31)))
    assert (figures["available_minor"], figures["requested_minor"]) == ("30", "31")
    await escrow.post(account, ("fees", 30), ("cash", -30))


async def test_what_was_transferred_on_before_the_bank_took_it_back_settles_that_by_two_entries_by_hand(escrow):
    first, second = await escrow.open(), await escrow.open()
    banks = Custodian(escrow, first), Custodian(escrow, second)
    deposit = Payment(first, "DEPOSIT", 500, party=SPONSOR)
    await deposit.happens(escrow, "SETTLED", "COMPLETED")
    on = transfer(first, second, 400)
    await on.submit(escrow)
    await on.happens(escrow, "SUBMITTED", "SETTLED", "COMPLETED")
    await banks[0].check(100)
    await banks[1].check(400)
    await deposit.happens(escrow, "RETURNED")
    assert await banks[0].check(-500) == {f"returns_receivable:{SPONSOR}": 400}
    back = (await transfer(second, first, 400).submit(escrow)).failure
    assert (back.code, back.metadata["escrow_account_id"]) == ("PARTY_OWES", first)
    entries = "DISTRIBUTABLE / CASH here, CASH / RETURNS_RECEIVABLE of the party there."
    assert back.message.endswith(entries)
    await escrow.post(second, ("distributable", 400), ("cash", -400))
    await escrow.post(first, ("cash", 400), (f"returns_receivable:{SPONSOR}", -400))
    assert [await banks[0].check(400), await banks[1].check(-400)] == [{}, {}]
    for account in (first, second):
        await escrow.call("CloseEscrowAccount", accounts_pb.CloseEscrowAccountRequest(escrow_account_id=account))


async def test_an_overdrawn_account_is_kept_open_by_who_owes_and_not_by_its_cash(escrow):
    account, _ = await overdraw(escrow)
    close = accounts_pb.CloseEscrowAccountRequest(escrow_account_id=account)
    reason, figures = await refusal(escrow.call("CloseEscrowAccount", close))
    assert reason == "BALANCES_NOT_ZERO"
    assert (figures["ledger_account_kind"], figures["party_id"], figures["posted_minor"]) == (
        "RETURNS_RECEIVABLE", ledger_account(OWED).party_id, "200"
    )  # fmt: skip
