"""Escrow's timers: entries are looked at, holds end when their time has run out, and old refusals are forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial

from services.chassis.data.database import Database
from services.chassis.data.due import do_due
from services.chassis.data.seals import NotSealed, seals_of
from services.chassis.data.sql import Row
from services.chassis.data.transaction import Tx
from services.chassis.events.hearing import Faults
from services.chassis.process.jobs import Job
from services.escrow.commands import holds
from services.escrow.dependencies import NAME, Dependencies
from services.escrow.domain.holds import HoldStatus
from services.escrow.posting import checks
from services.escrow.store import holds as store
from services.escrow.store import journal

# No money leaves without being looked for by itself: this tells what nobody asks for.
_CHECK_SECONDS = 10.0
_BATCH_MAX = 100
_CHECKS_MAX = 500
_REFUSALS_MAX = 5_000
# Looked at by `watch_overdue`.
WORK = (store.EXPIRED_HOLDS,)


def build_jobs(dependencies: Dependencies) -> list[Job]:
    return [
        Job("check_book", BookCheck(dependencies.database, dependencies.faults).run, _CHECK_SECONDS),
        Job("expire_holds", partial(expire_holds, dependencies), work=store.EXPIRED_HOLDS.first_due),
        Job("forget_refusals", partial(forget_refusals, dependencies), 3600.0),
    ]


class BookCheck:
    """Looks at entries that nobody looked at yet, account after account, round and round.

    Of an escrow account with an entry that is not ours no money leaves; it is looked at in every round.
    """

    def __init__(self, database: Database, faults: Faults) -> None:
        self._database = database
        self._faults = faults
        self._after = self._after_unsealed = checks.FIRST

    async def run(self) -> int:
        """Of how many escrow accounts it looked at entries, where there are more; else it has time until the next."""
        async with self._database.begin_for_all() as tx:
            unchecked, last = await checks.list_unchecked(tx, self._after, _BATCH_MAX)
            found, after = await self._look(tx, unchecked, last)
            unsealed, last = await checks.list_unsealed(tx, self._after_unsealed, _CHECKS_MAX)
            found_unsealed, after_unsealed = await self._look(tx, unsealed, last)
        self._after, self._after_unsealed = after, after_unsealed
        found |= found_unsealed
        for (_, escrow_account_id), refusal in found.items():
            title = f"{checks.ENTRIES} of {escrow_account_id}"
            if refusal is None:
                self._faults.pop(title, None)
            else:
                self._faults[title] = [str(refusal)]
        sound = sum(refusal is None for refusal in found.values())
        return sound if len(unchecked) == _BATCH_MAX or len(found) < len(unchecked) + len(unsealed) else 0

    async def _look(
        self, tx: Tx, wanted: Sequence[checks.Unchecked], last: checks.Place
    ) -> tuple[dict[checks.Place, NotSealed | None], checks.Place]:
        """What was found, and after which escrow account to go on: whatever one of them has, the next has its turn."""
        if not wanted:
            return {}, last
        found = await checks.check_each(tx.driver, seals_of(tx), wanted)
        left_out = any(each.place not in found for each in wanted)
        return found, [each.place for each in wanted if each.place in found][-1] if left_out else last


async def expire_holds(dependencies: Dependencies) -> int:
    """Ends the holds whose time ran out; returns how many it ended.

    The conditional update that ends a hold lets one of several processes win, so nothing is claimed before.
    """

    async def end(tx: Tx, row: Row, _: datetime) -> None:
        now = dependencies.clock.now()  # many may end in one run, and the database takes no time of long ago
        await holds.end_hold(tx, row.escrow_account_id, row.hold_id, HoldStatus.EXPIRED, now)

    return await do_due(dependencies.database, NAME, store.EXPIRED_HOLDS, dependencies.clock.now(), end)


async def forget_refusals(dependencies: Dependencies) -> int:
    """Frees the keys of refused postings after the time for which every answer is kept; returns how many."""
    async with dependencies.database.begin_for_all() as tx:
        return await journal.delete_old_refusals(tx, _REFUSALS_MAX)
