"""What books the same in other words is told to whoever approves it."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from realco.escrow.v1 import escrow_accounts_pb2 as accounts_pb
from realco.escrow.v1 import journal_pb2 as journal_pb
from realco.type.v1.approval_pb2 import Approval

from services.chassis.values.approval_bounds import OPEN_MAX
from tests.support.escrow import Escrow, key, new_entry

FEE = (("distributable", 500), ("suspense", -500))
DISGUISES = {
    "another word": new_entry(*FEE, description="Fee of March."),
    "the legs in another order": new_entry(*reversed(FEE)),
    "more legs": new_entry(("distributable", 200), ("distributable", 300), ("suspense", -500)),
    "an id and words of its own": new_entry(*FEE, external_id="fee-2", metadata={"month": "3"}),
    "a leg there and back": new_entry(*FEE, ("fees", 1), ("fees", -1)),
    "another day": new_entry(*FEE, effective_time=Timestamp(seconds=1_700_000_000)),
}


def alone(account: str, entry: journal_pb.NewJournalEntry) -> journal_pb.PostJournalEntryRequest:
    return journal_pb.PostJournalEntryRequest(escrow_account_id=account, idempotency_key=key(), journal_entry=entry)


def in_a_batch(account: str, entry: journal_pb.NewJournalEntry) -> journal_pb.BatchPostJournalEntriesRequest:
    items = [{"idempotency_key": key(), "journal_entry": entry}]
    return journal_pb.BatchPostJournalEntriesRequest(escrow_account_id=account, items=items)


async def ask(escrow: Escrow, request: Message) -> Approval:
    asked: Approval = await escrow.ask(request.DESCRIPTOR.name.removesuffix("Request"), request)
    return asked


@pytest.mark.parametrize("spell", [alone, in_a_batch])
@pytest.mark.parametrize("disguise", DISGUISES.values(), ids=DISGUISES)
async def test_an_entry_that_books_the_same_in_other_words_is_told_to_whoever_approves_it(
    escrow: Escrow, disguise, spell
):
    account = await escrow.open()
    await escrow.post(account, ("cash", 2000), ("distributable", -2000))
    first = await ask(escrow, alone(account, new_entry(*FEE)))
    await escrow.grant(first)
    explanation = (await ask(escrow, spell(account, disguise))).explanations[0]
    assert (explanation.rule, explanation.operands[0].value) == ("SAME_EFFECT", first.approval_id)


async def test_what_one_person_has_wait_does_not_hide_what_was_approved_before(escrow: Escrow):
    account = await escrow.open()
    await escrow.post(account, ("cash", 20000), ("distributable", -20000))
    first = await ask(escrow, alone(account, new_entry(*FEE)))
    await escrow.grant(first)
    for number in range(OPEN_MAX):
        entry = new_entry(("distributable", 500), ("reserves", -500), description=f"Number {number}.")
        await ask(escrow, in_a_batch(account, entry))
    again = await ask(escrow, alone(account, DISGUISES["another word"]))
    assert (again.explanations[0].rule, again.explanations[0].operands[0].value) == ("SAME_EFFECT", first.approval_id)


async def test_what_was_approved_is_told_before_all_that_one_person_has_wait_and_does_the_same(escrow: Escrow):
    account = await escrow.open()
    await escrow.post(account, ("cash", 20000), ("distributable", -20000))
    first = await ask(escrow, alone(account, new_entry(*FEE)))
    await escrow.grant(first)
    for number in range(OPEN_MAX):
        await ask(escrow, in_a_batch(account, new_entry(*FEE, description=f"Number {number}.")))
    told = (await ask(escrow, alone(account, DISGUISES["another word"]))).explanations
    assert [each.rule for each in told[:20]] == ["SAME_EFFECT"] * 20
    assert told[0].operands[0].value == first.approval_id


@pytest.mark.parametrize(
    "other",
    [
        new_entry(("distributable", 500), ("reserves", -500)),
        new_entry(("suspense", 500), ("distributable", -500)),
        new_entry(*FEE, type_=journal_pb.JournalEntry.FEE),
    ],
    ids=["elsewhere", "the other way", "another type"],
)
async def test_an_entry_that_books_something_else_is_not_the_same(escrow: Escrow, other):
    account = await escrow.open()
    await escrow.post(account, ("cash", 2000), ("distributable", -1000), ("suspense", -1000))
    await ask(escrow, alone(account, new_entry(*FEE)))
    asked = await ask(escrow, alone(account, other))
    assert "SAME_EFFECT" not in [each.rule for each in asked.explanations]


async def test_the_end_of_another_freeze_is_not_the_same(escrow: Escrow):
    account = await escrow.open()
    for note in ("A claim.", "Another claim."):
        await escrow.freeze(account, note)
        unfreeze = accounts_pb.UnfreezeEscrowAccountRequest(escrow_account_id=account, idempotency_key=key())
        asked = await ask(escrow, unfreeze)
        assert list(asked.explanations) == []
        await escrow.grant(asked)
