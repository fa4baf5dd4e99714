"""Counts how many debits of each organization came back, and calls a person where they are more than Nacha allows.

It calls once for each return that is too many: an exception that was resolved opens again with the next one, and not
because an hour has passed. What the database says and this service did not write is not counted, and is told.
"""

from __future__ import annotations

from prometheus_client import Gauge

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.process.telemetry import log
from services.transactions.dependencies import NAME, Dependencies
from services.transactions.domain.exceptions import About
from services.transactions.domain.return_rates import WINDOW, RateKind, ReturnRates
from services.transactions.store import return_rates as store
from services.transactions.store.exception_reports import report, was_seen_since

RETURN_RATE_RATIO = Gauge(
    "realco_ach_return_rate_ratio", "Which part of the debits of 60 days came back, where most did.", ["kind"]
)


async def watch_return_rates(dependencies: Dependencies) -> int:
    """None is left to be counted then: 0."""
    since = dependencies.clock.now() - WINDOW
    counted: list[ReturnRates] = []
    for org_id in await store.list_organizations(dependencies.database, since):
        with acting_as(service_principal(NAME, org_id)):
            try:
                counted.append(await _count(dependencies, org_id))
            except Exception:  # what is wrong with one organization keeps no other from being counted
                log.exception("return_rates_not_counted", org_id=org_id)
    for kind in RateKind:
        ratios = [rate.rate_bps / 10_000 for rates in counted for rate in rates.list_rates() if rate.kind is kind]
        RETURN_RATE_RATIO.labels(kind.value).set(max(ratios, default=0))
    return 0


async def _count(dependencies: Dependencies, org_id: str) -> ReturnRates:
    now = dependencies.clock.now()
    tally = await store.count_returns(dependencies.database.reader, now - WINDOW)
    rates = tally.build(org_id, now)
    async with dependencies.database.begin() as tx:
        await store.save_return_rates(tx, rates, now)
        for rate in rates.list_rates():
            told_as = rate.limit.told_as
            if rate.is_exceeded and not await was_seen_since(tx, told_as, About(), tally.newest[rate.kind]):
                report(tx, told_as, About(), rate.spell(), now)
    return rates
