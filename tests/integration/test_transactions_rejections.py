"""Who said no to a payment or a bank account is told to whoever decides when it is asked for anew, as another one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from realco.approvals.v1 import approvals_pb2
from realco.escrow.v1.journal_pb2 import JournalEntry
from realco.transactions.v1 import bank_accounts_pb2 as bank_pb
from realco.transactions.v1 import transactions_pb2 as pb

from services.chassis.calls.auth import Principal
from services.chassis.values.ids import new_id
from services.transactions.domain.payments import PaymentStatus
from tests.support.bulk import vary
from tests.support.transactions import ADMIN, CHECKER, ESCROW_ACCOUNT, ORG, TransactionsHarness, usd

THIRD = Principal("admin-3", "admin", ORG)
ACH = pb.Transaction.ACH


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    made = TransactionsHarness(await service_database("transactions"))
    made.escrow.post(ESCROW_ACCOUNT, JournalEntry.ADJUSTMENT, "cash", "fees", 10_000_00)
    return made


async def order(service: TransactionsHarness, request: Any, principal: Principal = ADMIN) -> Any:
    """What waits then, as a second person reads it."""
    return await service.waiting((await service.ask(principal, "CreateTransaction", request)).transaction_id)


async def build_fee(service: TransactionsHarness, party_id: str = "inv-001", suffix: str = "01", **more: Any) -> Any:
    account = await service.confirm(await service.bank_account(party_id, suffix))
    values: dict[str, Any] = {
        "type": pb.Transaction.PLATFORM_FEE,
        "payment_method": ACH,
        "amount": usd(50_00),
        "escrow_account_id": ESCROW_ACCOUNT,
        "party_id": party_id,
        "bank_account_id": account.bank_account_id,
        "description": "Invoice 17",
    }
    return pb.CreateTransactionRequest(idempotency_key=new_id("key"), **values | more)


async def reject(service: TransactionsHarness, waiting: Any, note: str = "The invoice is forged.") -> None:
    no = approvals_pb2.RejectApprovalRequest(
        idempotency_key=new_id("key"), approval_id=waiting.approval_id, etag=waiting.etag, note=note
    )
    await service.ask(CHECKER, "RejectApproval", no)


def noes_of(waiting: Any) -> list[str]:
    return [each.statement for each in waiting.explanations if each.rule == "REJECTED_BEFORE"]


def no_to(what: str, note: str = "The invoice is forged.") -> list[str]:
    return [f"admin-2 said no at 2024-12-02T12:00:00Z, when admin-1 asked for {what}: “{note}”."]


@pytest.mark.parametrize("who", [ADMIN, THIRD], ids=["by the same person", "by another"])
async def test_a_payment_that_was_rejected_is_told_when_it_is_ordered_anew(
    service: TransactionsHarness, who: Principal
) -> None:
    request = await build_fee(service)
    first = await order(service, request)
    assert noes_of(first) == []
    await reject(service, first)
    again = await order(service, vary(request), who)
    assert noes_of(again) == no_to(f"the same, as {first.resource_id}")
    assert "approve" in (await read(service, again)).allowed_actions, "it is a fact, and no gate"


async def read(service: TransactionsHarness, waiting: Any) -> Any:
    return await service.ask(CHECKER, "GetApproval", approvals_pb2.GetApprovalRequest(approval_id=waiting.approval_id))


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": usd(50_01)},
        {"amount": usd(1_00), "description": "A part of it"},
        {"type": pb.Transaction.REFERRAL_FEE},
        {"payment_method": pb.Transaction.WIRE},
    ],
    ids=["a cent more", "a part", "another type", "another rail"],
)
async def test_what_is_like_a_payment_that_was_rejected_is_told_of_what_that_was(
    service: TransactionsHarness, changes: dict[str, Any]
) -> None:
    request = await build_fee(service)
    first = await order(service, request)
    await reject(service, first)
    again = await order(service, vary(request, **changes))
    moved = ", of 50.00 USD" if "amount" in changes else ""
    assert noes_of(again) == no_to(f"what is like it{moved}, “{first.summary}”")


async def test_a_payment_in_other_words_or_to_another_account_of_the_payee_is_told(
    service: TransactionsHarness,
) -> None:
    first = await order(service, await build_fee(service))
    await reject(service, first)
    told = noes_of(await order(service, await build_fee(service, suffix="07", description="Advice")))
    assert told == no_to(f"what is like it, “{first.summary}”")


async def test_another_payee_what_comes_from_the_payee_and_much_later_is_not_told(
    service: TransactionsHarness,
) -> None:
    request = await build_fee(service)
    await reject(service, await order(service, request))
    assert noes_of(await order(service, await build_fee(service, "inv-002", "02"))) == []
    assert noes_of(await order(service, await service.deposit_request(suffix="03"))) == []
    service.clock.advance(timedelta(days=30))
    assert noes_of(await order(service, vary(request))) == []


async def test_what_a_second_person_approved_after_the_no_is_not_told_of_it_any_more(
    service: TransactionsHarness,
) -> None:
    request = await build_fee(service)
    await reject(service, await order(service, request))
    service.clock.advance(timedelta(hours=1))
    await service.grant(await order(service, vary(request)), THIRD)
    assert noes_of(await order(service, vary(request))) == []


async def test_a_yes_to_a_part_of_it_hides_no_no(service: TransactionsHarness) -> None:
    request = await build_fee(service)
    first = await order(service, request)
    await reject(service, first)
    service.clock.advance(timedelta(hours=1))
    await service.grant(await order(service, vary(request, amount=usd(1))), THIRD)
    assert noes_of(await order(service, vary(request))) == no_to(f"the same, as {first.resource_id}")


async def test_a_no_that_a_login_of_the_database_altered_is_told_as_altered(service: TransactionsHarness) -> None:
    request = await build_fee(service)
    first = await order(service, request)
    await reject(service, first)
    async with service.database.begin_for_all() as tx:
        change = sa.text("UPDATE approvals SET version = version + 1, note = 'x' WHERE approval_id = :id")
        await tx.execute(change, {"id": first.approval_id})
    told = [(each.rule, each.statement) for each in (await order(service, vary(request))).explanations]
    said = "Requests like it that were altered in the database: 1. Whether this was done before, nobody knows."
    assert [each for each in told if each[0] in ("REJECTED_BEFORE", "REQUESTS_ALTERED")] == [("REQUESTS_ALTERED", said)]


async def test_a_bank_account_that_was_rejected_is_told_when_it_is_added_again_for_whomever(
    service: TransactionsHarness,
) -> None:
    first = await add(service, "inv-001", "07")
    await reject(service, first, "Not the investor's.")
    told = no_to(f"what is like it, “{first.summary}”", "Not the investor's.")
    assert noes_of(await add(service, "inv-001", "07")) == told
    assert noes_of(await add(service, "inv-002", "07")) == told
    assert noes_of(await add(service, "inv-001", "08")) == []
    service.clock.advance(timedelta(days=300))
    assert noes_of(await add(service, "inv-001", "07")) == told
    service.clock.advance(timedelta(days=65))
    assert noes_of(await add(service, "inv-001", "07")) == []


async def test_the_no_to_an_account_is_told_where_it_is_unblocked(service: TransactionsHarness) -> None:
    await reject(service, await add(service, "inv-002", "04"), "Not the investor's.")
    made = await service.deposit(suffix="04")
    await service.work()
    service.bank.report(made.transaction_id, PaymentStatus.RETURNED, "R02")
    await service.work(hurried=True)
    unblock = bank_pb.UnblockBankAccountRequest(
        idempotency_key=new_id("key"), bank_account_id=made.bank_account_id, note="The bank was wrong."
    )
    asked = (await service.ask(ADMIN, "UnblockBankAccount", unblock)).approval
    assert noes_of(asked) == no_to("what is like it, “Money may go to account …1104 of inv-002”", "Not the investor's.")


async def add(service: TransactionsHarness, party_id: str, suffix: str) -> Any:
    """What waits then."""
    return await service.waiting((await service.bank_account(party_id, suffix, ADMIN)).bank_account_id)
