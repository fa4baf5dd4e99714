"""What a second person reads about what the book is asked for by hand, and that nothing else is done."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from google.protobuf.message import Message
from realco.approvals.v1 import approvals_pb2
from realco.escrow.v1 import escrow_accounts_pb2 as accounts_pb
from realco.escrow.v1 import holds_pb2 as holds_pb
from realco.escrow.v1 import journal_pb2 as journal_pb
from realco.escrow.v1 import postings_pb2 as postings_pb
from realco.type.v1.approval_pb2 import Approval

from services.chassis.approvals.service import ApprovalsServicer
from services.chassis.calls.auth import acting_as
from services.chassis.values.etags import EtagMismatch
from services.chassis.values.explanation import Explanation
from services.chassis.values.ids import new_id
from services.chassis.values.refusals import ContentOutdated, IdempotencyKeyReused, PartyNotFound
from tests.support.approvals import check_dossiers, gates_of
from tests.support.escrow import SPONSOR, Escrow, key, new_entry, refusal
from tests.support.ledger_accounts import ledger_account
from tests.support.persons import Persons


@pytest.mark.parametrize(
    ("legs", "gaining"),
    [
        ((("distributable", 200), ("cash", -200)), []),
        ((("cash", 200), ("distributable", -200)), ["inv-001", SPONSOR]),
        ((("suspense", 200), ("subscription:inv-001", -200)), ["inv-001", SPONSOR]),
        ((("suspense", 200), ("unapplied:inv-001", -200)), ["inv-001"]),
        ((("distributable", 200), ("suspense", 300), ("suspense", -300), ("cash", -200)), []),
        ((("subscription:inv-001", 200), ("suspense", -200)), []),
    ],
    ids=[
        "cash leaves",
        "cash comes",
        "a contribution",
        "a party is owed more",
        "there and back",
        "a party is owed less",
    ],
)
async def test_the_amount_of_an_entry_is_what_it_moves(escrow: Escrow, legs, gaining):
    account = await escrow.open()
    await escrow.post(
        account, ("cash", 1000), ("distributable", -300), ("subscription:inv-001", -200), ("suspense", -500)
    )
    request = journal_pb.PostJournalEntryRequest(
        escrow_account_id=account, idempotency_key=key(), journal_entry=new_entry(*legs)
    )
    approval = await escrow.ask("PostJournalEntry", request)
    assert (approval.amount.amount_minor, list(approval.beneficiary_party_ids)) == (200, gaining)


async def test_who_was_to_close_an_active_account_does_not_close_one_that_was_frozen_meanwhile(escrow: Escrow):
    account = await escrow.open()
    asked = await escrow.ask("CloseEscrowAccount", accounts_pb.CloseEscrowAccountRequest(escrow_account_id=account))
    await escrow.freeze(account)
    approve = approvals_pb2.ApproveApprovalRequest(
        idempotency_key=key(), approval_id=asked.approval_id, content_hash=asked.content_hash, etag=asked.etag
    )
    with acting_as(dataclasses.replace(escrow.admin, subject="admin-2")), pytest.raises(ContentOutdated):
        await ApprovalsServicer(escrow.dependencies, escrow.approvals, Persons()).ApproveApproval(approve, None)
    get = accounts_pb.GetEscrowAccountRequest(escrow_account_id=account)
    assert (await escrow.call("GetEscrowAccount", get)).status == accounts_pb.EscrowAccount.FROZEN


async def test_an_approval_is_found_by_the_hold_or_the_entry_that_it_is_about_and_by_its_account(escrow: Escrow):
    account = await escrow.open()
    await escrow.post(account, ("cash", 100), ("suspense", -100))
    holds = [(await escrow.hold(account, "suspense", 40)).hold_id for _ in range(2)]
    entry = (await escrow.post(account, ("cash", 5), ("fees", -5))).journal_entry_id
    capture = holds_pb.CaptureHoldRequest(hold_id=holds[0], to_ledger_account=ledger_account("fees"))
    reversal = new_entry(reverses_journal_entry_id=entry)
    asked = [
        (holds[0], "CAPTURE_HOLD", capture),
        (holds[1], "RELEASE_HOLD", holds_pb.ReleaseHoldRequest(hold_id=holds[1])),
        (entry, "POST_JOURNAL_ENTRY", journal_pb.PostJournalEntryRequest(journal_entry=reversal)),
        (account, "POST_JOURNAL_ENTRY", journal_pb.PostJournalEntryRequest(journal_entry=FUNDED)),
    ]
    for resource_id, kind, request in asked:
        request.idempotency_key, request.escrow_account_id = key(), account
        summary = (await escrow.ask(name_rpc(request), request)).summary
        assert (entry in summary) == (resource_id == entry), "what is reversed is named"
        found = await escrow.list_approvals(resource_id=[resource_id])
        assert [(one.kind, one.resource_id, one.scope_id) for one in found] == [(kind, resource_id, account)]
    assert len(await escrow.list_approvals(scope_id=[account])) == len(asked)


FUNDED = new_entry(("cash", 5), ("suspense", -5))


def single(account: str, name: str) -> journal_pb.PostJournalEntryRequest:
    return journal_pb.PostJournalEntryRequest(escrow_account_id=account, idempotency_key=name, journal_entry=FUNDED)


def batch(account: str, *names: str) -> journal_pb.BatchPostJournalEntriesRequest:
    items = [{"idempotency_key": name, "journal_entry": FUNDED} for name in names]
    return journal_pb.BatchPostJournalEntriesRequest(escrow_account_id=account, items=items)


async def test_a_batch_that_is_asked_for_again_is_the_same_approval_even_when_it_is_done(escrow: Escrow):
    account = await escrow.open()
    asked = await escrow.ask("BatchPostJournalEntries", batch(account, "a", "b"))
    await escrow.grant(asked)
    assert await escrow.ask("BatchPostJournalEntries", batch(account, "a", "b")) == asked
    assert await escrow.posted(account) == {"cash": 10, "suspense": 10}


@pytest.mark.parametrize(
    ("first", "second", "named"),
    [
        (single("", "b"), batch("", "a", "b"), "items[1].idempotency_key"),
        (batch("", "a", "b"), single("", "b"), "idempotency_key"),
        (batch("", "a", "b"), batch("", "c", "b"), "items[1].idempotency_key"),
        (batch("", "a", "b"), batch("", "b", "a"), "items[0].idempotency_key"),
        (batch("", "a"), batch("", "a", "b"), "items[0].idempotency_key"),
    ],
    ids=["one, then in a batch", "in a batch, then alone", "other batches", "another order", "a longer batch"],
)
async def test_what_a_person_asks_for_once_is_not_booked_twice_by_a_batch(escrow: Escrow, first, second, named):
    account = await escrow.open()
    for request in (first, second):
        request.escrow_account_id = account
    asked = await escrow.ask(name_rpc(first), first)
    with pytest.raises(IdempotencyKeyReused) as reused:
        await escrow.ask(name_rpc(second), second)
    assert reused.value.fields == {named: "was used with another request"}
    await escrow.grant(asked)
    count = len(getattr(first, "items", [first]))
    assert await escrow.posted(account) == {"cash": 5 * count, "suspense": 5 * count}
    # What was refused left its other keys free.
    assert (await escrow.ask("PostJournalEntry", single(account, "c"))).status == Approval.PENDING


async def test_nobody_asks_for_an_entry_of_a_party_that_there_is_not(escrow: Escrow):
    account = await escrow.open()
    await escrow.post(account, ("cash", 10_00), ("suspense", -10_00))
    held = (await escrow.hold(account, "suspense", 1_00)).hold_id
    nobody = new_entry(("suspense", 1), ("subscription:nobody", -1))
    items = [{"idempotency_key": key(), "journal_entry": each} for each in (FUNDED, nobody)]
    receiving = ledger_account("subscription:nobody")
    asking = {
        "journal_entry.legs[1].ledger_account.party_id": journal_pb.PostJournalEntryRequest(
            escrow_account_id=account, idempotency_key=key(), journal_entry=nobody
        ),
        "items[1].journal_entry.legs[1].ledger_account.party_id": journal_pb.BatchPostJournalEntriesRequest(
            escrow_account_id=account, items=items
        ),
        "to_ledger_account.party_id": holds_pb.CaptureHoldRequest(
            escrow_account_id=account, hold_id=held, idempotency_key=key(), to_ledger_account=receiving
        ),
    }
    escrow.compliance.unknown.add("nobody")
    for field, request in asking.items():
        with pytest.raises(PartyNotFound) as refused:
            await escrow.ask(name_rpc(request), request)
        assert list(refused.value.fields) == [field]
    escrow.compliance.away = True  # what it cannot say now, the second person says
    for request in asking.values():
        assert (await escrow.ask(name_rpc(request), request)).status == Approval.PENDING


async def test_whoever_has_cash_leave_by_hand_reads_what_of_it_is_not_final_and_what_is_missing(escrow: Escrow):
    account = await escrow.open()
    await escrow.post(account, ("cash", 10_00), ("suspense", -10_00))
    await escrow.post(account, ("returns_receivable:inv-001", 4_00), ("suspense", -4_00))
    told = Explanation("5.00 USD may go back.", "MONEY_NOT_FINAL")
    escrow.payer.provisional = [told]
    leaving = journal_pb.PostJournalEntryRequest(
        escrow_account_id=account, idempotency_key=key(), journal_entry=new_entry(("suspense", 1), ("cash", -1))
    )
    staying = journal_pb.PostJournalEntryRequest(
        escrow_account_id=account, idempotency_key=key(), journal_entry=new_entry(("suspense", 1), ("fees", -1))
    )
    rules = {each.rule for each in (await escrow.ask("PostJournalEntry", leaving)).explanations}
    assert {"MONEY_NOT_FINAL", "MONEY_MISSING"} <= rules
    rules = {each.rule for each in (await escrow.ask("PostJournalEntry", staying)).explanations}
    assert not {"MONEY_NOT_FINAL", "MONEY_MISSING"} & rules


async def test_whoever_lets_a_hold_go_reads_why_it_is_there_and_by_whom(escrow: Escrow):
    account = await escrow.open()
    await escrow.post(account, ("cash", 10_00), ("suspense", -10_00))
    held = await escrow.hold(account, "suspense", 1_00, description="Police order 4711")
    named = {"escrow_account_id": account, "hold_id": held.hold_id}
    release = holds_pb.ReleaseHoldRequest(idempotency_key=key(), **named)
    capture = holds_pb.CaptureHoldRequest(idempotency_key=key(), to_ledger_account=ledger_account("fees"), **named)
    for request in (release, capture):
        [told] = [
            each for each in (await escrow.ask(name_rpc(request), request)).explanations if each.rule == "HELD_BY"
        ]
        assert told.statement.endswith(", MANUAL: “Police order 4711”.")
        assert told.statement.startswith(f"{held.created_by} held it on ")


async def test_a_batch_shows_the_most_that_a_yes_may_do_and_what_of_it_could_not_be_booked_now(escrow: Escrow):
    """The organization's rules read the amount: what may be booked by then counts."""
    account = await escrow.open()
    reversal = new_entry(reverses_journal_entry_id=new_id("je"))
    entries = {"a": FUNDED, "b": new_entry(("fees", -6_00), ("suspense", 6_00)), "c": reversal}
    items = [{"idempotency_key": name, "journal_entry": entry} for name, entry in entries.items()]
    request = journal_pb.BatchPostJournalEntriesRequest(escrow_account_id=account, items=items)
    asked = await escrow.ask("BatchPostJournalEntries", request)
    for seen in (asked, await escrow.read_approval(asked)):
        assert (seen.summary.split(" (")[0], seen.amount.amount_minor) == ("Post 3 journal entries", 6_05)
        said = [(each.rule, each.statement) for each in seen.explanations]
        assert said == [
            ("JOURNAL_ENTRY_NOT_FOUND", "items[2] would be refused: There is no such journal entry."),
            ("ESCROW_ACTIVE", "The escrow account is ACTIVE."),
            (
                "AVAILABLE_BALANCE",
                "suspense has 0.00 USD available, and 6.00 USD would be taken from it.",
            ),
        ]
        assert gates_of(seen, "shut") == ["JOURNAL_ENTRY_NOT_FOUND", "AVAILABLE_BALANCE"]


async def test_what_of_a_batch_can_never_be_booked_is_said_and_not_among_its_effects(escrow: Escrow):
    account = await escrow.open()
    posted = await escrow.post(account, ("cash", 10_00), ("distributable", -10_00))
    mirror = new_entry(type_=journal_pb.JournalEntry.REVERSAL, reverses_journal_entry_id=posted.journal_entry_id)
    euros = new_entry(("cash", 1), ("fees", -1))
    for leg in euros.legs:
        leg.amount.currency_code = "EUR"
    entries = [FUNDED, new_entry(("cash", 1), ("fees", -2)), euros, mirror, mirror]
    items = [{"idempotency_key": f"item {n}", "journal_entry": entry} for n, entry in enumerate(entries)]
    request = journal_pb.BatchPostJournalEntriesRequest(escrow_account_id=account, items=items)
    asked = await escrow.ask("BatchPostJournalEntries", request)
    seen = [asked, await escrow.read_approval(asked)]
    await escrow.freeze(account)
    seen.append(await escrow.read_approval(asked))
    for each in seen:
        said = [one.rule for one in each.explanations if one.statement.startswith("items[")]
        assert said == ["JOURNAL_ENTRY_UNBALANCED", "CURRENCY_MISMATCH", "ALREADY_REVERSED"]
        assert "FEES" not in {one.ledger_account.kind for one in each.effects}
        assert each.amount == asked.amount


async def test_the_book_refuses_of_a_batch_what_was_said_before_in_the_same_words(escrow: Escrow):
    account = await escrow.open()
    posted = await escrow.post(account, ("cash", 10_00), ("distributable", -10_00))
    mirror = new_entry(type_=journal_pb.JournalEntry.REVERSAL, reverses_journal_entry_id=posted.journal_entry_id)
    euros = new_entry(("cash", 1), ("fees", -1))
    for leg in euros.legs:
        leg.amount.currency_code = "EUR"
    entries = [mirror, FUNDED, new_entry(("cash", 1), ("fees", -2)), mirror, euros]
    items = [{"idempotency_key": f"item {n}", "journal_entry": entry} for n, entry in enumerate(entries)]
    request = journal_pb.BatchPostJournalEntriesRequest(escrow_account_id=account, items=items)
    asked = await escrow.ask("BatchPostJournalEntries", request)
    said = [(one.rule, one.statement) for one in asked.explanations if one.statement.startswith("items[")]
    done = json.loads((await escrow.approve(asked)).result)["posted"]["results"]
    failures = {n: each["failure"] for n, each in enumerate(done) if "failure" in each}
    assert said == [
        (each["code"], f"items[{number}] would be refused: {each['message']}") for number, each in failures.items()
    ]
    assert list(failures) == [2, 3, 4]


async def test_items_of_a_batch_that_undo_each_other_hide_neither(escrow: Escrow):
    """One of them may be refused: then the other is booked alone."""
    account = await escrow.open()
    await escrow.post(account, ("cash", 10_00), ("distributable", -10_00))
    there = new_entry(("distributable", 9_00), ("payable:inv-001", -9_00))
    back = new_entry(("payable:inv-001", 9_00), ("suspense", 5), ("distributable", -9_05))
    items = [{"idempotency_key": name, "journal_entry": entry} for name, entry in (("a", there), ("b", back))]
    request = journal_pb.BatchPostJournalEntriesRequest(escrow_account_id=account, items=items)
    asked = await escrow.ask("BatchPostJournalEntries", request)
    seen = {(each.ledger_account.kind, each.before.amount_minor, each.after.amount_minor) for each in asked.effects}
    assert seen == {
        ("DISTRIBUTABLE", 10_00, 1_00),
        ("DISTRIBUTABLE", 10_00, 19_05),
        ("PAYABLE", 0, 9_00),
        ("PAYABLE", 0, -9_00),
        ("SUSPENSE", 0, -5),
    }
    await escrow.grant(asked)
    assert await escrow.posted(account) == {"cash": 10_00, "distributable": 1_00, "payable:inv-001": 9_00}


async def test_what_speaks_against_a_yes_is_said_before_it(escrow: Escrow):
    account = await escrow.open()
    await escrow.post(account, ("cash", 100), ("suspense", -100))
    hold = (await escrow.hold(account, "suspense", 40)).hold_id
    capture = holds_pb.CaptureHoldRequest(hold_id=hold, to_ledger_account=ledger_account("fees"))
    requests = [
        (journal_pb.PostJournalEntryRequest(journal_entry=FUNDED), "ESCROW_ACTIVE"),
        (batch(account, "a"), "ESCROW_ACTIVE"),
        (capture, "ESCROW_ACTIVE"),
        (holds_pb.ReleaseHoldRequest(hold_id=hold), "ESCROW_ACTIVE"),
    ]
    asked = []
    for request, rule in requests:
        if not request.DESCRIPTOR.name.startswith("Batch"):
            request.idempotency_key, request.escrow_account_id = key(), account
        asked.append((await escrow.ask(name_rpc(request), request), rule))
        assert (gates_of(asked[-1][0], "shut"), gates_of(asked[-1][0], "open")[0]) == ([], rule)
    check_dossiers(escrow.approvals, [each for each, _ in asked])
    await escrow.freeze(account)
    for each, rule in asked:
        assert gates_of(await escrow.read_approval(each), "shut") == [rule]
    empty = await escrow.open()
    closing = await escrow.ask("CloseEscrowAccount", accounts_pb.CloseEscrowAccountRequest(escrow_account_id=empty))
    assert gates_of(closing, "open") == ["BALANCES_ZERO", "ESCROW_ACCOUNT_NOT_NEEDED"]
    await escrow.post(empty, ("cash", 100), ("suspense", -100))
    escrow.distributions.open[empty], escrow.distributions.paying[empty] = ["off_1"], ["off_2"]
    read = await escrow.read_approval(closing)
    told = {each.rule: each.statement for each in read.explanations}
    assert told["INVESTMENTS_ACTIVE"].startswith("Investments of off_2 are ACTIVE")
    assert gates_of(read, "shut") == ["BALANCES_ZERO", "ESCROW_ACCOUNT_NOT_NEEDED"]


async def test_two_persons_may_use_the_same_keys_in_their_batches(escrow: Escrow):
    account = await escrow.open()
    for maker in ("maker-1", "maker-2"):
        person = dataclasses.replace(escrow.admin, subject=maker)
        await escrow.grant(await escrow.ask("BatchPostJournalEntries", batch(account, "a", "b"), person))
    assert await escrow.posted(account) == {"cash": 20, "suspense": 20}


@pytest.mark.parametrize("ask", [single, batch], ids=["an entry", "a batch"])
async def test_the_same_that_two_persons_asked_for_is_booked_once_and_openly_again_if_it_is_asked_for_again(
    escrow: Escrow, ask: Any
):
    account = await escrow.open()
    request, other = ask(account, "a"), dataclasses.replace(escrow.admin, subject="maker-2")
    asked = [await escrow.ask(name_rpc(request), request, person) for person in (escrow.admin, other)]
    assert asked[0].content_hash == asked[1].content_hash
    await escrow.grant(asked[0])
    with pytest.raises(EtagMismatch):
        await escrow.grant(asked[1])
    assert (await escrow.read_approval(asked[1])).status == Approval.CANCELLED
    assert await escrow.posted(account) == {"cash": 5, "suspense": 5}
    request = ask(account, "a" if ask is batch else "b")
    again = await escrow.ask(name_rpc(request), request, dataclasses.replace(escrow.admin, subject="maker-3"))
    assert again.explanations[0].rule == "SAME_CONTENT"
    await escrow.grant(again)
    assert await escrow.posted(account) == {"cash": 10, "suspense": 10}


async def test_an_item_that_is_named_after_another_approval_is_booked_beside_it(escrow: Escrow):
    account = await escrow.open()
    alone = await escrow.ask("PostJournalEntry", single(account, "a"))
    together = await escrow.ask("BatchPostJournalEntries", batch(account, alone.approval_id))
    for asked in (alone, together):
        await escrow.grant(asked)
    assert await escrow.posted(account) == {"cash": 10, "suspense": 10}


async def test_a_service_that_posts_the_same_entry_alone_and_in_a_batch_posts_it_once(escrow: Escrow):
    account = await escrow.open()
    alone = await escrow.call("PostJournalEntry", single(account, "a"))
    together = (await escrow.call("BatchPostJournalEntries", batch(account, "a", "b"))).posted.results
    assert [(result.journal_entry == alone, result.replayed) for result in together] == [(True, True), (False, False)]
    assert await escrow.call("PostJournalEntry", single(account, "b")) == together[1].journal_entry
    release = postings_pb.ReleaseSubscriptionsRequest(
        escrow_account_id=account,
        idempotency_key="a",
        offering_id=key(),
        subscriptions=[{"party_id": "inv-001", "amount": {"amount_minor": 1, "currency_code": "USD"}}],
    )
    importer = dataclasses.replace(escrow.transactions, subject="service:importer")
    assert (await refusal(escrow.call("ReleaseSubscriptions", release, importer)))[0] == "IDEMPOTENCY_KEY_REUSED"
    assert await escrow.posted(account) == {"cash": 10, "suspense": 10}


def name_rpc(request: Message) -> str:
    return request.DESCRIPTOR.name.removesuffix("Request")
