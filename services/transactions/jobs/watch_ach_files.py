"""Looks at what lies where the bank fetches its files: each must be one that we released, just as it was released.

Whoever writes into that folder could otherwise have money paid to anybody. What is none of ours is taken out of the
bank's way, and told; it is a look once a minute, so the bank's totals are compared as well before it pays.

A file is fetched once. What is found gone is remembered, and so is what was taken out of the way: only that may lie
there again, unless the bank has rejected it. That a file of ours was taken away while a login had altered its row, so
that nobody could remember it, says the folder in which it lies.

Whatever lies there is looked at by itself, whatever its name: only what is being written, and what was taken away, lies
in two folders of ours beside it. What cannot be looked at is not ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.process.telemetry import log
from services.transactions.commands.exceptions import report_apart
from services.transactions.dependencies import NAME, Dependencies
from services.transactions.domain.ach import AchFile, FileStatus, find_file_id, name_file
from services.transactions.domain.exceptions import About, ExceptionKind
from services.transactions.jobs.apply_acknowledgements import HEARD_WITHIN
from services.transactions.providers.ach_file.acknowledgements import AcknowledgementConfig
from services.transactions.providers.ach_file.folders import (
    HELD,
    STAGING,
    Folder,
    find_whole_name,
    open_folder,
    spell_name,
)
from services.transactions.store import ach
from services.transactions.store.exceptions import was_reported
from services.transactions.vault import Vault

LIES_TOO_LONG = timedelta(hours=4)


class _Found(NamedTuple):
    """
    Args:
        raw_name: As it lies there.
        digest: As the vault makes it; empty of what has no name of ours, is no file, too large to be one of ours, or
            cannot be read.
    """

    raw_name: str
    is_staged: bool
    digest: str = ""

    @property
    def name(self) -> str:
        return f"{STAGING}/{spell_name(self.raw_name)}" if self.is_staged else spell_name(self.raw_name)

    @property
    def ach_file_id(self) -> str:
        """Of the file of ours that it would be; empty where it would be none."""
        return find_file_id(spell_name(self.raw_name))


_Made = Mapping[str, tuple[str, AchFile]]  # by id: whose it is, and the file


async def watch_ach_files(dependencies: Dependencies) -> int:
    """Takes away what is none of ours; how many files. Raises: what went wrong with one, once all were looked at."""
    config = dependencies.providers.ach_files
    if config is None:
        return 0
    outbound, now = config.outbound, dependencies.clock.now()
    lain = await ach.list_not_fetched(dependencies.database)  # before the look: each of them lay there
    listed = await asyncio.to_thread(_list_all, outbound)
    ids = sorted({each.ach_file_id for each in listed} - {""})
    rows, altered = await ach.list_anybodys_files(dependencies.database, ids)
    made = {file.ach_file_id: (org_id, file) for org_id, file in rows}
    found = await asyncio.to_thread(_read_named_as_ours, dependencies.vault, outbound, listed, made)
    strange = {each for each in found if not _is_ours(each, made, now)}
    gone = {each for each in strange if await asyncio.to_thread(_is_gone, outbound, each)}  # it was moved on meanwhile
    foreign = [each for each in found if each in strange and each not in gone]
    faults: list[Exception] = []
    for each in foreign:  # first, however many there are to tell: so the bank does not fetch it
        await _try(faults, each.name, asyncio.to_thread(_hold, outbound, each))
    for each in foreign:
        if _lies_there_still(each, made):
            log.info("ach_file_withdrawn", file=each.name)
            continue
        cause, owner = _find_cause(each, made, now), _find_owner(each, made)
        if each.ach_file_id in altered:
            cause, owner = "What the database says of it is not what we wrote.", altered[each.ach_file_id]
        await _try(faults, each.name, _report(dependencies, owner, ExceptionKind.ACH_FILE_FOREIGN, each, cause))
    there = {each.raw_name: each in strange for each in found if not each.is_staged and each not in gone}
    for org_id, file in lain:
        name = name_file(org_id, file)
        await _try(faults, name, _note_where(dependencies, org_id, file, outbound, there.get(name), now))
    for each in found:
        if not each.is_staged and each not in strange and _lies_too_long(each, made, now):
            cause = "Nobody has taken it to the bank for hours."
            owner = _find_owner(each, made)
            await _try(faults, each.name, _report(dependencies, owner, ExceptionKind.ACH_FILE_NOT_FETCHED, each, cause))
    await _tell_unacknowledged(dependencies, config.acknowledgements, faults)
    if faults:
        raise faults[0]
    return len(foreign)


async def _try(faults: list[Exception], name: str, work: Awaitable[object]) -> None:
    """What is wrong with one keeps no other from being looked at."""
    try:
        await work
    except Exception as fault:
        log.exception("ach_file_failed", file=name)
        faults.append(fault)


async def _tell_unacknowledged(
    dependencies: Dependencies, config: AcknowledgementConfig | None, faults: list[Exception]
) -> None:
    """What left so long ago that the bank ought to have said whether it accepts it: nothing of it has settled.

    Where the configuration expects no acknowledgement any more, what left before waits for one all the same.
    """
    now, wait = dependencies.clock.now(), timedelta(0) if config is None else config.wait
    for org_id, file in await ach.list_acknowledgeable(dependencies.database, (now - HEARD_WITHIN).date()):
        since = file.lies_there_since
        if file.status is FileStatus.LEFT and since is not None and since + wait < now:
            name, cause = name_file(org_id, file), f"It left at {since:%Y-%m-%d %H:%M} UTC."
            kind = ExceptionKind.ACH_FILE_NOT_ACKNOWLEDGED
            await _try(faults, name, report_apart(dependencies, org_id, kind, About(file_name=name), cause))


def _lies_too_long(found: _Found, made: _Made, now: datetime) -> bool:
    _, file = made[found.ach_file_id]
    return file.lies_there_since is not None and file.lies_there_since < now - LIES_TOO_LONG


def _is_named_as_ours(found: _Found, made: _Made) -> bool:
    org_id, file = made.get(found.ach_file_id, ("", None))
    name = spell_name(found.raw_name)
    whole_name = find_whole_name(name) if found.is_staged else None
    return file is not None and (whole_name or name) == name_file(org_id, file)


def _is_ours(found: _Found, made: _Made, now: datetime) -> bool:
    if not _is_named_as_ours(found, made):
        return False
    _, file = made[found.ach_file_id]
    is_part = found.is_staged and find_whole_name(spell_name(found.raw_name)) is not None
    if found.is_staged and file.status is FileStatus.MADE:  # it is being written
        return True
    if is_part or (found.is_staged and file.left_at is not None):
        return False
    return file.digest == found.digest and not file.is_fetched(now)


def _lies_there_still(found: _Found, made: _Made) -> bool:
    """Whether it is what the bank rejected, and was never gone: nobody laid it there again."""
    org_id, file = made.get(found.ach_file_id, ("", None))
    if file is None or file.status is not FileStatus.REJECTED or file.fetched_at is not None:
        return False
    return (found.name, found.digest) == (name_file(org_id, file), file.digest)


def _find_cause(found: _Found, made: _Made, now: datetime) -> str:
    _, file = made.get(found.ach_file_id, ("", None))
    if file is None or file.digest is None or not _is_named_as_ours(found, made):
        return "We have released no file of this name."
    if found.is_staged:
        return "It was released before, and is nothing that is being written."
    if file.status is FileStatus.REJECTED:
        return "The bank rejected it, and what is in it has failed: it would be paid all the same."
    if file.is_fetched(now):
        return "It was fetched before, or left days ago: the bank would pay it twice."
    return "It is not as we released it."


def _find_owner(found: _Found, made: _Made) -> str | None:
    """Whose file it is, or would be; None of nobody's."""
    owner, _ = made.get(found.ach_file_id, (None, None))
    return owner


async def _report(
    dependencies: Dependencies, owner: str | None, kind: ExceptionKind, found: _Found, cause: str
) -> None:
    await report_apart(dependencies, owner, kind, About(file_name=found.name), cause, ach_file_id=found.ach_file_id)


async def _note_where(
    dependencies: Dependencies, org_id: str, file: AchFile, outbound: Path, is_foreign: bool | None, now: datetime
) -> None:
    """Remembers where a file of ours is that has left. What lies in our folder for what is held says nothing of that:
    whoever writes beside it lays there what they like.

    Args:
        is_foreign: Whether what lies there in its place is not ours; None where nothing does.
    """
    name = name_file(org_id, file)
    if is_foreign is None:
        # Fetched; one that was taken out of the bank's way waits for that, however long.
        is_taken = file.held_at is None and await asyncio.to_thread(_is_gone, outbound, _Found(name, False))
        seen = replace(file, fetched_at=now) if is_taken else file
    elif is_foreign:
        seen = file if file.is_fetched(now) else replace(file, held_at=file.held_at or now)
    else:
        seen = file if file.held_at is None else replace(file, held_at=None, put_back_at=now)
    if seen == file:
        return
    with acting_as(service_principal(NAME, org_id)):
        async with dependencies.database.begin() as tx:
            locked = await ach.FILES.lock_known(tx, file.ach_file_id)
            if locked.version != file.version:  # another process has looked
                return
            if seen.fetched_at is not None and file.status is not FileStatus.REJECTED:
                kind = ExceptionKind.ACH_FILE_FOREIGN
                if await was_reported(tx, kind, name, since=file.updated_at):
                    # It was taken away while its row could not say so.
                    seen = replace(file, held_at=now)
            await ach.FILES.save(tx, locked, seen, dependencies.clock.now())


def _list_all(outbound: Path) -> list[_Found]:
    """All that lies there, by name. Raises: OSError: of the folder itself."""
    found = []
    with open_folder(outbound) as shared:
        for name in shared.list_names():
            if name == HELD and shared.is_folder(name):
                continue
            if name == STAGING and shared.is_folder(name):
                with suppress(OSError), shared.open_own(STAGING) as staging:
                    found += [_Found(each, True) for each in staging.list_names()]
                    continue
            found.append(_Found(name, False))
    return found


def _read_named_as_ours(vault: Vault, outbound: Path, listed: Sequence[_Found], made: _Made) -> list[_Found]:
    """Without those that were fetched or moved meanwhile. What has another name is not read: it would cost time, in
    which what is foreign lies before the bank.
    """
    found = []
    for each in listed:
        with suppress(FileNotFoundError):
            content = _read(outbound, each) if _is_named_as_ours(each, made) else None
            found.append(each if content is None else each._replace(digest=vault.blind_file(content)))
    return found


def _read(outbound: Path, found: _Found) -> bytes | None:
    with _open_where_it_lies(outbound, found) as folder:
        return folder.read_whole(found.raw_name)


def _is_gone(outbound: Path, found: _Found) -> bool:
    """Whether it is known to be."""
    with _open_where_it_lies(outbound, found) as folder:
        return folder.is_gone(found.raw_name)


def _hold(outbound: Path, found: _Found) -> None:
    """Whatever stood in the place of our folder is set aside, and found at the next look."""
    with open_folder(outbound) as shared, shared.open_own(HELD) as held:
        if found == _Found(HELD, False):
            return
        with _open_where_it_lies(outbound, found) as folder:
            folder.put_away(found.raw_name, held)


@contextmanager
def _open_where_it_lies(outbound: Path, found: _Found) -> Iterator[Folder]:
    with open_folder(outbound) as shared:
        if not found.is_staged:
            yield shared
            return
        with shared.open_own(STAGING) as staging:
            yield staging
