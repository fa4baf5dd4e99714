"""Group commit: what is asked for at once is booked together, and nobody's trouble is another's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeVar

import asyncpg
import pytest
import sqlalchemy as sa
from realco.escrow.v1 import events_pb2 as events
from realco.escrow.v1 import journal_pb2 as pb

from services.chassis.data.database import Database
from services.chassis.data.database_errors import is_contention, sqlstate
from services.chassis.values.errors import DomainError
from services.chassis.values.ids import new_id
from services.escrow.domain.chart import CASH, ISSUER_PROCEEDS, LedgerAccountKind, account_of_party
from services.escrow.domain.journal import EntryType, NewEntry, build_key, credit, debit
from services.escrow.posting import group_commit
from services.escrow.posting.group_commit import Poster
from tests.support import chassis
from tests.support.escrow import Escrow, key, name_of, refusal
from tests.support.events import as_in_events
from tests.support.seals import SEALS

T = TypeVar("T")


def booking(escrow: Escrow, account: str, *, org_id: str = "", description: str = "a test") -> NewEntry:
    return NewEntry(
        org_id=org_id or escrow.org_id,
        escrow_account_id=account,
        journal_entry_id=new_id("je"),
        key=build_key("test", key(), body=b"1"),
        type=EntryType.DEPOSIT,
        description=description,
        legs=(debit(CASH, 1), credit(account_of_party(LedgerAccountKind.SUBSCRIPTION, "inv-001"), 1)),
        created_by="admin-1",
    )


async def test_in_one_batch_a_release_sees_each_debt_that_came_before_it(escrow):
    account = await escrow.open()
    subscribed = account_of_party(LedgerAccountKind.SUBSCRIPTION, "inv-001")
    owed = account_of_party(LedgerAccountKind.RETURNS_RECEIVABLE, "inv-002")
    came, released = (debit(CASH, 4), credit(subscribed, 4)), (debit(subscribed, 1), credit(ISSUER_PROCEEDS, 1))
    taken_back, paid_again = (debit(owed, 1), credit(CASH, 1)), (debit(CASH, 1), credit(owed, 1))
    steps = [came, released, taken_back, released, taken_back, paid_again, released, paid_again, released]
    outcomes = await escrow.poster.post(
        [replace(booking(escrow, account), legs=legs, forbids_debts=legs is released) for legs in steps]
    )
    refused = {n: each.answer.reason for n, each in enumerate(outcomes) if isinstance(each.answer, DomainError)}
    assert refused == {3: "PARTY_OWES", 6: "PARTY_OWES"}
    assert await escrow.posted(account) == {"cash": 4, "subscription:inv-001": 2, "issuer_proceeds": 2}


async def test_many_callers_at_once_on_a_hot_account_keep_sums_and_numbers(escrow):
    account = await escrow.open()
    # A second process with a lane of its own, on the same rows.
    second = escrow.beside()
    await asyncio.gather(
        *(
            (escrow, second)[n % 2].post(account, ("cash", 1 + n), (f"subscription:inv-{n % 7}", -1 - n))
            for n in range(300)
        )
    )
    await second.close()
    assert (await escrow.posted(account))["cash"] == sum(range(1, 301))
    assert (await escrow.trial_balance(account)).balanced
    entries = await escrow.journal()
    assert len(entries) == 300
    for name in ("cash", *(f"subscription:inv-{n}" for n in range(7))):
        legs = sorted(
            (leg.sequence, leg.amount.amount_minor, leg.balance_after.amount_minor)
            for entry in entries
            for leg in entry.ledger_entries
            if name_of(leg.ledger_account) == name
        )
        assert [number for number, _, _ in legs] == list(range(1, len(legs) + 1))
        running = 0
        for _, amount, after in legs:
            running += amount
            assert after == running


async def test_opposite_transfers_at_once_never_wait_in_a_circle(escrow):
    one, two = await escrow.open(), await escrow.open()
    lanes = [escrow.beside() for _ in range(3)]

    async def both(lane: Escrow, turn: int) -> None:
        first, last = (one, two) if turn % 2 else (two, one)
        await lane.poster.post([booking(escrow, first), booking(escrow, last)])

    await asyncio.gather(*(both(lane, turn) for turn in range(20) for lane in lanes))
    for lane in lanes:
        await lane.close()
    assert (await escrow.posted(one)) == (await escrow.posted(two)) == {"cash": 60, "subscription:inv-001": 60}


async def test_what_waits_is_booked_together_across_accounts_and_organizations(escrow):
    accounts = [await escrow.open(), await escrow.open(), await escrow.open(principal=escrow.stranger)]
    orgs = [escrow.org_id, escrow.org_id, escrow.stranger.org_id]
    first = asyncio.create_task(escrow.poster.post([booking(escrow, accounts[0])]))
    await asyncio.gather(
        first,
        *(escrow.poster.post([booking(escrow, accounts[n % 3], org_id=orgs[n % 3])]) for n in range(30)),
    )
    posted = await escrow.events(events.JournalEntriesPosted)
    escrow.org_id = escrow.stranger.org_id
    posted += await escrow.events(events.JournalEntriesPosted)
    assert sum(len(event.journal_entries) for event in posted) == 31
    # One for each escrow account and commit: at most two commits were needed.
    assert len(posted) <= 6


async def test_another_organizations_account_is_not_there(escrow):
    theirs = await escrow.open(principal=escrow.stranger)
    assert (await refusal(escrow.post(theirs, ("cash", 1), ("fees", -1))))[0] == "ESCROW_ACCOUNT_NOT_FOUND"
    [outcome] = await escrow.poster.post([booking(escrow, theirs)])
    assert isinstance(outcome.answer, DomainError)
    assert outcome.answer.reason == "ESCROW_ACCOUNT_NOT_FOUND"


async def test_one_bad_posting_fails_alone(escrow):
    account = await escrow.open()
    bad = booking(escrow, account, description="a NUL \x00 no database takes")
    outcomes = await asyncio.gather(
        *(escrow.poster.post([entry]) for entry in [*(booking(escrow, account) for _ in range(20)), bad]),
        *(escrow.poster.post([booking(escrow, account)]) for _ in range(20)),
        return_exceptions=True,
    )
    failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert len(failed) == 1
    assert await escrow.posted(account) == {"cash": 40, "subscription:inv-001": 40}


async def test_a_caller_that_gives_up_changes_nothing_for_the_others(escrow):
    account = await escrow.open()
    tasks = [asyncio.create_task(escrow.poster.post([booking(escrow, account)])) for _ in range(10)]
    await asyncio.sleep(0)
    tasks[3].cancel()
    tasks[7].cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    kept = [outcome for outcome in done if not isinstance(outcome, BaseException)]
    assert len(kept) == 8
    await escrow.poster.drain()
    assert (await escrow.posted(account))["cash"] in (8, 9, 10)  # what was sent before they gave up is booked


async def test_more_than_can_wait_is_refused_at_once(escrow):
    account = await escrow.open()
    poster = Poster(escrow.database, escrow.clock, waiting_max=10)
    outcomes = await asyncio.gather(
        poster.post([booking(escrow, account) for _ in range(10)]),
        refusal(poster.post([booking(escrow, account)])),
    )
    assert len(outcomes[0]) == 10
    assert outcomes[1][0] == "RATE_LIMITED"
    assert len(await poster.post([booking(escrow, account)])) == 1


async def test_a_lost_connection_is_no_lost_and_no_double_posting(escrow):
    account = await escrow.open()

    async def cut_connections() -> None:
        async with chassis.as_superuser(escrow.urls) as admin:  # no login of a service may
            for _ in range(5):
                await admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND application_name = 'realco-escrow'"
                )
                await asyncio.sleep(0.01)

    cutting = asyncio.create_task(cut_connections())
    outcomes = []
    while not cutting.done():
        batch = [escrow.poster.post([booking(escrow, account)]) for _ in range(20)]
        outcomes += await asyncio.gather(*batch)
    await cutting
    assert all(isinstance(outcome[0].answer, pb.JournalEntry) for outcome in outcomes)
    assert (await escrow.posted(account))["cash"] == len(outcomes)
    assert len({outcome[0].answer.journal_entry_id for outcome in outcomes}) == len(outcomes)
    assert (await escrow.trial_balance(account)).balanced


class _Unreliable(Database):
    """A database whose connections call `trouble(connection, moment)` before and after each statement."""

    def __init__(self, urls: SimpleNamespace, trouble: Callable[[asyncpg.Connection, str], None]) -> None:
        super().__init__(urls.app_url, urls.worker_url, "escrow", SEALS)
        self._trouble = trouble

    @asynccontextmanager
    async def connect_raw(self) -> AsyncIterator[Any]:
        async with super().connect_raw() as connection:
            yield _Troubled(connection, self._trouble)


class _Troubled:
    def __init__(self, connection: asyncpg.Connection, trouble: Callable[[asyncpg.Connection, str], None]) -> None:
        self._connection = connection
        self._trouble = trouble

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def execute(self, statement: str, *values: object) -> str:
        return await self._around(statement, self._connection.execute(statement, *values))

    async def fetch(self, statement: str, *values: object) -> Any:
        return await self._around(statement, self._connection.fetch(statement, *values))

    async def fetchrow(self, statement: str, *values: object) -> Any:
        return await self._around(statement, self._connection.fetchrow(statement, *values))

    async def _around(self, statement: str, work: Coroutine[Any, Any, T]) -> T:
        word = "INSERT" if "INTO outbox" in statement else statement.split()[0].strip(";")
        try:
            self._trouble(self._connection, f"before {word}")
        except BaseException:
            work.close()
            raise
        answer = await work
        self._trouble(self._connection, f"after {word}")
        return answer


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("word", ["BEGIN", "SELECT", "INSERT", "COMMIT"])
async def test_a_connection_lost_at_any_moment_of_a_batch_changes_no_answer(escrow, when, word):
    account = await escrow.open()
    wait = [f"{when} {word}"]

    def cut(connection: asyncpg.Connection, moment: str) -> None:
        if moment in wait:
            wait.remove(moment)
            connection.terminate()
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")

    database = _Unreliable(escrow.urls, cut)
    poster = Poster(database, escrow.clock)
    entries = [booking(escrow, account) for _ in range(3)]
    outcomes = await poster.post(entries)
    await poster.drain()
    await database.dispose()
    assert wait == []
    assert [outcome.answer.journal_entry_id for outcome in outcomes] == [entry.journal_entry_id for entry in entries]
    # Each was published once, as it was answered.
    assert await escrow.journal() == [as_in_events(outcome.answer) for outcome in outcomes]
    assert (await escrow.posted(account))["cash"] == 3


async def test_a_posting_is_told_why_it_failed_though_its_transaction_could_not_be_rolled_back(escrow):
    account = await escrow.open()

    def no_way_back(_: asyncpg.Connection, moment: str) -> None:
        if moment == "before ROLLBACK":
            raise asyncpg.InternalClientError("the answer was cut off")

    database = _Unreliable(escrow.urls, no_way_back)
    poster = Poster(database, escrow.clock)
    with pytest.raises(asyncpg.PostgresError) as failed:
        await poster.post([booking(escrow, account, description="a NUL \x00 no database takes")])
    assert sqlstate(failed.value) == "22021"
    # What comes next is booked on another connection, not inside what is left of that transaction.
    assert len(await poster.post([booking(escrow, account)])) == 1
    await poster.drain()
    await database.dispose()
    assert (await escrow.posted(account))["cash"] == 1


async def test_a_posting_that_waits_in_vain_for_its_account_is_counted_among_what_waited(escrow, monkeypatch):
    monkeypatch.setattr(group_commit, "build_begin", partial(group_commit.build_begin, lock_ms=20))
    account = await escrow.open()
    async with escrow.database.begin_for_all() as tx:
        await tx.execute(sa.text("SELECT FROM escrow_accounts FOR UPDATE"))
        with pytest.raises(asyncpg.PostgresError, match="lock timeout"):
            await escrow.poster.post([booking(escrow, account)])
    assert escrow.poster._database.waited_in_vain


async def test_large_batches_of_several_processes_keep_sums_and_numbers_and_never_wait_in_a_circle(escrow, monkeypatch):
    """Each is sent in parts, which alone would lock their escrow accounts one after the other."""
    accounts = [await escrow.open() for _ in range(4)]
    processes = [escrow.beside() for _ in range(3)]
    failed = list[str]()
    monkeypatch.setattr(group_commit, "is_contention", lambda error: failed.append(str(error)) or is_contention(error))
    # Every part has two of the accounts, and every process begins with others.
    batches = [
        [booking(escrow, accounts[(2 * (n // 300) + n % 2 + turn) % 4]) for n in range(600)] for turn in range(6)
    ]
    outcomes = await asyncio.gather(*(processes[n % 3].poster.post(batch) for n, batch in enumerate(batches)))
    assert all(isinstance(each.answer, pb.JournalEntry) for outcome in outcomes for each in outcome)
    assert failed == []
    for account in accounts:
        assert await escrow.posted(account) == {"cash": 900, "subscription:inv-001": 900}
        assert (await escrow.trial_balance(account)).balanced
    entries = [entry for entry in await escrow.journal() if entry.escrow_account_id == accounts[0]]
    assert sorted(entry.journal_sequence for entry in entries) == list(range(1, 901))
    for process in processes:
        await process.close()
