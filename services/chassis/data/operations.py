"""What a servicer does with a request: read in a transaction, write in one, write on what others said before it.

Remote calls come before the transaction and their verdict falls inside it, a refusal too: so a repeated request gets
its first answer whatever the others say by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, NoReturn, TypeVar, cast

from google.protobuf.message import Message

from services.chassis.calls.deadline import grant_seconds
from services.chassis.calls.wire import copy_without
from services.chassis.data.database import Database, finish
from services.chassis.data.once import answered_before, is_decision, once
from services.chassis.data.reads import Reader
from services.chassis.data.request_keys import RequestInFlight
from services.chassis.data.transaction import Tx
from services.chassis.data.versions import add_versions
from services.chassis.values.clock import Clock
from services.chassis.values.errors import DomainError
from services.chassis.values.refusals import IdempotencyKeyReused

Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer", bound=Message)
Facts = TypeVar("Facts")
T = TypeVar("T")

# What a deed of several steps has, however little its caller leaves it.
_OWN_SECONDS = 5.0
_told: ContextVar[list[bool] | None] = ContextVar("told", default=None)


@dataclass(frozen=True)
class Operations:
    """The transactions of one service. `work_due` wakes its jobs: a commit may leave work for them."""

    database: Database
    clock: Clock
    work_due: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self, request: Request, query: Callable[[Tx, Request, datetime], Awaitable[Answer]]) -> Answer:
        """`query(tx, request, now)` in a transaction of the caller's organization: all of it as of one instant."""
        async with self.database.begin_snapshot() as tx:
            answer = await query(tx, request, self.clock.now())
            await add_versions(tx, answer)
            return answer

    async def fetch(self, request: Request, query: Callable[[Reader, Request, datetime], Awaitable[Answer]]) -> Answer:
        """`query(reader, request, now)`, each of whose statements is a `Read` as of its own instant: one round trip a
        statement, for what is asked all the time. What tells a version reads it in the same statement."""
        return await query(self.database.reader, request, self.clock.now())

    async def write(
        self,
        request: Request,
        answer_type: type[Answer],
        command: Callable[[Tx, Request, datetime], Awaitable[Answer]],
    ) -> Answer:
        """`command(tx, request, now)` in a transaction, once for each idempotency key."""
        now = self.clock.now()
        answer = await once(self.database, request, answer_type, lambda tx: command(tx, request, now))
        self.work_due.set()
        return answer

    async def rehearse(
        self,
        request: Request,
        answer_type: type[Answer],
        command: Callable[[Tx, Request, datetime], Awaitable[Answer]],
    ) -> Answer:
        """What `write` would answer, or refuse, of a request that has `validate_only`: nothing of it stays."""
        return await self.write(build_rehearsal(request), answer_type, command)

    async def write_on_facts(
        self,
        request: Request,
        answer_type: type[Answer],
        ask: Callable[[Request], Awaitable[Facts]],
        command: Callable[[Tx, Request, Facts, datetime], Awaitable[Answer]],
    ) -> Answer:
        """`command(tx, request, facts, now)` on what `ask` learned from other services; a replay asks none of them.

        A decision that `ask` raises is kept under the request's key, as one that `command` raises is.

        What `ask` tells others and what is written here are one deed (`do_whole`): what they were told (`note_told`) is
        written, and under no key where another request of the caller has taken its key meanwhile.
        """

        async def run() -> Answer:
            before = await answered_before(self.database, request, answer_type)
            if before is not None:
                return before
            told: list[bool] = []
            _told.set(told)
            try:
                facts = await ask(request)
                grant_seconds(_OWN_SECONDS)  # what others were told is written, however long they took to hear it
            except DomainError as refusal:
                if not is_decision(refusal):
                    raise
                return await self.write(request, answer_type, partial(_refuse, refusal))

            async def decide(tx: Tx, request: Request, now: datetime) -> Answer:
                return await command(tx, request, facts, now)

            try:
                return await self.write(request, answer_type, decide)
            except (IdempotencyKeyReused, RequestInFlight):
                if not told:
                    raise
                return await self.write(copy_without(request, "idempotency_key"), answer_type, decide)

        return await do_whole(run())


def note_told() -> None:
    """Somebody else was told what the current deed is about to write."""
    if (told := _told.get()) is not None:
        told.append(True)


async def do_whole(deed: Awaitable[T]) -> T:
    """Once begun, the deed goes on to its end, though the caller goes away or has no more time. That is raised then.

    Who has half of it done would have us disagree with the others who were told of it.
    """

    async def do() -> T:
        grant_seconds(_OWN_SECONDS)
        return await deed

    return await finish(do())


def build_rehearsal(request: Request) -> Request:
    """The same, of which nothing is to stay."""
    rehearsal = copy_without(request)
    cast("Any", rehearsal).validate_only = True
    return rehearsal


async def _refuse(refusal: DomainError, tx: Tx, request: Message, now: datetime) -> NoReturn:
    raise refusal
