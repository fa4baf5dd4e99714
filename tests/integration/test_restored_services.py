"""What each service does once its database alone was restored, and nobody has looked through what that forgot."""

from __future__ import annotations

from functools import partial

import pytest
from realco.distributions.v1 import distributions_pb2 as dpb

from services.chassis.events.forgotten import list_and_record
from services.chassis.events.relay import run_relay
from services.chassis.values.clock import SystemClock
from services.chassis.values.restore import RestoreNotSeen
from tests.support import arrivals, chassis, servers
from tests.support.chassis_events import running, unpublished
from tests.support.compliance import ComplianceHarness
from tests.support.databases import open_database
from tests.support.distributions import DistributionsHarness
from tests.support.event_keys import event_key, event_keys
from tests.support.restores import restored_to_here
from tests.support.transactions import TransactionsHarness


@pytest.fixture
def nats_url(tmp_path):
    """A server of the test's own: what others told here would be missing as well."""
    with servers.nats(tmp_path / "nats") as url:
        yield url


async def relay(database, js, stop):
    await run_relay(database, js, "distributions", event_key("distributions"), stop, {}, {})


async def publish(database, js):
    async with running(partial(relay, database, js)):
        await chassis.until(lambda: _is_told(database))


async def _is_told(database):
    return await unpublished(database) == 0


async def see(service, area, js, folder):
    return await list_and_record(service.database, js, area, event_keys(folder), SystemClock(), seen_by="ops-1")


async def test_a_distributions_database_that_was_restored_alone_distributes_nothing_before_somebody_has_looked(
    service_urls, js, tmp_path
):
    urls = await service_urls("distributions")
    service = DistributionsHarness(open_database(urls, "distributions"))
    offering = await service.closed_offering(("inv-001", 60_000), ("inv-002", 30_000))
    async with restored_to_here(urls):
        await service.pay(await service.executed(offering, 90_000))  # all of the capital
        await publish(service.database, js)
    # It would pay the capital once more: by its records nothing of it was returned.
    submitted = await service.submit(await service.calculate(await service.draft(offering, 20_000)))
    service.deposit(offering, 20_000)
    with pytest.raises(RestoreNotSeen):
        await service.approve(submitted)
    lines = await see(service, "distributions", js, tmp_path)
    assert any(" DistributionDeclared dist_" in line for line in lines)
    approval = await service.find_approval(submitted.distribution_id)
    [told] = [each for each in approval.explanations if each.rule == "RESTORED"]
    assert "events of before are not in them; “ops-1” looked through what is missing" in told.statement
    assert ("DistributionDeclared", "1") in [(one.name, one.value) for one in told.operands]
    await service.decline(approval)
    assert (await service.get(submitted)).status != dpb.Distribution.APPROVED


async def test_after_a_restore_of_compliance_no_yes_counts_anywhere_before_somebody_has_looked(service_urls):
    urls = await service_urls("compliance")
    compliance = ComplianceHarness(open_database(urls, "compliance"))
    await compliance.create()
    async with restored_to_here(urls):
        pass
    assert await compliance.list_parties_of("bob") == [], "whoever moves their own money is still answered"
    with pytest.raises(RestoreNotSeen):
        await compliance.list_parties_of("bob", include_former=True)


async def test_after_a_restore_of_transactions_nobody_confirms_a_wire_before_somebody_has_looked(service_urls):
    urls = await service_urls("transactions")
    service = TransactionsHarness(open_database(urls, "transactions"))
    wire = await arrivals.announce(service)
    async with restored_to_here(urls):
        pass
    with pytest.raises(RestoreNotSeen):
        await arrivals.confirm(service, wire)


async def test_after_a_restore_of_transactions_no_payment_is_sent_before_somebody_has_looked(
    service_urls, js, tmp_path
):
    urls = await service_urls("transactions")
    service = TransactionsHarness(open_database(urls, "transactions"))
    payout = await service.payout()
    async with restored_to_here(urls):
        pass
    await service.work(hurried=True)
    assert service.bank.payments == {}
    await see(service, "transactions", js, tmp_path)
    await service.work(hurried=True)
    assert [each.reference for each in service.bank.payments.values()] == [payout.transaction_id]


async def test_after_a_restore_of_distributions_nothing_that_was_approved_before_is_executed_before_somebody_has_looked(
    service_urls, js, tmp_path
):
    urls = await service_urls("distributions")
    service = DistributionsHarness(open_database(urls, "distributions"))
    offering = await service.closed_offering(("inv-001", 60_000), ("inv-002", 30_000))
    service.deposit(offering, 20_000)
    approved = await service.approved(offering, 20_000)
    async with restored_to_here(urls):
        pass
    with pytest.raises(RestoreNotSeen):
        await service.execute(approved)
    await see(service, "distributions", js, tmp_path)
    assert (await service.execute(approved)).status == dpb.Distribution.QUEUED
