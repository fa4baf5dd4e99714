"""Applies what the bank says of our files: one that it accepted settles on its day, and of one that it rejected each
payment has failed.

It is written of the file, once, and every payment in it is looked up there: so all of them fail together, with the same
words, wherever a crash comes between. What is said otherwise of the same file later is believed by nobody.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.data.seals import NotSealed
from services.chassis.data.transaction import Tx
from services.chassis.process.telemetry import log
from services.transactions.commands.exceptions import report, report_apart
from services.transactions.dependencies import NAME, Dependencies
from services.transactions.domain.ach import ACKNOWLEDGED, AchFile, EntryStatus, FileStatus
from services.transactions.domain.exceptions import About, ExceptionKind
from services.transactions.providers.ach_file.acknowledgements import (
    Acknowledgement,
    AcknowledgementConfig,
    Name,
    NoAcknowledgement,
    list_names,
    read_acknowledgements,
)
from services.transactions.providers.ach_file.folders import name_file
from services.transactions.store import ach

# What a bank says of an older file is about none.
HEARD_WITHIN = timedelta(days=30)


async def apply_acknowledgements(
    dependencies: Dependencies, config: AcknowledgementConfig, name: str, content: bytes
) -> str:
    """The folder in which the bank's file is kept. Read again, it changes nothing.

    Args:
        name: Of the bank's file.
    """
    try:
        found = await asyncio.to_thread(read_acknowledgements, config, content)
    except NoAcknowledgement as fault:
        await report_apart(dependencies, None, ExceptionKind.ACH_FILE_UNREADABLE, About(file_name=name), str(fault))
        return "rejected"
    ours, questions = await _list_by_name(dependencies), 0
    for each in found:
        questions += not await _apply(dependencies, each, ours.get(each.name, []), name)
    log.info("ach_acknowledgements_read", file=name, files=len(found), questions=questions)
    return "questions" if questions else "processed"


async def _list_by_name(dependencies: Dependencies) -> Mapping[Name, Sequence[tuple[str, AchFile]]]:
    """The files that a bank may say something of, and whose each is, by all that it may call them."""
    since, by_name = (
        (dependencies.clock.now() - HEARD_WITHIN).date(),
        defaultdict[Name, list[tuple[str, AchFile]]](list),
    )
    for org_id, file in await ach.list_acknowledgeable(dependencies.database, since):
        for each in list_names(file):
            by_name[each].append((org_id, file))
    return by_name


async def _apply(
    dependencies: Dependencies, said: Acknowledgement, candidates: Sequence[tuple[str, AchFile]], name: str
) -> bool:
    """Whether it is about a file of ours, and is applied."""
    if len(candidates) != 1:
        cause = f"{len(candidates)} files of ours that wait for it, or had it lately, have this name and these sums."
        kind = ExceptionKind.ACH_ACKNOWLEDGEMENT_NOT_OURS
        await report_apart(dependencies, None, kind, About(file_name=name), cause)
        return False
    [(org_id, file)] = candidates
    with acting_as(service_principal(NAME, org_id)):
        try:
            async with dependencies.database.begin() as tx:
                return await _record(tx, dependencies, org_id, file, said)
        except NotSealed:  # in the log
            return False


async def _record(tx: Tx, dependencies: Dependencies, org_id: str, file: AchFile, said: Acknowledgement) -> bool:
    """Raises: NotSealed."""
    now = dependencies.clock.now()
    locked = await ach.FILES.lock_known(tx, file.ach_file_id)
    status = FileStatus.ACCEPTED if said.rejected_because is None else FileStatus.REJECTED
    if locked.status in ACKNOWLEDGED and locked.status is status:
        return True
    about = About(file_name=name_file(org_id, locked))
    came_back = any(each.status is EntryStatus.RETURNED for each in await ach.list_entries_of(tx, locked))
    if locked.status in ACKNOWLEDGED or (came_back and status is FileStatus.REJECTED):
        known = locked.status if locked.status in ACKNOWLEDGED else "had, for some of it came back"
        cause = f"The bank says {status} of a file that was {known}."
        await report(tx, ExceptionKind.ACH_ACKNOWLEDGEMENT_NOT_OURS, about, cause, now)
        return False
    await ach.FILES.save(tx, locked, replace(locked, status=status, rejected_because=said.rejected_because), now)
    if said.rejected_because is not None:
        cause = f"The bank says: {said.rejected_because}"
        await report(tx, ExceptionKind.ACH_FILE_REJECTED, about, cause, now, entries=locked.entry_count)
    return True
