"""What each service does once its database alone was restored, and nobody has looked through what that forgot."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

import pytest
from realco.compliance.v1 import clearances_pb2
from realco.compliance.v1 import compliance_pb2 as cpb
from realco.compliance.v1.clearances_pb2_grpc import ClearancesServiceStub
from realco.distributions.v1 import distributions_pb2 as dpb
from realco.escrow.v1 import escrow_accounts_pb2 as epb
from realco.escrow.v1.escrow_accounts_pb2_grpc import EscrowAccountsServiceStub

from services.chassis.calls import client
from services.chassis.calls.auth import acting_as
from services.chassis.calls.peers import ask
from services.chassis.calls.restore_gate import RestoreGate
from services.chassis.calls.serving import add_servicer, interface_of
from services.chassis.data.restores import find_restore
from services.chassis.events.forgotten import list_and_record
from services.chassis.events.relay import run_relay
from services.chassis.runtime import server
from services.chassis.values.clock import SystemClock
from services.chassis.values.restore import RestoreNotSeen
from tests.integration.ach_desk import CUT_OFF, leave
from tests.support import arrivals, chassis, servers
from tests.support.chassis_events import running, unpublished
from tests.support.compliance import TRANSACTIONS, ComplianceHarness
from tests.support.databases import open_database
from tests.support.distributions import DistributionsHarness
from tests.support.escrow import Escrow
from tests.support.event_keys import event_key, event_keys
from tests.support.identity import Issuer
from tests.support.restores import restored_to_here
from tests.support.transactions import TransactionsHarness

pytest_plugins = ("tests.integration.ach_desk",)


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
    assert await compliance.list_parties_of("bob", include_former=True) == []
    with pytest.raises(RestoreNotSeen):
        await compliance.list_parties_of("bob", counts_yes=True)


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


@asynccontextmanager
async def reached_by_transactions(area, servicer, gate, folder):
    """What transactions calls the service through, with the service's own door before it."""
    issuer = Issuer(folder)
    door = server.Interceptor(area, issuer.verifier(area), [interface_of(servicer)], gate=gate)
    running = server.build(door, 10)
    add_servicer(servicer, running)
    address = f"127.0.0.1:{running.add_insecure_port('127.0.0.1:0')}"
    await running.start()
    async with client.channel(address, issuer.transactions, area) as channel:
        yield channel
    await running.stop(None)


async def look_at(database, gate):
    """As its watch does."""
    async with database.begin_for_all() as tx:
        gate.note(await find_restore(tx))


async def test_a_payout_that_waits_for_a_freeze_does_not_leave_after_a_restore_of_escrow_before_somebody_has_looked(
    ach_service, folders, service_urls, js, tmp_path
):
    urls, gate = await service_urls("escrow"), RestoreGate()
    async with (
        Escrow(urls) as escrow,
        reached_by_transactions("escrow", escrow.servicers[0], gate, tmp_path) as channel,
    ):
        account, stub = await escrow.open(), EscrowAccountsServiceStub(channel)
        remembered = ach_service.escrow.GetEscrowAccount

        async def get(request, context):
            answer, asked = await remembered(request, context), epb.GetEscrowAccountRequest(escrow_account_id=account)
            with acting_as(escrow.transactions):
                answer.status = (await ask(stub.GetEscrowAccount, asked)).status
            return answer

        ach_service.escrow.GetEscrowAccount = get
        await ach_service.payout("inv-002", "08")
        await ach_service.work()
        async with restored_to_here(urls):
            await escrow.freeze(account)
            await leave(ach_service, CUT_OFF)
            assert folders.sent == []
        await look_at(escrow.database, gate)
        await leave(ach_service, CUT_OFF + timedelta(minutes=2))
        assert folders.sent == [], "by the restored records the account is active"
        await see(escrow, "escrow", js, tmp_path)
        await look_at(escrow.database, gate)
        await leave(ach_service, CUT_OFF + timedelta(minutes=4))
        assert len(folders.sent) == 1


async def test_a_payout_to_whom_compliance_failed_since_its_backup_does_not_leave_before_somebody_has_looked(
    ach_service, folders, service_urls, js, tmp_path
):
    urls, gate = await service_urls("compliance"), RestoreGate(answers_for_persons=True)
    compliance = ComplianceHarness(open_database(urls, "compliance"))
    await compliance.clear()
    async with reached_by_transactions("compliance", compliance.clearances, gate, tmp_path) as channel:
        remembered, stub = ach_service.compliance.BatchGetClearances, ClearancesServiceStub(channel)

        async def get(request, context):
            answer = await remembered(request, context)
            asked = clearances_pb2.BatchGetClearancesRequest(party_ids=[compliance.party_id])
            with acting_as(TRANSACTIONS):
                [found] = (await ask(stub.BatchGetClearances, asked)).clearances
            for each in answer.clearances:
                each.cleared = found.cleared
                each.missing.extend(found.missing)
            return answer

        ach_service.compliance.BatchGetClearances = get
        await ach_service.payout("inv-002", "08")
        await ach_service.work()
        async with restored_to_here(urls):
            await compliance.update(legal_name="Somebody Sanctioned")
            for check in await compliance.waiting(compliance.party_id):
                await compliance.review(check.compliance_check_id, decision=cpb.ComplianceCheck.FAILED)
        await look_at(compliance.database, gate)
        await leave(ach_service, CUT_OFF)
        assert folders.sent == [], "by the restored records the party is cleared"
        await see(compliance, "compliance", js, tmp_path)
        await look_at(compliance.database, gate)
        await leave(ach_service, CUT_OFF + timedelta(minutes=2))
        assert len(folders.sent) == 1
