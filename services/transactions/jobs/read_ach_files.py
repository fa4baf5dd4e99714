"""Reads the files of the ACH network that the bank sends, and applies what came back.

A file is taken first, into a folder of ours, and read from there: so what is put in its place meanwhile is another
file, and read in its turn. One that is about rows that somebody altered stays there, and is read again.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.data.seals import NotSealed
from services.chassis.data.transaction import Tx
from services.chassis.process.health import note_alarm
from services.chassis.process.telemetry import log
from services.transactions.commands.changed_accounts import replace_bank_account
from services.transactions.commands.exceptions import report_apart
from services.transactions.dependencies import NAME, Dependencies
from services.transactions.domain.ach import AchEntry, EntryStatus, FileStatus
from services.transactions.domain.ach_changes import find_last_day, read_change
from services.transactions.domain.exceptions import About, ExceptionKind
from services.transactions.jobs.ach_kinds import find_doubt, follow_return
from services.transactions.jobs.apply_acknowledgements import apply_acknowledgements
from services.transactions.jobs.bank_files import apply_each, tell_waiting
from services.transactions.providers.ach_file import NAME as ACH_FILE
from services.transactions.providers.ach_file.config import AchFileConfig
from services.transactions.providers.ach_file.folders import (
    READING,
    Folder,
    list_given_names,
    open_folder,
    spell_name,
)
from services.transactions.providers.ach_file.nacha import (
    NotNacha,
    Returned,
    ReturnFile,
    read_returns,
    read_trace_no,
    spell_trace,
)
from services.transactions.store import ach, provider_payments
from services.transactions.store.exception_reports import report
from services.transactions.vault import Vault

# A file that somebody still writes is not read.
QUIET_FOR = timedelta(seconds=10)
# What is older and still there was not read; what is newer than now by so much will not be soon.
READ_WITHIN, AHEAD_BY = timedelta(hours=4), timedelta(minutes=5)
# What a fault quotes of a file may be a part of an account number.
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


async def read_ach_files(dependencies: Dependencies) -> int:
    """Applies what the bank sent back; how many files were put away.

    Raises: what went wrong with one, once all were read: it waits for the next time.
    """
    config = dependencies.providers.ach_files
    if config is None:
        return 0
    read, waiting, inbound = 0, 0, config.inbound
    faults = await asyncio.to_thread(_take, inbound)
    for name in await asyncio.to_thread(_list_taken, inbound):
        try:
            content = await asyncio.to_thread(_read_taken, inbound, name)
            folder = await _read_file(dependencies, config, spell_name(name), content or b"")
            if folder == READING:
                waiting += 1
                continue
            await asyncio.to_thread(_put_away, inbound, name, folder)
            read += 1
        except FileNotFoundError:  # another process has read it
            continue
        except Exception as fault:  # what is wrong with one file keeps no other from being read; it is read again
            log.exception("ach_file_failed", file=spell_name(name))
            faults.append(fault)
    found = f"{waiting} not applied, for rows that somebody altered" if waiting else ""
    note_alarm(dependencies.alarms, "files of the bank", found)
    for name, cause in await asyncio.to_thread(_list_late, inbound):
        about = About(file_name=spell_name(name))
        await report_apart(dependencies, None, ExceptionKind.ACH_FILE_UNREADABLE, about, cause)
    if faults:
        raise faults[0]
    return read


@contextmanager
def _open_reading(inbound: Path) -> Iterator[tuple[Folder, Folder]]:
    """The folder that we share, and the one in it from which files are read."""
    with open_folder(inbound) as shared, shared.open_own(READING) as reading:
        yield shared, reading


def _take(inbound: Path) -> list[Exception]:
    """Moves what lies still to where it is read; what went wrong with each that it could not."""
    faults: list[Exception] = []
    quiet_since = datetime.now(UTC).timestamp() - QUIET_FOR.total_seconds()
    with _open_reading(inbound) as (shared, reading):
        for name in shared.list_files():
            try:
                if not name.startswith(".") and shared.find_time(name) <= quiet_since:
                    shared.put_away(name, reading)
            except FileNotFoundError:  # another process has taken it
                continue
            except OSError as fault:
                log.exception("ach_file_failed", file=spell_name(name))
                faults.append(fault)
    return faults


def _list_taken(inbound: Path) -> list[str]:
    """What is no file is among them, and put away as one that cannot be read."""
    with _open_reading(inbound) as (_, reading):
        return reading.list_files()


def _read_taken(inbound: Path, name: str) -> bytes | None:
    with _open_reading(inbound) as (_, reading):
        return reading.read_whole(name)


def _put_away(inbound: Path, name: str, folder: str) -> None:
    with _open_reading(inbound) as (shared, reading), shared.open_own(folder) as kept:
        reading.put_away(name, kept)


def _list_late(inbound: Path) -> list[tuple[str, str]]:
    """What is still there that should have been read, or never will be, and why."""
    now, found = datetime.now(UTC).timestamp(), []
    with _open_reading(inbound) as (shared, reading):
        for folder in (shared, reading):
            for name in folder.list_files():
                with suppress(FileNotFoundError):
                    age = now - folder.find_time(name)
                    if age < -AHEAD_BY.total_seconds():
                        found.append((name, "It lies there unread: its time is in the future."))
                    elif age > READ_WITHIN.total_seconds():
                        found.append((name, "It has lain there unread for hours."))
    return found


async def _read_file(dependencies: Dependencies, config: AchFileConfig, name: str, content: bytes) -> str:
    """The folder in which it is kept. Read again, it changes nothing: an entry comes back once."""
    acknowledgements = config.acknowledgements
    if acknowledgements is not None and any(map(acknowledgements.is_one, list_given_names(name))):
        return await apply_acknowledgements(dependencies, acknowledgements, name, content)
    try:
        file = await asyncio.to_thread(read_returns, content)
    except NotNacha as fault:
        cause = _QUOTED.sub("what stands there", str(fault))
        await report_apart(dependencies, None, ExceptionKind.ACH_FILE_UNREADABLE, About(file_name=name), cause)
        return "rejected"
    apply = partial(_apply, dependencies, config, file, name)
    folder = await apply_each(dependencies, name, content, file.returned, apply)
    log.info("ach_file_read", file=name, returned=len(file.returned), folder=folder)
    return folder


async def _apply(
    dependencies: Dependencies, config: AchFileConfig, file: ReturnFile, name: str, returned: Returned
) -> bool:
    """Whether it was about an entry of ours, and is applied.

    Raises: NotSealed: it is, or may be, and cannot be applied, for a row that somebody altered. That is told.
    """
    trace_no = read_trace_no(returned.trace)
    candidates = [
        (org_id, entry)
        for org_id, entry in await ach.list_by_trace(dependencies.database, trace_no)
        if _is_about(config, org_id, entry, returned)
    ]
    if not candidates:
        may_be = partial(_may_be_about, dependencies, config, returned)
        altered = [
            (org_id, _describe(entry, returned, name), error)
            for org_id, entry, error in await ach.list_altered_by_trace(dependencies.database, trace_no, may_be)
        ]
        await tell_waiting(dependencies, returned.code, altered)
    if len(candidates) != 1:
        cause = f"{returned.code}: {len(candidates)} payments of ours have this trace number, direction and amount."
        about = About(provider=ACH_FILE, provider_payment_id=returned.trace, file_name=name)
        if await ach.has_altered(dependencies.database):
            cause += " Some of our entries or files were altered in the database: it may be about one."
        await report_apart(dependencies, None, ExceptionKind.ACH_RETURN_NOT_OURS, about, cause)
        return False
    [(org_id, entry)] = candidates
    try:
        with acting_as(service_principal(NAME, org_id)):
            return await _record_and_follow(dependencies, entry, file, returned, name)
    except NotSealed as error:
        await tell_waiting(dependencies, returned.code, [(org_id, _describe(entry, returned, name), error)])
        raise


async def _may_be_about(
    dependencies: Dependencies, config: AchFileConfig, returned: Returned, org_id: str, entry: AchEntry
) -> bool:
    """Whether what came back may be an entry whose row somebody altered, and did not make up: an attempt was ordered
    by it, which stands in a row of its own.
    """
    if not _is_about(config, org_id, entry, returned):
        return False
    if entry.transaction_id is None:  # no row of its own says that we ordered it
        return False
    known_by = entry.ach_entry_id, entry.transaction_id
    try:
        owner = await provider_payments.find_owner(dependencies.database, ACH_FILE, *known_by)
    except NotSealed:
        return True
    return owner == (org_id, entry.transaction_id)


async def _record_and_follow(
    dependencies: Dependencies, entry: AchEntry, file: ReturnFile, returned: Returned, name: str
) -> bool:
    """Raises: NotSealed."""
    async with dependencies.database.begin() as tx:
        back = await _record(tx, dependencies.vault, entry.ach_entry_id, file, returned, name, dependencies.clock.now())
    if back is None or back.status is not EntryStatus.RETURNED:
        return back is not None
    async with dependencies.database.begin() as tx:
        return await follow_return(tx, back, dependencies.clock.now())


def _is_about(config: AchFileConfig, org_id: str, entry: AchEntry, returned: Returned) -> bool:
    company = config.find_company(org_id)
    if company is None or entry.trace_no is None:
        return False
    ours = spell_trace(company.bank, entry.trace_no), entry.is_inbound
    amount_minor = 0 if returned.is_change else entry.amount_minor  # a change is asked for with an amount of zero
    return (*ours, amount_minor) == (returned.trace, returned.is_inbound, returned.amount_minor)


async def _record(
    tx: Tx, vault: Vault, ach_entry_id: str, file: ReturnFile, returned: Returned, name: str, now: datetime
) -> AchEntry | None:
    """The entry with what the bank says of it; None where it said something else before. Raises: NotSealed."""
    entry = await ach.ENTRIES.lock_known(tx, ach_entry_id)
    about = _describe(entry, returned, name)
    if await _was_rejected(tx, entry):
        cause = f"The bank says {returned.code} of an entry of a file that it had rejected."
        report(tx, ExceptionKind.ACH_REJECTED_FILE_PAID, about, cause, now)
        return None
    if returned.is_change:
        if entry.change_code == returned.code:
            return entry
        change = read_change(returned.code, returned.corrected)
        done = "What it asks for is nothing that we can read: nothing was added."
        if change is not None:
            done = await replace_bank_account(tx, vault, entry, change, now)
        cause = f"The bank says {returned.code}, to be done by {find_last_day(now.date())}. {done}"
        report(tx, ExceptionKind.ACH_CHANGE_ASKED_FOR, about, cause, now)
        return await ach.ENTRIES.save(tx, entry, replace(entry, change_code=returned.code), now)
    if entry.status is EntryStatus.WITHDRAWN:
        cause = f"The bank says {returned.code} of what was taken out of its file before that left."
        report(tx, ExceptionKind.ACH_RETURN_NOT_OURS, about, cause, now)
        return None
    if entry.status is EntryStatus.RETURNED:  # the same file again, or a return of a return: for a person
        if entry.return_code == returned.code:
            return entry
        cause = f"The bank says {returned.code} of what had come back as {entry.return_code}."
        report(tx, ExceptionKind.ACH_RETURN_NOT_OURS, about, cause, now)
        return None
    if cause := find_doubt(entry, returned.code):
        report(tx, ExceptionKind.RETURN_TO_REVIEW, about, cause, now)
    back = replace(
        entry, status=EntryStatus.RETURNED, return_code=returned.code, returned_on=min(file.created_on, now.date())
    )
    return await ach.ENTRIES.save(tx, entry, back, now)


def _describe(entry: AchEntry, returned: Returned, name: str) -> About:
    return About(
        transaction_id=entry.transaction_id,
        bank_account_id=entry.bank_account_id,
        provider=ACH_FILE,
        provider_payment_id=returned.trace,
        file_name=name,
        amount=entry.amount if entry.amount_minor else None,
    )


async def _was_rejected(tx: Tx, entry: AchEntry) -> bool:
    """Whether the bank had rejected the file that it was in. Raises: NotSealed."""
    file = None if entry.ach_file_id is None else await ach.FILES.find(tx, entry.ach_file_id)
    return file is not None and file.status is FileStatus.REJECTED
