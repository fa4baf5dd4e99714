"""What is there because persons posted it, which whoever has money leave reads before; and what a freeze holds up."""

from __future__ import annotations

from datetime import timedelta
from itertools import product

import pytest
import sqlalchemy as sa
from google.protobuf.message import Message
from realco.compliance.v1.notary_pb2 import Movement
from realco.escrow.v1 import escrow_accounts_pb2 as accounts_pb
from realco.escrow.v1 import holds_pb2 as holds_pb
from realco.escrow.v1 import journal_pb2 as journal_pb
from realco.escrow.v1 import postings_pb2 as postings_pb
from realco.transactions.v1.transactions_pb2 import Transaction
from realco.type.v1.approval_pb2 import Approval

from services.chassis.calls.auth import Principal, service_principal
from services.chassis.calls.wire import to_timestamp
from services.chassis.values.errors import Unavailable
from services.chassis.values.explanation import Explanation
from services.chassis.values.refusals import InvestmentNotFound
from services.escrow.domain.journal import EntryType, is_by_hand
from services.escrow.domain.posted_by_hand import POSTED_WITHIN
from services.escrow.tables import BY_HAND
from tests.support.escrow import Escrow, key, new_entry
from tests.support.escrow_payments import Payment
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


@pytest.mark.parametrize("act", ["release", "capture a part", "lift a freeze", "lift a freeze with nothing waiting"])
async def test_whoever_lets_money_go_reads_what_it_rests_on(escrow: Escrow, act: str):
    account = await escrow.open()
    await escrow.post(account, ("cash", 10_00), ("suspense", -10_00))
    await escrow.post(account, ("returns_receivable:inv-001", 4_00), ("suspense", -4_00))
    escrow.payer.provisional = [
        Explanation(each, each) for each in ("MONEY_NOT_FINAL", "EXCEPTIONS_OPEN", "MONEY_CONFIRMED_BY_PERSONS")
    ]
    named = {"escrow_account_id": account, "idempotency_key": key()}
    if act.startswith("lift"):
        await escrow.freeze(account)
        escrow.payer.unfinished[account] = [] if act.endswith("nothing waiting") else ["txn_1"]
        request: Message = accounts_pb.UnfreezeEscrowAccountRequest(**named)
    else:
        named["hold_id"] = (await escrow.hold(account, "suspense", 1_00)).hold_id
        fees = ledger_account("fees")
        part = holds_pb.CaptureHoldRequest(**named, amount=usd(1), to_ledger_account=fees)
        request = holds_pb.ReleaseHoldRequest(**named) if act == "release" else part
    told = [
        each.rule for each in (await escrow.ask(request.DESCRIPTOR.name.removesuffix("Request"), request)).explanations
    ]
    wanted = {
        "MONEY_NOT_FINAL",
        "EXCEPTIONS_OPEN",
        "MONEY_CONFIRMED_BY_PERSONS",
        "MONEY_MISSING",
        "MONEY_POSTED_BY_HAND",
    }
    assert wanted & set(told) == (set() if act.endswith("nothing waiting") else wanted)
    assert len(told) == len(set(told))


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


MINE, HERS, NONE = (f"inv_{number}" + "0" * 25 for number in (1, 2, 3))


def ask_for(account: str, *entries: journal_pb.NewJournalEntry) -> journal_pb.BatchPostJournalEntriesRequest:
    items = [{"idempotency_key": key(), "journal_entry": each} for each in entries]
    return journal_pb.BatchPostJournalEntriesRequest(escrow_account_id=account, items=items)


@pytest.mark.parametrize(
    ("kind", "party_id", "investment_id", "is_refused"),
    [
        ("subscription", "inv-001", MINE, False),
        ("subscription", "inv-001", HERS, True),
        ("unapplied", "inv-001", HERS, True),
        ("subscription", "inv-001", NONE, True),
        ("fees", "", MINE, False),
        ("fees", "", NONE, True),
    ],
)
async def test_nobody_posts_for_an_investment_that_would_not_count_it(
    escrow: Escrow, kind: str, party_id: str, investment_id: str, is_refused: bool
) -> None:
    account, other = await escrow.open(), await escrow.open()
    escrow.distributions.investments[account] = {MINE: "inv-001", HERS: "inv-002"}
    name = f"{kind}:{party_id}" if party_id else kind
    entry = new_entry(("cash", 1), (name, -1), investment_id=investment_id)
    alone = {"idempotency_key": key(), "journal_entry": entry}
    asking = [
        ("", "PostJournalEntry", journal_pb.PostJournalEntryRequest(escrow_account_id=account, **alone)),
        ("items[1].", "BatchPostJournalEntries", ask_for(account, new_entry(("cash", 1), ("fees", -1)), entry)),
    ]
    for path, rpc, request in asking:
        if not is_refused:
            assert (await escrow.ask(rpc, request)).status == Approval.PENDING
            continue
        with pytest.raises(InvestmentNotFound) as refused:
            await escrow.ask(rpc, request)
        assert list(refused.value.fields) == [f"{path}journal_entry.investment_id"]
    with pytest.raises(InvestmentNotFound):  # that account keeps the money of no offering
        await escrow.ask("BatchPostJournalEntries", ask_for(other, entry))
    escrow.distributions.away = True
    with pytest.raises(Unavailable):
        await escrow.ask("BatchPostJournalEntries", ask_for(account, entry))


async def test_what_counts_for_no_investment_is_told_where_there_is_an_offering(escrow: Escrow) -> None:
    account, other = await escrow.open(), await escrow.open()
    escrow.distributions.investments[account] = {MINE: "inv-001"}
    named = new_entry(("cash", 1), ("subscription:inv-001", -1), investment_id=MINE)
    lost = new_entry(("cash", 2), ("subscription:inv-001", -2))
    there_and_back = new_entry(("cash", 3), ("unapplied:inv-001", -3), ("unapplied:inv-001", 3), ("distributable", -3))
    told = []
    for where, entries in ((account, [named, lost]), (account, [named, there_and_back]), (other, [lost])):
        asked = await escrow.ask("BatchPostJournalEntries", ask_for(where, *entries))
        told.append([each for each in asked.explanations if each.rule == "COUNTS_FOR_NO_INVESTMENT"])
    assert [len(each) for each in told] == [1, 0, 0]
    assert told[0][0].statement.startswith("What is posted on subscription of inv-001 names no investment")
    booked = await escrow.post(account, ("cash", 2), ("subscription:inv-001", -2))
    mirror = new_entry(reverses_journal_entry_id=booked.journal_entry_id)
    escrow.distributions.away = True  # it belongs to what its original does, and nobody is asked
    assert (await escrow.ask("BatchPostJournalEntries", ask_for(account, mirror))).status == Approval.PENDING


async def test_an_entry_of_an_earlier_day_says_so(escrow: Escrow) -> None:
    account, now = await escrow.open(), escrow.clock.now()
    today, earlier, longest_ago = (
        new_entry(("cash", 1), ("fees", -1), effective_time=to_timestamp(now - timedelta(days=days)))
        for days in (0.9, 1.1, 40)
    )
    said = []
    for entries in ([today], [earlier], [today, longest_ago, earlier]):
        asked = await escrow.ask("BatchPostJournalEntries", ask_for(account, *entries))
        said += [each.statement for each in asked.explanations if each.rule == "EFFECTIVE_BEFORE"]
    since = "ago: balances as of any time since then become others."
    once, oldest = (f"{now - timedelta(days=days):%Y-%m-%d %H:%M} UTC" for days in (1.1, 40))
    many = f"2 of 3 entries count as of an earlier time, the oldest as of {oldest}, 40 days {since}"
    assert said == [f"It counts as of {once}, 1 day {since}", many]
