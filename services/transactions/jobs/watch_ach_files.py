"""Looks at what lies where the bank fetches its files: each must be one that we released, just as it was released.

Whoever writes into that folder could otherwise have money paid to anybody. What is none of ours is taken out of the
bank's way, and told; it is a look once a minute, so the bank's totals are compared as well before it pays.

A file is fetched once. What is found gone is remembered, and so is what was taken out of the way: only that may lie
there again.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from services.chassis.calls.auth import acting_as, service_principal
from services.transactions.commands.exceptions import report_apart
from services.transactions.dependencies import NAME, Dependencies
from services.transactions.domain.ach import AchFile
from services.transactions.domain.exceptions import About, ExceptionKind
from services.transactions.providers.ach_file.folders import FILE_BYTES_MAX, name_file, put_away, spell_name
from services.transactions.providers.ach_file.orders import find_desk
from services.transactions.store import ach

FETCHED_WITHIN = timedelta(hours=4)
_ID = re.compile(r"-(achf_[0-9a-z]{26})\.ach")
_HELD = ".held"


async def watch_ach_files(dependencies: Dependencies) -> int:
    """Takes away what is none of ours; how many files."""
    desk = find_desk(dependencies.providers.orders)
    if desk is None:
        return 0
    outbound, now = desk.config.outbound, dependencies.clock.now()
    lain = await ach.list_not_fetched(dependencies.database)  # before the look: each of them lay there
    found = await asyncio.to_thread(_read_files, outbound)
    ids = {name: match[1] for name in found if (match := _ID.search(name)) is not None}
    made = await ach.list_anybodys_files(dependencies.database, sorted(set(ids.values())))
    ours = {name_file(org_id, file): file for org_id, file in made if file.digest is not None}
    owners = {file.ach_file_id: org_id for org_id, file in made}
    foreign = [name for name in sorted(found) if not _is_ours(ours.get(name), found[name], now)]
    for name in foreign:
        about, owner = About(file_name=name), owners.get(ids.get(name, ""))
        cause = _find_cause(ours.get(name), now)
        kind = ExceptionKind.ACH_FILE_FOREIGN
        try:
            await report_apart(dependencies, owner, kind, about, cause, sha256=found[name], ach_file_id=ids.get(name))
        finally:  # whatever becomes of that, the bank does not fetch it
            await asyncio.to_thread(_hold, outbound, name)
    for org_id, file in lain:
        name = name_file(org_id, file)
        if name in foreign and not file.is_fetched(now):
            await _note(dependencies, org_id, file, replace(file, held_at=file.held_at or now))
        elif name in found:
            await _note(dependencies, org_id, file, replace(file, held_at=None))  # put back, as it was
        elif (file.held_at is None or file.is_fetched(now)) and await asyncio.to_thread(_is_gone, outbound / name):
            await _note(dependencies, org_id, file, replace(file, fetched_at=now, held_at=None))
    for name in await asyncio.to_thread(_list_unfetched, outbound):
        about, cause = About(file_name=name), "Nobody has taken it to the bank for hours."
        kind = ExceptionKind.ACH_FILE_NOT_FETCHED
        await report_apart(dependencies, owners.get(ids.get(name, "")), kind, about, cause)
    return len(foreign)


def _is_ours(file: AchFile | None, digest: str, now: datetime) -> bool:
    return file is not None and file.digest == digest and not file.is_fetched(now)


def _find_cause(file: AchFile | None, now: datetime) -> str:
    if file is None:
        return "We have released no file of this name."
    if file.is_fetched(now):
        return "It was fetched before, or left days ago: the bank would pay it twice."
    return "It is not as we released it."


def _is_gone(path: Path) -> bool:
    """Raises: OSError: nobody knows."""
    try:
        path.lstat()
    except FileNotFoundError:
        return True
    return False


async def _note(dependencies: Dependencies, org_id: str, file: AchFile, seen: AchFile) -> None:
    """Remembers where a file of ours is."""
    if seen == file:
        return
    with acting_as(service_principal(NAME, org_id)):
        async with dependencies.database.begin() as tx:
            locked = await ach.FILES.lock_known(tx, file.ach_file_id)
            if locked.version == file.version:  # else another process has looked
                await ach.FILES.save(tx, locked, seen, dependencies.clock.now())


def _list_files(outbound: Path) -> list[Path]:
    """Whatever its name is, but for what is still staged: a bank may fetch it."""
    return [each for each in outbound.iterdir() if not each.name.startswith(".")]


def _read_files(outbound: Path) -> dict[str, str]:
    """The SHA-256 of each file, by its name; of what is no file, or too large to be one of ours, an empty text."""
    found = {}
    for path in _list_files(outbound):
        try:
            whole = path.is_file() and not path.is_symlink() and path.stat().st_size <= FILE_BYTES_MAX
            found[spell_name(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if whole else ""
        except FileNotFoundError:  # it was fetched meanwhile
            continue
    return found


def _hold(outbound: Path, name: str) -> None:
    for path in _list_files(outbound):
        if spell_name(path) == name:
            put_away(path, _HELD)


def _list_unfetched(outbound: Path) -> list[str]:
    """What nobody has taken to the bank for hours: by its day it counts as settled all the same."""
    since = datetime.now(UTC).timestamp() - FETCHED_WITHIN.total_seconds()
    return sorted(spell_name(each) for each in _list_files(outbound) if each.lstat().st_mtime < since)
