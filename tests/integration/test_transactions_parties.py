"""Whose a bank account or a transaction is: a party that is there, as was heard of it, or as its owner says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from realco.compliance.v1 import events_pb2 as compliance_events
from realco.compliance.v1 import parties_pb2
from realco.transactions.v1 import transactions_pb2 as pb
from realco.type.v1.event_pb2 import EventMeta

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.data.database import Database
from services.chassis.events.handling import Delivery
from services.chassis.values.errors import DomainError
from services.chassis.values.ids import new_id
from services.transactions.jobs.evaluate_initiated import evaluate_initiated
from services.transactions.subscribers import SUBSCRIPTIONS
from tests.support.transactions import ADMIN, IMPORT, TransactionsHarness

T = pb.Transaction


@pytest.fixture
async def service(service_database: Callable[[str], Awaitable[Database]]) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


async def refused(made: Awaitable[Any]) -> DomainError:
    with pytest.raises(DomainError) as refusal:
        await made
    return refusal.value


async def hear_of(service: TransactionsHarness, party_id: str) -> None:
    meta = EventMeta(aggregate_version=1)
    event = compliance_events.PartyCreated(meta=meta, party=parties_pb2.Party(party_id=party_id))
    [subscription] = [each for each in SUBSCRIPTIONS if compliance_events.PartyCreated in each.handlers]
    with acting_as(service_principal("transactions", ADMIN.org_id)):
        async with service.database.begin() as tx:
            handler = subscription.handlers[compliance_events.PartyCreated]
            await handler(tx, event, Delivery(service.clock.now()))


async def test_a_bank_account_is_of_a_party_that_is_there(service: TransactionsHarness) -> None:
    party_id = new_id("pty")
    service.compliance.unknown.add(party_id)
    refusal = await refused(service.bank_account(party_id, principal=ADMIN))
    assert (refusal.reason, list(refusal.fields)) == ("PARTY_NOT_FOUND", ["party_id"])
    service.compliance.unknown.clear()
    with service.wire.cut(service.compliance):
        assert (await refused(service.bank_account(party_id, principal=ADMIN))).reason == "UNAVAILABLE"
        await hear_of(service, party_id)
        assert (await service.bank_account(party_id, principal=ADMIN)).party_id == party_id, "nobody need be asked"


async def test_a_transaction_is_of_a_party_that_is_there(service: TransactionsHarness) -> None:
    party_id = new_id("pty")
    request = await service.deposit_request(party_id)
    service.compliance.unknown.add(party_id)
    refusal = await refused(service.ask(IMPORT, "CreateTransaction", request))
    assert (refusal.reason, list(refusal.fields), refusal.metadata) == ("PARTY_NOT_FOUND", ["party_id"], {})
    service.compliance.unknown.clear()
    assert (await service.ask(IMPORT, "CreateTransaction", request)).status == T.QUEUED, "the key stayed free"


async def test_while_compliance_is_away_a_transaction_waits_and_is_refused_once_its_party_proves_unknown(
    service: TransactionsHarness,
) -> None:
    party_id = new_id("pty")
    request = await service.deposit_request(party_id)
    service.compliance.unknown.add(party_id)
    with service.wire.cut(service.compliance):
        made = await service.ask(IMPORT, "CreateTransaction", request)
    assert made.status == T.INITIATED
    await service.hurry()
    await service.run(evaluate_initiated)
    ended = await service.get(made.transaction_id)
    assert (ended.status, ended.failure.code) == (T.FAILED, "PARTY_NOT_FOUND")
    repeated = await refused(service.ask(IMPORT, "CreateTransaction", request))
    assert (repeated.kind.name, repeated.reason, list(repeated.fields), repeated.metadata) == (
        "NOT_FOUND",
        "PARTY_NOT_FOUND",
        ["party_id"],
        {"transaction_id": made.transaction_id},
    )
