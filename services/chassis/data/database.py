"""One service's PostgreSQL: transactions that know their organization, connections that are never trusted after a cut.

- Every transaction begins by naming its organization, for that transaction only; row level security does the rest.
  What is only read, and all the time, is read without one: `reader` (reads.py).
- Two roles, each with its own pool: a request's sees one organization whatever it sets; the worker's sees all of them,
  and works for jobs, the relay and webhooks (ADR 17).
- The connection of a query that was cancelled, or never answered, is closed and not used again (rule c20).
- A commit, once begun, is awaited to its end even if the caller is cancelled meanwhile.
- READ COMMITTED; time limits on locks, statements and idle transactions (c9), and on the server's silence.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from functools import partial
from typing import Any, Self, TypeVar

import asyncpg
import sqlalchemy as sa

from services.chassis.calls.auth import current_principal
from services.chassis.calls.deadline import remaining_seconds
from services.chassis.data.approval_policy import bind_policy, read_policy
from services.chassis.data.database_errors import LOCK_NOT_AVAILABLE, sqlstate
from services.chassis.data.pool import Pool
from services.chassis.data.reads import Reader
from services.chassis.data.roles import (
    LOCK_TIMEOUT_MS,
    LOOK_CONNECTIONS,
    READ_CONNECTIONS,
    REQUEST_CONNECTIONS,
    SESSION_PROOF,
    STATEMENT_TIMEOUT_MS,
    WORKER_CONNECTIONS,
)
from services.chassis.data.seals import Seals, bind_seals, read_keys
from services.chassis.data.transaction import Tx
from services.chassis.data.urls import SEARCH_PATH, connect, dsn_of
from services.chassis.process.settings import Settings
from services.chassis.values.approval_policy import NO_POLICY, ApprovalPolicy
from services.chassis.values.invariant import invariant

T = TypeVar("T")

# A server that has not refused a statement by then will not answer it: it, or the way to it, is a black hole.
COMMAND_SECONDS = STATEMENT_TIMEOUT_MS / 1000 + 2
_PREPARED_MAX = 512
_CONNECT_SECONDS = 5
# What the worker's transactions name: its policies do not ask for it, and no organization is called so.
_NO_ORGANIZATION = ""
_QUOTABLE = re.compile(r"[A-Za-z0-9_-]*")

# What would lose, miss or misread rows if it were otherwise. A role may change its own defaults, so each transaction
# says these itself; a pooler hands them on, for they end with it.
_PINNED = ", ".join(
    f"set_config('{name}', '{value}', true)"
    for name, value in {
        "search_path": SEARCH_PATH,
        "synchronous_commit": "on",
        "row_security": "on",
        "timezone": "UTC",
        "bytea_output": "hex",  # of seals within JSON
        "array_nulls": "on",  # of the lists that entries are booked from
    }.items()
)


def build_begin(
    org_id: str,
    *,
    lock_ms: int = LOCK_TIMEOUT_MS,
    statement_ms: int = STATEMENT_TIMEOUT_MS,
    isolation: str = "READ COMMITTED",
) -> str:
    """The statements that begin a transaction of this organization, sent together: one message and its answer."""
    return (
        f"BEGIN ISOLATION LEVEL {isolation} READ WRITE; SELECT {_name_organization(org_id)},"
        f" set_config('lock_timeout', '{lock_ms:d}', true), set_config('statement_timeout', '{statement_ms:d}', true),"
        f" {_PINNED}"
    )


def _name_organization(org_id: str) -> str:
    invariant(_QUOTABLE.fullmatch(org_id) is not None, "what is named within quotes ends no quotes")
    return f"set_config('app.org_id', '{org_id}', true)"


# What a statement that writes by itself (`Database.send_for_all`) sets before it touches a row: it reads from this.
LIMITS = (
    f"(SELECT {_name_organization('')}, set_config('lock_timeout', '{LOCK_TIMEOUT_MS:d}', true), {_PINNED} OFFSET 0)"
)
# The same as a condition, which is asked once, before any row is looked at.
ARE_SET = sa.text(f"EXISTS (SELECT FROM {LIMITS} limits)")


class _Undone(Exception):
    """A rehearsal is over."""


class Database:
    """The database of the service `name`, reached as the role of its requests and as its worker's.

    Args:
        url: The app role's: `postgresql://user:password@host:port/name?sslmode=…`, with or without a driver's name.
        worker_url: The worker role's.
        name: The service, which names its migrations and its lines in `pg_stat_activity`.
        seals: What it seals its rows with.
        policy: By what its approvals are decided.
    """

    def __init__(
        self,
        url: str,
        worker_url: str,
        name: str,
        seals: Seals,
        *,
        policy: ApprovalPolicy = NO_POLICY,
        connections_max: int = REQUEST_CONNECTIONS,
        command_seconds: float = COMMAND_SECONDS,
    ) -> None:
        self.name = name
        self.seals = seals
        self.policy = policy
        self._connections_max = connections_max
        self._command_seconds = command_seconds
        # When statements gave up waiting for locks, the latest of them (lock_watch.py).
        self.waited_in_vain: deque[float] = deque(maxlen=100)
        # Set after each commit that left events in the outbox; the relay waits on it.
        self.events_waiting = asyncio.Event()
        # Set after each commit that left a dead letter; the watch of letters waits on it.
        self.letters_waiting = asyncio.Event()
        self._session = {"application_name": f"realco-{name}", SESSION_PROOF: seals.list_session_proofs()[0]}
        self._dsn = dsn_of(url)
        self._requests = self._pool_of(url, connections_max)
        self._worker = self._pool_of(worker_url, min(connections_max, WORKER_CONNECTIONS))
        # One process asks no more at a time: what a read takes of it is longer than what PostgreSQL takes.
        self.reader = Reader(self._pool_of(url, min(connections_max, READ_CONNECTIONS)), self.note_wait)
        # What is looked at again and again takes turns.
        self._looks = Reader(self._pool_of(worker_url, LOOK_CONNECTIONS), self.note_wait)
        bind_seals(self.reader, seals)

    @classmethod
    def open(cls, settings: Settings, name: str) -> Self:
        """The database of the service `name`, as its settings say.

        Raises: ConfigurationError: there is no file of keys, or it holds none; or the policy's file says no policy.
        """
        assert settings.data_key_file is not None  # required before
        return cls(
            settings.database_url.get_secret_value(),
            settings.worker_database_url.get_secret_value(),
            name,
            Seals(read_keys(settings.data_key_file, "DATA_KEY_FILE")),
            policy=read_policy(settings.approval_policy_file),
            connections_max=settings.database_connections_max,
        )

    def _pool_of(self, url: str, connections_max: int) -> Pool:
        return Pool(partial(self._connect, dsn_of(url)), connections_max)

    async def _connect(self, dsn: str) -> asyncpg.Connection:
        connection = await connect(
            dsn,
            server_settings=self._session,
            timeout=_CONNECT_SECONDS,
            command_timeout=self._command_seconds,
            statement_cache_size=_PREPARED_MAX,
        )
        # What is written as JSON is text already; what is read of it has whole numbers, however long.
        await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=str, decoder=json.loads)
        return connection

    @asynccontextmanager
    async def begin(self, org_id: str | None = None, *, lock_timeout_ms: int = LOCK_TIMEOUT_MS) -> AsyncIterator[Tx]:
        """One transaction of one organization, committed when the block ends and rolled back when it raises.

        Args:
            org_id: Whose rows may be seen and written; None is the caller's organization.
            lock_timeout_ms: How long one statement may wait for another transaction.
        """
        organization = org_id or current_principal().org_id
        invariant(organization != _NO_ORGANIZATION, "a transaction names its organization")
        async with self._begin(self._requests, organization, lock_timeout_ms=lock_timeout_ms) as connection:
            yield connection

    @asynccontextmanager
    async def begin_snapshot(self) -> AsyncIterator[Tx]:
        """One transaction of the caller's organization in which all statements see the same rows; it writes nothing."""
        organization = current_principal().org_id
        async with self._begin(self._requests, organization, isolation="REPEATABLE READ") as connection:
            yield connection

    @asynccontextmanager
    async def begin_rehearsal(self) -> AsyncIterator[Tx]:
        """One transaction of the caller's organization that is undone when the block ends, however it ends."""
        with suppress(_Undone):
            async with self.begin() as connection:
                yield connection
                await connection.write_rest()
                raise _Undone

    @asynccontextmanager
    async def begin_for_all(self) -> AsyncIterator[Tx]:
        """One transaction over the rows of every organization, for jobs, the relay and webhooks."""
        async with self._begin(self._worker, _NO_ORGANIZATION) as connection:
            yield connection

    async def send_for_all(self, text: str, *arguments: Any) -> list[asyncpg.Record]:
        """One statement over the rows of every organization, without BEGIN and COMMIT: what is done all the time.

        Names stand in it with their schema, and one that writes reads from `LIMITS` first (ADR 27). It may be repeated.
        """
        return await self._looks.send(text, arguments)

    @asynccontextmanager
    async def _begin(
        self,
        pool: Pool,
        org_id: str,
        *,
        lock_timeout_ms: int = LOCK_TIMEOUT_MS,
        isolation: str = "READ COMMITTED",
    ) -> AsyncIterator[Tx]:
        remaining = remaining_seconds()
        statement_ms = STATEMENT_TIMEOUT_MS if remaining is None else max(1, int(remaining * 1000))
        begin = build_begin(
            org_id,
            lock_ms=min(lock_timeout_ms, statement_ms),
            statement_ms=min(statement_ms, STATEMENT_TIMEOUT_MS),
            isolation=isolation,
        )
        tx = await self._open(pool, begin)
        try:
            yield tx
            await tx.write_rest()
            await finish(self._commit(tx))
        except (asyncio.CancelledError, TimeoutError):
            tx.driver.terminate()
            raise
        except BaseException as error:
            self.note_wait(error)
            if isinstance(error, asyncpg.InvalidCachedStatementError | asyncpg.ReadOnlySQLTransactionError):
                pool.drop_idle()  # they know the schema as it was, too, or a server that only stands by
            await finish(_roll_back(tx.driver))
            raise
        finally:
            pool.release(tx.driver)

    def note_wait(self, error: BaseException) -> None:
        """Counts what gave up waiting for a lock, whatever somebody has made of that error since."""
        if LOCK_NOT_AVAILABLE in (sqlstate(error), sqlstate(error.__cause__)):
            self.waited_in_vain.append(time.monotonic())

    async def _commit(self, tx: Tx) -> None:
        done = await tx.driver.execute("COMMIT")
        invariant(done == "COMMIT", "a transaction in which a statement failed is not taken for done")
        if tx.has_events:
            self.events_waiting.set()

    async def ping(self) -> None:
        """Raises what keeps requests from the database."""
        await Reader(self._requests, self.note_wait).send("SELECT", ())

    async def _open(self, pool: Pool, begin: str) -> Tx:
        """A transaction that has begun. Connections that the server has dropped meanwhile are replaced."""
        for dropped in range(self._connections_max + 1):
            driver, is_dropped = await pool.acquire(), False
            try:
                await driver.execute(begin)
            except BaseException as error:
                is_dropped = driver.is_closed() and isinstance(error, Exception)
                driver.terminate()
                pool.release(driver)
                if not is_dropped or dropped == self._connections_max:
                    raise
            else:
                tx = Tx(driver)
                bind_seals(tx, self.seals)
                bind_policy(tx, self.policy)
                return tx
        raise AssertionError("unreachable")

    @asynccontextmanager
    async def connect_raw(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection of the role of requests, for the posting path.

        No transaction is begun: whoever does sends `build_begin`.
        Whoever commits outbox rows with it calls `events_waiting.set()` afterwards, and `note_wait` with its errors.
        """
        async with self._requests.take() as driver:
            try:
                yield driver
            except (asyncio.CancelledError, TimeoutError):
                driver.terminate()
                raise
            finally:
                if not driver.is_closed() and driver.is_in_transaction():
                    driver.terminate()

    @asynccontextmanager
    async def open_proving(self, proof: str) -> AsyncIterator[asyncpg.Connection]:
        """A connection of its own, of the role of requests, that begins with another proof than the others."""
        connection = await connect(
            self._dsn, server_settings=self._session | {SESSION_PROOF: proof}, timeout=_CONNECT_SECONDS
        )
        try:
            yield connection
        finally:
            connection.terminate()

    async def dispose(self) -> None:
        """Closes every connection."""
        for pool in (self.reader.pool, self._looks.pool, self._requests, self._worker):
            pool.close()


async def change_organization(tx: Tx, org_id: str) -> None:
    """From here on the transaction is another organization's, as if it had begun so: an app role's, for what a worker's
    names nobody looks at. Events of several organizations are handled in one.
    """
    invariant(org_id != _NO_ORGANIZATION, "a transaction names its organization")
    await tx.write_rest()
    await tx.driver.execute(f"SELECT {_name_organization(org_id)}")


async def finish(work: Awaitable[T]) -> T:
    """Awaits `work` to its end even when the caller is cancelled; the cancellation is raised after it.

    So a commit is never left in the air, and a connection is never dropped half closed.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
        except BaseException:  # raised below, by the task itself
            break
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # retrieved: the cancellation is what the caller hears of
        raise cancelled
    return task.result()


async def _roll_back(driver: asyncpg.Connection) -> None:
    try:
        await driver.execute("ROLLBACK")
    except Exception:  # the connection is gone, and with it the transaction
        driver.terminate()


async def read_database_time(tx: Tx) -> datetime:
    """This moment by the clock of the database, which is nobody's to set: sign-ins and what ends them are in it."""
    moment: datetime = (await tx.execute(sa.select(sa.func.now()))).scalar_one()
    return moment
