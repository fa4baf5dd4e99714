"""What is known of each contribution, one row each: the newest report of transactions, and what the book has of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, fields

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.chassis.calls.auth import current_principal
from services.chassis.data.reach import is_mine
from services.chassis.data.seals import check_rows, seal_of
from services.chassis.data.transaction import Tx
from services.distributions.tables import contributions, investments


@dataclass(frozen=True, slots=True)
class Contribution:
    """The report and the book come in any order, so each says what it knows.

    Args:
        amount_minor: By the report; 0 before there is one.
        reported_version: Of the transaction, when it was reported; 0 before.
        counted: Past its return risk, and not come back.
        on_its_way: A bank had it, and has not told its end.
        booked_minor: What the book has put on ledger accounts of its party, less what it took from there again.
        came_back: The book has its return: no bank takes it back once more.
        version: Of the row: each time it is saved has a higher one, so that nobody puts back what it said before.
    """

    transaction_id: str
    investment_id: str
    amount_minor: int = 0
    reported_version: int = 0
    counted: bool = False
    on_its_way: bool = False
    booked_minor: int = 0
    came_back: bool = False
    version: int = 0

    @property
    def at_risk_minor(self) -> int:
        """What of it is in the book, and a bank may still take back."""
        return 0 if self.counted or self.came_back else max(0, self.booked_minor)

    @property
    def on_its_way_minor(self) -> int:
        return self.amount_minor if self.on_its_way else 0


async def lock_contributions(tx: Tx, transaction_ids: Collection[str]) -> dict[str, Contribution]:
    """Those of the transactions that are known to be contributions, by transaction. Raises: NotSealed."""
    return await _lock(tx, contributions.c.transaction_id.in_(transaction_ids)) if transaction_ids else {}


async def lock_contributions_of(tx: Tx, offering_id: str) -> dict[str, Contribution]:
    """All to investments of the offering, by transaction. Raises: NotSealed."""
    of_offering = sa.select(investments.c.investment_id).where(
        is_mine(investments), investments.c.offering_id == offering_id
    )
    return await _lock(tx, contributions.c.investment_id.in_(of_offering))


async def _lock(tx: Tx, condition: sa.ColumnElement[bool]) -> dict[str, Contribution]:
    query = sa.select(contributions).where(is_mine(contributions), condition)
    rows = await tx.execute(query.order_by(contributions.c.transaction_id).with_for_update(key_share=True))
    found = (
        Contribution(*(getattr(row, each.name) for each in _FIELDS)) for row in check_rows(tx, contributions, rows)
    )
    return {each.transaction_id: each for each in found}


async def save_contributions(tx: Tx, changed: Iterable[Contribution]) -> None:
    org_id = current_principal().org_id
    rows = [{"org_id": org_id, **asdict(each), "version": each.version + 1} for each in changed]
    if rows:
        await tx.execute(_KEEPING, [{**row, "seal": seal_of(tx, contributions, row)} for row in rows])


def _build_keeping() -> pg.Insert:
    row = pg.insert(contributions)
    known = {each.name: row.excluded[each.name] for each in _FIELDS[2:]}
    return row.on_conflict_do_update(
        index_elements=["org_id", "transaction_id"], set_=known | {"seal": row.excluded.seal}
    )


_FIELDS = fields(Contribution)
_KEEPING = _build_keeping()
