"""Where a refund goes, how much of it, and when a second person agrees."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from realco.transactions.v1 import bank_accounts_pb2 as pb
from realco.transactions.v1 import payouts_pb2, transactions_pb2

from services.chassis.calls.auth import Principal, acting_as, service_principal
from services.transactions.commands.exceptions import report_apart
from services.transactions.domain.exceptions import About, ExceptionKind
from services.transactions.domain.payments import PaymentStatus
from services.transactions.domain.types import (
    REFUND_BY_HAND,
    REFUND_CAME_BACK,
    REFUND_IN_QUESTION,
    REFUND_NOT_RECEIVED,
    REFUND_REJECTED,
)
from services.transactions.store.exception_reports import report
from tests.support.arrivals import confirm
from tests.support.exceptions import list_exceptions, resolve
from tests.support.transactions import CHECKER, DISTRIBUTIONS, ORG, TransactionsHarness, usd

T = transactions_pb2.Transaction


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


async def contribute(service: TransactionsHarness, suffix: str, **more: Any) -> Any:
    """Money that arrived."""
    made = await service.deposit(suffix=suffix, **more)
    await service.work()
    if made.bank_account_id:
        service.bank.report(made.transaction_id, PaymentStatus.SETTLED)
        await service.work(hurried=True)
        await service.confirm(pb.BankAccount(bank_account_id=made.bank_account_id))
    else:
        await confirm(service, await service.get(made.transaction_id))
    return made


async def refund(
    service: TransactionsHarness, contribution: Any, to: str | None = None, *, approved: bool = True, **more: Any
) -> Any:
    service.owe("inv-001")
    values = {"type": T.REFUND, "investment_id": contribution.investment_id, **more}
    made = await service.payout_to(to, "inv-001", approved=approved, **values)
    await service.work()
    return await service.get(made.transaction_id)


async def test_a_refund_goes_back_to_the_account_that_the_money_came_from(service: TransactionsHarness) -> None:
    await service.confirm(await service.bank_account("inv-001", "05", default_for_payouts=True))
    paid = await contribute(service, "02")
    made = await refund(service, paid)
    assert (made.bank_account_id, made.status) == (paid.bank_account_id, T.PENDING_SETTLEMENT)


@pytest.mark.parametrize(("days_later", "approved", "waits"), [
    (0, False, True),
    (59, False, True),
    (59, True, False),
    (65, False, False),  # the bank can no longer take it back
])  # fmt: skip
async def test_what_the_bank_may_still_take_back_is_refunded_when_two_persons_agree(
    service: TransactionsHarness, days_later: int, approved: bool, waits: bool
) -> None:
    """Else an investor alone has the money twice: withdraws and is refunded, then disputes the debit at the bank."""
    paid = await contribute(service, "02")
    service.clock.advance(timedelta(days=days_later))
    await service.work()
    made = await refund(service, paid, approved=approved)
    assert made.status == (T.PENDING_APPROVAL if waits else T.PENDING_SETTLEMENT)
    if waits:
        told = [each.statement for each in (await service.waiting(made.transaction_id)).explanations]
        assert "The bank may take 100.00 USD of what was paid in back until 2025-02-04." in told


async def test_a_refund_to_another_account_waits_for_a_second_person(service: TransactionsHarness) -> None:
    other = await service.confirm(await service.bank_account("inv-001", "05", default_for_payouts=True))
    paid = await contribute(service, "02")
    made = await refund(service, paid, other.bank_account_id)
    assert (made.bank_account_id, made.status) == (other.bank_account_id, T.PENDING_APPROVAL)


async def test_a_refund_of_a_wire_goes_to_the_default_when_a_second_person_agrees(service: TransactionsHarness) -> None:
    default = await service.confirm(await service.bank_account("inv-001", "05"))
    paid = await contribute(service, "02", payment_method=T.WIRE, bank_account_id=None)
    made = await refund(service, paid)
    assert (made.bank_account_id, made.status) == (default.bank_account_id, T.PENDING_APPROVAL)


async def test_what_the_bank_may_take_back_is_added_up_by_day_and_a_wire_goes_back_to_the_default(
    service: TransactionsHarness,
) -> None:
    default = await service.confirm(await service.bank_account("inv-001", "05", default_for_payouts=True))
    wire = await contribute(service, "02", payment_method=T.WIRE, bank_account_id=None)
    debits = [await contribute(service, suffix, party_id="inv-002") for suffix in ("02", "05")]
    service.clock.advance(timedelta(days=3))
    debits.append(await contribute(service, "02", party_id="inv-003"))
    parts = [
        payouts_pb2.GetRefundPreviewRequest.Part(investment_id=each.investment_id, party_id=each.party_id)
        for each in (wire, *debits)
    ]
    found = await service.ask(DISTRIBUTIONS, "GetRefundPreview", payouts_pb2.GetRefundPreviewRequest(parts=parts))
    assert [each.statement for each in found.explanations] == [
        "The bank may take 200.00 USD of what was paid in back until 2025-02-04.",
        "The bank may take 100.00 USD of what was paid in back until 2025-02-05.",
    ]
    assert [each.name for one in found.explanations for each in one.operands] == [
        each.transaction_id for each in debits
    ]
    went = {default.bank_account_id, *(each.bank_account_id for each in debits)}
    assert {each.bank_account_id for each in found.bank_accounts} == went


@pytest.mark.parametrize(("released", "before", "minor", "approved", "waits"), [
    (0, 0, 50_00, False, False),
    (0, 0, 50_01, False, True),
    (0, 0, 50_01, True, False),  # two persons read what was posted by hand
    (20_00, 0, 30_00, False, False),
    (20_00, 0, 30_01, False, True),
    (50_00, 0, 1, False, True),
    (0, 30_00, 20_00, False, False),
    (0, 30_00, 20_01, False, True),
])  # fmt: skip
async def test_a_refund_of_more_than_was_received_waits_for_a_second_person(
    service: TransactionsHarness, released: int, before: int, minor: int, approved: bool, waits: bool
) -> None:
    """What persons posted for an investment is not paid out by itself because its raise is over."""
    paid = await contribute(service, "02", amount=usd(50_00))
    service.clock.advance(timedelta(days=65))
    await service.work()
    if before:
        assert (await refund(service, paid, amount=usd(before), approved=False)).status == T.PENDING_SETTLEMENT
    made = await refund(service, paid, amount=usd(minor), approved=approved, released_minor=released)
    assert made.status == (T.PENDING_APPROVAL if waits else T.PENDING_SETTLEMENT)
    if waits:
        assert REFUND_NOT_RECEIVED in str((await service.waiting(made.transaction_id)).explanations)


@pytest.mark.parametrize("doubt", [REFUND_BY_HAND, REFUND_IN_QUESTION])
@pytest.mark.parametrize("approved", [False, True])
async def test_a_refund_of_money_in_doubt_waits_for_a_second_person(
    service: TransactionsHarness, doubt: str, approved: bool
) -> None:
    """Persons posted some of it, which two who decided on the refund have read; or it may be gone at its provider."""
    paid = await contribute(service, "02", amount=usd(50_00))
    service.clock.advance(timedelta(days=65))
    await service.work()
    if doubt == REFUND_IN_QUESTION:
        with acting_as(service_principal("transactions", ORG)):
            async with service.database.begin() as tx:
                about, now = About(transaction_id=paid.transaction_id), service.clock.now()
                report(tx, ExceptionKind.PAYMENT_NOT_OURS, about, "It failed there.", now)
    by_hand = doubt == REFUND_BY_HAND
    made = await refund(service, paid, amount=usd(50_00), approved=approved, has_entries_by_hand=by_hand)
    waits = not (by_hand and approved)
    assert made.status == (T.PENDING_APPROVAL if waits else T.PENDING_SETTLEMENT)
    if waits:
        assert doubt in str((await service.waiting(made.transaction_id)).explanations)


_ALTER = "UPDATE payment_exceptions SET version = version + 1, cause = 'x'"
_DECOYS = """
    INSERT INTO payment_exceptions SELECT (jsonb_populate_record(e, jsonb_build_object(
        'payment_exception_id', e.payment_exception_id || n, 'created_at', now(), 'seal', NULL))).*
    FROM payment_exceptions e, generate_series(1, 300) n
"""


@pytest.mark.parametrize(("about", "hidden"), [
    ("the refund", ""), ("a file", ""), ("the refund", _ALTER), ("a file", _ALTER), ("a file", _DECOYS),
])  # fmt: skip
async def test_a_refund_that_came_to_nothing_is_not_made_again_by_itself_while_that_is_in_question(
    service: TransactionsHarness, about: str, hidden: str
) -> None:
    """The bank may have paid it: an exception says to ask it first, whoever decided on the refund."""
    paid = await contribute(service, "02", amount=usd(50_00))
    service.clock.advance(timedelta(days=65))
    await service.work()
    first = await refund(service, paid, amount=usd(50_00), approved=False)
    is_returned = about == "the refund"
    service.bank.report(
        first.transaction_id, *((PaymentStatus.RETURNED, "R24") if is_returned else (PaymentStatus.FAILED,))
    )
    await service.work(hurried=True)
    assert (await service.get(first.transaction_id)).status == (T.RETURNED if is_returned else T.FAILED)
    with acting_as(service_principal("transactions", ORG)):
        async with service.database.begin() as tx:
            named = About(transaction_id=first.transaction_id) if is_returned else About(file_name="x.ach")
            kind = ExceptionKind.RETURN_TO_REVIEW if is_returned else ExceptionKind.ACH_FILE_REJECTED
            report(tx, kind, named, "It is a duplicate.", service.clock.now())
    if hidden:
        async with service.database.begin_for_all() as tx:
            await tx.execute(sa.text(hidden))
    again = await refund(service, paid, amount=usd(50_00), approved=True)
    assert again.status == T.PENDING_APPROVAL
    assert REFUND_IN_QUESTION in str((await service.waiting(again.transaction_id)).explanations)


@pytest.mark.parametrize("since", [True, False], ids=["since then", "before"])
async def test_what_one_person_alone_has_settled_since_a_refund_came_to_nothing_has_it_wait_all_the_same(
    service: TransactionsHarness, since: bool
) -> None:
    """An exception about no payment that is known may be about theirs, and who resolved it may be who is paid."""
    paid = await contribute(service, "02", amount=usd(50_00))
    service.clock.advance(timedelta(days=65))
    await service.work()

    async def settle() -> None:
        about = About(file_name="x.ack")
        await report_apart(service.dependencies, ORG, ExceptionKind.ACH_ACKNOWLEDGEMENT_NOT_OURS, about, "Whose?")
        [told] = await list_exceptions(service, kind=["ACH_ACKNOWLEDGEMENT_NOT_OURS"])
        await resolve(service, told, "Asked the bank.", Principal("admin-9", "admin", ORG))
        service.clock.advance(timedelta(seconds=1))

    if not since:
        await settle()
    first = await refund(service, paid, amount=usd(50_00), approved=False)
    service.bank.report(first.transaction_id, PaymentStatus.FAILED)
    await service.work(hurried=True)
    service.clock.advance(timedelta(seconds=1))
    if since:
        await settle()
    again = await refund(service, paid, amount=usd(50_00), approved=True)
    assert again.status == (T.PENDING_APPROVAL if since else T.PENDING_SETTLEMENT)


async def test_an_exception_about_the_refund_itself_that_one_person_resolved_has_it_wait(
    service: TransactionsHarness,
) -> None:
    paid = await contribute(service, "02", amount=usd(50_00))
    service.clock.advance(timedelta(days=65))
    await service.work()
    first = await refund(service, paid, amount=usd(50_00), approved=False)
    service.bank.report(first.transaction_id, PaymentStatus.RETURNED, "R24")
    await service.work(hurried=True)
    service.clock.advance(timedelta(seconds=1))
    [told] = await list_exceptions(service, kind=["RETURN_TO_REVIEW"])
    assert told.transaction_id == first.transaction_id
    await resolve(service, told, "Nothing.", Principal("admin-9", "admin", ORG))
    again = await refund(service, paid, amount=usd(50_00), approved=True)
    assert again.status == T.PENDING_APPROVAL


async def test_an_exception_about_a_contribution_that_one_person_resolved_has_its_refund_wait(
    service: TransactionsHarness,
) -> None:
    """What a provider paid back already would be paid once more, on the word of one person and of who gains."""
    paid = await contribute(service, "02", amount=usd(50_00))
    service.clock.advance(timedelta(days=65))
    await service.work()
    about = About(transaction_id=paid.transaction_id)
    await report_apart(service.dependencies, ORG, ExceptionKind.PAYMENT_NOT_OURS, about, "It was paid back there.")
    [told] = await list_exceptions(service)
    await resolve(service, told, "Nothing.", Principal("admin-9", "admin", ORG))
    service.clock.advance(timedelta(days=400))
    waiting = await refund(service, paid, amount=usd(50_00), approved=True)
    assert waiting.status == T.PENDING_APPROVAL


@pytest.mark.parametrize("days", [0, 10], ids=["at once", "after it was final"])
async def test_a_refund_that_is_said_to_have_come_back_is_made_again_by_two_persons_word(
    service: TransactionsHarness, days: int
) -> None:
    """Who writes the bank's files could say so of one that was paid, and who gains would be paid once more."""
    paid = await contribute(service, "02", amount=usd(50_00))
    service.clock.advance(timedelta(days=65))
    await service.work()
    first = await refund(service, paid, amount=usd(50_00), approved=True)
    service.bank.report(first.transaction_id, PaymentStatus.SETTLED)
    await service.work(hurried=True)
    service.clock.advance(timedelta(days=days))
    await service.work(hurried=True)
    service.bank.report(first.transaction_id, PaymentStatus.RETURNED, "R03")
    await service.hook("evt_back", (await service.get(first.transaction_id)).provider_reference)
    await service.work()
    assert (await service.get(first.transaction_id)).status == T.RETURNED
    late = await list_exceptions(service, kind=["RETURN_TO_REVIEW"])
    assert ["after the last day" in each.cause for each in late] == [True] * bool(days)
    again = await refund(service, paid, amount=usd(50_00), approved=True)
    assert again.status == T.PENDING_APPROVAL
    assert days or REFUND_CAME_BACK in str((await service.waiting(again.transaction_id)).explanations)


async def test_whoever_is_paid_does_not_overrule_a_no_by_asking_again(service: TransactionsHarness) -> None:
    """The reason that it waited for is gone by then, and who decided on the refund before did so before the no."""
    paid = await contribute(service, "02", amount=usd(50_00))
    waiting = await refund(service, paid, amount=usd(50_00), approved=False)
    assert waiting.status == T.PENDING_APPROVAL
    rejecting = transactions_pb2.RejectTransactionRequest(
        transaction_id=waiting.transaction_id, note="Fraud.", etag=waiting.etag
    )
    assert (await service.ask(CHECKER, "RejectTransaction", rejecting)).status == T.CANCELLED
    service.clock.advance(timedelta(days=65))
    await service.work()
    again = await refund(service, paid, amount=usd(50_00), approved=True)
    assert again.status == T.PENDING_APPROVAL
    assert REFUND_REJECTED in str((await service.waiting(again.transaction_id)).explanations)


async def test_whose_account_a_login_altered_is_told_to_whoever_decides_on_a_payment_there(
    service: TransactionsHarness,
) -> None:
    paid = await contribute(service, "02", amount=usd(50_00))
    await service.confirm(await service.bank_account("inv-002", "05", default_for_payouts=True))
    async with service.database.begin_for_all() as tx:
        await tx.execute(sa.text("UPDATE bank_accounts SET seal = 'x', version = version + 1"))
    part = payouts_pb2.GetRefundPreviewRequest.Part(investment_id=paid.investment_id, party_id="inv-001")
    found = await service.ask(DISTRIBUTIONS, "GetRefundPreview", payouts_pb2.GetRefundPreviewRequest(parts=[part]))
    assert "MONEY_ALTERED" in {each.rule for each in found.explanations}
    asked = payouts_pb2.BatchGetPayoutAccountsRequest(party_ids=["inv-002", "inv-003"])
    accounts = await service.ask(DISTRIBUTIONS, "BatchGetPayoutAccounts", asked)
    assert (list(accounts.payout_accounts), list(accounts.altered_party_ids)) == ([], ["inv-002"])
