"""The messages of a restored service's own stream that a person had it pass over: how many, by whom and why.

They are only added, sealed, and under ids that only the service can foretell: so whether a person has decided about a
key, or about what the stream has lost, is one row, whatever a login adds beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from services.chassis.data.database import Database, read_database_time
from services.chassis.data.readable import iterate_sealed
from services.chassis.data.restores import COUNTED_MAX
from services.chassis.data.seals import keep_sealed, seal_of, seals_of
from services.chassis.data.tables import passed_messages
from services.chassis.data.transaction import Tx
from services.chassis.values.restore import Unread

_c = passed_messages.c


class Passed(NamedTuple):
    """Some messages that were passed over, or a decision about a key.

    Args:
        about: What it is one of, beside the incarnation. There is one row of each.
        kid: As `Unread` has it.
        message_count: 0 where it is about a key: what it signed is counted as it is met.
    """

    about: tuple[str | int, ...]
    kid: str
    person: str
    first: int = 0
    last: int = 0
    message_count: int = 0


def name_key(kid: str) -> tuple[str | int, ...]:
    """What `Passed.about` is of the decision about a key, or about all that are not known."""
    return "key", kid


async def find_passed(tx: Tx, of_incarnation: str, about: Sequence[str | int]) -> str | None:
    """Who decided that; None where nobody has."""
    found = sa.select(passed_messages).where(_c.pass_id.in_(_list_ids(tx, of_incarnation, about)))
    rows = keep_sealed(tx, passed_messages, await tx.execute(found))
    return rows[0].person if rows else None


async def note_passed(tx: Tx, of_incarnation: str, passed: Sequence[Passed]) -> None:
    """Keeps them. One that is there stays as it is."""
    if not passed:
        return
    passed_at = await read_database_time(tx)
    for one in passed:
        values: dict[str, Any] = {
            "pass_id": _list_ids(tx, of_incarnation, one.about)[0],
            "incarnation": of_incarnation,
            "kid": one.kid,
            "first_sequence": one.first,
            "last_sequence": one.last,
            "message_count": one.message_count,
            "person": one.person,
            "passed_at": passed_at,
        }
        row = postgresql.insert(passed_messages).values(**values, seal=seal_of(tx, passed_messages, values))
        await tx.execute(row.on_conflict_do_nothing())


async def count_unread(tx: Tx, of_incarnation: str) -> int:
    """How many messages were passed over, by no more rows than COUNTED_MAX; what a login made up is among them."""
    first = sa.select(_c.message_count).where(_c.incarnation == of_incarnation).limit(COUNTED_MAX).subquery()
    return int(await tx.scalar(sa.select(sa.func.sum(first.c.message_count))) or 0)


async def list_unread(database: Database, of_incarnation: str) -> list[Unread]:
    """All that were passed over."""
    pages = iterate_sealed(database, passed_messages, _c.incarnation == of_incarnation)
    return [Unread(row.kid, row.person, row.message_count) async for page in pages for row in page]


def _list_ids(tx: Tx, of_incarnation: str, about: Sequence[str | int]) -> list[str]:
    return [code.hex() for code in seals_of(tx).list_codes(passed_messages.name, of_incarnation, *about)]
