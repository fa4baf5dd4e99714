"""Holds in the database: placed and ended by its functions, each end with its proof."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from types import SimpleNamespace
from typing import Any, NamedTuple

import orjson
import sqlalchemy as sa
from asyncpg import Connection
from sqlalchemy.dialects.postgresql import JSONB

from services.chassis.calls.auth import current_principal
from services.chassis.data.aggregates import read_fields
from services.chassis.data.due import Due
from services.chassis.data.locks import lock_name
from services.chassis.data.reach import is_mine
from services.chassis.data.rows import build_values_table, list_by_column
from services.chassis.data.seals import Seals, check_read_row, check_row, keep_sealed, seal_of, seals_of
from services.chassis.data.sql import Row
from services.chassis.data.transaction import Tx
from services.escrow.domain.account import Status
from services.escrow.domain.chart import LedgerAccount, LedgerAccountKind
from services.escrow.domain.holds import Hold, HoldStatus
from services.escrow.tables import (
    escrow_accounts,
    holds,
)

_TIME = sa.TIMESTAMP(timezone=True)
_FREED_MAX = 1_000  # looked at: those of one person on one ledger account, of an hour
_PLACE = sa.text(
    "SELECT * FROM place_hold(:now, :org_id, :escrow_account_id, :hold_id, :kind, :party_id, :amount_minor,"
    " :currency, :reason, :description, :transaction_id, :expires_at, :created_by, :external_id, :metadata,"
    " :end_digest, :seal, :replaces_hold_id)"
).bindparams(
    sa.bindparam("now", type_=_TIME), sa.bindparam("expires_at", type_=_TIME), sa.bindparam("metadata", type_=JSONB)
)
_RESOLVE = sa.text(
    "SELECT * FROM resolve_hold(:now, :org_id, :escrow_account_id, :hold_id, :status, :moved_minor,"
    " :when_frozen, :resolved_by, :proof)"
).bindparams(sa.bindparam("now", type_=_TIME))


class HoldVerdict(NamedTuple):
    """What the hold functions decided; see migrations/sql/holds.sql."""

    outcome: str
    subject: str
    available_minor: int


async def insert_hold(tx: Tx, escrow_account_id: str, hold_id: str, now: datetime, **values: Any) -> HoldVerdict:
    place = {"org_id": current_principal().org_id, "escrow_account_id": escrow_account_id, "hold_id": hold_id}
    values |= place | {"end_digest": seals_of(tx).digest_proof(holds.name, *place.values())}
    seal = seal_of(tx, holds, {**values, "created_at": now})
    return HoldVerdict(*(await tx.execute(_PLACE, {**values, "now": now, "seal": seal})).one())


async def lock_open_count(tx: Tx, escrow_account_id: str, person: str) -> int:
    """How many holds of the person are open in the escrow account; until the end of the transaction none is added.

    Without what somebody wrote past this service: it keeps nobody from holding.
    """
    await lock_name(tx, "holds", escrow_account_id, person)
    table = holds.c
    mine = (table.escrow_account_id == escrow_account_id, table.created_by == person, table.status == HoldStatus.PLACED)
    return len(keep_sealed(tx, holds, await tx.execute(sa.select(holds).where(is_mine(holds), *mine))))


async def was_freed(tx: Tx, escrow_account_id: str, account: LedgerAccount, person: str, since: datetime) -> bool:
    """Whether others have ended a hold of this person on this ledger account lately."""
    table = holds.c
    freed = sa.select(holds).where(
        is_mine(holds),
        table.escrow_account_id == escrow_account_id,
        table.kind == account.kind.value,
        table.party_id == account.party_id,
        table.created_by == person,
        table.status.in_((HoldStatus.RELEASED, HoldStatus.CAPTURED)),
        table.resolved_by != person,
        table.resolved_at > since,
    )
    return bool(keep_sealed(tx, holds, await tx.execute(freed.limit(_FREED_MAX))))


async def save_end_of_hold(
    tx: Tx,
    escrow_account_id: str,
    hold_id: str,
    status: HoldStatus,
    now: datetime,
    resolved_by: str,
    *,
    moved_minor: int = 0,
    when_frozen: bool = False,
) -> HoldVerdict:
    values = {
        "now": now,
        "org_id": current_principal().org_id,
        "escrow_account_id": escrow_account_id,
        "hold_id": hold_id,
        "status": status,
        "moved_minor": moved_minor,
        "when_frozen": when_frozen,
        "resolved_by": resolved_by,
        "proof": await _prove_hold(tx, escrow_account_id, hold_id),
    }
    return HoldVerdict(*(await tx.execute(_RESOLVE, values)).one())


async def save_overrides(
    tx: Tx, taken: Sequence[tuple[Hold, int]], now: datetime, returned_transaction_id: str
) -> list[HoldVerdict]:
    """Ends holds of one escrow account that a return takes, each with how much of it: one statement for all.

    Args:
        taken: The holds as they were read with their seals.
    """
    principal = current_principal()
    given = build_values_table(("hold_id", sa.Text()), ("moved_minor", sa.BigInteger()), ("proof", sa.LargeBinary()))
    rows = [
        {"hold_id": hold.hold_id, "moved_minor": moved_minor, "proof": _prove(tx, hold)} for hold, moved_minor in taken
    ]
    each, one = given.c, taken[0][0]
    ended = (
        sa.func.resolve_hold(
            *(
                sa.literal(now, _TIME),
                one.org_id,
                one.escrow_account_id,
                each.hold_id,
                HoldStatus.OVERRIDDEN,
                each.moved_minor,
            ),
            *(sa.true(), principal.person, each.proof, returned_transaction_id),
        )
        .table_valued("verdict", "subject", "available")
        .lateral()
    )
    query = sa.select(each.hold_id, ended).join_from(given, ended, sa.true())
    answered = await tx.execute(query, list_by_column(list(rows[0]), rows))
    verdicts = {hold_id: HoldVerdict(*verdict) for hold_id, *verdict in answered}
    return [verdicts[hold.hold_id] for hold, _ in taken]


async def list_holds(tx: Tx, escrow_account_id: str, hold_ids: Sequence[str]) -> list[Hold]:
    """These holds, in the order given. Raises: NotSealed."""
    named = sa.and_(holds.c.escrow_account_id == escrow_account_id, holds.c.hold_id.in_(hold_ids))
    found = await tx.execute(select_holds_with_account().where(is_mine(holds), named))
    read = {row.hold_id: read_hold(check_row(tx, holds, row)) for row in found}
    return [read[hold_id] for hold_id in hold_ids]


async def save_expiry_of_hold(tx: Tx, escrow_account_id: str, hold_id: str, at: datetime) -> bool:
    """Lets an open hold end by itself at a time; False if it is not open."""
    org_id, proof = current_principal().org_id, await _prove_hold(tx, escrow_account_id, hold_id)
    call = sa.select(sa.func.let_hold_expire(org_id, escrow_account_id, hold_id, sa.literal(at, _TIME), proof))
    return bool(await tx.scalar(call))


async def _prove_hold(tx: Tx, escrow_account_id: str, hold_id: str) -> bytes:
    """What the database asks of who ends the hold; of one that is not there, anything. Raises: NotSealed."""
    hold = await find_hold(tx, escrow_account_id, hold_id)
    return b"" if hold is None else _prove(tx, hold)


def _prove(tx: Tx, hold: Hold) -> bytes:
    return seals_of(tx).prove(hold.end_digest, holds.name, hold.org_id, hold.escrow_account_id, hold.hold_id)


def read_hold(row: Row) -> Hold:
    """From a row of `select_holds_with_account`."""
    return read_fields(
        Hold,
        row,
        ledger_account=LedgerAccount(LedgerAccountKind(row.kind), row.party_id),
        status=HoldStatus(row.status),
        escrow_account_status=Status(row.escrow_account_status),
    )


async def find_hold(tx: Tx, escrow_account_id: str, hold_id: str) -> Hold | None:
    """Raises: NotSealed: somebody else placed it."""
    row = (await tx.execute(_FIND, {"escrow_account_id": escrow_account_id, "hold_id": hold_id})).one_or_none()
    return None if row is None else read_hold(check_row(tx, holds, row))


async def list_holds_of_persons(
    tx: Tx, escrow_account_id: str, accounts: Iterable[LedgerAccount], transaction_id: str | None = None
) -> dict[LedgerAccount, list[Hold]]:
    """Open holds that protect no transaction, so that a person placed them; the last placed first.

    Args:
        transaction_id: Those that protect this one are listed, too.

    Raises:
        NotSealed
    """
    found: dict[LedgerAccount, list[Hold]] = defaultdict(list)
    table = holds.c
    query = select_holds_with_account().where(
        is_mine(holds),
        table.escrow_account_id == escrow_account_id,
        table.status == HoldStatus.PLACED,
        sa.or_(table.transaction_id.is_(None), table.transaction_id == transaction_id),
        sa.tuple_(table.kind, table.party_id).in_([(each.kind.value, each.party_id) for each in accounts]),
    )
    newest_first = query.order_by(table.created_at.desc(), table.hold_id.desc())
    for row in await tx.execute(newest_first):
        hold = read_hold(check_row(tx, holds, row))
        found[hold.ledger_account].append(hold)
    return found


async def check_holds_on(tx: Tx, escrow_account_id: str, accounts: Iterable[LedgerAccount]) -> None:
    """`check_open_holds` on ledger accounts of one escrow account of the caller's."""
    place = current_principal().org_id, escrow_account_id
    places = [(*place, account.kind.value, account.party_id) for account in accounts]
    await check_open_holds(tx.driver, seals_of(tx), places)


async def check_open_holds(connection: Connection, seals: Seals, places: Sequence[tuple[str, str, str, str]]) -> None:
    """Returns if this service placed whatever holds money now on ledger accounts, given by their keys.

    Whoever decides that too little is available asks first: what somebody else holds is no reason.

    Raises: NotSealed
    """
    await _check_holds(connection, seals, _OPEN_ON, places)


async def check_all_open_holds(connection: Connection, seals: Seals, places: Sequence[tuple[str, str]]) -> None:
    """`check_open_holds` on all ledger accounts of whole escrow accounts."""
    await _check_holds(connection, seals, _OPEN_IN, places)


async def _check_holds(connection: Connection, seals: Seals, query: str, places: Sequence[tuple[str, ...]]) -> None:
    if places:
        for row in await connection.fetch(query, *map(list, zip(*places, strict=True))):
            read = SimpleNamespace(**dict(row) | {"metadata": orjson.loads(row["metadata_text"])})
            check_read_row(seals, holds, read)


_OPEN_ON = """
SELECT h.*, h.metadata::text AS metadata_text
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS a (org_id, escrow_account_id, kind, party_id)
JOIN holds h USING (org_id, escrow_account_id, kind, party_id)
WHERE h.status = 'PLACED'
"""
_OPEN_IN = """
SELECT h.*, h.metadata::text AS metadata_text
FROM unnest($1::text[], $2::text[]) AS a (org_id, escrow_account_id) JOIN holds h USING (org_id, escrow_account_id)
WHERE h.status = 'PLACED'
"""


def select_holds_with_account() -> sa.Select[Any]:
    """Holds, each with the currency and the status of its escrow account."""
    escrow = escrow_accounts.c
    return sa.select(
        holds,
        escrow.currency,
        escrow.status.label("escrow_account_status"),
        escrow.entry_sequence.label("escrow_account_entries"),
    ).join_from(
        holds,
        escrow_accounts,
        sa.and_(
            escrow_accounts.c.org_id == holds.c.org_id,
            escrow_accounts.c.escrow_account_id == holds.c.escrow_account_id,
        ),
    )


_FIND = select_holds_with_account().where(
    is_mine(holds),
    holds.c.escrow_account_id == sa.bindparam("escrow_account_id"),
    holds.c.hold_id == sa.bindparam("hold_id"),
)


def _is_in_frozen_account() -> sa.ColumnElement[bool]:
    escrow = escrow_accounts.c
    same = sa.and_(escrow.org_id == holds.c.org_id, escrow.escrow_account_id == holds.c.escrow_account_id)
    return sa.exists().where(same, escrow.status == "FROZEN")


# Open holds whose time ran out. Those of frozen escrow accounts wait.
EXPIRED_HOLDS = Due(
    holds, sa.and_(holds.c.status == HoldStatus.PLACED, sa.not_(_is_in_frozen_account())), holds.c.expires_at
)
