"""Compliance's timers: answers of a person that ran out are asked again, and API keys end.

Which organizations have some is read over all of them; what is due is done in transactions of one each.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.process.jobs import Job
from services.compliance.commands.api_keys import expire_api_keys
from services.compliance.commands.checks import expire_checks
from services.compliance.dependencies import NAME, Dependencies
from services.compliance.store.api_keys import list_organizations_with_expired_keys
from services.compliance.store.checks import list_organizations_with_expired_checks

_INTERVAL_SECONDS = 0.5


def build_jobs(dependencies: Dependencies) -> list[Job]:
    """An end by time counts from its very instant, whether its job has run or not: they write it down and tell it."""
    return [
        _build_expiry("expire_checks", dependencies, list_organizations_with_expired_checks, expire_checks),
        _build_expiry("expire_api_keys", dependencies, list_organizations_with_expired_keys, expire_api_keys),
    ]


def _build_expiry(
    name: str,
    dependencies: Dependencies,
    list_organizations: Callable[[AsyncConnection, datetime], Awaitable[Sequence[str]]],
    expire: Callable[[AsyncConnection, datetime], Awaitable[int]],
) -> Job:
    """
    Args:
        list_organizations: Which have something that has expired, and that is not written down.
        expire: Writes it down for one organization; how much there was.
    """
    database = dependencies.database

    async def run() -> int:
        now, expired = dependencies.clock.now(), 0
        async with database.begin_for_all() as tx:
            organizations = await list_organizations(tx, now)
        for org_id in organizations:
            with acting_as(service_principal(NAME, org_id)):
                async with database.begin() as tx:
                    expired += await expire(tx, now)
        return expired

    return Job(name, run, _INTERVAL_SECONDS)
