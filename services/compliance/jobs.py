"""Compliance's timers: answers of a person that ran out are asked again.

Which organizations have some is read over all of them; what is due is done in transactions of one each.
"""

from __future__ import annotations

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.process.jobs import Job
from services.compliance.commands import checks
from services.compliance.dependencies import NAME, Dependencies
from services.compliance.store import checks as store


def build_jobs(dependencies: Dependencies) -> list[Job]:
    database, clock = dependencies.database, dependencies.clock

    async def expire_checks() -> int:
        now, expired = clock.now(), 0
        async with database.begin_for_all() as tx:
            organizations = await store.list_organizations_with_expired_checks(tx, now)
        for org_id in organizations:
            with acting_as(service_principal(NAME, org_id)):
                async with database.begin() as tx:
                    expired += await checks.expire_checks(tx, now)
        return expired

    # An expired answer counts as none from its very instant, whether this has run or not.
    return [Job("expire_checks", expire_checks, interval_seconds=0.5)]
