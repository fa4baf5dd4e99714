"""Work of which one process at a time does all there is, decided by a row: no session holds it, so a pooler may serve.

A leader renews its row while it works; one that died, or has nothing to do, is followed by another when its time has
run out. By the database's clock.
"""

from __future__ import annotations

import time

from services.chassis.data.database import LIMITS, Database
from services.chassis.values.ids import uuid7

LEASE_SECONDS = 3.0
_RENEW_SECONDS = 1.0

_TAKE = f"""
INSERT INTO public.leaders AS known (work, leader, until)
SELECT $1, $2, clock_timestamp() + make_interval(secs => $3) FROM {LIMITS} limits
ON CONFLICT (work) DO UPDATE SET leader = excluded.leader, until = excluded.until
WHERE known.leader = excluded.leader OR known.until < clock_timestamp() RETURNING true
"""  # noqa: S608
_GIVE_UP = f"DELETE FROM public.leaders USING {LIMITS} limits WHERE work = $1 AND leader = $2"  # noqa: S608


class Leadership:
    """One process's claim to be the one that does `work` for a database."""

    def __init__(self, database: Database, work: str) -> None:
        self._database = database
        self._key = work, uuid7()
        self._renew_at = 0.0

    async def hold(self) -> bool:
        """Whether this process leads, which it does from now on for some seconds more. Cheap to ask again and again."""
        now = time.monotonic()
        if now < self._renew_at:
            return True
        leads = bool(await self._database.send_for_all(_TAKE, *self._key, LEASE_SECONDS))
        self._renew_at = now + _RENEW_SECONDS if leads else 0.0
        return leads

    async def give_up(self) -> None:
        """Lets another process lead at once, where this one does."""
        if self._renew_at == 0.0:
            return
        self._renew_at = 0.0
        await self._database.send_for_all(_GIVE_UP, *self._key)
