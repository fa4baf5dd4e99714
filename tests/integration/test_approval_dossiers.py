"""A dossier says, before anybody says yes, what that would do to the book and what would refuse it: of every kind.

Those of escrow are in test_escrow_approvals.py.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from realco.distributions.v1 import offerings_pb2 as opb
from realco.escrow.v1.escrow_accounts_pb2 import EscrowAccount
from realco.escrow.v1.journal_pb2 import JournalEntry
from realco.transactions.v1 import bank_accounts_pb2 as bank_pb
from realco.transactions.v1 import transactions_pb2 as pb

from services.chassis.values.ids import new_id
from services.transactions.domain.payments import PaymentStatus
from tests.integration.ach_desk import pay_by_file
from tests.support.approvals import check_dossiers, effects_of, gates_of
from tests.support.arrivals import announce, confirm, report
from tests.support.distributions import DistributionsHarness
from tests.support.dossiers import ask_for_each_move
from tests.support.transactions import ADMIN, CHECKER, ESCROW_ACCOUNT, TransactionsHarness

T = pb.Transaction


@pytest.fixture
async def transactions(service_database) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


@pytest.fixture
async def distributions(service_database) -> DistributionsHarness:
    return DistributionsHarness(await service_database("distributions"))


async def proceeds(transactions: TransactionsHarness) -> Any:
    """Proceeds that admin-1 asked for, and that wait."""
    payout = await transactions.payout("sponsor-1", type=T.ESCROW_WITHDRAWAL)
    await transactions.work()
    return await transactions.get(payout.transaction_id)


async def test_each_kind_of_transactions_says_before_a_yes_what_it_would_do_to_the_book_and_who_would_refuse_it(
    transactions: TransactionsHarness, service_database, tmp_path
) -> None:
    debit = await transactions.ask(ADMIN, "CreateTransaction", await transactions.deposit_request())
    paid, refund = await proceeds(transactions), await transactions.payout("inv-002", type=T.REFUND)
    await transactions.work()
    made = await transactions.deposit("inv-003", "03")
    replay = await transactions.ask_for_replay(made)
    assert (list(replay.effects), replay.explanations[0].statement) == (
        [],
        "The provider says settled: that is known, and nothing would change.",
    )
    transactions.escrow.post(  # as escrow has heard of it
        ESCROW_ACCOUNT, JournalEntry.DEPOSIT, "cash", "subscription:inv-003", 100_00, transaction_id=made.transaction_id
    )
    wire = await confirm(transactions, await announce(transactions, party_id="inv-004"))
    about = {"transaction_id": wire.transaction_id}
    transactions.escrow.post(ESCROW_ACCOUNT, JournalEntry.DEPOSIT, "cash", "subscription:inv-004", 100_00, **about)
    await report(transactions, wire, "WIRE_RETURNED")
    transactions.bank.report(made.transaction_id, PaymentStatus.RETURNED, "R01")
    replay = await transactions.waiting(replay.resource_id)
    found = [await transactions.waiting(each.transaction_id) for each in (debit, paid, refund, wire)]
    paying, payout = await pay_by_file(await service_database("transactions"), tmp_path)
    said = {"transaction_id": payout.transaction_id, "reason": T.Reversal.DUPLICATE, "note": "Twice."}
    await paying.ask(ADMIN, "ReverseTransaction", pb.ReverseTransactionRequest(idempotency_key=new_id("key"), **said))
    reversal = await paying.waiting(payout.transaction_id)
    check_dossiers(transactions.approvals, [*found, replay, reversal])
    assert effects_of(reversal)["PAYABLE"] == (1_000_000_00 - 50_00, 1_000_000_00)
    cash = transactions.escrow.book[ESCROW_ACCOUNT, "cash"] * -1
    assert [effects_of(each) for each in (*found, replay)] == [
        {"CASH": (cash, cash + 100_00), "SUBSCRIPTION": (0, 100_00)},
        {"CASH": (cash, cash - 50_00), "ISSUER_PROCEEDS": (2_000_000_00, 2_000_000_00 - 50_00)},
        {"CASH": (cash, cash - 50_00), "SUBSCRIPTION": (1_000_000_00, 1_000_000_00 - 50_00)},
        {"CASH": (cash, cash - 100_00), "SUBSCRIPTION": (100_00, 0)},
        {"CASH": (cash, cash - 100_00), "SUBSCRIPTION": (100_00, 0)},
    ]


async def test_what_would_refuse_a_payment_is_said_before_the_yes_and_who_is_away_hides_nothing_else(
    transactions: TransactionsHarness,
) -> None:
    debit = await transactions.ask(ADMIN, "CreateTransaction", await transactions.deposit_request())
    paid = await proceeds(transactions)
    transactions.escrow.hold(ESCROW_ACCOUNT, "issuer_proceeds", 999_999_99)
    transactions.escrow.accounts[ESCROW_ACCOUNT].status = EscrowAccount.FROZEN
    transactions.compliance.uncleared["sponsor-1"] = "KYC is EXPIRED"
    request = bank_pb.DeleteBankAccountRequest(bank_account_id=paid.bank_account_id)
    await transactions.ask(CHECKER, "DeleteBankAccount", request)
    read = await transactions.waiting(paid.transaction_id)
    shut = ["BANK_ACCOUNT_USABLE", "PARTY_CLEARED", "ESCROW_ACTIVE", "AVAILABLE_BALANCE"]
    assert gates_of(read, "shut") == shut
    coming = await transactions.waiting(debit.transaction_id)
    assert "INVESTMENT_PENDING" in gates_of(coming, "open")
    assert effects_of(coming)["UNAPPLIED"] == (0, 100_00), "where what comes into a frozen account is put"
    with transactions.wire.cut(transactions.escrow), transactions.wire.cut(transactions.distributions):
        coming = await transactions.waiting(debit.transaction_id)
    explanations = {each.rule: each.statement for each in coming.explanations}
    assert explanations["ESCROW_ACTIVE"] == "Escrow cannot be asked now."
    assert explanations["INVESTMENT_PENDING"] == "Distributions cannot be asked now."
    assert explanations["BANK_ACCOUNT_FIRST_USE"] == "No payout has arrived there."


async def test_each_kind_of_distributions_says_before_a_yes_what_it_would_do_to_the_book_and_who_would_refuse_it(
    distributions: DistributionsHarness,
) -> None:
    offering, found = await ask_for_each_move(distributions)
    check_dossiers(distributions.workflow, found)
    distributions.escrow.accounts[offering.escrow_account_id].status = EscrowAccount.FROZEN
    distributions.escrow.hold(offering.escrow_account_id, "subscription:inv-002", 1)
    distributions.compliance.uncleared["inv-001"] = "KYC is EXPIRED"
    shut = gates_of(await distributions.read_approval(found[-1].approval_id), "shut")
    assert shut == ["ESCROW_ACTIVE", "AVAILABLE_BALANCE", "CASH_COVERS", "PAYEES_CLEARED"]


async def test_what_went_out_before_it_came_in_as_told_is_paid_to_nobody(distributions: DistributionsHarness) -> None:
    offering = await distributions.offering(150_00)
    await distributions.invest(offering, "inv-001", 100_00)
    late = await distributions.invest(offering, "inv-002", 50_00, fund=False)
    account, named = offering.escrow_account_id, {"investment_id": late.investment_id, "transaction_id": new_id("txn")}
    post = distributions.escrow.post
    await distributions.deliver(post(account, JournalEntry.RETURN, "subscription:inv-002", "cash", 50_00, **named))
    refund = opb.RefundOfferingRequest(offering_id=offering.offering_id, note="The sale fell through.")
    asked = await distributions.ask(distributions.offerings.RefundOffering, refund)
    assert {each.ledger_account.party_id for each in asked.effects} == {"", "inv-001"}


async def test_a_webhook_about_an_earlier_attempt_is_described_by_that_and_not_by_the_current_one(
    transactions: TransactionsHarness,
) -> None:
    made = await transactions.deposit()
    await transactions.work()
    first = transactions.bank.report(made.transaction_id, PaymentStatus.RETURNED, "R01", at=transactions.clock.now())
    await transactions.hook("evt_1", first)
    await transactions.work()
    transactions.clock.advance(timedelta(days=8))
    await transactions.work(hurried=True)
    assert (await transactions.get(made.transaction_id)).presentments == 2
    transactions.bank.report(made.transaction_id, PaymentStatus.SETTLED)
    asked = await transactions.ask_to_apply_again()
    assert gates_of(asked, "shut") == ["PROVIDER_SAYS"]
    assert asked.explanations[0].statement == "Nothing moves: it is of an earlier attempt."
    assert list(asked.effects) == []
