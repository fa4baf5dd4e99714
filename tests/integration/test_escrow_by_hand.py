"""What is there because persons posted it, which whoever has money leave reads before; and what a freeze holds up."""

from __future__ import annotations

from datetime import timedelta
from itertools import product

import pytest
import sqlalchemy as sa
from realco.compliance.v1.notary_pb2 import Movement
from realco.escrow.v1 import escrow_accounts_pb2 as accounts_pb
from realco.escrow.v1 import holds_pb2 as holds_pb
from realco.escrow.v1 import journal_pb2 as journal_pb
from realco.escrow.v1 import postings_pb2 as postings_pb
from realco.transactions.v1.transactions_pb2 import Transaction

from services.chassis.calls.auth import Principal, service_principal
from services.chassis.calls.wire import to_timestamp
from services.escrow.domain.journal import EntryType, is_by_hand
from services.escrow.domain.posted_by_hand import POSTED_WITHIN
from services.escrow.tables import BY_HAND
from tests.support.escrow import Escrow, Payment, key, new_entry
from tests.support.ledger_accounts import ledger_account
from tests.support.money import usd

RULE = "MONEY_POSTED_BY_HAND"


async def test_whoever_distributes_closes_or_pays_reads_what_persons_put_there_by_hand(escrow: Escrow) -> None:
    account, asking = await escrow.open(), service_principal("distributions", escrow.org_id)
    await escrow.post(account, ("cash", 12_00), ("distributable", -12_00))
    deadline = escrow.clock.now()
    await escrow.pass_time(seconds=1)
    await escrow.post(account, ("cash", 3_00), ("unapplied:inv-001", -3_00))
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
    said = "Within 365 days persons posted 18.00 USD in its book by hand, with no bank asked, the last on"
    assert all(each.startswith(said) for each in (of_closing, of_payout, by_hand))
    assert of_closing.endswith(f"After the deadline of {deadline:%Y-%m-%d %H:%M} UTC: 6.00 USD.")
    assert [one.amount.amount_minor for one in found[0].operands] == [12_00, 3_00, 3_00], "the largest first"
    await escrow.pass_time(days=POSTED_WITHIN / timedelta(days=1))
    late = await escrow.call("GetTransactionPreview", payout, asking)
    [told] = [each.statement for each in late.explanations if each.rule == RULE]
    assert "days persons posted 6.00 USD" in told


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


@pytest.mark.parametrize(
    ("act", "said"),
    [
        pytest.param("reversal", "1.00", id="a return that is undone is cash that no bank brought"),
        pytest.param("capture", "1.00", id="money that its bank may take back is captured for somebody else"),
        pytest.param("debt", "0.50", id="a debt reads as if a bank had taken money back"),
        pytest.param("cash", "0.50", id="cash covers what is paid, whatever it is for"),
    ],
)
async def test_what_persons_do_in_the_book_by_hand_is_told_whatever_it_is(escrow: Escrow, act: str, said: str) -> None:
    account, asking = await escrow.open(), service_principal("distributions", escrow.org_id)
    payment = Payment(account, "ESCROW_DEPOSIT", 1_00)
    await payment.happens(escrow, "SETTLED", *(["RETURNED"] if act == "reversal" else []))
    if act == "reversal":
        [*_, returned] = await escrow.journal()
        await escrow.post(account, reverses_journal_entry_id=returned.journal_entry_id)
    elif act == "capture":
        holds = await escrow.call("ListHolds", holds_pb.ListHoldsRequest(escrow_account_id=account))
        to = holds_pb.CaptureHoldRequest(to_ledger_account=ledger_account("fees"), idempotency_key=key())
        to.escrow_account_id, to.hold_id = account, holds.holds[0].hold_id
        await escrow.call("CaptureHold", to)
    else:
        legs = {
            "debt": [("returns_receivable:inv-002", 50), ("suspense", -50)],
            "cash": [("cash", 50), ("suspense", -50)],
        }
        await escrow.post(account, *legs[act])
    request = postings_pb.GetMovementPreviewRequest(
        escrow_account_id=account,
        kind=Movement.CLOSE_OFFERING,
        parts=[postings_pb.PartyAmount(party_id="inv-001", amount=usd(1_00))],
    )
    preview = await escrow.call("GetMovementPreview", request, asking)
    [told] = [each.statement for each in preview.explanations if each.rule == RULE]
    assert f"persons posted {said} USD" in told


async def test_what_an_entry_says_of_itself_is_what_the_database_counts_by(escrow: Escrow) -> None:
    table = list(product(EntryType, ("txn_1", None), ("admin-1", "service:transactions")))
    rows = sa.values(*(sa.column(name, sa.Text) for name in ("type", "transaction_id", "created_by")), name="entries")
    counted = sa.select(sa.text(f"coalesce({BY_HAND}, false)")).select_from(
        rows.data([(type_.value, transaction_id, person) for type_, transaction_id, person in table])
    )
    async with escrow.database.begin(escrow.org_id) as tx:
        assert list(await tx.scalars(counted)) == [is_by_hand(*each) for each in table]


async def test_what_is_cancelled_on_its_way_moved_nothing_by_hand(escrow: Escrow) -> None:
    account = await escrow.open()
    payment = Payment(account, "ESCROW_DEPOSIT", 1_00)
    await payment.happens(escrow, "SUBMITTED")
    await payment.happens(escrow, "CANCELLED")
    assert [(each.created_by, each.by_hand) for each in await escrow.journal()] == [
        ("admin-1", False),
        ("admin-1", True),
    ]
    request = postings_pb.GetMovementPreviewRequest(
        escrow_account_id=account,
        kind=Movement.CLOSE_OFFERING,
        parts=[postings_pb.PartyAmount(party_id="inv-001", amount=usd(1_00))],
    )
    preview = await escrow.call("GetMovementPreview", request, service_principal("distributions", escrow.org_id))
    assert RULE not in {each.rule for each in preview.explanations}
