"""What a person has to look at, as it is found: told in the log and the metric, and kept with its fact."""

from __future__ import annotations

from datetime import datetime

from prometheus_client import Counter

from services.chassis.data.transaction import Tx
from services.chassis.process.telemetry import log
from services.transactions.domain import exceptions as rules
from services.transactions.domain.exceptions import KINDS, About, ExceptionKind, PaymentException, Severity
from services.transactions.store import exceptions as store

EXCEPTIONS_FOUND = Counter(
    "realco_payment_exceptions_total", "What a person has to look at, each time that it is found.", ["kind"]
)


async def save_found(
    tx: Tx, kind: ExceptionKind, about: About, cause: str, now: datetime, *, actor: str, **more: object
) -> None:
    """Opens an exception of the caller's organization, or counts the one there is, with the fact that tx records.

    Args:
        cause: In words, without personal data or account numbers.
        actor: Who or what caused it.
        more: What else the log says.
    """
    tell(kind, about, cause, **more)
    before, exception_id = await _lock(tx, kind, about)
    if before is None:
        await store.insert_exception(tx, rules.build_exception(exception_id, kind, about, cause, now), actor)
    else:
        again = rules.build_found_again(before, about, cause, now)
        await store.save_exception(tx, before, again, now, note=again.cause, actor=actor)


async def save_cause(
    tx: Tx,
    kind: ExceptionKind,
    about: About,
    cause: str,
    now: datetime,
    *,
    actor: str,
    found_until: datetime | None = None,
) -> None:
    """Says of an open exception how it stands by now, where that is no reason to open one, or to open it again.

    Args:
        found_until: Only where it was not found later than that.
    """
    before, _ = await _lock(tx, kind, about)
    if before is None or (found_until is not None and before.last_seen_at > found_until):
        return
    after = rules.build_with_cause(before, cause)
    if after != before:
        await store.save_exception(tx, before, after, now, actor=actor)


async def was_seen_since(tx: Tx, kind: ExceptionKind, about: About, at: datetime) -> bool:
    """Whether such an exception was found then or later; nobody else finds it until this transaction ends."""
    found, _ = await _lock(tx, kind, about)
    return found is not None and found.last_seen_at >= at


async def _lock(tx: Tx, kind: ExceptionKind, about: About) -> tuple[PaymentException | None, str]:
    subject = rules.spell_subject(kind, about)
    await store.lock_subject(tx, kind, subject)
    return await store.lock_reported(tx, kind, subject)


def tell(kind: ExceptionKind, about: About, cause: str, **more: object) -> None:
    """In the log, and in the metric."""
    EXCEPTIONS_FOUND.labels(kind.value).inc()
    said = {
        "transaction_id": about.transaction_id,
        "bank_account_id": about.bank_account_id,
        "provider": about.provider,
        "payment_id": about.provider_payment_id,
        "file": about.file_name,
        "escrow_account_id": about.escrow_account_id,
        "party_id": about.party_id,
    }
    say = log.error if KINDS[kind].severity is Severity.HIGH else log.warning
    say(kind.value.lower(), **{name: value for name, value in said.items() if value}, cause=cause, **more)
