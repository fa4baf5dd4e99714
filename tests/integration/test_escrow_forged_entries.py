"""Somebody else than escrow writes entries into its book: no money leaves by them, and nothing is decided by them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from functools import partial

import asyncpg
import pytest
import sqlalchemy as sa
from realco.escrow.v1 import escrow_accounts_pb2 as accounts_pb
from realco.escrow.v1 import holds_pb2, journal_pb2, postings_pb2

from services.chassis.calls.auth import Principal, service_principal
from services.chassis.data.seals import NotSealed
from services.chassis.process.telemetry import ROWS_NOT_SEALED
from services.escrow import jobs
from services.escrow.domain.journal import build_key
from services.escrow.posting import checks
from tests.support import chassis
from tests.support.escrow import Escrow, key, new_entry, usd
from tests.support.escrow_payments import Payment
from tests.support.forged_entries import HELD, check, forge, opened, pay, posting
from tests.support.ledger_accounts import ledger_account


@pytest.fixture
async def escrow(service_urls) -> AsyncIterator[Escrow]:
    escrow = Escrow(await service_urls("escrow"))
    yield escrow
    await escrow.close()


async def test_a_stage_that_somebody_else_booked_is_not_passed_over(escrow):
    account = await opened(escrow)
    payment = Payment(account, "ESCROW_DEPOSIT", 5)
    forged = await forge(escrow, account, transaction_id=payment.transaction.transaction_id)
    before = await escrow.posted(account)
    with pytest.raises(NotSealed):
        await payment.happens(escrow, "SETTLED")
    with pytest.raises(NotSealed):
        await escrow.post(account, reverses_journal_entry_id=forged)
    assert await escrow.posted(account) == before


async def test_whoever_takes_the_key_of_what_is_to_come_has_it_wait_and_refuses_it_to_nobody(escrow):
    account, elsewhere = await opened(escrow), await opened(escrow)
    deposit, payout = Payment(account, "ESCROW_DEPOSIT", 5), Payment(account, "REFUND", 7)
    hold = await escrow.hold(account, HELD, 10)
    end = {"idempotency_key": key(), "escrow_account_id": account, "hold_id": hold.hold_id}
    capture = holds_pb2.CaptureHoldRequest(**end, to_ledger_account=ledger_account("fees"))
    deposited, paid = deposit.transaction.transaction_id, payout.transaction.transaction_id
    coming = (
        (
            build_key("transaction", deposited, "1", "settled", body=b"ESCROW_DEPOSIT inv-001 5"),
            partial(deposit.happens, escrow, "SETTLED"),
        ),
        (
            build_key("rpc", escrow.transactions.key_owner, f"txn:{paid}:1:submit", body=b"")._replace(
                fingerprint=b"x"
            ),
            partial(payout.submit, escrow),
        ),
        (build_key("hold", hold.hold_id, body=b"FEES "), partial(escrow.call, "CaptureHold", capture)),
    )
    for place, (asked, happen) in zip((elsewhere, account, elsewhere), coming, strict=True):
        await forge(escrow, place, asked, kinds="CASH,SUSPENSE")
        before = await escrow.posted(account)
        with pytest.raises(NotSealed):
            await happen()
        assert await escrow.posted(account) == before


async def test_nothing_is_decided_by_balances_that_somebody_else_wrote(escrow):
    account = await escrow.open()
    await escrow.post(account, ("cash", 5), (HELD, -5))
    await escrow.post(account, ("cash", 50), ("distributable", -50))
    payout = Payment(account, "REFUND", 1)
    await payout.submit(escrow)
    settled = await escrow.post(account, ("cash", 5), (HELD, -5))
    await forge(escrow, account, kinds="SUBSCRIPTION,CASH", reverses=settled.journal_entry_id)
    part = postings_pb2.PartyAmount(party_id="inv-001", amount=usd(2))
    asked = {"idempotency_key": key(), "escrow_account_id": account}
    release = postings_pb2.ReleaseSubscriptionsRequest(**asked, offering_id="off_x", subscriptions=[part])
    declare = postings_pb2.DeclareDistributionRequest(**asked, distribution_id="dist_x", payables=[part])
    service = Principal("service:distributions", "service", escrow.org_id, "admin-1")
    for work in (
        payout.happens(escrow, "SETTLED"),
        escrow.call("ReleaseSubscriptions", release, service),
        escrow.call("DeclareDistribution", declare, service),
        escrow.call("CloseEscrowAccount", accounts_pb.CloseEscrowAccountRequest(**asked)),
        pay(escrow, account, amount_minor=1000),
        escrow.hold(account, HELD, 1000),
        escrow.post(account, reverses_journal_entry_id=settled.journal_entry_id),
    ):
        with pytest.raises(NotSealed):
            await work


@pytest.mark.parametrize("checked", ["never", "by the job", "by a payout"])
async def test_no_money_leaves_an_escrow_account_with_an_entry_that_the_service_did_not_book(escrow, checked):
    account, other = await opened(escrow), await opened(escrow)
    hold = await escrow.hold(account, HELD, 10)
    if checked == "by the job":
        assert await check(escrow) == {}
    if checked == "by a payout":
        assert await pay(escrow, account) == "journal_entry"
    await forge(escrow, account)
    before, told = await escrow.posted(account), ROWS_NOT_SEALED.labels("journal_entries")._value.get()
    with pytest.raises(NotSealed):
        await pay(escrow, account)
    end = {"idempotency_key": key(), "escrow_account_id": account, "hold_id": hold.hold_id}
    with pytest.raises(NotSealed):
        await escrow.call("ReleaseHold", holds_pb2.ReleaseHoldRequest(**end))
    to = ledger_account("fees")
    with pytest.raises(NotSealed):
        await escrow.call("CaptureHold", holds_pb2.CaptureHoldRequest(**end, to_ledger_account=to))
    assert await escrow.posted(account) == before
    assert ROWS_NOT_SEALED.labels("journal_entries")._value.get() == told + 3
    assert await pay(escrow, other) == "journal_entry"
    [(title, _)] = (await check(escrow)).items()
    assert account in title


async def test_what_was_booked_and_did_not_commit_is_known_of_nobody_else(escrow):
    account, other = await opened(escrow), await opened(escrow)
    assert await pay(escrow, account) == "journal_entry"
    await forge(escrow, other)
    with pytest.raises(NotSealed):
        await pay(escrow, account, other)  # it gave the number 3, and took it back
    assert await pay(escrow, account, amount_minor=1000) == "failure"
    await forge(escrow, account)
    with pytest.raises(NotSealed):
        await pay(escrow, account)


@pytest.mark.parametrize("seal", ["seal", "'made up'"])
async def test_nobody_writes_that_the_book_was_looked_at(escrow, seal):
    account = await opened(escrow)
    assert await check(escrow) == {}
    await forge(escrow, account)
    async with escrow.database.begin_for_all() as tx:
        await tx.execute(sa.text(f"UPDATE book_checks SET sequence = 2, seal = {seal}"))
    with pytest.raises(NotSealed):
        await pay(escrow, account)
    assert await check(escrow) != {}


@pytest.mark.parametrize(
    "lost",
    [
        "UPDATE journal_entries SET seal = 'y' WHERE sequence = 3",
        """DELETE FROM ledger_entries WHERE journal_sequence = 3; DELETE FROM journal_entries WHERE sequence = 3;
        UPDATE escrow_accounts SET entry_sequence = 2""",
        "UPDATE incarnation SET incarnation = gen_random_uuid()",
    ],
    ids=["its entry is another one", "its entry is not there", "the database lives anew"],
)
async def test_a_mark_that_was_kept_from_before_a_restore_says_nothing_of_the_book_after_it(escrow, lost):
    account = await opened(escrow)
    async with escrow.beside() as before:  # a process remembers what it booked, and ends before a restore
        await before.post(account, ("cash", 1), (HELD, -1))
        await before.post(account, ("cash", 1), (HELD, -1))
    assert await check(escrow) == {}
    async with chassis.as_superuser(escrow.urls) as admin:
        # A restore asks no trigger. That the second entry was looked at is what the mark says.
        altered = "UPDATE journal_entries SET transaction_id = 'txn_x' WHERE sequence = 2"
        await admin.execute(f"SET session_replication_role = replica; {altered}; {lost}")
    with pytest.raises(NotSealed):
        await pay(escrow, account)
    assert await check(escrow) != {}


async def test_no_account_with_entries_of_somebody_else_keeps_the_next_from_being_looked_at(escrow, monkeypatch):
    monkeypatch.setattr(jobs, "_BATCH_MAX", 2)
    monkeypatch.setattr(checks, "_AT_ONCE", 1)
    accounts = sorted([await opened(escrow) for _ in range(3)])
    for account in accounts:
        await forge(escrow, account)
    faults: dict[str, list[str]] = {}
    job = jobs.BookCheck(escrow.database, faults)
    for _ in range(20):
        await job.run()
    assert [title.split()[-1] for title in sorted(faults)] == accounts


async def test_whoever_has_money_leave_reads_that_the_balances_may_be_made_up(escrow):
    """Else what is missing looks as if it were there at the moment of the yes."""
    account, asking = await opened(escrow), service_principal("distributions", escrow.org_id)
    await escrow.post(account, ("returns_receivable:inv-001", 5), ("cash", -5))
    part = postings_pb2.PartyAmount(party_id="inv-001", amount=usd(1))
    of_all = {"escrow_account_id": account, "parts": [part]}
    settled = postings_pb2.GetTransactionPreviewRequest.SETTLED
    payout = postings_pb2.GetTransactionPreviewRequest(type="REFUND", outcome=settled, **of_all)
    closing = postings_pb2.GetMovementPreviewRequest(kind="CLOSE_OFFERING", **of_all)

    async def read() -> list[set[str]]:
        posted = new_entry((HELD, 1), ("fees", -1))
        entry = journal_pb2.PostJournalEntryRequest(
            escrow_account_id=account, idempotency_key=key(), journal_entry=posted
        )
        previews = [
            await escrow.call("GetTransactionPreview", payout, asking),
            await escrow.call("GetMovementPreview", closing, asking),
            await escrow.ask("PostJournalEntry", entry),
        ]
        return [{each.rule for each in one.explanations} & {"MONEY_MISSING", "MONEY_ALTERED"} for one in previews]

    assert await read() == [{"MONEY_MISSING"}, {"MONEY_MISSING"}, set()]
    await forge(escrow, account, kinds="CASH,RETURNS_RECEIVABLE", entry_type="DEPOSIT", transaction_id="txn_1")
    assert await read() == [{"MONEY_ALTERED"}] * 3


async def test_a_balance_that_somebody_filled_up_has_what_comes_wait_and_refuses_it_to_nobody(escrow):
    account = await opened(escrow)
    deposit = Payment(account, "ESCROW_DEPOSIT", 5000)
    await forge(escrow, account, kinds="CASH,ISSUER_PROCEEDS", amount_minor=2**62 - 2000)
    with pytest.raises(NotSealed):
        await deposit.happens(escrow, "SETTLED")
    await forge(escrow, account, kinds="ISSUER_PROCEEDS,CASH", amount_minor=2**62 - 2000)
    await deposit.happens(escrow, "SETTLED")


async def test_what_is_booked_there_and_back_leaves_the_balance_as_it_was(escrow):
    account = await escrow.open()
    for kinds in ("CASH,SUSPENSE", "SUSPENSE,CASH") * 2:
        await forge(escrow, account, kinds=kinds, amount_minor=2**62 - 1000)
    await escrow.post(account, ("cash", 3000), (HELD, -3000))
    assert await escrow.posted(account) == {"cash": 3000, HELD: 3000}
    assert (await escrow.trial_balance(account)).balanced


async def test_no_list_that_is_counted_otherwise_writes_one_account_s_entry_into_another(escrow):
    """What is found at one place and written at another would be looked at by nobody."""
    call = posting([await opened(escrow), await opened(escrow)]).replace("org_1", escrow.org_id)
    lists = list(re.finditer(r"'\{([^']*)\}'", call))
    for each in lists:
        last = each[1].count(",")
        for other in (f"'[0:{last}]={{{each[1]}}}'", f"'{{{each[1]},{each[1]}}}'", f"'{{{{{each[1]}}}}}'"):
            tried = call[: each.start()] + other + call[each.end() :]
            with pytest.raises(asyncpg.PostgresError, match="the lists do not refer to one another"):
                async with escrow.database.begin(escrow.org_id) as tx:
                    await tx.execute(sa.text("SELECT " + tried.replace("::", "\\:\\:")))
    assert len(lists) > 25
