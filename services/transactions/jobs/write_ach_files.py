"""Makes files of the ACH network for the bank, and releases them.

A file is made in the transaction that says of its entries that they are sent, and is written from there: a crash
between the two writes the same file again, without what is not wanted any more by then. It is written beside the bank's
folder, said to be released, and then moved there in one step: so it is released once, wherever a crash comes between.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import NamedTuple

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.data.restores import is_restore_seen
from services.chassis.data.transaction import Tx
from services.chassis.process.telemetry import log
from services.chassis.values.ids import new_id
from services.chassis.values.refusals import EscrowAccountFrozen
from services.transactions.commands.exceptions import report_apart
from services.transactions.dependencies import NAME, Dependencies
from services.transactions.domain.ach import (
    ASKED_AGAIN_AFTER,
    AchEntry,
    AchFile,
    EntryStatus,
    FileStatus,
    find_effective_day,
    find_last_cut_off,
    find_settlement_of_file,
    name_file,
    sum_up,
)
from services.transactions.domain.bank_accounts import HolderType
from services.transactions.domain.exceptions import About, ExceptionKind
from services.transactions.domain.same_day import OpenWindow, find_open_window, spell_descriptive_date
from services.transactions.jobs.ach_kinds import ask_about, list_due, list_known, withdraw_unwanted
from services.transactions.providers.ach_file.config import AchFileConfig
from services.transactions.providers.ach_file.folders import move_out, stage
from services.transactions.providers.ach_file.nacha import (
    FILES_A_DAY_MAX,
    TOTAL_MINOR_MAX,
    TRACES_MAX,
    Company,
    Entry,
    write_file,
)
from services.transactions.store import ach
from services.transactions.vault import SealedFor

ENTRIES_MAX = 5_000  # in a file


async def write_ach_files(dependencies: Dependencies) -> int:
    """Makes and releases what is due; how many files left: one that cannot waits for the next time."""
    config = dependencies.providers.ach_files
    if config is None or not await is_restore_seen(dependencies.database.reader):
        return 0  # what was made before the backup has perhaps left since
    now = dependencies.clock.now()
    departures = _list_departures(config, now)
    count = 0
    for org_id in await ach.list_organizations(dependencies.database, max(each.before for each in departures)):
        with acting_as(service_principal(NAME, org_id)):
            try:
                count += await _write_files_of(dependencies, config, org_id, departures, now)
            except Exception:  # what is wrong with one organization keeps no other from being paid
                log.exception("ach_file_failed", org_id=org_id)
    return count


class _Departure(NamedTuple):
    """A file that is due.

    Args:
        before: What was ordered before it is in it, as far as it takes it.
        window: That it leaves through, to settle today; None where it settles on the next banking day.
    """

    before: datetime
    takes: Callable[[AchEntry], bool]
    window: OpenWindow | None


def _list_departures(config: AchFileConfig, now: datetime) -> list[_Departure]:
    """What settles today leaves first."""
    rest = _Departure(find_last_cut_off(config.cut_offs, now), lambda _: True, None)
    same_day = config.same_day
    window = None if same_day is None else find_open_window(same_day.windows, now)
    if same_day is None or window is None:
        return [rest]

    def takes(entry: AchEntry) -> bool:
        return same_day.takes(is_inbound=entry.is_inbound, amount_minor=entry.amount_minor)

    return [_Departure(window.before, takes, window), rest]


async def _write_files_of(
    dependencies: Dependencies, config: AchFileConfig, org_id: str, departures: Sequence[_Departure], now: datetime
) -> int:
    company = config.find_company(org_id)
    if company is None:
        log.error("ach_company_missing", org_id=org_id)
        return 0
    for departure in departures:
        is_acknowledged, asks_first = config.acknowledgements is not None, config.prenotes
        await _make_file(dependencies, departure, now, is_acknowledged=is_acknowledged, asks_first=asks_first)
    async with dependencies.database.begin() as tx:
        files = await ach.list_not_left(tx)
    left = 0
    for file in files:
        try:
            if file.status is FileStatus.MADE and not await _release(dependencies, config, org_id, company, file):
                continue
            await asyncio.to_thread(move_out, config.outbound, name_file(org_id, file))
            await _record_leaving(dependencies, org_id, file)
            left += 1
        except Exception:  # nor does one file keep another from leaving
            log.exception("ach_file_failed", org_id=org_id, ach_file_id=file.ach_file_id)
    return left


async def _make_file(
    dependencies: Dependencies, departure: _Departure, now: datetime, *, is_acknowledged: bool, asks_first: bool
) -> None:
    """Puts what waits into a file. Whether each is still wanted is asked now: days may have passed since its order.

    Args:
        asks_first: What goes to an account that no bank was asked about waits for its prenote.
    """
    async with dependencies.database.begin() as tx:
        waiting = [each for each in await ach.list_waiting(tx, departure.before) if departure.takes(each)]
        due = await list_due(tx, waiting, departure.before, now, asks_first=asks_first)
        known = await list_known(tx, [each.entry for each in due])
    settles_on = find_effective_day(now.date()) if departure.window is None else departure.window.settles_at.date()
    facts = await ask_about(dependencies, [each.entry for each in due], known, settles_on, now)
    failures = {each.entry.ach_entry_id: each.failure for each in due}
    async with dependencies.database.begin() as tx:
        await ach.lock_files(tx)
        answered = [
            entry
            for entry in await ach.ENTRIES.lock_these(tx, list(failures))
            if entry.status is EntryStatus.WAITING and not facts.is_open(entry)
        ]
        wanted = list(_take_first(await withdraw_unwanted(tx, answered, facts, now, failures)))
        number = await ach.count_files(tx, now.date())
        if wanted and number < FILES_A_DAY_MAX:
            await _save_file(tx, wanted, number, departure.window, now, is_acknowledged=is_acknowledged)
        elif wanted:
            log.error("ach_files_of_the_day_used_up", waiting=len(wanted))


def _take_first(entries: Sequence[AchEntry]) -> Iterator[AchEntry]:
    """As many as one file holds: the others have the next one, a minute later."""
    sums = {True: 0, False: 0}
    for entry in entries[:ENTRIES_MAX]:
        if sums[entry.is_inbound] + entry.amount_minor <= TOTAL_MINOR_MAX:
            sums[entry.is_inbound] += entry.amount_minor
            yield entry


async def _save_file(
    tx: Tx, entries: Sequence[AchEntry], number: int, window: OpenWindow | None, now: datetime, *, is_acknowledged: bool
) -> None:
    file = AchFile(
        ach_file_id=new_id("achf"),
        created_on=now.date(),
        number=number,
        **sum_up(entries),
        leaves_by=None if window is None else window.leaves_by,
        settles_at=None if window is None else window.settles_at,
        is_acknowledged=is_acknowledged,
        created_at=now,
        updated_at=now,
    )
    await ach.FILES.insert(tx, file)
    traces = await _choose_traces(tx, len(entries))
    sent = [
        (
            each,
            replace(
                each,
                status=EntryStatus.SENT,
                ach_file_id=file.ach_file_id,
                trace_no=trace_no,
                effective_on=file.created_on if window else find_effective_day(file.created_on),
            ),
        )
        for each, trace_no in zip(entries, traces, strict=True)
    ]
    await ach.ENTRIES.save_all(tx, sent, now)


async def _choose_traces(tx: Tx, count: int) -> list[int]:
    """Numbers that no entry of the organization has: at random, so that nobody uses them up by writing the last one."""
    found: set[int] = set()
    while len(found) < count:
        fresh = {1 + secrets.randbelow(TRACES_MAX) for _ in range(count - len(found))} - found
        found |= fresh - await ach.list_traces(tx, sorted(fresh))
    return sorted(found)


async def _release(
    dependencies: Dependencies, config: AchFileConfig, org_id: str, company: Company, file: AchFile
) -> bool:
    """Stages it, and says that the bank may have it. False where it waits, or nothing is left of it."""
    async with dependencies.database.begin() as tx:
        entries = await ach.list_entries_of(tx, file)
    if replace(file, **sum_up(entries)) != file:
        cause = f"{len(entries)} of its {file.entry_count} entries are as they were put into it, or their sums differ."
        await _report_altered(dependencies, org_id, file, cause)
        return False
    if dependencies.clock.now() >= file.created_at + ASKED_AGAIN_AFTER:
        file, entries = await _leave_out_unwanted(dependencies, org_id, file, entries)
    if not entries:
        return False
    spell = partial(_spell_entry, dependencies, org_id, company, spell_descriptive_date(file.settles_at))
    content = write_file(company, file.created_at, file.number, [spell(each) for each in entries])
    outbound, name = config.outbound, name_file(org_id, file)
    async with dependencies.database.begin() as tx:
        locked = await ach.FILES.lock_known(tx, file.ach_file_id)
        if locked.status is not FileStatus.MADE:
            return True  # another process has released it
        if locked != file:
            return False  # another has left something out of it
        # Behind the lock: a copy that were staged later would be moved to the bank as well.
        await asyncio.to_thread(stage, outbound, name, content)
        digest = dependencies.vault.blind_file(content)
        released = replace(locked, status=FileStatus.RELEASED, digest=digest)
        await ach.FILES.save(tx, locked, released, dependencies.clock.now())
    return True


async def _report_altered(dependencies: Dependencies, org_id: str, file: AchFile, cause: str) -> None:
    about = About(file_name=name_file(org_id, file))
    await report_apart(dependencies, org_id, ExceptionKind.ACH_FILE_ALTERED, about, cause)


async def _leave_out_unwanted(
    dependencies: Dependencies, org_id: str, file: AchFile, entries: Sequence[AchEntry]
) -> tuple[AchFile, Sequence[AchEntry]]:
    """Asks again of a file that was kept from leaving whether its payments are wanted.

    What is for an escrow account that is frozen by now has failed: the others in the file wait for no unfreezing.

    Returns: It and its entries without the others; no entries where it waits, since nobody answers about one of them.
    """
    now = dependencies.clock.now()
    async with dependencies.database.begin() as tx:
        known = await list_known(tx, entries)
    facts = await ask_about(dependencies, entries, known, find_settlement_of_file(file, now).date(), now)
    of_frozen = {each for each, refusal in facts.refusals.items() if isinstance(refusal, EscrowAccountFrozen)}
    if altered := sum(map(facts.is_altered, entries)):
        cause = f"{altered} of its {len(entries)} payments are not as they were ordered."
        await _report_altered(dependencies, org_id, file, cause)
        return file, []
    if waiting := set(facts.unanswered) - of_frozen:
        log.warning("ach_file_waits", org_id=org_id, ach_file_id=file.ach_file_id, unanswered=len(waiting))
        return file, []
    async with dependencies.database.begin() as tx:
        locked = await ach.FILES.lock_known(tx, file.ach_file_id)
        if locked != file:
            return file, []
        held = await ach.ENTRIES.lock_these(tx, [each.ach_entry_id for each in entries])
        wanted = await withdraw_unwanted(tx, held, facts, now)
        if len(wanted) < len(entries):
            status = FileStatus.MADE if wanted else FileStatus.WITHDRAWN
            file = await ach.FILES.save(tx, locked, replace(locked, status=status, **sum_up(wanted)), now)
    return file, wanted


async def _record_leaving(dependencies: Dependencies, org_id: str, file: AchFile) -> None:
    """It lies where the bank fetches it: its entries settle from now on."""
    async with dependencies.database.begin() as tx:
        locked = await ach.FILES.lock_known(tx, file.ach_file_id)
        if locked.status is not FileStatus.RELEASED:
            return
        now = dependencies.clock.now()
        await ach.FILES.save(tx, locked, replace(locked, status=FileStatus.LEFT, left_at=now), now)
    log.info(
        "ach_file_left",
        org_id=org_id,
        ach_file_id=file.ach_file_id,
        entries=locked.entry_count,
        debit_minor=locked.debit_minor,
        credit_minor=locked.credit_minor,
    )


def _spell_entry(
    dependencies: Dependencies, org_id: str, company: Company, descriptive_date: str, entry: AchEntry
) -> Entry:
    """Raises: VaultError."""
    assert entry.effective_on is not None
    assert entry.trace_no is not None
    sealed_for = SealedFor.of(org_id, entry)
    is_company = entry.holder_type is HolderType.COMPANY
    heading = company.build_heading(
        entry.description,
        entry.effective_on,
        is_debit=entry.is_classed_as_debit,
        is_company=is_company,
        descriptive_date=descriptive_date,
    )
    return Entry(
        heading,
        entry.is_inbound,
        entry.account_type,
        entry.routing_number,
        dependencies.vault.open(entry.account_number_encrypted, sealed_for),
        entry.amount_minor,
        entry.shown_id,
        entry.account_holder_name,
        entry.trace_no,
    )
