"""What persons take by hand of what was booked for an investment: they name it, before anybody approves."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message
from realco.escrow.v1 import journal_pb2 as journal_pb
from realco.type.v1.approval_pb2 import Approval

from services.chassis.values.errors import InvalidField
from services.escrow.domain.chart import Direction, LedgerAccount, LedgerAccountKind, line_of
from services.escrow.domain.investments import COUNTED_KINDS
from tests.support.escrow import Escrow, key, new_entry
from tests.support.peers.orders import release

MINE = "inv_1" + "0" * 25


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


async def test_two_that_take_the_same_for_no_investment_are_not_both_approved(escrow: Escrow) -> None:
    account = await escrow.open()
    escrow.distributions.investments[account] = {MINE: "inv-001"}
    await escrow.post(account, ("cash", 50), ("unapplied:inv-001", -50), investment_id=MINE)
    await escrow.post(account, ("cash", 20), ("unapplied:inv-001", -20))
    asked = [
        await escrow.ask("BatchPostJournalEntries", ask_for(account, new_entry(("unapplied:inv-001", 20), (to, -20))))
        for to in ("fees", "suspense")
    ]
    await escrow.grant(asked[0])
    with pytest.raises(InvalidField):
        await escrow.approve(asked[1])
    assert await escrow.posted(account) == {"cash": 70, "unapplied:inv-001": 50, "fees": 20}


async def test_a_release_takes_nothing_of_what_was_booked_for_no_investment(escrow: Escrow) -> None:
    account = await escrow.open()
    escrow.distributions.investments[account] = {MINE: "inv-001"}
    await escrow.post(account, ("cash", 50), ("subscription:inv-001", -50), investment_id=MINE)
    await escrow.call("ReleaseSubscriptions", release(account, ("inv-001", 50)), escrow.transactions)
    await escrow.post(account, ("cash", 20), ("subscription:inv-001", -20))
    asked = ask_for(account, new_entry(("subscription:inv-001", 20), ("suspense", -20)))
    assert (await escrow.ask("BatchPostJournalEntries", asked)).status == Approval.PENDING
