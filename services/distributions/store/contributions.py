"""What transactions reported on contributions: one row each, the newest report alone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, fields

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.chassis.calls.auth import current_principal
from services.chassis.data.reach import is_mine
from services.chassis.data.seals import check_row, check_rows, seal_of
from services.chassis.data.transaction import Tx
from services.distributions.tables import contributions


@dataclass(frozen=True, slots=True)
class Contribution:
    transaction_id: str
    investment_id: str
    amount_minor: int
    version: int  # of the transaction, when it was reported
    counted: bool  # past its return risk, and not come back
    on_its_way: bool  # a bank had it, and has not told its end

    @property
    def counted_minor(self) -> int:
        return self.amount_minor if self.counted else 0

    @property
    def on_its_way_minor(self) -> int:
        return self.amount_minor if self.on_its_way else 0


async def lock_contribution(tx: Tx, transaction_id: str) -> Contribution | None:
    """Locked. Raises: NotSealed."""
    row = (await tx.execute(_LOCKING, {"of_transaction": transaction_id})).one_or_none()
    if row is None:
        return None
    check_row(tx, contributions, row)
    return Contribution(*(getattr(row, each.name) for each in fields(Contribution)))


_LOCKING = (
    sa.select(contributions)
    .where(is_mine(contributions), contributions.c.transaction_id == sa.bindparam("of_transaction"))
    .with_for_update(key_share=True)
)


async def save_contribution(tx: Tx, contribution: Contribution) -> None:
    """Keeps the report in place of an older one: what the transaction moves is the same in both."""
    values = {"org_id": current_principal().org_id, **asdict(contribution)}
    await tx.execute(_KEEPING, {**values, "seal": seal_of(tx, contributions, values)})


def _build_keeping() -> pg.Insert:
    row = pg.insert(contributions)
    report = {name: row.excluded[name] for name in ("version", "counted", "on_its_way", "seal")}
    return row.on_conflict_do_update(index_elements=["org_id", "transaction_id"], set_=report)


_KEEPING = _build_keeping()


async def list_contribution_ids(tx: Tx, transaction_ids: Collection[str]) -> set[str]:
    """Those of the transactions that are known to be contributions. Raises: NotSealed."""
    if not transaction_ids:
        return set()
    query = sa.select(contributions).where(is_mine(contributions), contributions.c.transaction_id.in_(transaction_ids))
    return {row.transaction_id for row in check_rows(tx, contributions, await tx.execute(query))}
