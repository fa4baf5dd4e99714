"""Applies what the bank says of our files: one that it accepted settles on its day, and of one that it rejected each
payment has failed.

It is written of the file, once, and every payment in it is looked up there: so all of them fail together, with the same
words, wherever a crash comes between. What is said otherwise of the same file later is believed by nobody.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from functools import partial

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.data.seals import NotSealed
from services.chassis.data.transaction import Tx
from services.chassis.process.telemetry import log
from services.chassis.values.text import quote
from services.transactions.commands.exceptions import report_apart
from services.transactions.dependencies import NAME, Dependencies
from services.transactions.domain.ach import ACKNOWLEDGED, AchFile, EntryStatus, FileStatus, name_file
from services.transactions.domain.exceptions import About, ExceptionKind
from services.transactions.jobs.bank_files import apply_each, tell_waiting
from services.transactions.providers.ach_file.acknowledgements import (
    Acknowledgement,
    AcknowledgementConfig,
    Name,
    NoAcknowledgement,
    list_names,
    read_acknowledgements,
)
from services.transactions.store import ach
from services.transactions.store.exception_reports import report

# What a bank says once more, or the contrary of what it said, of an older file is about none.
HEARD_WITHIN = timedelta(days=30)
_ByName = Mapping[Name, Sequence[tuple[str, AchFile]]]
_Altered = Sequence[tuple[str, AchFile, NotSealed]]


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
    since = (dependencies.clock.now() - HEARD_WITHIN).date()
    ours = _list_by_name(await ach.list_acknowledgeable(dependencies.database, since))
    altered = await _list_altered(dependencies, since, {each.name for each in found})
    folder = await apply_each(dependencies, name, content, found, partial(_apply, dependencies, ours, altered, name))
    log.info("ach_acknowledgements_read", file=name, files=len(found), folder=folder)
    return folder


def _list_by_name(files: Sequence[tuple[str, AchFile]]) -> _ByName:
    """Files, and whose each is, by all that a bank may call them."""
    by_name = defaultdict[Name, list[tuple[str, AchFile]]](list)
    for org_id, file in files:
        for each in list_names(file):
            by_name[each].append((org_id, file))
    return by_name


async def _list_altered(dependencies: Dependencies, since: date, names: Collection[Name]) -> _Altered:
    """What somebody altered in the database, or made up, and has one of these names, of which no login writes any."""

    async def is_named(_: str, file: AchFile) -> bool:
        return any(each in names for each in list_names(file))

    return await ach.list_altered_acknowledgeable(dependencies.database, since, is_named)


async def _apply(
    dependencies: Dependencies, ours: _ByName, altered: _Altered, name: str, said: Acknowledgement
) -> bool:
    """Whether it is about a file of ours, and is applied.

    Raises: NotSealed: it is, or may be, and cannot be applied, for a row that somebody altered. That is told.
    """
    candidates, verdict = ours.get(said.name, []), f"{_find_status(said)}, in {quote(name)}"
    # Also where one of ours has the name: by day and number a bank may call two files the same, and it is said of one.
    may_be = [
        (org_id, About(file_name=name_file(org_id, file)), error)
        for org_id, file, error in altered
        if said.name in list_names(file)
    ]
    await tell_waiting(dependencies, verdict, may_be)
    if len(candidates) != 1:
        cause = f"{len(candidates)} files of ours that wait for it, or had it lately, have this name and these sums."
        kind = ExceptionKind.ACH_ACKNOWLEDGEMENT_NOT_OURS
        await report_apart(dependencies, None, kind, About(file_name=name), cause)
        return False
    [(org_id, file)] = candidates
    try:
        with acting_as(service_principal(NAME, org_id)):
            async with dependencies.database.begin() as tx:
                return await _record(tx, dependencies, org_id, file, said)
    except NotSealed as error:
        await tell_waiting(dependencies, verdict, [(org_id, About(file_name=name_file(org_id, file)), error)])
        raise


def _find_status(said: Acknowledgement) -> FileStatus:
    return FileStatus.ACCEPTED if said.rejected_because is None else FileStatus.REJECTED


async def _came_back(tx: Tx, file: AchFile) -> bool:
    """Whether some of it did, or a notice of change about it: its bank had it then.

    Raises: NotSealed: else whoever alters what came back has the rest fail.
    """
    entries = await ach.read_all_entries_of(tx, file)
    return any(each.status is EntryStatus.RETURNED or each.change_code for each in entries)


async def _record(tx: Tx, dependencies: Dependencies, org_id: str, file: AchFile, said: Acknowledgement) -> bool:
    """Raises: NotSealed."""
    now = dependencies.clock.now()
    locked = await ach.FILES.lock_known(tx, file.ach_file_id)
    status = _find_status(said)
    if locked.status in ACKNOWLEDGED and locked.status is status:
        return True
    about = About(file_name=name_file(org_id, locked))
    if locked.status in ACKNOWLEDGED or (status is FileStatus.REJECTED and await _came_back(tx, locked)):
        known = (
            locked.status
            if locked.status in ACKNOWLEDGED
            else "had, for some of it came back or was asked to be changed"
        )
        cause = f"The bank says {status} of a file that was {known}."
        report(tx, ExceptionKind.ACH_ACKNOWLEDGEMENT_NOT_OURS, about, cause, now)
        return False
    await ach.FILES.save(tx, locked, replace(locked, status=status, rejected_because=said.rejected_because), now)
    if said.rejected_because is not None:
        cause = f"The bank says: {quote(said.rejected_because)}"
        report(tx, ExceptionKind.ACH_FILE_REJECTED, about, cause, now, entries=locked.entry_count)
    return True
