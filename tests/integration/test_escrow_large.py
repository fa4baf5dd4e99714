"""What is too much for one batch, one answer or one amount is refused with a reason, and nothing is stuck by it."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest
from realco.escrow.v1 import journal_pb2 as pb
from realco.escrow.v1 import postings_pb2 as postings_pb
from realco.type.v1.approval_pb2 import Approval

from services.chassis.values.errors import DomainError
from services.escrow.domain.journal import AMOUNT_MINOR_MAX, BATCH_BYTES_MAX, BATCH_LEGS_MAX
from tests.support.escrow import Escrow, key, new_entry, refusal
from tests.support.peers.orders import parts

WIDEST = 10**15  # the greatest amount of the contract
MOST = AMOUNT_MINOR_MAX // 2  # of one entry


def build_batch(account: str, *entries: pb.NewJournalEntry) -> pb.BatchPostJournalEntriesRequest:
    items = [pb.BatchPostJournalEntriesRequest.Item(idempotency_key=key(), journal_entry=each) for each in entries]
    return pb.BatchPostJournalEntriesRequest(escrow_account_id=account, items=items)


async def refused_fields(escrow: Escrow, request: Any) -> dict[str, str]:
    with pytest.raises(DomainError) as refused:
        await escrow.ask("BatchPostJournalEntries", request)
    return dict(refused.value.fields)


async def test_the_largest_batch_that_is_taken_is_booked_once_and_its_answer_is_kept(escrow: Escrow) -> None:
    account = await escrow.open()
    legs = [*[("cash", 1)] * 2, ("fees", -1), (f"subscription:pty_{'0' * 26}", -1)]
    entry = new_entry(*legs, description='"' * 200)  # JSON spells these twice as long
    request = build_batch(account, *[entry] * (BATCH_LEGS_MAX // len(legs)))
    for number in range(50 * len(request.items)):
        if request.ByteSize() + 1000 > BATCH_BYTES_MAX:
            break
        request.items[number // 50].journal_entry.metadata[f"key_{number % 50}"] = '"' * 500
    asked = await escrow.ask("BatchPostJournalEntries", request)
    done = await escrow.approve(asked)
    assert (done.status, len(done.result) > BATCH_BYTES_MAX) == (Approval.EXECUTED, True)
    assert (await escrow.posted(account))["cash"] == 2 * len(request.items)


async def test_a_batch_of_more_legs_or_bytes_is_refused_before_anybody_is_asked(escrow: Escrow) -> None:
    account = await escrow.open()
    many = build_batch(account, *[new_entry(*[("cash", 1), ("fees", -1)] * 500)] * 6)
    long = build_batch(account, *[new_entry(("cash", 1), ("fees", -1), metadata={"note": "x" * 2000})] * 600)
    assert await refused_fields(escrow, many) == {"items": f"have more than {BATCH_LEGS_MAX} legs together"}
    assert await refused_fields(escrow, long) == {"items": f"have more than {BATCH_BYTES_MAX} bytes together"}


async def test_what_moves_nothing_is_no_entry(escrow: Escrow) -> None:
    account = await escrow.open()
    with pytest.raises(DomainError) as refused:
        await escrow.post(account, ("cash", 5), ("cash", -5))
    assert refused.value.fields == {"journal_entry.legs": "give back to each ledger account what they take from it"}


async def test_sums_that_no_amount_can_say_are_refused_with_a_reason_until_they_are_reversed(escrow: Escrow) -> None:
    account = await escrow.open()
    legs = [[(f"returns_receivable:inv-{n}", MOST), (f"subscription:inv-{n}", -MOST)] for n in range(5)]
    for each in legs[:4]:
        await escrow.post(account, *each)
    assert (await escrow.trial_balance(account)).balanced
    last = [await escrow.post(account, *each) for each in legs[4:]]
    assert (await refusal(escrow.trial_balance(account)))[0] == "SUM_TOO_LARGE"
    with pytest.raises(asyncpg.NumericValueOutOfRangeError):  # which the server answers so, too
        await escrow.balance(account)
    for each in last:
        await escrow.post(account, reverses_journal_entry_id=each.journal_entry_id)
    assert (await escrow.trial_balance(account)).balanced
    assert (await escrow.balance(account)).escrow_account_id == account


@pytest.mark.parametrize("type_", ["DEPOSIT", "ESCROW_DEPOSIT", "DISTRIBUTION", "ESCROW_WITHDRAWAL", "REFUND"])
async def test_a_preview_of_more_than_a_ledger_account_takes_is_refused(escrow: Escrow, type_: str) -> None:
    account = await escrow.open()
    wanted = parts(*((f"inv-{number}", WIDEST) for number in range(9_500)))
    request = postings_pb.GetTransactionPreviewRequest(
        escrow_account_id=account, type=type_, parts=wanted, outcome="SETTLED"
    )
    with pytest.raises(DomainError) as refused:
        await escrow.call("GetTransactionPreview", request, escrow.transactions)
    assert refused.value.fields == {"parts": "are too large together"}
