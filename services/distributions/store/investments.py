"""Investments: each change is its row, its line of history and its event; and what is summed over many of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import sqlalchemy as sa
from google.protobuf.message import Message
from realco.distributions.v1 import events_pb2 as events

from services.chassis.data.aggregates import Aggregate, list_columns, read_fields
from services.chassis.data.outbox import enqueue_all
from services.chassis.data.reach import is_mine
from services.chassis.data.seals import NotSealed, check_rows, keep_readable
from services.chassis.data.sql import Row
from services.chassis.data.transaction import Tx
from services.chassis.values.failure import read_failure, write_failure
from services.chassis.values.session import Session
from services.distributions.domain.investment import INVESTMENTS_MAX, Investment
from services.distributions.domain.refunds import GivenBack
from services.distributions.domain.sagas import Mandate
from services.distributions.domain.states import INVESTMENT_MOVES, InvestmentStatus
from services.distributions.messages import to_investment
from services.distributions.tables import investments, moves


def _read_investment(row: Row) -> Investment:
    return read_fields(
        Investment,
        row,
        status=InvestmentStatus(row.status),
        refund_mandate=_read_refund_mandate(row),
        refund_failure=read_failure(row.refund_failure),
        earlier_refund_failures=tuple(filter(None, map(read_failure, row.earlier_refund_failures))),
    )


def _read_refund_mandate(row: Row) -> Mandate | None:
    if row.refund_requested_by is None:
        return None
    session = Session(row.refund_signed_in_at, row.refund_api_key_id)
    return Mandate(row.refund_requested_by, session, frozenset(row.refund_makers_and_checkers))


def _list_columns(investment: Investment) -> dict[str, Any]:
    mandate = investment.refund_mandate
    return list_columns(
        investments,
        investment,
        status=investment.status.value,
        refund_requested_by=mandate and mandate.actor,
        refund_signed_in_at=mandate and mandate.session.signed_in_at,
        refund_api_key_id=mandate and mandate.session.api_key_id,
        refund_makers_and_checkers=mandate and sorted(mandate.makers_and_checkers),
        refund_failure=write_failure(investment.refund_failure),
        earlier_refund_failures=list(map(write_failure, investment.earlier_refund_failures)),
        metadata=dict(investment.metadata),
    )


INVESTMENTS = Aggregate(investments, "investment_id", _read_investment, _list_columns, INVESTMENT_MOVES, moves)


async def insert_investment(tx: Tx, investment: Investment) -> None:
    await INVESTMENTS.insert(tx, investment)
    event = events.InvestmentCreated(investment=to_investment(investment))
    await enqueue_all(tx, [event], now=investment.created_at)


async def save_investments(
    tx: Tx,
    changes: Sequence[tuple[Investment, Investment]],
    event: Callable[..., Message],
    now: datetime,
) -> list[Investment]:
    """Writes each investment as it is after its change, and publishes an event for each. The caller has their locks.

    Those that do not change are left out. Raises: IllegalStatusChange.
    """
    changed = [(before, after) for before, after in changes if before != after]
    saved = await INVESTMENTS.save_all(tx, changed, now)
    await enqueue_all(tx, [event(investment=to_investment(each)) for each in saved], now=now)
    return saved


async def lock_investments(tx: Tx, investment_ids: Collection[str]) -> list[Investment]:
    """Those that are there, by id."""
    return await INVESTMENTS.lock_these(tx, investment_ids)


async def lock_investments_of(tx: Tx, offering_id: str) -> list[Investment]:
    """All of the offering, by id."""
    return await INVESTMENTS.lock_all(tx, investments.c.offering_id == offering_id)


async def lock_investments_of_parties(tx: Tx, offering_id: str, party_ids: Collection[str]) -> list[Investment]:
    """All that these parties have in the offering, by id."""
    of_parties = investments.c.party_id.in_(party_ids)
    return await INVESTMENTS.lock_all(tx, investments.c.offering_id == offering_id, of_parties)


async def lock_investment_rows(tx: Tx, offering_id: str) -> None:
    """Takes the locks of all of the offering, by id, for who looks at them more than once."""
    of_offering = (is_mine(investments), investments.c.offering_id == offering_id)
    query = sa.select(investments.c.investment_id).where(*of_offering).order_by(investments.c.investment_id)
    await tx.execute(query.with_for_update(key_share=True))


async def list_investment_rows(tx: Tx, offering_id: str) -> list[Row]:
    """All of the offering, for who needs little of each: a value costs more than its row. Raises: NotSealed."""
    query = INVESTMENTS.select().where(investments.c.offering_id == offering_id)
    return check_rows(tx, investments, await tx.execute(query))


async def find_ended_by_staff(tx: Tx, offering_id: str, party_id: str) -> Investment | None:
    """An investment of the party in the offering that two persons ended, if there is one. Raises: NotSealed."""
    withdrawn = sorted(status.value for status in (InvestmentStatus.CANCELLING, InvestmentStatus.CANCELLED))
    c = investments.c
    query = INVESTMENTS.select().where(
        c.offering_id == offering_id,
        c.party_id == party_id,
        c.status.in_(withdrawn),
        sa.func.jsonb_array_length(c.refund_makers_and_checkers) > 0,
    )
    rows = await tx.execute(query.limit(1))
    found = [INVESTMENTS.read_sealed(tx, row) for row in rows]
    return found[0] if found and found[0].was_ended_by_staff else None


async def count_counted(tx: Tx, offering_id: str, party_id: str, person_id: str, cancelled_since: datetime) -> int:
    """How many of the party in the offering that the person made are not cancelled, or were since then: up to
    INVESTMENTS_MAX.

    Without what somebody wrote past this service: it keeps nobody from investing. Where they are few, so are those.
    """
    of = {"of_offering": offering_id, "of_party": party_id, "of_person": person_id, "since": cancelled_since}
    count: int = (await tx.execute(_COUNTING, of)).scalar_one()
    if count < INVESTMENTS_MAX:
        return count
    found = await tx.execute(_COUNTED, of)
    return len(keep_readable(found, partial(INVESTMENTS.read_sealed, tx)))


_COUNTED: sa.Select[Any] = INVESTMENTS.select().where(
    investments.c.offering_id == sa.bindparam("of_offering"),
    investments.c.party_id == sa.bindparam("of_party"),
    investments.c.created_by == sa.bindparam("of_person"),
    sa.or_(
        investments.c.status != InvestmentStatus.CANCELLED.value,
        investments.c.updated_at > sa.bindparam("since", type_=investments.c.updated_at.type),
    ),
)
_COUNTING = sa.select(sa.func.count()).select_from(
    _COUNTED.with_only_columns(investments.c.investment_id).limit(INVESTMENTS_MAX).subquery()
)


async def lock_investments_with_capital(tx: Tx, offering_id: str, party_id: str) -> list[Investment]:
    """Those of the party that a closing of the offering took money of, by id."""
    c = investments.c
    found = await INVESTMENTS.lock_all(tx, c.offering_id == offering_id, c.party_id == party_id)
    return [each for each in found if each.released_minor > 0]


async def list_given_back(tx: Tx, investment_ids: Collection[str]) -> dict[str, GivenBack]:
    """Of each of them what it says of refunds; none of those of whose party an investment there was altered.

    What persons posted counts for all of the party in the offering: they make up for one another (share_shortfalls).
    """
    if not investment_ids:
        return {}
    asked, theirs = investments.alias("asked"), investments.c
    same = (asked.c.org_id == theirs.org_id, asked.c.offering_id == theirs.offering_id)
    named = sa.exists().where(*same, asked.c.party_id == theirs.party_id, asked.c.investment_id.in_(investment_ids))
    by_party: dict[tuple[str, str], list[Investment]] = defaultdict(list)
    altered = set()
    for row in await tx.execute(INVESTMENTS.select().where(named)):
        try:
            by_party[row.offering_id, row.party_id].append(INVESTMENTS.read_sealed(tx, row))
        except NotSealed:
            altered.add((row.offering_id, row.party_id))
    return {
        each.investment_id: GivenBack(each, any(other.has_entries_by_hand for other in own))
        for of, own in by_party.items()
        if of not in altered
        for each in own
    }


async def list_investments_of(tx: Tx, offering_id: str) -> list[Investment]:
    """All of the offering, by id."""
    return await INVESTMENTS.list_all(tx, investments.c.offering_id == offering_id)


async def list_these_of(tx: Tx, offering_id: str, investment_ids: Collection[str]) -> list[Investment]:
    """Those of them that are in the offering, by id. Raises: NotSealed."""
    of_offering, these = investments.c.offering_id == offering_id, investments.c.investment_id.in_(investment_ids)
    return await INVESTMENTS.list_all(tx, of_offering, these) if investment_ids else []


async def has_investments(tx: Tx, offering_id: str) -> bool:
    found = sa.exists().where(is_mine(investments), investments.c.offering_id == offering_id)
    return bool(await tx.scalar(sa.select(found)))


async def are_all_cancelled(tx: Tx, offering_id: str) -> bool:
    """Whether no investment of the offering is anything else. That none is left is asked of each.

    Raises: NotSealed: also where one only seems to be left.
    """
    mine, cancelled = investments.c.offering_id == offering_id, InvestmentStatus.CANCELLED
    is_left = sa.select(investments).where(is_mine(investments), mine, investments.c.status != cancelled.value)
    if check_rows(tx, investments, await tx.execute(is_left.limit(1))):
        return False
    return all(each.status is cancelled for each in await INVESTMENTS.list_all(tx, mine))


async def list_cancelling_ids(tx: Tx, saga_id: str, count_max: int) -> list[str]:
    """Some of the investments that wait for what the saga asks, by id, without rows that this service did not write."""
    waits = investments.c.cancelling_saga_id == saga_id
    return [each.investment_id for each in await INVESTMENTS.list_first(tx, waits, count_max=count_max)]
