"""What persons take by hand of what was booked for an investment: they name it, before anybody approves."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf.message import Message
from realco.escrow.v1 import holds_pb2 as holds_pb
from realco.escrow.v1 import journal_pb2 as journal_pb
from realco.type.v1.approval_pb2 import Approval

from services.chassis.values.errors import InvalidField
from services.escrow.domain.chart import Direction, LedgerAccount, LedgerAccountKind, line_of
from services.escrow.domain.investments import COUNTED_KINDS
from tests.support.escrow import Escrow, key, new_entry
from tests.support.ledger_accounts import ledger_account
from tests.support.peers.orders import release

MINE, OTHER = "inv_1" + "0" * 25, "inv_2" + "0" * 25
UNAPPLIED = "unapplied:inv-001"


def ask_for(account: str, *entries: journal_pb.NewJournalEntry) -> journal_pb.BatchPostJournalEntriesRequest:
    items = [{"idempotency_key": key(), "journal_entry": each} for each in entries]
    return journal_pb.BatchPostJournalEntriesRequest(escrow_account_id=account, items=items)


@pytest.mark.parametrize("kind", sorted(COUNTED_KINDS))
async def test_what_was_booked_for_an_investment_is_taken_by_hand_by_an_entry_that_names_it(
    escrow: Escrow, kind: LedgerAccountKind
) -> None:
    account, mine = await escrow.open(), f"{kind.lower()}:inv-001"
    mine_spelled = str(LedgerAccount(kind, "inv-001"))
    escrow.distributions.investments[account] = {MINE: "inv-001"}
    is_owed_to_it = line_of(kind).normal_balance is Direction.CREDIT
    # What a party owes is taken from where it is settled. Of each pair the first is debited.
    more, less = (("cash", mine), (mine, "suspense")) if is_owed_to_it else ((mine, "fees"), ("cash", mine))
    await escrow.post(account, ("cash", 100), ("fees", -100))
    await escrow.post(account, (more[0], 50), (more[1], -50), investment_id=MINE)
    await escrow.post(account, (more[0], 20), (more[1], -20))

    def take(minor: int, **values: str) -> journal_pb.NewJournalEntry:
        return new_entry((less[0], minor), (less[1], -minor), **values)

    for entries, refused in (
        ([take(20)], None),
        ([take(21)], 0),
        ([take(11), take(9)], None),
        ([take(11), take(10)], 1),
        ([new_entry((more[0], 5), (more[1], -5)), take(25)], None),
        ([take(50, investment_id=MINE), take(20)], None),
    ):
        asking: list[tuple[str, Message]] = [("BatchPostJournalEntries", ask_for(account, *entries))]
        if len(entries) == 1:
            alone = {"idempotency_key": key(), "journal_entry": entries[0]}
            asking.append(("PostJournalEntry", journal_pb.PostJournalEntryRequest(escrow_account_id=account, **alone)))
        for rpc, request in asking:
            if refused is None:
                assert (await escrow.ask(rpc, request)).status == Approval.PENDING
                continue
            with pytest.raises(InvalidField) as refusal:
                await escrow.ask(rpc, request)
            path = f"items[{refused}]." if rpc == "BatchPostJournalEntries" else ""
            fault = f"is required: what is taken from {mine_spelled} was booked for one"
            assert refusal.value.fields == {f"{path}journal_entry.investment_id": fault}
            assert refusal.value.message.endswith(
                " was booked for no investment: name the investment that the rest was booked for."
            )


@pytest.fixture
async def account(escrow: Escrow) -> str:
    """Of the UNAPPLIED of inv-001, 50 were booked for an investment and 20 for none."""
    account = await escrow.open()
    escrow.distributions.investments[account] = {MINE: "inv-001"}
    await escrow.post(account, ("cash", 50), (UNAPPLIED, -50), investment_id=MINE)
    await escrow.post(account, ("cash", 20), (UNAPPLIED, -20))
    return account


def take_for_none(account: str, to: str) -> journal_pb.BatchPostJournalEntriesRequest:
    return ask_for(account, new_entry((UNAPPLIED, 20), (to, -20)))


async def test_two_that_take_the_same_for_no_investment_are_not_both_approved(escrow: Escrow, account: str) -> None:
    asked = [await escrow.ask("BatchPostJournalEntries", take_for_none(account, to)) for to in ("fees", "suspense")]
    await escrow.grant(asked[0])
    with pytest.raises(InvalidField):
        await escrow.approve(asked[1])
    assert await escrow.posted(account) == {"cash": 70, UNAPPLIED: 50, "fees": 20}


async def test_two_that_are_approved_at_once_do_not_both_take_the_same(escrow: Escrow) -> None:
    for _ in range(5):
        account = await escrow.open()
        escrow.distributions.investments[account] = {MINE: "inv-001"}
        await escrow.post(account, ("cash", 50), (UNAPPLIED, -50), investment_id=MINE)
        await escrow.post(account, ("cash", 20), (UNAPPLIED, -20))
        asked = [await escrow.ask("BatchPostJournalEntries", take_for_none(account, to)) for to in ("fees", "suspense")]
        await asyncio.gather(*(escrow.approve(each) for each in asked), return_exceptions=True)
        posted = await escrow.posted(account)
        assert posted[UNAPPLIED] == 50, "the book asks under its lock"


async def test_what_is_reversed_is_not_taken_from_an_investment_where_it_is_gone_by_then(
    escrow: Escrow, account: str
) -> None:
    added = (await escrow.journal())[-1]
    await escrow.grant(await escrow.ask("BatchPostJournalEntries", take_for_none(account, "fees")))
    back = journal_pb.NewJournalEntry(
        type="REVERSAL", reverses_journal_entry_id=added.journal_entry_id, description="a second thought"
    )
    with pytest.raises(InvalidField) as refused:
        await escrow.ask("BatchPostJournalEntries", ask_for(account, back))
    assert list(refused.value.fields) == ["items[0].journal_entry.reverses_journal_entry_id"]


async def test_what_an_item_that_is_refused_would_have_brought_is_taken_by_no_other(escrow: Escrow) -> None:
    account, subscription = await escrow.open(), "subscription:inv-001"
    escrow.distributions.investments[account] = {MINE: "inv-001"}
    await escrow.post(account, ("cash", 50), (subscription, -50), investment_id=MINE)
    wanted = ask_for(
        account,
        new_entry(("reserves", 50), (subscription, -50)),  # which nobody has
        new_entry((subscription, 50), ("suspense", -50)),
    )
    with pytest.raises(InvalidField) as refused:
        await escrow.ask("BatchPostJournalEntries", wanted)
    assert list(refused.value.fields) == ["items[1].journal_entry.investment_id"]
    await escrow.post(account, ("cash", 50), ("reserves", -50))
    asked = await escrow.ask("BatchPostJournalEntries", wanted)
    await escrow.post(account, ("reserves", 50), ("cash", -50))  # meanwhile they are gone
    await asyncio.gather(escrow.approve(asked), return_exceptions=True)
    assert await escrow.posted(account) == {"cash": 50, subscription: 50}


@pytest.mark.parametrize("kind", ["subscription", "unapplied"])
async def test_what_is_captured_of_an_investment_names_it(escrow: Escrow, kind: str) -> None:
    account, mine = await escrow.open(), f"{kind}:inv-001"
    escrow.distributions.investments[account] = {MINE: "inv-001"}
    await escrow.post(account, ("cash", 50), (mine, -50), investment_id=MINE)
    hold = await escrow.hold(account, mine, 50)
    request = holds_pb.CaptureHoldRequest(
        idempotency_key=key(),
        escrow_account_id=account,
        hold_id=hold.hold_id,
        to_ledger_account=ledger_account("suspense"),
    )
    for named in ("", OTHER):
        request.investment_id = named
        with pytest.raises(InvalidField) as refused:
            await escrow.ask("CaptureHold", request)
        assert list(refused.value.fields) == ["investment_id"]
    request.investment_id = MINE
    await escrow.grant(await escrow.ask("CaptureHold", request))
    captured = (await escrow.journal())[-1]
    assert (captured.type, captured.investment_id) == (journal_pb.JournalEntry.CAPTURE, MINE)


async def test_who_approves_a_capture_reads_that_what_it_brings_counts_for_no_investment(escrow: Escrow) -> None:
    account = await escrow.open()
    escrow.distributions.investments[account] = {MINE: "inv-001"}
    await escrow.post(account, ("cash", 50), ("fees", -50))
    hold = await escrow.hold(account, "fees", 50)
    request = holds_pb.CaptureHoldRequest(
        idempotency_key=key(),
        escrow_account_id=account,
        hold_id=hold.hold_id,
        to_ledger_account=ledger_account("subscription:inv-001"),
    )
    asked = await escrow.ask("CaptureHold", request)
    assert "COUNTS_FOR_NO_INVESTMENT" in [each.rule for each in asked.explanations]


async def test_what_a_reversal_of_a_release_brings_back_is_the_investments_still(escrow: Escrow) -> None:
    account, subscription = await escrow.open(), "subscription:inv-001"
    escrow.distributions.investments[account] = {MINE: "inv-001"}
    await escrow.post(account, ("cash", 50), (subscription, -50), investment_id=MINE)
    released = await escrow.call("ReleaseSubscriptions", release(account, ("inv-001", 50)), escrow.transactions)
    back = journal_pb.NewJournalEntry(
        type="REVERSAL", reverses_journal_entry_id=released.journal_entry_id, description="a second thought"
    )
    await escrow.grant(await escrow.ask("BatchPostJournalEntries", ask_for(account, back)))
    with pytest.raises(InvalidField):
        await escrow.ask("BatchPostJournalEntries", ask_for(account, new_entry((subscription, 50), ("suspense", -50))))


async def test_a_release_takes_nothing_of_what_was_booked_for_no_investment(escrow: Escrow) -> None:
    account = await escrow.open()
    escrow.distributions.investments[account] = {MINE: "inv-001"}
    await escrow.post(account, ("cash", 50), ("subscription:inv-001", -50), investment_id=MINE)
    await escrow.call("ReleaseSubscriptions", release(account, ("inv-001", 50)), escrow.transactions)
    await escrow.post(account, ("cash", 20), ("subscription:inv-001", -20))
    asked = ask_for(account, new_entry(("subscription:inv-001", 20), ("suspense", -20)))
    assert (await escrow.ask("BatchPostJournalEntries", asked)).status == Approval.PENDING


async def test_no_more_is_settled_of_what_an_investment_owes_than_it_owes(escrow: Escrow) -> None:
    """Else it shows less than nothing, and another one of the same party shows for ever what is settled."""
    account, owed = await escrow.open(), "returns_receivable:inv-001"
    escrow.distributions.investments[account] = {MINE: "inv-001", OTHER: "inv-001"}
    await escrow.post(account, ("cash", 300), ("fees", -300))
    for investment_id, minor in ((MINE, 100), (OTHER, 200)):
        await escrow.post(account, (owed, minor), ("cash", -minor), investment_id=investment_id)

    def settle(minor: int, investment_id: str) -> journal_pb.BatchPostJournalEntriesRequest:
        return ask_for(account, new_entry(("cash", minor), (owed, -minor), investment_id=investment_id))

    with pytest.raises(InvalidField) as refused:
        await escrow.ask("BatchPostJournalEntries", settle(250, MINE))
    assert refused.value.fields == {
        "items[0].journal_entry.investment_id": "has no more than 1.00 USD on returns receivable of inv-001"
    }
    for minor, investment_id in ((100, MINE), (200, OTHER)):
        await escrow.grant(await escrow.ask("BatchPostJournalEntries", settle(minor, investment_id)))
    assert await escrow.posted(account) == {"cash": 300, "fees": 300}
