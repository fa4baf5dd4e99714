"""In which life of its database a service is: the owner begins another one after a restore from a backup (ADR 25)."""

from __future__ import annotations

import sqlalchemy as sa

from services.chassis.data.tables import incarnation
from services.chassis.data.transaction import Tx

# No login of a service writes either.
INCARNATION = sa.select(sa.cast(incarnation.c.incarnation, sa.Text)).scalar_subquery()
BEGUN_AT = sa.select(incarnation.c.begun_at).scalar_subquery()


async def read_incarnation(tx: Tx) -> str:
    return str((await tx.execute(sa.select(INCARNATION))).scalar_one())
