"""One service's PostgreSQL: transactions that know their organization, connections that are never trusted after a cut.

- Every transaction begins by naming its organization, for that transaction only; row level security does the rest.
- Two roles, each with its own pool: a request's sees one organization whatever it sets; the worker's sees all of them,
  and works for jobs, the relay and webhooks (ADR 17).
- The connection of a query that was cancelled, or never answered, is closed and not used again (rule c20).
- A commit, once begun, is awaited to its end even if the caller is cancelled meanwhile.
- READ COMMITTED; time limits on locks, statements and idle transactions (c9), and on the server's silence.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any, Self, TypeVar

import asyncpg
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.chassis.calls.auth import current_principal
from services.chassis.calls.deadline import remaining_seconds
from services.chassis.data.approval_policy import bind_policy, read_policy
from services.chassis.data.seals import Seals, bind_seals, read_data_keys
from services.chassis.data.urls import connect, dsn_of, engine_of
from services.chassis.process.settings import Settings
from services.chassis.values.approval_policy import NO_POLICY, ApprovalPolicy
from services.chassis.values.invariant import invariant

T = TypeVar("T")

LOCK_TIMEOUT_MS = 2_000
STATEMENT_TIMEOUT_MS = 10_000
# A server that has not refused a statement by then will not answer it: it, or the way to it, is a black hole.
COMMAND_SECONDS = STATEMENT_TIMEOUT_MS / 1000 + 2
# Settings of the roles, not of a session: so any connection of a pooler serves any transaction. Whoever makes the
# roles gives them these and no others; a service does not start otherwise.
ROLE_SETTINGS = {
    "statement_timeout": str(STATEMENT_TIMEOUT_MS),
    "lock_timeout": str(LOCK_TIMEOUT_MS),
    "idle_in_transaction_session_timeout": "5000",
    # Our statements are short: compiling them costs more than it saves.
    "jit": "off",
    "timezone": "UTC",
}
_RAW_CONNECTIONS_MAX = 4
_WORKER_CONNECTIONS_MAX = 6
_CONNECT_SECONDS = 5
_ENQUEUED = "realco_enqueued"
# What the worker's transactions name: its policies do not ask for it, and no organization is called so.
_NO_ORGANIZATION = ""

# What would lose, miss or misread rows if it were otherwise. A role may change its own defaults, so each transaction
# says these itself; a pooler hands them on, for they end with it.
PINNED = ", ".join(
    f"set_config('{name}', '{value}', true)"
    for name, value in {
        "search_path": "public, pg_temp",
        "synchronous_commit": "on",
        "row_security": "on",
        "timezone": "UTC",
        "bytea_output": "hex",  # of seals within JSON
        "array_nulls": "on",  # of the lists that entries are booked from
    }.items()
)
_BEGIN = sa.text(
    "SELECT set_config('app.org_id', :org_id, true), set_config('lock_timeout', :lock_ms, true),"
    f" set_config('statement_timeout', :statement_ms, true), {PINNED}"
)


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
        connections_max: int = 12,
        command_seconds: float = COMMAND_SECONDS,
    ) -> None:
        self.name = name
        self.seals = seals
        self.policy = policy
        self._command_seconds = command_seconds
        # Set after each commit that left events in the outbox; the relay waits on it.
        self.events_waiting = asyncio.Event()
        self._dsn = dsn_of(url)
        self._session = {"application_name": f"realco-{name}"}
        self._requests = self._pool_of(url, connections_max)
        self._snapshots = self._requests.execution_options(isolation_level="REPEATABLE READ")
        self._worker = self._pool_of(worker_url, min(connections_max, _WORKER_CONNECTIONS_MAX))
        self._raw_pool: asyncpg.Pool | None = None
        self._raw_pool_lock = asyncio.Lock()

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
            Seals(read_data_keys(settings.data_key_file)),
            policy=read_policy(settings.approval_policy_file),
            connections_max=settings.database_connections_max,
        )

    def _pool_of(self, url: str, connections_max: int) -> AsyncEngine:
        return engine_of(
            url,
            self._session,
            connect_seconds=_CONNECT_SECONDS,
            command_seconds=self._command_seconds,
            pool_size=connections_max,
            max_overflow=0,
            pool_timeout=3,
        )

    @asynccontextmanager
    async def begin(
        self, org_id: str | None = None, *, lock_timeout_ms: int = LOCK_TIMEOUT_MS
    ) -> AsyncIterator[AsyncConnection]:
        """One transaction of one organization, committed when the block ends and rolled back when it raises.

        Args:
            org_id: Whose rows may be seen and written; None is the caller's organization.
            lock_timeout_ms: How long one statement may wait for another transaction.
        """
        organization = org_id or current_principal().org_id
        invariant(organization != "", "a transaction names its organization")
        async with self._begin(self._requests, organization, lock_timeout_ms) as connection:
            yield connection

    @asynccontextmanager
    async def begin_snapshot(self) -> AsyncIterator[AsyncConnection]:
        """One transaction of the caller's organization in which all statements see the same rows; it writes nothing."""
        async with self._begin(self._snapshots, current_principal().org_id, LOCK_TIMEOUT_MS) as connection:
            yield connection

    @asynccontextmanager
    async def begin_for_all(self) -> AsyncIterator[AsyncConnection]:
        """One transaction over the rows of every organization, for jobs, the relay and webhooks."""
        async with self._begin(self._worker, _NO_ORGANIZATION, LOCK_TIMEOUT_MS) as connection:
            yield connection

    @asynccontextmanager
    async def _begin(self, pool: AsyncEngine, org_id: str, lock_timeout_ms: int) -> AsyncIterator[AsyncConnection]:
        connection = await self._open(pool, org_id, lock_timeout_ms)
        try:
            yield connection
            enqueued = connection.info.pop(_ENQUEUED, False)
            await finish(connection.commit())
        except (asyncio.CancelledError, TimeoutError):
            await finish(_discard(connection))
            raise
        except BaseException:
            await finish(_roll_back(connection))
            raise
        await finish(connection.close())
        if enqueued:
            self.events_waiting.set()

    async def ping(self) -> None:
        """Raises what keeps requests from the database."""
        async with self._begin(self._requests, _NO_ORGANIZATION, LOCK_TIMEOUT_MS):
            pass  # to begin is a question and its answer

    async def _open(self, pool: AsyncEngine, org_id: str, lock_timeout_ms: int) -> AsyncConnection:
        """A connection whose transaction has begun. A connection the server has dropped meanwhile is replaced once."""
        remaining = remaining_seconds()
        statement_ms = STATEMENT_TIMEOUT_MS if remaining is None else max(1, int(remaining * 1000))
        limits = {
            "org_id": org_id,
            "lock_ms": str(min(lock_timeout_ms, statement_ms)),
            "statement_ms": str(min(statement_ms, STATEMENT_TIMEOUT_MS)),
        }
        for attempt in (1, 2):
            connection = pool.connect()
            try:
                await connection.start()
                await connection.execute(_BEGIN, limits)
            except asyncio.CancelledError:
                await finish(_discard(connection))
                raise
            except DBAPIError as error:
                await finish(_discard(connection))
                if attempt == 2 or not error.connection_invalidated:
                    raise
            except BaseException:
                await finish(_discard(connection))
                raise
            else:
                connection.info.pop(_ENQUEUED, None)
                bind_seals(connection, self.seals)
                bind_policy(connection, self.policy)
                return connection
        raise AssertionError("unreachable")

    @asynccontextmanager
    async def connect_raw(self) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy]:
        """A raw asyncpg connection of a small pool, for the posting path.

        No transaction is begun: whoever does names its organization, and sets what is `PINNED`.
        Whoever commits outbox rows with it calls `events_waiting.set()` afterwards.
        """
        pool = await self._raw()
        connection = await pool.acquire(timeout=3)
        try:
            yield connection
        except (asyncio.CancelledError, TimeoutError):
            connection.terminate()
            raise
        finally:
            await finish(pool.release(connection))

    async def _raw(self) -> asyncpg.Pool:
        async with self._raw_pool_lock:
            if self._raw_pool is None:
                self._raw_pool = await asyncpg.create_pool(
                    self._dsn,
                    min_size=1,
                    max_size=_RAW_CONNECTIONS_MAX,
                    server_settings=self._session,
                    timeout=_CONNECT_SECONDS,
                    command_timeout=self._command_seconds,
                    connect=connect,
                )
            return self._raw_pool

    async def dispose(self) -> None:
        """Closes every connection."""
        if self._raw_pool is not None:
            self._raw_pool.terminate()
            self._raw_pool = None
        with suppress(TimeoutError):  # what a silent server keeps us from closing ends with the process
            async with asyncio.timeout(_CONNECT_SECONDS):
                await self._requests.dispose()
                await self._worker.dispose()


async def driver_connection(tx: AsyncConnection) -> asyncpg.Connection:
    """The driver's connection under a transaction that `Database.begin` opened."""
    connection = await tx.get_raw_connection()
    driver: Any = connection.driver_connection
    return driver


def mark_enqueued(tx: AsyncConnection) -> None:
    """Notes that this transaction leaves an event behind, so that its commit wakes the relay."""
    tx.info[_ENQUEUED] = True


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


async def _roll_back(connection: AsyncConnection) -> None:
    try:
        await connection.rollback()
    except Exception:  # the connection is gone, and with it the transaction
        await _discard(connection)
    else:
        await connection.close()


async def _discard(connection: AsyncConnection) -> None:
    """Closes the connection to the server at once. It may be in the middle of a query, so nobody may have it again."""
    try:
        if connection.sync_connection is not None and not connection.closed and not connection.invalidated:
            raw = await connection.get_raw_connection()
            if raw.driver_connection is not None:
                raw.driver_connection.terminate()
            await connection.invalidate()
        await connection.close()
    except Exception:  # a connection that is broken already needs no more breaking
        return


_RETRY_WHOLE = frozenset({"40001", "40P01", "55P03"})


def sqlstate(error: BaseException) -> str:
    """PostgreSQL's five-letter code of an error from SQLAlchemy or asyncpg; empty where there is none."""
    origin: Any = error.orig if isinstance(error, DBAPIError) else error
    return str(getattr(origin, "sqlstate", None) or "")


def is_contention(error: BaseException) -> bool:
    """True where the transaction lost against another and the whole of it may simply be run again."""
    return sqlstate(error) in _RETRY_WHOLE


def is_away(error: BaseException) -> bool:
    """True where the database cannot be reached or cannot serve just now: nothing is wrong with the work itself."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    state = sqlstate(error)
    # 08 connection, 53 out of resources, 57P0x shutting down or starting, 25P03 idle too long, 25P04 open too long.
    if state.startswith(("08", "53", "57P", "58")) or state in ("25P03", "25P04", "25006"):
        return True
    origin: Any = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(origin.__cause__, asyncpg.InterfaceError | OSError) and isinstance(error, DBAPIError):
        return True
    return isinstance(
        error,
        PoolTimeoutError
        | OSError
        | TimeoutError
        | asyncpg.InterfaceError
        | asyncpg.InternalClientError  # an answer cut off in the middle
        | asyncpg.PostgresConnectionError,
    )


def is_unreadable(error: BaseException) -> bool:
    """True where the database gave a value that no program can read: a time out of all years, JSON that is too deep."""
    return isinstance(error, ValueError | OverflowError | RecursionError) and not isinstance(error, DBAPIError)


# Of tables, columns, functions, types and schemas.
_UNDEFINED = frozenset({"42P01", "42703", "42883", "42704", "3F000"})


def is_unprepared(error: BaseException) -> bool:
    """True where the database lacks what our statement names: its schema or a setting is wrong, whatever the data."""
    return sqlstate(error) in _UNDEFINED


def is_transient(error: BaseException) -> bool:
    """True where trying again later may succeed without a change of code or data."""
    return is_contention(error) or is_away(error)


async def read_database_time(tx: AsyncConnection) -> datetime:
    """This moment by the clock of the database, which is nobody's to set: sign-ins and what ends them are in it."""
    moment: datetime = (await tx.execute(sa.select(sa.func.now()))).scalar_one()
    return moment
