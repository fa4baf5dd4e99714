"""A transaction keeps in which session it was asked for: once that is ended, nobody approves or confirms it."""

from __future__ import annotations

import dataclasses
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from realco.approvals.v1 import approvals_pb2
from realco.transactions.v1 import bank_accounts_pb2 as bank_pb
from realco.transactions.v1 import transactions_pb2 as pb

from services.chassis.values.errors import DomainError
from tests.support.arrivals import THIRD, build_arrival, correct
from tests.support.sessions import ENDED_AT, KEY, sign_in, sign_in_again, sign_in_by_key
from tests.support.transactions import ADMIN, CHECKER, IMPORT, TransactionsHarness

T = pb.Transaction
PERSON, PROGRAM = sign_in(ADMIN), sign_in_by_key(ADMIN)
COLLEAGUE = sign_in_again(dataclasses.replace(ADMIN, subject="admin-4"))
SERVICE_FOR_PERSON = IMPORT.for_person(PERSON)


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


def end_sessions(service: TransactionsHarness) -> None:
    service.compliance.ended[ADMIN.person] = ENDED_AT


def revoke_key(service: TransactionsHarness) -> None:
    service.compliance.revoked.add(KEY)


WAYS = pytest.mark.parametrize(
    ("who", "lock_out"),
    [(PERSON, end_sessions), (PROGRAM, end_sessions), (PROGRAM, revoke_key)],
    ids=["a person", "a program whose holder's sessions end", "a program whose key is revoked"],
)


async def refused(work: Any) -> str:
    with pytest.raises(DomainError) as refusal:
        await work
    return refusal.value.reason


async def order(service: TransactionsHarness, who: Any, *, later: bool) -> Any:
    """Staff's debit, which waits for a second person: at once, or only when a job has compliance decide."""
    request = await service.deposit_request()
    if not later:
        return await service.ask(who, "CreateTransaction", request)
    with service.wire.cut(service.compliance):
        made = await service.ask(who, "CreateTransaction", request)
    assert made.status == T.INITIATED
    return made


async def announce(service: TransactionsHarness, who: Any) -> Any:
    request = await service.deposit_request(payment_method=T.WIRE, bank_account_id=None)
    made = await service.ask(who, "CreateTransaction", request)
    await service.work()
    return await service.get(made.transaction_id)


@WAYS
@pytest.mark.parametrize("later", [False, True], ids=["at once", "by a job"])
async def test_a_debit_that_begins_to_wait_later_was_asked_for_in_its_own_session(
    service: TransactionsHarness, who: Any, lock_out: Any, later: bool
) -> None:
    made = await order(service, who, later=later)
    lock_out(service)
    await service.work(hurried=True)
    waiting, read = await service.waiting(made.transaction_id), await service.get(made.transaction_id)
    assert "MAKER_SESSION_ENDED" in [each.rule for each in waiting.explanations]
    request = pb.ApproveTransactionRequest(transaction_id=made.transaction_id, etag=read.etag)
    assert await refused(service.grant(waiting)) == "MAKER_SESSION_ENDED"
    assert await refused(service.ask(CHECKER, "ApproveTransaction", request)) == "MAKER_SESSION_ENDED"
    assert (await service.get(made.transaction_id)).status == T.PENDING_APPROVAL


async def test_each_of_those_that_a_job_goes_on_with_together_waits_in_its_own_session(
    service: TransactionsHarness,
) -> None:
    new = sign_in_again(ADMIN)
    made = [(await order(service, who, later=True)).transaction_id for who in (PERSON, new, ADMIN)]
    end_sessions(service)
    await service.work(hurried=True)
    waiting = [await service.waiting(each) for each in made]
    assert await refused(service.grant(waiting[0])) == "MAKER_SESSION_ENDED"
    for each in waiting[1:]:
        await service.grant(each)
    assert (await service.get(made[1])).status == (await service.get(made[2])).status == T.QUEUED


@WAYS
async def test_nobody_confirms_a_wire_that_was_announced_in_a_session_that_was_ended(
    service: TransactionsHarness, who: Any, lock_out: Any
) -> None:
    read = await announce(service, who)
    lock_out(service)
    for foreseen in (True, False):
        request = build_arrival(read, validate_only=foreseen)
        assert await refused(service.ask(CHECKER, "ConfirmTransaction", request)) == "MAKER_SESSION_ENDED"
    cancel = pb.CancelTransactionRequest(transaction_id=read.transaction_id)
    assert (await service.ask(CHECKER, "CancelTransaction", cancel)).status == T.CANCELLED


@WAYS
async def test_nobody_confirms_an_amount_that_was_corrected_in_a_session_that_was_ended_until_it_is_corrected_anew(
    service: TransactionsHarness, who: Any, lock_out: Any
) -> None:
    corrected = await correct(service, await announce(service, CHECKER), 900_00, by=who)
    lock_out(service)
    assert await refused(service.ask(THIRD, "ConfirmTransaction", build_arrival(corrected))) == "MAKER_SESSION_ENDED"
    anew = await correct(service, corrected, 900_00, by=COLLEAGUE)
    assert (anew.corrected_by, anew.etag != corrected.etag) == (COLLEAGUE.person, True)
    assert (await correct(service, anew, 900_00, by=COLLEAGUE)).etag == anew.etag, "to say it once more changes nothing"
    assert await refused(service.ask(COLLEAGUE, "ConfirmTransaction", build_arrival(anew))) == "MAKER_IS_CHECKER"
    assert (await service.ask(THIRD, "ConfirmTransaction", build_arrival(anew))).status == T.COMPLETED


@WAYS
@pytest.mark.parametrize("method", [T.WIRE, T.CHECK])
async def test_that_a_payout_was_sent_is_said_though_the_session_of_who_asked_for_it_was_ended_since(
    service: TransactionsHarness, who: Any, lock_out: Any, method: int
) -> None:
    service.distributions.session = who.session
    made = await service.payout("sponsor-1", type=T.ESCROW_WITHDRAWAL, payment_method=method)
    await service.work()
    await service.grant(await service.waiting(made.transaction_id))
    await service.work()
    lock_out(service)
    read = await service.get(made.transaction_id)
    sent = await service.ask(THIRD, "ConfirmTransaction", build_arrival(read, "OUT-1"))
    assert sent.status in (T.SETTLED, T.COMPLETED)


@WAYS
async def test_nobody_approves_a_payout_that_was_asked_for_of_distributions_in_a_session_that_was_ended(
    service: TransactionsHarness, who: Any, lock_out: Any
) -> None:
    service.distributions.session = who.session
    made = await service.payout("sponsor-1", type=T.ESCROW_WITHDRAWAL)
    await service.work()
    lock_out(service)
    waiting = await service.waiting(made.transaction_id)
    assert await refused(service.grant(waiting)) == "MAKER_SESSION_ENDED"


async def test_what_a_service_passes_on_was_announced_in_the_session_of_the_person_it_acts_for(
    service: TransactionsHarness,
) -> None:
    read = await announce(service, SERVICE_FOR_PERSON)
    end_sessions(service)
    assert await refused(service.ask(CHECKER, "ConfirmTransaction", build_arrival(read))) == "MAKER_SESSION_ENDED"


@pytest.mark.parametrize("who", [IMPORT, sign_in_again(ADMIN)])
async def test_what_a_service_announced_or_a_person_after_a_new_sign_in_is_confirmed(
    service: TransactionsHarness, who: Any
) -> None:
    read = await announce(service, who)
    end_sessions(service)
    assert (await service.ask(CHECKER, "ConfirmTransaction", build_arrival(read))).status == T.COMPLETED


async def test_while_nobody_can_tell_whether_a_session_was_ended_nothing_is_confirmed(
    service: TransactionsHarness,
) -> None:
    read = await announce(service, PERSON)
    with service.wire.cut(service.compliance):
        assert await refused(service.ask(CHECKER, "ConfirmTransaction", build_arrival(read))) == "UNAVAILABLE"


async def test_no_login_of_the_database_says_that_it_was_asked_for_in_another_session(
    service: TransactionsHarness,
) -> None:
    read = await announce(service, PERSON)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
        async with service.database.begin_for_all() as tx:
            await tx.execute(sa.text("UPDATE transactions SET signed_in_at = NULL"))
    assert (await service.get(read.transaction_id)).etag == read.etag


@WAYS
async def test_nobody_vouches_for_a_bank_account_of_an_ended_session_by_changing_what_is_beside_it(
    service: TransactionsHarness, who: Any, lock_out: Any
) -> None:
    account = await service.bank_account("inv-001", principal=who)
    lock_out(service)
    first = await service.waiting(account.bank_account_id)

    async def change(**beside: Any) -> Any:
        etag = (await service.ask(COLLEAGUE, "GetBankAccount", read)).etag
        request = bank_pb.UpdateBankAccountRequest(bank_account_id=account.bank_account_id, etag=etag, **beside)
        request.update_mask.paths.extend(beside)
        await service.ask(COLLEAGUE, "UpdateBankAccount", request)
        return await service.waiting(account.bank_account_id)

    read = bank_pb.GetBankAccountRequest(bank_account_id=account.bank_account_id)
    for beside in ({"metadata": {"by": "a colleague"}}, {"default_for_payouts": True}):
        assert (await change(**beside)).approval_id == first.approval_id, "nothing that is decided on has changed"
    for is_default in (False, True):
        waiting = await change(default_for_payouts=is_default)
        assert waiting.explanations[0].rule == "MAKER_SESSION_ENDED"
        assert (waiting.created_by, waiting.approval_id != first.approval_id) == (COLLEAGUE.person, True)
        assert await refused(service.grant(waiting)) == "MAKER_SESSION_ENDED"
        no = approvals_pb2.RejectApprovalRequest(approval_id=waiting.approval_id, note="no", etag=waiting.etag)
        await service.ask(CHECKER, "RejectApproval", no)
    assert await refused(service.grant(await change(default_for_payouts=True))) == "MAKER_SESSION_ENDED"
    anew = await service.bank_account("inv-001", principal=COLLEAGUE)
    assert (await service.confirm(anew)).status == bank_pb.BankAccount.ACTIVE


async def take_default(service: TransactionsHarness, account: bank_pb.BankAccount, who: Any) -> None:
    request = bank_pb.UpdateBankAccountRequest(
        bank_account_id=account.bank_account_id, etag=account.etag, default_for_payouts=False
    )
    request.update_mask.paths.append("default_for_payouts")
    await service.ask(who, "UpdateBankAccount", request)


async def test_who_adds_an_account_in_a_session_that_is_ended_later_is_not_forgotten_by_a_colleague_s_change(
    service: TransactionsHarness,
) -> None:
    account = await service.bank_account("inv-001", principal=PERSON)
    await take_default(service, account, COLLEAGUE)
    service.compliance.ended[ADMIN.person] = ENDED_AT
    waiting = await service.waiting(account.bank_account_id)
    assert [(each.rule, each.operands[0].value) for each in waiting.explanations[:1]] == [
        ("MAKER_SESSION_ENDED", ADMIN.person)
    ]
    assert await refused(service.grant(waiting)) == "MAKER_SESSION_ENDED"


async def test_who_changes_an_account_in_a_session_that_is_ended_later_is_not_forgotten_either(
    service: TransactionsHarness,
) -> None:
    account = await service.bank_account("inv-001", principal=COLLEAGUE)
    await take_default(service, account, PERSON)
    service.compliance.ended[ADMIN.person] = ENDED_AT
    assert await refused(service.grant(await service.waiting(account.bank_account_id))) == "MAKER_SESSION_ENDED"
