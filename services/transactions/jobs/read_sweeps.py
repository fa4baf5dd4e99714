"""Reads what providers move between their balance and the custodian's bank account, and which payments are in it.

A sweep is read until its lines add up to it, and whenever the provider says otherwise of it. Each organization's part
is a transaction of its own, and that the whole was read is noted after all of them: what a crash left is read again,
which changes nothing that was written. Nobody is asked while a transaction is open.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.data.database import read_database_time
from services.chassis.data.seals import NotSealed
from services.chassis.process.telemetry import log
from services.transactions.commands.exceptions import report_apart
from services.transactions.commands.sweeps import keep_part
from services.transactions.dependencies import NAME, Dependencies
from services.transactions.domain.exceptions import About, ExceptionKind
from services.transactions.domain.sweeps import (
    Explanation,
    KnownSweep,
    OwnLine,
    ProviderLine,
    ProviderSweep,
    SweepStatus,
    Trouble,
    explain,
    find_contradiction,
    find_troubles,
    name_before,
    split_failed,
)
from services.transactions.providers.protocols import OutcomeUnknown, ProviderSweeps
from services.transactions.store import event_cursors
from services.transactions.store import sweeps as store
from services.transactions.store.provider_payments import find_owner

# Where nobody knows how far they were read. By the clock of the database: nobody sets it to a time to come.
_BEGUN_BEFORE: Final = timedelta(days=90)
# Whatever a provider says of when one was made, no more than that is listed.
_LISTED_BEFORE: Final = timedelta(days=400)
# What was made so long before the last one may still change. Source: docs.stripe.com/payouts: one that was paid fails
# within five business days, most of the time.
_CHANGES_WITHIN: Final = timedelta(days=30)

Owner = str | None  # an organization; None for nobody


class _Source(NamedTuple):
    """Of whom sweeps are read."""

    provider: str
    sweeps: ProviderSweeps


async def read_sweeps(dependencies: Dependencies) -> int:
    """None is left to be read then: 0."""
    for provider, sweeps in dependencies.providers.sweeps.items():
        failures = dependencies.failures_of(f"sweeps of {provider}")
        try:
            await _read_all(dependencies, _Source(provider, sweeps))
            failures.end()
        except OutcomeUnknown as error:  # no payment waits for it, nor does another provider
            failures.add(error)
            log.warning("sweeps_not_read", provider=provider, cause=str(error))
        except Exception as error:
            failures.add(error)
            log.exception("sweeps_not_read", provider=provider, cause=type(error).__name__)
    return 0


async def _read_all(dependencies: Dependencies, source: _Source) -> None:
    """Raises: OutcomeUnknown: the provider does not say, or not of all of them; the others are read."""
    cursor = await event_cursors.read_cursor(dependencies.database, _name_cursor(source))
    async with dependencies.database.begin_for_all() as tx:
        today = await read_database_time(tx)
    listed = await source.sweeps.list_sweeps(_choose_since(cursor, today))
    before, unread = name_before(listed.sweeps), len(listed.unread_ids)
    unfinished: list[datetime] = []
    # The older one first: what it had left at the provider is in a later one.
    for theirs in sorted(listed.sweeps, key=lambda sweep: (sweep.made_at, sweep.sweep_id)):
        try:
            is_finished = await _read_one(dependencies, source, theirs, before.get(theirs.sweep_id))
        except (OutcomeUnknown, NotSealed) as error:
            unread, is_finished = unread + 1, False
            log.warning("sweep_not_read", provider=source.provider, sweep_id=theirs.sweep_id, cause=str(error))
        except Exception as error:
            unread, is_finished = unread + 1, False
            cause = type(error).__name__
            log.exception("sweep_not_read", provider=source.provider, sweep_id=theirs.sweep_id, cause=cause)
        if not is_finished:
            unfinished.append(theirs.made_at)
    if listed.sweeps:
        newest = max(sweep.made_at for sweep in listed.sweeps)
        # What says that it was made in a time to come keeps none that is made until then from being read.
        reached = min([newest, today, *unfinished]).astimezone(UTC).isoformat()
        if reached != cursor.after_id:
            async with dependencies.database.begin_for_all() as tx:
                now = dependencies.clock.now()
                await event_cursors.save_cursor(tx, _name_cursor(source), cursor, reached, now)
    if unread:
        raise OutcomeUnknown(f"{unread} sweeps are not read")


def _name_cursor(source: _Source) -> str:
    return f"sweeps {source.provider} {source.sweeps.feed}"


def _choose_since(cursor: event_cursors.Cursor, today: datetime) -> datetime:
    if not cursor.after_id:
        return today - _BEGUN_BEFORE
    return max(datetime.fromisoformat(cursor.after_id), today - _LISTED_BEFORE) - _CHANGES_WITHIN


async def _read_one(
    dependencies: Dependencies, source: _Source, theirs: ProviderSweep, destination_before: str | None
) -> bool:
    """Whether nothing more is to be expected of it soon.

    Raises:
        OutcomeUnknown: the provider does not say of what it consists.
        NotSealed: somebody altered whose it is.
    """
    kept = await store.read_known(dependencies.database, source.sweeps.feed, theirs.sweep_id)
    known, lines = kept.sweep, None
    if contradiction := find_contradiction(known, theirs):
        # What was believed first stays, and a person is called each time that it is said.
        await _tell_all(dependencies, source, theirs, Trouble(ExceptionKind.SWEEP_NOT_EXPLAINED, contradiction))
        return True
    if theirs.is_listed and (known is None or known.explanation is not Explanation.EXPLAINED):
        lines = await source.sweeps.list_lines(theirs)
    now = dependencies.clock.now()
    explanation = explain(known, theirs, lines, now)
    troubles = find_troubles(known, theirs, lines, explanation, destination_before)
    after = _build_known(source, theirs, explanation)
    if known is None or lines is not None or _is_changed(known, after):
        owned = await _attribute(dependencies, source, theirs, lines or ())
        await _keep_all(dependencies, source, theirs, owned, explanation, troubles)
    if known is None or _is_changed(known, after):
        async with dependencies.database.begin_for_all() as tx:
            await store.save_known(tx, kept, after, now)
    return theirs.status is not SweepStatus.PENDING and explanation is not Explanation.WAITING


def _build_known(source: _Source, theirs: ProviderSweep, explanation: Explanation) -> KnownSweep:
    return KnownSweep(
        feed=source.sweeps.feed,
        provider_sweep_id=theirs.sweep_id,
        provider=source.provider,
        amount_minor=theirs.amount.amount_minor,
        currency=theirs.amount.currency,
        status=theirs.status,
        arrives_at=theirs.arrives_at,
        made_at=theirs.made_at,
        destination=theirs.destination,
        explanation=explanation,
        version=0,
    )


def _is_changed(known: KnownSweep, after: KnownSweep) -> bool:
    return (known.status, known.arrives_at, known.explanation) != (after.status, after.arrives_at, after.explanation)


async def _attribute(
    dependencies: Dependencies, source: _Source, theirs: ProviderSweep, lines: Sequence[ProviderLine]
) -> Mapping[Owner, list[OwnLine]]:
    """Whose each line is. Raises: NotSealed."""
    owned: dict[Owner, list[OwnLine]] = defaultdict(list)
    for line in lines:
        if line.failed_sweep_id:
            shares = await _split(dependencies, source, theirs, line)
            for owner, share in shares.items():
                owned[owner].append(OwnLine(share, None))
            continue
        owner, transaction_id = None, None
        for payment_id in line.payment_ids:
            if found := await find_owner(dependencies.database, source.provider, payment_id, ""):
                owner, transaction_id = found
                break
        owned[owner].append(OwnLine(line, transaction_id))
    return owned


async def _split(
    dependencies: Dependencies, source: _Source, theirs: ProviderSweep, line: ProviderLine
) -> dict[Owner, ProviderLine]:
    """Whose that is which an earlier sweep had left. Where that one is not explained, it is nobody's."""
    database = dependencies.database
    failed = (await store.read_known(database, source.sweeps.feed, line.failed_sweep_id)).sweep
    is_whole = failed is not None and failed.explanation is Explanation.EXPLAINED
    if failed is None or not is_whole or failed.currency != theirs.amount.currency:
        return {None: line}
    parts = await store.list_parts(database, source.provider, line.failed_sweep_id)
    shares = {org_id: part.amount_minor for org_id, part in parts.items()}
    return split_failed(line, shares, dependencies.operator_org_id or None)


async def _keep_all(
    dependencies: Dependencies,
    source: _Source,
    theirs: ProviderSweep,
    owned: Mapping[Owner, list[OwnLine]],
    explanation: Explanation,
    troubles: Sequence[Trouble],
) -> None:
    """Brings the part of each organization up to date, and tells each; and nobody, where something is nobody's.

    Raises: NotSealed: of one of them; the others are written.
    """
    operator = dependencies.operator_org_id or None
    by_owner: dict[Owner, list[OwnLine]] = defaultdict(list)
    for owner, lines in owned.items():
        by_owner[owner or operator].extend(lines)
    if None in by_owner:
        lines = by_owner.pop(None)
        net_minor = sum(line.net_minor for line, _ in lines)
        said = {"provider": source.provider, "sweep_id": theirs.sweep_id, "net_minor": net_minor}
        log.warning("sweep_lines_of_nobody", count=len(lines), **said)
    owners = {*by_owner, *await store.list_owners(dependencies.database, source.provider, theirs.sweep_id)}
    if troubles and operator is not None:
        owners.add(operator)
    altered = None
    for org_id in sorted(each for each in owners if each is not None):
        with acting_as(service_principal(NAME, org_id)):
            try:
                async with dependencies.database.begin() as tx:
                    now, mine = dependencies.clock.now(), by_owner.get(org_id, [])
                    await keep_part(tx, source.provider, theirs, mine, explanation, troubles, now)
            except NotSealed as error:
                altered = error
    if operator is None:
        about = About(provider=source.provider, provider_payment_id=theirs.sweep_id)
        for trouble in troubles:
            await report_apart(dependencies, None, trouble.kind, about, trouble.cause)
    if altered is not None:
        raise altered


async def _tell_all(dependencies: Dependencies, source: _Source, theirs: ProviderSweep, trouble: Trouble) -> None:
    """Each organization that has a part of it, and nobody."""
    owners = await store.list_owners(dependencies.database, source.provider, theirs.sweep_id)
    about = About(provider=source.provider, provider_payment_id=theirs.sweep_id)
    for org_id in sorted(owners - {dependencies.operator_org_id}):
        await report_apart(dependencies, org_id, trouble.kind, about, trouble.cause)
    await report_apart(dependencies, None, trouble.kind, about, trouble.cause)
