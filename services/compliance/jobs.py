"""Compliance's timers: answers of a person that ran out are asked again, and API keys end."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from services.chassis.data.due import do_due
from services.chassis.data.sql import Row
from services.chassis.data.transaction import Tx
from services.chassis.process.jobs import Job
from services.compliance.commands.api_keys import expire_api_key
from services.compliance.commands.checks import expire_check
from services.compliance.dependencies import NAME, Dependencies
from services.compliance.store.api_keys import EXPIRED_KEYS
from services.compliance.store.checks import EXPIRED_CHECKS

# Looked at by `watch_overdue`.
WORK = (EXPIRED_CHECKS, EXPIRED_KEYS)


def build_jobs(dependencies: Dependencies) -> list[Job]:
    """An end by time counts from its very instant, whether its job has run or not: they write it down, and tell it."""
    return [
        Job("expire_checks", partial(expire_checks, dependencies), work=EXPIRED_CHECKS.first_due),
        Job("expire_api_keys", partial(expire_api_keys, dependencies), work=EXPIRED_KEYS.first_due),
    ]


async def expire_checks(dependencies: Dependencies) -> int:
    async def expire(tx: Tx, row: Row, now: datetime) -> None:
        await expire_check(tx, row.compliance_check_id, now)

    return await do_due(dependencies.database, NAME, EXPIRED_CHECKS, dependencies.clock.now(), expire)


async def expire_api_keys(dependencies: Dependencies) -> int:
    async def expire(tx: Tx, row: Row, now: datetime) -> None:
        await expire_api_key(tx, row.api_key_id, now)

    return await do_due(dependencies.database, NAME, EXPIRED_KEYS, dependencies.clock.now(), expire)
