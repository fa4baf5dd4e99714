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
from services.transactions.domain.sweep_readings import Reading, believe, explain, find_contradiction, is_overdue
from services.transactions.domain.sweeps import (
    Explanation,
    KeptLine,
    KnownSweep,
    Owner,
    OwnLine,
    ProviderLine,
    ProviderSweep,
    list_contradicted,
    list_first_owners,
    split_failed,
    sum_net,
)
from services.transactions.providers.protocols import OutcomeUnknown, ProviderSweeps
from services.transactions.store import feed_cursors
from services.transactions.store import sweeps as store
from services.transactions.store.provider_payments import find_owner

# Where nobody knows how far they were read. By the clock of the database: nobody sets it to a time to come.
_BEGUN_BEFORE: Final = timedelta(days=90)
# Whatever a provider says of when one was made, no more than that is listed.
_LISTED_BEFORE: Final = timedelta(days=400)
# What was made so long before the last one may still change. Source: docs.stripe.com/payouts: one that was paid fails
# within five business days, most of the time.
_CHANGES_WITHIN: Final = timedelta(days=30)


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
    cursor = await feed_cursors.read_cursor(dependencies.database, _name_cursor(source))
    async with dependencies.database.begin_for_all() as tx:
        today = await read_database_time(tx)
    listed = await source.sweeps.list_sweeps(_choose_since(cursor, today))
    unread = len(listed.unread_ids)
    unfinished: list[datetime] = []
    # The older one first: what it had left at the provider is in a later one, which is compared with it.
    for theirs in sorted(listed.sweeps, key=lambda sweep: (sweep.made_at, sweep.sweep_id)):
        try:
            is_finished = await _read_one(dependencies, source, theirs)
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
        if reached != cursor.reached:
            async with dependencies.database.begin_for_all() as tx:
                now = dependencies.clock.now()
                await feed_cursors.save_cursor(tx, _name_cursor(source), cursor, reached, now)
    if unread:
        raise OutcomeUnknown(f"{unread} sweeps are not read")


def _name_cursor(source: _Source) -> str:
    return f"sweeps {source.provider} {source.sweeps.feed}"


def _choose_since(cursor: feed_cursors.Cursor, today: datetime) -> datetime:
    if not cursor.reached:
        return today - _BEGUN_BEFORE
    return max(datetime.fromisoformat(cursor.reached), today - _LISTED_BEFORE) - _CHANGES_WITHIN


async def _read_one(dependencies: Dependencies, source: _Source, said: ProviderSweep) -> bool:
    """Whether nothing more is to be expected of it soon.

    Raises:
        OutcomeUnknown: the provider does not say of what it consists.
        NotSealed: something of it is not what we wrote.
    """
    kept = await store.read_known(dependencies.database, source.sweeps.feed, said.sweep_id)
    contradiction = find_contradiction(kept.sweep, said)
    theirs, lines = believe(kept.sweep, said), None
    is_open = kept.sweep is None or kept.sweep.explanation is not Explanation.EXPLAINED
    # Of what is said otherwise than before nobody knows whether its lines are those of the sweep that is known.
    if theirs.is_listed and is_open and not contradiction:
        lines = await source.sweeps.list_lines(theirs)
    owned, reading = await _read(dependencies, source, kept.sweep, theirs, lines)
    if reading.lines is not None or reading.is_news:
        await _keep_all(dependencies, reading, owned)
    if reading.is_news:
        async with dependencies.database.begin_for_all() as tx:
            await store.save_known(tx, kept, reading.build_known(), dependencies.clock.now())
    if contradiction:
        # What was believed first stays, and a person is called each time that it is said.
        await _tell_all(dependencies, reading, contradiction)
    return reading.is_finished


async def _read(
    dependencies: Dependencies,
    source: _Source,
    known: KnownSweep | None,
    theirs: ProviderSweep,
    lines: Sequence[ProviderLine] | None,
) -> tuple[Mapping[Owner, list[OwnLine]], Reading]:
    """Whose each line is that is not kept yet, and what there is to say of the sweep. Raises: NotSealed."""
    database, feed = dependencies.database, source.sweeps.feed
    owned: Mapping[Owner, list[OwnLine]] = {}
    contradicted: Mapping[Owner, set[str]] = {}
    destination_before = None
    if known is None or lines is not None:
        destination_before = await store.find_destination_before(database, feed, theirs)
    if lines is not None:
        moved = [line.movement_id for line in lines]
        kept = await store.list_kept(database, source.provider, theirs.sweep_id, moved)
        owned = await _attribute(dependencies, source, theirs, lines, kept)
        contradicted = list_contradicted(owned, kept, theirs.sweep_id)
        elsewhere = {
            (each.owner, each.line.provider_movement_id) for each in kept if each.provider_sweep_id != theirs.sweep_id
        }
        owned = {
            owner: [each for each in own if (owner, each.line.movement_id) not in elsewhere]
            for owner, own in owned.items()
        }
    now = dependencies.clock.now()
    reading = Reading(
        feed=feed,
        provider=source.provider,
        theirs=theirs,
        known=known,
        lines=lines,
        contradicted=contradicted,
        destination_before=destination_before,
        explanation=explain(known, theirs, lines, now, is_contradicted=bool(contradicted)),
        is_overdue=is_overdue(known, theirs, now),
    )
    return owned, reading


async def _attribute(
    dependencies: Dependencies,
    source: _Source,
    theirs: ProviderSweep,
    lines: Sequence[ProviderLine],
    kept: Sequence[KeptLine],
) -> Mapping[Owner, list[OwnLine]]:
    """Whose each line is: what is nobody's the operator's organization has, if there is one. Raises: NotSealed."""
    owned: dict[Owner, list[OwnLine]] = defaultdict(list)
    before: dict[str, list[KeptLine]] = defaultdict(list)
    for each in kept:
        before[each.line.provider_movement_id].append(each)
    for line in lines:
        owners = list_first_owners(line, before[line.movement_id])
        if not owners and line.failed_sweep_id:
            shares = await _split(dependencies, source, theirs, line)
            owners = {owner: OwnLine(share, None) for owner, share in shares.items()}
        for owner, own in (owners or await _attribute_one(dependencies, source, line)).items():
            owned[owner].append(own)
    return owned


async def _attribute_one(dependencies: Dependencies, source: _Source, line: ProviderLine) -> dict[Owner, OwnLine]:
    for payment_id in line.payment_ids:
        if found := await find_owner(dependencies.database, source.provider, payment_id, ""):
            owner, transaction_id = found
            return {owner: OwnLine(line, transaction_id)}
    return {dependencies.operator_org_id or None: OwnLine(line, None)}


async def _split(
    dependencies: Dependencies, source: _Source, theirs: ProviderSweep, line: ProviderLine
) -> dict[Owner, ProviderLine]:
    """Whose that is which an earlier sweep had left. Where that one is not explained, it is nobody's."""
    database, operator = dependencies.database, dependencies.operator_org_id or None
    failed = (await store.read_known(database, source.sweeps.feed, line.failed_sweep_id)).sweep
    is_whole = failed is not None and failed.explanation is Explanation.EXPLAINED
    if failed is None or not is_whole or failed.currency != theirs.amount.currency:
        return {operator: line}
    parts = await store.list_parts(database, source.provider, line.failed_sweep_id)
    return split_failed(line, {org_id: part.amount_minor for org_id, part in parts.items()}, operator)


async def _keep_all(dependencies: Dependencies, reading: Reading, owned: Mapping[Owner, list[OwnLine]]) -> None:
    """Brings the part of each organization up to date, and tells each; and nobody, where something is nobody's.

    Raises: NotSealed: of one of them; the others are written.
    """
    operator, sweep_id = dependencies.operator_org_id or None, reading.theirs.sweep_id
    if of_nobody := owned.get(None):
        said = {"provider": reading.provider, "sweep_id": sweep_id, "net_minor": sum_net(own.line for own in of_nobody)}
        log.warning("sweep_lines_of_nobody", count=len(of_nobody), **said)
    owners = {*owned, operator, *await store.list_owners(dependencies.database, reading.provider, sweep_id)}
    altered = None
    for org_id in sorted(each for each in owners if each is not None):
        with acting_as(service_principal(NAME, org_id)):
            try:
                async with dependencies.database.begin() as tx:
                    await keep_part(tx, reading, owned.get(org_id, []), dependencies.clock.now())
            except NotSealed as error:
                altered = error
    if operator is None:
        about = About(provider=reading.provider, provider_payment_id=sweep_id)
        for trouble in reading.list_troubles(None):
            if trouble.is_new:
                await report_apart(dependencies, None, trouble.kind, about, trouble.cause)
    if altered is not None:
        raise altered


async def _tell_all(dependencies: Dependencies, reading: Reading, contradiction: str) -> None:
    """Each organization that has a part of it, and nobody."""
    kind, sweep_id = ExceptionKind.SWEEP_NOT_EXPLAINED, reading.theirs.sweep_id
    owners = await store.list_owners(dependencies.database, reading.provider, sweep_id)
    about = About(provider=reading.provider, provider_payment_id=sweep_id)
    for org_id in [*sorted(owners - {dependencies.operator_org_id}), None]:
        await report_apart(dependencies, org_id, kind, about, contradiction)
