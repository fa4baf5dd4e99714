"""Who has only a login to the database of transactions moves no money with it, by whatever it may write there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

import asyncpg
import pytest
import sqlalchemy as sa
from realco.transactions.v1 import bank_accounts_pb2 as bank_pb
from realco.transactions.v1 import evaluations_pb2, payouts_pb2
from realco.transactions.v1 import transactions_pb2 as pb

from services.chassis.calls.auth import Principal, acting_as
from services.chassis.data.database import Database
from services.chassis.data.due import PATIENCE
from services.chassis.data.overdue import OverdueWatch
from services.chassis.data.seals import NotSealed
from services.chassis.process.telemetry import ROWS_NOT_SEALED
from services.chassis.values.errors import DomainError
from services.transactions.commands.bank_accounts import block_altered_account
from services.transactions.domain.exceptions import ExceptionKind
from services.transactions.domain.payments import PaymentStatus
from services.transactions.domain.types import REFUND_NOT_KNOWN
from services.transactions.jobs import STEPS, TIMERS, WORK
from services.transactions.jobs.batches import BATCH_MAX
from services.transactions.jobs.evaluate_initiated import evaluate_initiated
from services.transactions.jobs.obstacles import postpone_cooling_payouts
from services.transactions.jobs.submit_payments import submit_payments
from services.transactions.store.transactions import find_transaction
from services.transactions.tables import bank_accounts
from tests.integration.test_transactions_approvals import proceeds
from tests.integration.test_transactions_refund_accounts import contribute, refund
from tests.support import servers
from tests.support.exceptions import count_found
from tests.support.peers.wire import Killed
from tests.support.transactions import ADMIN, IMPORT, ORG, TransactionsHarness, usd

T = pb.Transaction
ESCROW = Principal("service:escrow", "service", ORG)
COMPLIANCE = Principal("service:compliance", "service", ORG)
_STEP = (
    "UPDATE transactions SET status = '{to}', previous_status = status, version = version + 1, due_at = now(),"
    " epoch = epoch + 1{more} WHERE transaction_id = :id"
)


@pytest.fixture
async def service(service_database: Callable[[str], Awaitable[Database]]) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


async def write(service: TransactionsHarness, *statements: str, transaction_id: str) -> None:
    async with service.database.begin("org-1") as tx:
        for statement in statements:
            await tx.execute(sa.text(statement), {"id": transaction_id})


def steps(*path: str) -> list[str]:
    """Statements that move a transaction by SQL: `STATUS` or `STATUS, column = value`."""
    return [
        _STEP.format(to=to, more=f", {more}" if more else "") for to, _, more in (one.partition(", ") for one in path)
    ]


async def approved(service: TransactionsHarness) -> str:
    """What waits for a second person, with one that never was."""
    waiting = await proceeds(service)
    await write(service, *steps("APPROVED, approved_by = 'admin-2'", "QUEUED"), transaction_id=waiting.transaction_id)
    return waiting.transaction_id


async def invented(service: TransactionsHarness) -> str:
    """A payout like one that was, to whom nothing is owed."""
    real = await service.payout()
    columns = (
        "type, payment_method, currency, escrow_account_id, party_id, bank_account_id, account_number_digest,"
        " provider, created_by, created_at, updated_at, due_at, seal"
    )
    copy = (
        f"INSERT INTO transactions (org_id, transaction_id, status, version, amount_minor, {columns})"
        f" SELECT org_id, 'txn_made', 'INITIATED', 1, 9999, {columns} FROM transactions WHERE transaction_id = :id"
    )
    await write(service, copy, transaction_id=real.transaction_id)
    moved = steps("APPROVED", "QUEUED", "PROCESSING, attempts = 1, escrow_booked = true")
    await write(service, *moved, transaction_id="txn_made")
    return "txn_made"


async def booked(service: TransactionsHarness) -> str:
    """A payout whose money escrow refuses to give."""
    payout = await service.payout(owed=False)
    moved = steps("APPROVED", "QUEUED", "PROCESSING, attempts = 1, escrow_booked = true")
    await write(service, *moved, transaction_id=payout.transaction_id)
    return payout.transaction_id


@pytest.mark.parametrize("way", [approved, invented, booked])
async def test_no_order_leaves_for_what_was_moved_in_the_database(
    service: TransactionsHarness, way: Callable[[TransactionsHarness], Awaitable[str]]
) -> None:
    transaction_id = await way(service)
    before = ROWS_NOT_SEALED.labels("transactions")._value.get()
    await service.work(hurried=True)
    assert transaction_id not in {order.reference for order in service.bank.orders}
    assert ROWS_NOT_SEALED.labels("transactions")._value.get() > before


async def test_nothing_arrives_by_what_was_written_in_the_database(service: TransactionsHarness) -> None:
    deposit = await service.deposit()
    await service.work()
    moved = steps("SETTLED, settled_at = now(), return_risk_end_at = now(), final_at = now(), next_look_at = now()")
    await write(service, *moved, transaction_id=deposit.transaction_id)
    service.clock.advance(timedelta(days=90))
    told = await service.events(deposit.transaction_id)
    await service.work(hurried=True)
    assert await service.events(deposit.transaction_id) == told
    with pytest.raises(NotSealed):
        await service.ask(
            ADMIN, "CancelTransaction", pb.CancelTransactionRequest(transaction_id=deposit.transaction_id)
        )


async def test_transactions_that_sql_made_keep_none_of_ours_from_its_end(service: TransactionsHarness) -> None:
    """There are more of them than a job takes at a time, and they are due before ours."""
    deposit = await service.deposit()
    made = (
        "INSERT INTO transactions SELECT (jsonb_populate_record(t, jsonb_build_object('status', 'INITIATED',"
        " 'version', 1, 'previous_status', NULL, 'epoch', 0, 'tries', 0, 'transaction_id', t.transaction_id || n))).*"
        f" FROM transactions t, generate_series(1, {BATCH_MAX + 1}) n WHERE transaction_id = :id"
    )
    early = "settled_at = now(), final_at = '0001-01-02', next_look_at = '0001-01-02'"
    moved = steps("APPROVED", "QUEUED", "PROCESSING, attempts = 1", "PENDING_SETTLEMENT", f"SETTLED, {early}")
    theirs = [one.replace("= :id", "LIKE :id || '_%'") for one in moved]
    await write(service, made, *theirs, transaction_id=deposit.transaction_id)
    await service.work()
    service.bank.report(deposit.transaction_id, PaymentStatus.SETTLED, at=service.clock.now())
    await service.work(hurried=True)
    assert (await service.get(deposit.transaction_id)).status == T.SETTLED
    service.clock.advance(timedelta(days=90))
    await service.work()
    ended = await service.get(deposit.transaction_id)
    assert (ended.status, ended.finality) == (T.COMPLETED, T.FINAL)


async def test_a_payment_that_sql_keeps_putting_off_is_told(service: TransactionsHarness) -> None:
    """Whatever it writes: for how long a payment waits, its history says, and when it was to be looked at is sealed."""
    alarms: dict[str, str] = {}
    watch = OverdueWatch(service.database, service.clock, alarms, WORK)
    put_off = "UPDATE transactions SET due_at = now() + interval '1 day', tries = 0 WHERE transaction_id = :id"
    deposit = await service.deposit()
    # Not sent, not looked up on its way, and not looked at since it arrived.
    for left_out, waits in (({submit_payments}, PATIENCE), (set(), timedelta(days=10)), (set(), timedelta(days=90))):
        for job in (*STEPS, *TIMERS):
            if job not in left_out:
                await service.run(job)
        await watch.look()
        assert alarms == {}
        await write(service, put_off, transaction_id=deposit.transaction_id)
        service.clock.advance(waits)
        await service.work()
        await watch.look()
        assert alarms == {"overdue transactions": "1 wait for longer than they should"}
        if service.bank.payments:
            service.bank.report(deposit.transaction_id, PaymentStatus.SETTLED, at=service.clock.now())
        await service.hurry()
    kept = await service.get(deposit.transaction_id)
    assert (kept.status, kept.finality) == (T.SETTLED, T.PROVISIONAL)


async def test_a_payout_that_cannot_be_worked_on_stops_no_other(service: TransactionsHarness) -> None:
    """Its account was altered, and so was what says how the account was confirmed: its end cannot be written."""
    altered, sound = await service.payout(), await service.payout("inv-002")
    account = "UPDATE bank_accounts SET makers = '{x}', version = version + 1 WHERE bank_account_id = :id"
    approval = "UPDATE approvals SET note = 'x', version = version + 1 WHERE resource_id = :id"
    await write(service, account, approval, transaction_id=altered.bank_account_id)
    await service.work()
    assert [order.reference for order in service.bank.orders] == [sound.transaction_id]


async def test_an_account_that_was_confirmed_in_the_database_is_paid_nothing(service: TransactionsHarness) -> None:
    account = await service.bank_account("inv-001")
    confirmed = "confirmed_at = now() - interval '9 days', confirmation = 'PERSONS'"
    sql = f"UPDATE bank_accounts SET status = 'ACTIVE', {confirmed}, version = version + 1"
    await write(service, sql, transaction_id="")
    service.owe("inv-001")
    named = await service.payout_to(account.bank_account_id, "inv-001")
    refused = await service.payout_to(None, "inv-001")
    assert (named.failure.code, refused.failure.code) == ("BANK_ACCOUNT_NOT_FOUND", "BANK_ACCOUNT_NOT_USABLE")


async def test_a_default_account_that_was_hidden_is_told_and_not_that_the_party_has_none(
    service: TransactionsHarness,
) -> None:
    hidden, _ = [await service.confirm(await service.bank_account(party)) for party in ("inv-001", "inv-002")]
    hide = "UPDATE bank_accounts SET default_for_payouts = false, version = version + 1 WHERE bank_account_id = :id"
    await write(service, hide, transaction_id=hidden.bank_account_id)
    service.owe("inv-001")
    service.owe("inv-002")
    before = count_found(ExceptionKind.BANK_ACCOUNT_ALTERED)
    refused, paid = [await service.payout_to(None, party) for party in ("inv-001", "inv-002")]
    assert (refused.failure.code, bool(paid.transaction_id)) == ("BANK_ACCOUNT_NOT_USABLE", True)
    assert count_found(ExceptionKind.BANK_ACCOUNT_ALTERED) == before + 1
    with pytest.raises(DomainError, match="forbidden"):
        await service.deposit("inv-001", bank_account_id=hidden.bank_account_id)


@pytest.mark.parametrize("altered", [
    "default_for_payouts = false WHERE status = 'ACTIVE'",
    "status = 'DELETED', default_for_payouts = false WHERE party_id = 'inv-002'",
], ids=["which account was the default", "who else has this account"])  # fmt: skip
async def test_who_confirms_an_account_is_not_kept_from_knowing_what_was_altered(
    service: TransactionsHarness, altered: str
) -> None:
    for party_id in ("inv-001", "inv-002"):
        await service.confirm(await service.bank_account(party_id))
    asked = await service.bank_account("inv-001", default_for_payouts=True)
    await write(service, f"UPDATE bank_accounts SET version = version + 1, {altered}", transaction_id="")
    with pytest.raises(NotSealed):
        await service.waiting(asked.bank_account_id)


async def test_an_account_is_blocked_though_sql_says_why_it_was_before(service: TransactionsHarness) -> None:
    account = await service.confirm(await service.bank_account("inv-001"))
    await write(service, "UPDATE bank_accounts SET block_reason = 'ALTERED', version = version + 1", transaction_id="")
    with acting_as(ADMIN):
        async with service.database.begin() as tx:
            await block_altered_account(tx, account.bank_account_id, "txn_1", service.clock.now())
    request = bank_pb.GetBankAccountRequest(bank_account_id=account.bank_account_id)
    assert (await service.ask(ADMIN, "GetBankAccount", request)).status == bank_pb.BankAccount.BLOCKED


_FORGET = "UPDATE transactions SET tries = 0, epoch = epoch + 1, due_at = now() WHERE transaction_id = :id"
_CALL_EARLIER = (
    "INSERT INTO provider_payments (org_id, transaction_id, attempt, presentment, provider, provider_key, is_debit,"
    " provider_reference, sent_at) SELECT org_id, transaction_id, 0, 1, provider, 'old', false, '{payment_id}',"
    " created_at"
    " FROM transactions WHERE transaction_id = :id"
)
_REMOVE = "DELETE FROM provider_payments"


@pytest.mark.parametrize(("statement", "status_after"), [
    ("SELECT :id", T.PENDING_SETTLEMENT),
    (_REMOVE, T.PENDING_SETTLEMENT),
    ("UPDATE provider_payments SET attempt = 9 WHERE transaction_id = :id", T.PENDING_SETTLEMENT),
    ("UPDATE bank_accounts SET block_reason = :id, version = version + 1", T.PENDING_SETTLEMENT),
    (_CALL_EARLIER, T.PROCESSING),  # nothing is done until an operator has looked
], ids=["tries alone", "attempt removed", "attempt renumbered", "account altered", "called earlier"])  # fmt: skip
async def test_a_payout_that_the_bank_has_is_neither_ordered_again_nor_failed_whatever_is_set_back_in_the_database(
    service: TransactionsHarness, postgres: servers.TestPostgres, statement: str, status_after: T.Status
) -> None:
    """The thief keeps the bank's answer from being recorded, sets the tries back, and waits until the key is old."""
    payout = await service.payout()
    service.bank.after_effect.append(Killed())
    with pytest.raises(Killed):
        await service.work()
    [payment_id] = service.bank.payments
    service.bank.by_key.clear()  # a bank remembers a key for a day or so
    service.clock.advance(timedelta(days=2))
    if statement == _REMOVE:  # once a login has altered it
        await servers.put_right(postgres.admin_dsn, service.database, _REMOVE)
        statement = "SELECT :id"
    with suppress(asyncpg.PostgresError):
        await write(service, statement.format(payment_id=payment_id), transaction_id=payout.transaction_id)
    await write(service, _FORGET, transaction_id=payout.transaction_id)
    await service.work()
    assert ((await service.get(payout.transaction_id)).status, len(service.bank.payments)) == (status_after, 1)


async def test_an_order_whose_key_somebody_took_before_is_not_sent_and_told(service: TransactionsHarness) -> None:
    payout, other = await service.payout(), await service.deposit()
    taken = (
        "INSERT INTO provider_payments (org_id, transaction_id, attempt, presentment, provider, provider_key, is_debit,"
        f" sent_at) SELECT org_id, '{other.transaction_id}', 7, 1, provider,"
        " concat_ws(chr(58), 'txn', transaction_id, 1), false, created_at"
        " FROM transactions WHERE transaction_id = :id"
    )
    await write(service, taken, transaction_id=payout.transaction_id)
    before = ROWS_NOT_SEALED.labels("provider_payments")._value.get()
    await service.work()
    assert payout.transaction_id not in {order.reference for order in service.bank.orders}
    assert ROWS_NOT_SEALED.labels("provider_payments")._value.get() > before


_SMUGGLED = "txn_smuggled"


async def smuggle(service: TransactionsHarness, genuine: pb.Transaction, account: bank_pb.BankAccount) -> None:
    """A contribution of a cent from another account of the same party, which never came."""
    columns = (
        "type, payment_method, currency, escrow_account_id, party_id, investment_id, provider, created_by,"
        " account_number_digest, created_at, updated_at, due_at, seal"
    )
    copy = (
        f"INSERT INTO transactions (org_id, transaction_id, status, version, amount_minor, bank_account_id, {columns})"
        f" SELECT org_id, '{_SMUGGLED}', 'INITIATED', 1, 1, '{account.bank_account_id}', {columns}"
        " FROM transactions WHERE transaction_id = :id"
    )
    await write(service, copy, transaction_id=genuine.transaction_id)
    settled = "SETTLED, settled_at = now(), final_at = now(), finality = 'FINAL', attempts = 1"
    moved = steps("APPROVED", "QUEUED", "PROCESSING", "PENDING_SETTLEMENT", settled)
    await write(service, *moved, transaction_id=_SMUGGLED)


async def test_a_refund_goes_nowhere_by_itself_once_a_contribution_was_altered(service: TransactionsHarness) -> None:
    """The thief calls the real contribution returned, and makes up another from an account of their own."""
    real = await contribute(service, "02")
    thief = await service.confirm(await service.bank_account("inv-001", "05", default_for_payouts=True))
    await smuggle(service, real, thief)
    await write(service, *steps("RETURNED"), transaction_id=real.transaction_id)
    refunded = await refund(service, real)
    [waiting] = [each.statement for each in (await service.waiting(refunded.transaction_id)).explanations][:1]
    assert (refunded.status, waiting) == (T.PENDING_APPROVAL, f"{REFUND_NOT_KNOWN}.")


async def test_what_is_left_of_a_commitment_is_not_known_once_a_contribution_was_altered(
    service: TransactionsHarness,
) -> None:
    first = await service.deposit_request(amount=usd(1_000_00))
    made = await service.ask(IMPORT, "CreateTransaction", first)
    await write(service, *steps("CANCELLED"), transaction_id=made.transaction_id)
    again = await service.deposit_request(amount=usd(1_000_00), investment_id=first.investment_id)
    with pytest.raises(NotSealed):
        await service.ask(IMPORT, "CreateTransaction", again)


async def test_others_are_told_of_no_payout_that_was_altered(service: TransactionsHarness) -> None:
    payout = await service.payout()
    moved = steps("APPROVED", "QUEUED", "PROCESSING, attempts = 1")
    await write(service, *moved, transaction_id=payout.transaction_id)
    request = payouts_pb2.BatchGetPayoutsRequest(transaction_ids=[payout.transaction_id])
    assert not (await service.ask(ESCROW, "BatchGetPayouts", request)).payouts
    asked = evaluations_pb2.BatchGetEvaluationFactsRequest(transaction_ids=[payout.transaction_id])
    assert not (await service.ask(COMPLIANCE, "BatchGetEvaluationFacts", asked)).facts


async def test_a_debit_that_the_bank_stopped_for_good_is_not_presented_again_whatever_sql_calls_its_return(
    service: TransactionsHarness,
) -> None:
    deposit = await service.deposit()
    await service.work()
    service.bank.report(deposit.transaction_id, PaymentStatus.RETURNED, "R17")
    await service.work(hurried=True)
    etag = (await service.get(deposit.transaction_id)).etag
    another = "jsonb_set(failure, '{metadata,network_code}', '\"R01\"')"
    called = f"UPDATE transactions SET failure = {another}, version = version + 1"
    await write(service, called, transaction_id="")
    with pytest.raises(NotSealed):
        await service.ask(
            ADMIN, "RetryTransaction", pb.RetryTransactionRequest(transaction_id=deposit.transaction_id, etag=etag)
        )


async def test_a_move_that_sql_made_in_anothers_name_is_shown_to_nobody(service: TransactionsHarness) -> None:
    waiting = await proceeds(service)
    line = (
        "INSERT INTO transaction_history SELECT org_id, transaction_id, version, previous_status, status, NULL,"
        " 'admin-2', now() FROM transactions WHERE transaction_id = :id"
    )
    approved = steps("APPROVED, approved_by = 'admin-2'")
    await write(service, *approved, line, transaction_id=waiting.transaction_id)
    with pytest.raises(NotSealed):
        await service.path(waiting.transaction_id)
    with pytest.raises(NotSealed):  # nor is the move itself, by which somebody would send goods
        await service.ask(ADMIN, "GetTransaction", pb.GetTransactionRequest(transaction_id=waiting.transaction_id))


async def test_a_payout_to_an_account_of_which_nobody_knows_how_old_it_is_now_waits(
    service: TransactionsHarness,
) -> None:
    account = await service.confirm(await service.bank_account("inv-001"), cooled_down=False)
    service.owe("inv-001")
    payout = await service.payout_to(account.bank_account_id, "inv-001")
    await service.work()
    with acting_as(ADMIN):
        async with service.database.begin() as tx:
            await tx.execute(sa.update(bank_accounts).values(makers=["x"], version=bank_accounts.c.version + 1))
            row = await find_transaction(tx, payout.transaction_id)
            assert row is not None
            assert await postpone_cooling_payouts(tx, [row], service.clock.now()) == []


async def test_a_payout_whose_account_sql_altered_as_it_began_to_wait_waits_for_nobody(
    service: TransactionsHarness,
) -> None:
    account = await service.bank_account("sponsor-1")
    await service.confirm(account)
    service.owe("sponsor-1")
    made = await service.payout_to(account.bank_account_id, "sponsor-1", type=T.ESCROW_WITHDRAWAL)
    altered = "UPDATE bank_accounts SET makers = '{x}', version = version + 1 WHERE bank_account_id = :id"
    await write(service, altered, transaction_id=account.bank_account_id)
    await service.run(evaluate_initiated)
    failed = await service.get(made.transaction_id)
    assert (failed.status, failed.failure.code) == (T.FAILED, "BANK_ACCOUNT_NOT_USABLE")
    request = bank_pb.GetBankAccountRequest(bank_account_id=account.bank_account_id)
    assert (await service.ask(ADMIN, "GetBankAccount", request)).status == bank_pb.BankAccount.BLOCKED
