"""What is there because persons posted it, which whoever has money leave reads before; and what a freeze holds up."""

from __future__ import annotations

from datetime import timedelta

from realco.compliance.v1.notary_pb2 import Movement
from realco.escrow.v1 import escrow_accounts_pb2 as accounts_pb
from realco.escrow.v1 import journal_pb2 as journal_pb
from realco.escrow.v1 import postings_pb2 as postings_pb
from realco.transactions.v1.transactions_pb2 import Transaction

from services.chassis.calls.auth import Principal, service_principal
from services.chassis.calls.wire import to_timestamp
from services.escrow.domain.posted_by_hand import POSTED_WITHIN
from tests.support.escrow import Escrow, Payment, key, new_entry
from tests.support.money import usd

RULE = "MONEY_POSTED_BY_HAND"


async def test_whoever_distributes_closes_or_pays_reads_what_persons_put_there_by_hand(escrow: Escrow) -> None:
    account, asking = await escrow.open(), service_principal("distributions", escrow.org_id)
    await escrow.post(account, ("cash", 12_00), ("distributable", -12_00))
    deadline = escrow.clock.now()
    await escrow.pass_time(seconds=1)
    await escrow.post(account, ("cash", 3_00), ("unapplied:inv-001", -3_00))  # nobody is paid from that
    await escrow.post(account, ("unapplied:inv-001", 3_00), ("subscription:inv-001", -3_00))
    part = postings_pb.PartyAmount(party_id="inv-001", amount=usd(3_00))
    closing = postings_pb.GetMovementPreviewRequest(
        escrow_account_id=account, kind=Movement.CLOSE_OFFERING, parts=[part], deadline_time=to_timestamp(deadline)
    )
    payout = postings_pb.GetTransactionPreviewRequest(
        escrow_account_id=account,
        type=Transaction.REFUND,
        parts=[part],
        outcome=postings_pb.GetTransactionPreviewRequest.SETTLED,
    )
    found = []
    for rpc, request in (("GetMovementPreview", closing), ("GetTransactionPreview", payout)):
        preview = await escrow.call(rpc, request, asking)
        found += [each for each in preview.explanations if each.rule == RULE]
    leaving = journal_pb.PostJournalEntryRequest(
        escrow_account_id=account, idempotency_key=key(), journal_entry=new_entry(("distributable", 1), ("cash", -1))
    )
    found += [each for each in (await escrow.ask("PostJournalEntry", leaving)).explanations if each.rule == RULE]
    [of_closing, of_payout, by_hand] = [each.statement for each in found]
    said = "Within 365 days 15.00 USD was put by hand on ledger accounts that money is paid from, the last on"
    assert all(each.startswith(said) for each in (of_closing, of_payout, by_hand))
    assert of_closing.endswith(f"After the deadline of {deadline:%Y-%m-%d %H:%M} UTC: 3.00 USD.")
    assert [one.amount.amount_minor for one in found[0].operands] == [12_00, 3_00], "the largest first"
    await escrow.pass_time(days=POSTED_WITHIN / timedelta(days=1))
    late = await escrow.call("GetTransactionPreview", payout, asking)
    [told] = [each.statement for each in late.explanations if each.rule == RULE]
    assert "days 3.00 USD was put" in told


async def test_whoever_lifts_a_freeze_reads_which_payments_are_not_finished(escrow: Escrow) -> None:
    account = await escrow.open()
    await escrow.freeze(account)
    lift = accounts_pb.UnfreezeEscrowAccountRequest(escrow_account_id=account, idempotency_key=key())
    assert not (await escrow.ask("UnfreezeEscrowAccount", lift)).explanations
    escrow.payer.unfinished[account] = ["txn_1", "txn_2"]
    lift.idempotency_key = key()
    colleague = Principal("admin-3", "admin", escrow.org_id)
    [told] = (await escrow.ask("UnfreezeEscrowAccount", lift, colleague)).explanations
    assert told.rule == "PAYMENTS_WAITING"
    assert [one.value for one in told.operands] == ["txn_1", "txn_2"]


async def test_what_persons_reverse_or_say_was_paid_back_is_put_there_by_hand_as_well(escrow: Escrow) -> None:
    """A return that is undone by hand is cash that no bank brought; who owes nothing keeps no closing waiting."""
    account, asking = await escrow.open(), service_principal("distributions", escrow.org_id)
    payment = Payment(account, "ESCROW_DEPOSIT", 1_00)
    await payment.happens(escrow, "SETTLED", "RETURNED")
    [*_, returned] = await escrow.journal()
    await escrow.post(account, reverses_journal_entry_id=returned.journal_entry_id)
    await escrow.post(account, ("returns_receivable:inv-002", 50), ("suspense", -50))
    await escrow.post(account, ("cash", 50), ("returns_receivable:inv-002", -50))
    request = postings_pb.GetMovementPreviewRequest(
        escrow_account_id=account,
        kind=Movement.CLOSE_OFFERING,
        parts=[postings_pb.PartyAmount(party_id="inv-001", amount=usd(1_00))],
    )
    preview = await escrow.call("GetMovementPreview", request, asking)
    [told] = [each.statement for each in preview.explanations if each.rule == RULE]
    assert "1.50 USD was put by hand" in told
