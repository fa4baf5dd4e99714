"""What persons posted by hand in an escrow account."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from services.chassis.data.reach import is_mine
from services.chassis.data.sql import bound_sum
from services.chassis.data.transaction import Tx
from services.escrow.domain.posted_by_hand import PostedByHand
from services.escrow.tables import BY_HAND, escrow_accounts, journal_entries, ledger_entries

_NAMED_MAX = 10
_PERSONS_MAX = 100
_by_hand = sa.select(journal_entries).where(sa.text(BY_HAND)).subquery("by_hand")
_head, _leg = _by_hand.c, ledger_entries.c


async def read_posted_by_hand(
    tx: Tx, escrow_account_id: str, since: datetime, deadline: datetime | None
) -> PostedByHand:
    """
    Args:
        since: When the first of them was booked.
        deadline: What was booked after it is summed as well.
    """
    here = sa.select(sa.literal(escrow_account_id, sa.Text))
    entries = select_posted_by_hand(here, since).subquery("entries")
    e = entries.c
    largest = sa.select(e.journal_entry_id, e.minor).order_by(e.minor.desc(), e.journal_entry_id).limit(_NAMED_MAX)
    late = sa.false() if deadline is None else e.created_at > deadline
    by_person = (
        sa.select(
            *(e.created_by, bound_sum(sa.func.sum(e.minor)).label("minor"), sa.func.max(e.created_at).label("last_at")),
            bound_sum(sa.func.sum(e.minor).filter(late)).label("late_minor"),
        )
        .group_by(e.created_by)
        .order_by(sa.func.sum(e.minor).desc())
        .limit(_PERSONS_MAX)
    )
    persons = (await tx.execute(by_person)).all()
    return PostedByHand(
        largest=[(row.journal_entry_id, int(row.minor)) for row in await tx.execute(largest)],
        by_person={row.created_by: int(row.minor) for row in persons},
        late_minor=sum(int(row.late_minor) for row in persons),
        last_at=max((row.last_at for row in persons), default=None),
    )


def select_posted_by_hand(escrow_account_ids: sa.Select[Any], since: datetime) -> sa.Select[Any]:
    """The entries of these escrow accounts, each with how much it moved; an entry is never edited.

    Whatever ledger accounts it was between: money that is paid out, cash that covers it, or a debt that keeps from it.
    """
    legs = (
        sa.select(sa.func.sum(_leg.amount_minor))
        .where(_leg.escrow_no == _head.escrow_no, _leg.journal_sequence == _head.sequence, _leg.debit, ~_leg.pending)
        .correlate(_by_hand)
        .scalar_subquery()
    )
    entries = (
        sa.select(
            *(escrow_accounts.c.escrow_account_id, _head.journal_entry_id, _head.created_by, _head.created_at),
            bound_sum(legs).label("minor"),
        )
        .select_from(escrow_accounts.join(_by_hand, _head.escrow_no == escrow_accounts.c.escrow_no))
        .where(
            *(is_mine(escrow_accounts), escrow_accounts.c.escrow_account_id.in_(escrow_account_ids)),
            _head.created_at >= since,
        )
    )
    found = entries.subquery("by_hand_entries")
    return sa.select(found).where(found.c.minor > 0)  # what was only on its way moved nothing
