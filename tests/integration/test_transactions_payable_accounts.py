"""Where money may go: accounts that a second person confirmed, a day ago, and that are still what was approved."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from realco.transactions.v1 import bank_accounts_pb2 as pb
from realco.transactions.v1 import transactions_pb2
from realco.type.v1.approval_pb2 import Approval

from services.chassis.calls.auth import Principal
from services.chassis.values.errors import DomainError
from services.transactions.domain.bank_accounts import COOL_DOWN
from services.transactions.jobs.book_payouts import book_payouts
from services.transactions.jobs.evaluate_initiated import evaluate_initiated
from services.transactions.jobs.start_queued import start_queued
from services.transactions.jobs.submit_payments import LOST_AFTER, submit_payments
from services.transactions.tables import bank_accounts
from services.transactions.vault import SealedFor
from tests.support import servers
from tests.support.peers.wire import Killed
from tests.support.transactions import ADMIN, CHECKER, INVESTOR, ORG, TransactionsHarness

T = transactions_pb2.Transaction
B = pb.BankAccount
EDITOR = Principal("admin-4", "admin", ORG)


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


async def get(service: TransactionsHarness, account: B) -> B:
    found: B = await service.ask(
        ADMIN, "GetBankAccount", pb.GetBankAccountRequest(bank_account_id=account.bank_account_id)
    )
    return found


async def delete(service: TransactionsHarness, account_id: str) -> None:
    await service.ask(ADMIN, "DeleteBankAccount", pb.DeleteBankAccountRequest(bank_account_id=account_id))


async def redirect(service: TransactionsHarness, account_id: str, principal: Principal = EDITOR) -> B:
    """Makes it the default, which it was not."""
    for is_default in (False, True):
        etag = (await get(service, pb.BankAccount(bank_account_id=account_id))).etag
        change = pb.UpdateBankAccountRequest(bank_account_id=account_id, etag=etag, default_for_payouts=is_default)
        change.update_mask.paths.append("default_for_payouts")
        changed: B = await service.ask(principal, "UpdateBankAccount", change)
    return changed


async def refused(work: Any) -> str:
    with pytest.raises(DomainError) as refusal:
        await work
    return refusal.value.reason


async def test_a_new_account_waits_and_who_made_it_or_acts_for_its_party_does_not_confirm_it(
    service: TransactionsHarness,
) -> None:
    account = await service.bank_account("inv-001", principal=ADMIN)
    waiting = await service.waiting(account.bank_account_id)
    assert (account.status, waiting.kind, list(waiting.makers)) == (B.PENDING, "CONFIRM_BANK_ACCOUNT", ["admin-1"])
    assert not account.HasField("payout_start_time")
    assert await refused(service.grant(waiting, ADMIN)) == "MAKER_IS_CHECKER"
    service.compliance.parties[CHECKER.person] = {"inv-001"}
    assert await refused(service.grant(waiting)) == "BENEFICIARY_IS_CHECKER"
    done = await service.grant(waiting, EDITOR)
    assert (done.status, done.decided_by) == (Approval.EXECUTED, EDITOR.person)
    confirmed = await get(service, account)
    now = service.clock.now()
    assert confirmed.status == B.ACTIVE
    assert confirmed.confirm_time.ToDatetime(tzinfo=now.tzinfo) == now
    assert confirmed.payout_start_time.ToDatetime(tzinfo=now.tzinfo) == now + COOL_DOWN


async def test_whoever_confirms_is_told_how_old_it_is_whose_it_is_too_and_what_it_replaces(
    service: TransactionsHarness,
) -> None:
    former = await service.confirm(await service.bank_account("inv-001", "01"))
    await service.bank_account("inv-002")
    account = await service.bank_account("inv-001", default_for_payouts=True)
    service.clock.advance(timedelta(days=3))
    waiting = await service.waiting(account.bank_account_id)
    explanations = {each.rule: each.statement for each in waiting.explanations}
    assert explanations["BANK_ACCOUNT_AGE"] == "Added 3 days ago; nobody has confirmed it."
    assert explanations["BANK_ACCOUNT_OWNERS"] == "2 parties have this account."
    changes = {change.field: (change.before, change.after) for change in waiting.changes}
    assert changes["default_bank_account_id"] == (former.bank_account_id, account.bank_account_id)


@pytest.mark.parametrize(
    ("suffix", "told"),
    [
        ("01", "{} with the same last digits at the same bank, and the same number."),
        ("991101", "{} with the same last digits at the same bank, and ANOTHER number."),
        ("11O1", "{} with similar last digits at the same bank, and ANOTHER number."),
        ("ll01", "{} with similar last digits at the same bank, and ANOTHER number."),
        ("02", None),
    ],
)
async def test_whoever_decides_where_money_goes_is_told_of_an_account_that_reads_the_same_and_is_another(
    service: TransactionsHarness, suffix: str, told: str | None
) -> None:
    known = await service.confirm(await service.bank_account("inv-001", "01"))
    await service.bank_account("inv-002", "991101")  # of another party it says nothing
    added = await service.bank_account("inv-001", suffix, principal=ADMIN, default_for_payouts=True)

    async def check(resource_id: str, has: str) -> None:
        read = [each for each in (await service.waiting(resource_id)).explanations if each.rule != "APPROVAL_REASON"]
        assert read[0].rule == ("BANK_ACCOUNT_AGE" if told is None else "BANK_ACCOUNT_LOOK_ALIKE")
        assert told is None or read[0].statement.startswith(f"The party {has} {told.format(known.bank_account_id)}")

    await check(added.bank_account_id, "has")
    await delete(service, known.bank_account_id)
    await check(added.bank_account_id, "had")
    await service.confirm(added)
    debit = await service.deposit_request(suffix="55", bank_account_id=added.bank_account_id)
    await check((await service.ask(ADMIN, "CreateTransaction", debit)).transaction_id, "had")


async def test_no_digest_by_which_a_number_is_known_again_is_told_to_whoever_decides(
    service: TransactionsHarness,
) -> None:
    """Whoever has its key from an old backup could try numbers until one fits."""
    first, same, other = [await service.bank_account("inv-001", suffix) for suffix in ("02", "02", "03")]
    contents = [(await service.waiting(each.bank_account_id)).content for each in (first, same, other)]
    codes = [json.loads(each)["resource"]["accountNumberCode"] for each in contents]
    async with service.database.begin(ORG) as tx:
        mine = bank_accounts.c.org_id == ORG
        digests = list(await tx.scalars(sa.select(bank_accounts.c.account_number_digest).where(mine)))
    assert [digest for digest in digests if digest in "".join(contents)] == []
    assert (codes[0] == codes[1], codes[0] == codes[2]) == (True, False)


async def test_money_comes_from_an_account_at_once_and_goes_to_none_that_waits(service: TransactionsHarness) -> None:
    request = await service.deposit_request()
    assert (await service.ask(INVESTOR, "CreateTransaction", request)).status == T.QUEUED
    refusals = [(await service.payout_to(to, "inv-001")).failure.code for to in (request.bank_account_id, None)]
    assert refusals == ["BANK_ACCOUNT_NOT_USABLE", "NO_PAYOUT_BANK_ACCOUNT"]


async def test_a_payout_waits_for_the_end_of_the_cool_down(service: TransactionsHarness) -> None:
    account = await service.confirm(await service.bank_account("inv-001"), cooled_down=False)
    service.owe("inv-001")
    payout = await service.payout_to(account.bank_account_id, "inv-001")
    why = "It waits until its bank account is old enough: money may go to it from 2024-12-03 12:00 UTC."
    for hours, status, told in ((0, T.QUEUED, why), (23, T.QUEUED, why), (1, T.PENDING_SETTLEMENT, "")):
        service.clock.advance(timedelta(hours=hours))
        await service.hurry()
        await service.work()
        read = await service.get(payout.transaction_id)
        assert (read.status, read.explanations.start_time.statement) == (status, told)


async def test_a_new_default_waits_again_and_who_named_it_is_a_maker(service: TransactionsHarness) -> None:
    account = await service.confirm(await service.bank_account("inv-001"))
    changed = await redirect(service, account.bank_account_id)
    assert (changed.status, changed.default_for_payouts) == (B.PENDING, True)
    assert {"confirm_time", "payout_start_time"}.isdisjoint(field.name for field, _ in changed.ListFields())
    first = await service.waiting(account.bank_account_id)
    assert set(first.makers) == {"inv-001", EDITOR.person}
    await redirect(service, account.bank_account_id, INVESTOR)  # it is asked for again
    assert await refused(service.grant(first)) == "ETAG_MISMATCH"
    again = await service.waiting(account.bank_account_id)
    assert await refused(service.grant(again, EDITOR)) == "MAKER_IS_CHECKER"
    await service.grant(again)
    service.owe("inv-001")
    payout = await service.payout_to(None, "inv-001")
    await service.work()
    assert (await service.get(payout.transaction_id)).status == T.QUEUED, "it cools down again"


async def test_what_says_nothing_of_where_money_goes_is_changed_at_once(service: TransactionsHarness) -> None:
    account = await service.confirm(await service.bank_account("inv-001"))
    change = pb.UpdateBankAccountRequest(
        bank_account_id=account.bank_account_id, etag=account.etag, external_id="a-1", default_for_payouts=False
    )
    change.update_mask.paths.extend(["external_id", "default_for_payouts"])
    changed = await service.ask(ADMIN, "UpdateBankAccount", change)
    assert (changed.status, changed.external_id, changed.default_for_payouts) == (B.ACTIVE, "a-1", False)


async def test_what_is_confirmed_is_what_the_account_is_to_become_by_then(service: TransactionsHarness) -> None:
    account = await service.bank_account("inv-001")
    read = await service.waiting(account.bank_account_id)
    change = pb.UpdateBankAccountRequest(bank_account_id=account.bank_account_id, etag=account.etag)
    change.update_mask.paths.append("default_for_payouts")
    await service.ask(ADMIN, "UpdateBankAccount", change)
    assert await refused(service.grant(read)) == "ETAG_MISMATCH"
    assert (await service.confirm(account)).default_for_payouts is False


async def test_two_accounts_confirmed_at_once_leave_one_default(service: TransactionsHarness) -> None:
    accounts = [await service.bank_account("inv-001", default_for_payouts=True) for _ in range(4)]
    waiting = [await service.waiting(account.bank_account_id) for account in accounts]
    await asyncio.gather(*(service.grant(each) for each in waiting), service.bank_account("inv-001"))
    now = [await get(service, account) for account in accounts]
    assert ([each.status for each in now], sum(each.default_for_payouts for each in now)) == ([B.ACTIVE] * 4, 1)


async def test_a_retired_account_is_confirmed_by_nobody(service: TransactionsHarness) -> None:
    account = await service.bank_account("inv-001")
    waiting = await service.waiting(account.bank_account_id)
    await delete(service, account.bank_account_id)
    assert await refused(service.grant(waiting)) == "ETAG_MISMATCH"


async def _retire(service: TransactionsHarness, payout: Any) -> None:
    await delete(service, payout.bank_account_id)


async def _redirect(service: TransactionsHarness, payout: Any) -> None:
    await redirect(service, payout.bank_account_id)


@pytest.mark.parametrize("change", [_retire, _redirect])
@pytest.mark.parametrize("jobs", [
    (),
    (evaluate_initiated,),
    (evaluate_initiated, start_queued),
    (evaluate_initiated, start_queued, book_payouts),
], ids=["ordered", "queued", "begun", "booked"])  # fmt: skip
async def test_an_account_that_was_retired_or_changed_is_not_paid_whatever_was_ordered_before(
    service: TransactionsHarness, jobs, change
) -> None:
    payout = await service.payout()
    for job in jobs:
        await service.run(job)
    await change(service, payout)
    await service.work()
    seen = await service.get(payout.transaction_id)
    assert (seen.status, seen.failure.code) == (T.FAILED, "BANK_ACCOUNT_NOT_USABLE")
    assert service.bank.payments == {}


async def test_an_order_counts_as_lost_an_hour_after_it_was_last_sent_however_often_that_was(
    service: TransactionsHarness,
) -> None:
    payout = await service.payout()
    for pause in (timedelta(), LOST_AFTER):  # the second time it may be on its way
        service.clock.advance(pause)
        await service.hurry()
        service.bank.before_effect.append(Killed())
        with pytest.raises(Killed):
            await service.work()
    await delete(service, payout.bank_account_id)
    for pause, status_after in ((LOST_AFTER / 2, T.PROCESSING), (LOST_AFTER / 2, T.FAILED)):
        service.clock.advance(pause)
        await service.hurry()
        await service.run(submit_payments)
        assert (await service.get(payout.transaction_id)).status == status_after


@pytest.mark.parametrize(("arrived", "status_after"), [
    (True, T.PENDING_SETTLEMENT),
    (False, T.FAILED),
])  # fmt: skip
async def test_an_order_without_an_answer_is_looked_for_and_not_sent_again_when_its_account_was_retired(
    service: TransactionsHarness, arrived: bool, status_after: T.Status
) -> None:
    payout = await service.payout()
    (service.bank.after_effect if arrived else service.bank.before_effect).append(Killed())
    with pytest.raises(Killed):
        await service.work()
    await delete(service, payout.bank_account_id)
    for pause in (timedelta(), LOST_AFTER):
        assert (await service.get(payout.transaction_id)).status == T.PROCESSING
        service.clock.advance(pause)
        await service.hurry()
        await service.run(submit_payments)
        if arrived:
            break
    seen = await service.get(payout.transaction_id)
    assert (seen.status, len(service.bank.orders), len(service.bank.payments)) == (status_after, 1, int(arrived))


async def test_an_approved_payout_goes_where_it_was_approved_to_go(service: TransactionsHarness) -> None:
    payout = await service.payout("sponsor-1", type=T.ESCROW_WITHDRAWAL)
    await service.work()
    await service.confirm(await service.bank_account("sponsor-1", "05", default_for_payouts=True))
    waiting = await service.waiting(payout.transaction_id)
    assert payout.bank_account_id in waiting.content
    await service.grant(waiting)
    await service.work()
    assert (await service.get(payout.transaction_id)).bank_account_id == payout.bank_account_id
    assert [order.account_number[-2:] for order in service.bank.orders] == ["01"]


async def test_what_was_approved_for_one_account_is_not_paid_to_another_number(
    service: TransactionsHarness, postgres: servers.TestPostgres
) -> None:
    """By somebody who may do anything to the database, and has the key: the number sealed anew."""
    payout = await service.payout()
    async with service.database.begin_for_all() as tx:
        row = (await tx.execute(sa.select(bank_accounts))).one()
    sealed = service.dependencies.vault.seal("0009999907", SealedFor.of(row.org_id, row))
    changed = f"UPDATE bank_accounts SET account_number_encrypted = '\\x{sealed.hex()}'"
    await servers.tamper(postgres.admin_dsn, service.database, changed)
    await service.work()
    seen = await service.get(payout.transaction_id)
    assert (seen.status, seen.failure.code, service.bank.payments) == (T.FAILED, "BANK_ACCOUNT_NOT_USABLE", {})


async def test_the_database_keeps_an_account_without_confirmation_from_being_active(
    service: TransactionsHarness,
) -> None:
    await service.bank_account("inv-001")
    with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="active_is_confirmed"):
        async with service.database.begin_for_all() as tx:
            await tx.execute(sa.text("UPDATE bank_accounts SET status = 'ACTIVE', version = version + 1"))
