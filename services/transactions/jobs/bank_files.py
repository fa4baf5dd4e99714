"""How the files of a bank are applied: each thing that one says by itself, once, as soon as it can be.

What is about a row that somebody altered in the database cannot be applied, and nothing else will ever tell of it. So
whose it is is told, and the file is read again until the row is as this service wrote it, or a person has seen to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from services.chassis.data.seals import NotSealed
from services.transactions.commands.exceptions import report_apart
from services.transactions.dependencies import Dependencies
from services.transactions.domain.exceptions import About, ExceptionKind
from services.transactions.providers.ach_file.folders import READING

T = TypeVar("T")


async def apply_each(
    dependencies: Dependencies,
    name: str,
    content: bytes,
    said: Sequence[T],
    apply: Callable[[T], Awaitable[bool]],
) -> str:
    """The folder in which the file is kept: READING where some of it waits.

    What was applied is not applied again while the rest waits. Where this process ends meanwhile, the whole is read
    again, which changes nothing: it is told again.

    Args:
        said: By the file, always the same and in the same order.
        apply: Whether it was about something of ours, and is applied. Raises: NotSealed: it waits.
    """
    key, waits = f"{name} {hashlib.sha256(content).hexdigest()}", False
    applied = dependencies.applied.setdefault(key, {})
    for place, each in enumerate(said):
        if place in applied:
            continue
        try:
            applied[place] = await apply(each)
        except NotSealed:  # in the log, and told
            waits = True
    if waits:
        return READING
    del dependencies.applied[key]
    return "processed" if all(applied.values()) else "questions"


async def tell_waiting(dependencies: Dependencies, said: str, altered: Sequence[tuple[str, About, NotSealed]]) -> None:
    """Each time that it is tried in vain, to whose it is: so it is open as long as nothing comes of it.

    Args:
        said: By the bank, in words.
        altered: Whose it is or may be, what it is about, and the row for which it cannot be applied.

    Raises: NotSealed: there is one.
    """
    for org_id, about, error in altered:
        cause = f"The bank says {said}. It is not applied yet, for somebody altered the row {error.row}."
        await report_apart(dependencies, org_id, ExceptionKind.ACH_FILE_NOT_APPLIED, about, cause)
    for _, _, error in altered:
        raise error
