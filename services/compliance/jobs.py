"""Compliance's timers: answers of a person that ran out are asked again."""

from __future__ import annotations

from services.chassis.calls.auth import ALL_ORGANIZATIONS
from services.chassis.data.database import Database
from services.chassis.process.jobs import Job
from services.chassis.values.clock import Clock
from services.compliance.commands import checks


def build_jobs(database: Database, clock: Clock) -> list[Job]:
    async def expire_checks() -> int:
        async with database.begin(ALL_ORGANIZATIONS) as tx:
            return await checks.expire_checks(tx, clock.now())

    # An expired answer counts as none from its very instant, whether this has run or not.
    return [Job("expire_checks", expire_checks, interval_seconds=0.5)]
