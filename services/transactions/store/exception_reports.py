"""Reports of what a person has to look at: told in the log and the metric at once, and kept with its fact.

Several are reported in one transaction, in the order of their facts: transactions are locked in the order of their ids,
and the debts and bank accounts that they are about have another one. So a report is only noted, and all that was noted
is locked in one sorted run before the commit: no two transactions wait for each other's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import fields
from datetime import datetime
from functools import partial
from typing import Final, NamedTuple

import sqlalchemy as sa
from prometheus_client import Counter

from services.chassis.calls.auth import Principal, acting_as, current_principal
from services.chassis.data.reach import is_mine
from services.chassis.data.transaction import Rest, Tx
from services.chassis.process.telemetry import continue_trace, current_traceparent, log
from services.transactions.domain import exceptions as rules
from services.transactions.domain.actor import ACTOR
from services.transactions.domain.exceptions import (
    KINDS,
    About,
    ExceptionKind,
    ExceptionStatus,
    PaymentException,
    Severity,
)
from services.transactions.store import exceptions as store
from services.transactions.tables.exceptions import payment_exceptions

EXCEPTIONS_FOUND = Counter(
    "realco_payment_exceptions_total", "What a person has to look at, each time that it is found.", ["kind"]
)
# What there is, and the id that it has once it is found -> what is found then.
Finding = Callable[[PaymentException | None, str], PaymentException]
# What is open -> how it stands by now.
News = Callable[[PaymentException], PaymentException]
_NOTED: Final = "realco_noted_exceptions"
# How the log calls what an exception is about, where not by its own name.
_LOGGED_AS: Final = {"provider_payment_id": "payment_id", "file_name": "file"}
_NOT_LOGGED: Final = frozenset({"amount", "owed_for", "makers"})
_c = payment_exceptions.c


class _Noted(NamedTuple):
    """What is done to an exception before the commit: `finding` where it is found, else `news`.

    Args:
        principal: For whom, as of `traceparent`: events of several are handled in one transaction.
    """

    kind: ExceptionKind
    subject: str
    finding: Finding | None
    news: News | None
    now: datetime
    actor: str
    principal: Principal
    traceparent: str

    @property
    def key(self) -> tuple[ExceptionKind, str]:
        return self.kind, self.subject

    def decide(self, before: PaymentException | None, exception_id: str) -> PaymentException | None:
        """The exception after it; None where it says nothing."""
        if self.finding is not None:
            return self.finding(before, exception_id)
        return self.news(before) if self.news is not None and before is not None and before.is_open else None

    @contextmanager
    def act(self) -> Iterator[None]:
        if self.traceparent != current_traceparent():
            continue_trace(self.traceparent)
        with acting_as(self.principal):
            yield


def report(tx: Tx, kind: ExceptionKind, about: About, cause: str, now: datetime, **more: object) -> None:
    """Opens an exception of the caller's organization, or counts the one there is, with the fact that tx records.

    Args:
        cause: In words, without personal data or account numbers.
        more: What else the log says.
    """
    tell(kind, about, cause, **more)
    finding = partial(rules.build_reported, kind=kind, about=about, cause=cause, now=now)
    _note(tx, kind, about, now, ACTOR, finding=finding)


def report_as(
    tx: Tx, kind: ExceptionKind, about: About, cause: str, finding: Finding, now: datetime, *, actor: str
) -> None:
    """As `report`, where what is found depends on what was found before.

    Args:
        cause: What the log says.
        actor: Who or what caused it.
    """
    tell(kind, about, cause)
    _note(tx, kind, about, now, actor, finding=finding)


def note_cause(tx: Tx, kind: ExceptionKind, about: About, cause: str, now: datetime) -> None:
    """Says of an open exception how it stands by now, where that is no reason to open one, or to open it again."""
    note_news(tx, kind, about, partial(rules.build_with_cause, cause=cause), now, actor=ACTOR)


def note_news(tx: Tx, kind: ExceptionKind, about: About, news: News, now: datetime, *, actor: str) -> None:
    """As `note_cause`, where how it stands depends on what was found before."""
    _note(tx, kind, about, now, actor, news=news)


def _note(
    tx: Tx,
    kind: ExceptionKind,
    about: About,
    now: datetime,
    actor: str,
    *,
    finding: Finding | None = None,
    news: News | None = None,
) -> None:
    whose = current_principal(), current_traceparent()
    noted = _Noted(kind, rules.spell_subject(kind, about), finding, news, now, actor, *whose)
    tx.info.setdefault(_NOTED, []).append(noted)
    tx.leave(Rest.FINDINGS, partial(_write_noted, tx))


async def _write_noted(tx: Tx) -> None:
    """Locks the exceptions that were noted, in one order, and does what was noted in the order in which it was."""
    noted: list[_Noted] = tx.info.pop(_NOTED)
    with acting_as(noted[0].principal):  # all are of one organization, as the transaction is
        found = {each.key for each in noted if each.finding is not None}
        found |= await _list_open(tx, {each.key for each in noted} - found)
        await store.lock_subjects(tx, found)
        standing = await store.lock_each_reported(tx, found)
        opened: list[store.Opened] = []
        for each in noted:
            if each.key not in standing:
                continue
            before, exception_id = standing[each.key]
            after = each.decide(before, exception_id)
            if after is None or after == before:
                continue
            if before is None:
                opened.append(store.Opened(after, each.actor, each.act))
            else:
                # What is changed now may have been opened by this transaction.
                await store.insert_exceptions(tx, opened)
                opened = []
                with each.act():
                    note = after.cause if each.finding is not None else ""
                    after = await store.save_exception(tx, before, after, each.now, note=note, actor=each.actor)
            standing[each.key] = after, exception_id
        await store.insert_exceptions(tx, opened)


async def _list_open(tx: Tx, subjects: Collection[tuple[ExceptionKind, str]]) -> frozenset[tuple[ExceptionKind, str]]:
    """Those of these that are open. Whoever hides one by SQL has it say less, and no more."""
    if not subjects:
        return frozenset()
    which = (_c.status == ExceptionStatus.OPEN, sa.tuple_(_c.kind, _c.subject).in_(sorted(subjects)))
    rows = await tx.execute(sa.select(_c.kind, _c.subject).where(is_mine(payment_exceptions), *which))
    return frozenset((ExceptionKind(row.kind), row.subject) for row in rows)


async def was_seen_since(tx: Tx, kind: ExceptionKind, about: About, at: datetime) -> bool:
    """Whether such an exception was found then or later; nobody else finds it until this transaction ends."""
    subject = rules.spell_subject(kind, about)
    await store.lock_subjects(tx, [(kind, subject)])
    found, _ = await store.lock_reported(tx, kind, subject)
    return found is not None and found.last_seen_at >= at


def tell(kind: ExceptionKind, about: About, cause: str, **more: object) -> None:
    """In the log, and in the metric."""
    EXCEPTIONS_FOUND.labels(kind.value).inc()
    names = [each.name for each in fields(About) if each.name not in _NOT_LOGGED]
    said = {_LOGGED_AS.get(name, name): value for name in names if (value := getattr(about, name))}
    say = log.error if KINDS[kind].severity is Severity.HIGH else log.warning
    say(kind.value.lower(), **said, cause=cause, **more)
