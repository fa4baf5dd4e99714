"""Compliance as other services ask it: one test body, over the fake of their tests and over the real service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from realco.compliance.v1 import compliance_pb2 as pb
from realco.compliance.v1 import parties_pb2

from services.chassis.calls.auth import Principal, acting_as
from services.chassis.data.database import Database
from services.chassis.data.operations import Operations
from services.chassis.values.clock import FakeClock
from services.chassis.values.ids import new_id
from services.compliance.api import ComplianceServicer, PartiesServicer
from services.distributions.clients import GrpcCompliance
from services.transactions.clients import ComplianceClient
from tests.support.peers.compliance import MemoryCompliance
from tests.support.peers.wire import Wire

ADMIN, CHECKER = (Principal(person, "admin", "org-1") for person in ("admin-1", "admin-2"))
Item = pb.EvaluateTransactionsRequest.Item
WAITING = "KYC is MANUAL_REVIEW; OFAC is MANUAL_REVIEW"


class MemoryOffice:
    """The fake, and what people do to it."""

    def __init__(self) -> None:
        self.servicer = MemoryCompliance()

    async def add_party(self, *, cleared: bool) -> str:
        party_id = new_id("pty")
        if not cleared:
            self.servicer.uncleared[party_id] = WAITING
        return party_id

    async def clear(self, party_id: str) -> None:
        del self.servicer.uncleared[party_id]

    async def limit_deposits(self, daily_minor: int) -> None:
        self.servicer.daily_deposit_minor = daily_minor


class RealOffice:
    """The service, and what people do to it."""

    def __init__(self, database: Database) -> None:
        operations = Operations(database, FakeClock(datetime(2024, 12, 3, 15, tzinfo=UTC)))
        self.servicer = ComplianceServicer(operations)
        self._parties = PartiesServicer(operations)

    async def add_party(self, *, cleared: bool) -> str:
        request = parties_pb2.CreatePartyRequest(
            idempotency_key=new_id("key"), kind=parties_pb2.Party.INDIVIDUAL, legal_name="Ada Park"
        )
        with acting_as(ADMIN):
            party_id = (await self._parties.CreateParty(request, None)).party_id
        if cleared:
            await self.clear(party_id)
        return party_id

    async def clear(self, party_id: str) -> None:
        waiting = pb.ListComplianceChecksRequest(party_id=party_id, status=pb.ComplianceCheck.MANUAL_REVIEW)
        with acting_as(CHECKER):
            for check in (await self.servicer.ListComplianceChecks(waiting, None)).compliance_checks:
                review = pb.ReviewComplianceCheckRequest(
                    compliance_check_id=check.compliance_check_id, decision=pb.ComplianceCheck.PASSED, note="Seen."
                )
                await self.servicer.ReviewComplianceCheck(review, None)

    async def limit_deposits(self, daily_minor: int) -> None:
        limit = pb.TransactionLimit
        with acting_as(ADMIN):
            listed = await self.servicer.ListTransactionLimits(pb.ListTransactionLimitsRequest(), None)
            [etag] = [each.etag for each in listed.transaction_limits if each.limit_type == limit.DAILY_DEPOSIT]
            request = pb.PutTransactionLimitRequest(
                limit_type=limit.DAILY_DEPOSIT,
                amount={"currency_code": "USD", "amount_minor": daily_minor},
                etag=etag,
            )
            await self.servicer.PutTransactionLimit(request, None)


Office = MemoryOffice | RealOffice


@pytest.fixture(params=["memory", "real"])
async def office(request: pytest.FixtureRequest, service_database: Callable[[str], Awaitable[Database]]) -> Office:
    return MemoryOffice() if request.param == "memory" else RealOffice(await service_database("compliance"))


async def evaluate(office: Office, *items: Item) -> list[Any]:
    client = ComplianceClient(Wire("transactions").open_channel(office.servicer))
    with acting_as(ADMIN):
        return list(await client.evaluate(items))


def move(party_id: str, minor: int, direction: int = Item.IN) -> Item:
    amount: Any = {"currency_code": "USD", "amount_minor": minor}
    return Item(transaction_id=new_id("txn"), party_id=party_id, direction=direction, amount=amount)


def describe(decision: Any) -> tuple[str, str]:
    return pb.ComplianceCheck.Status.Name(decision.status), decision.failure.code


@pytest.mark.parametrize("direction", [Item.IN, Item.OUT])
async def test_money_moves_for_parties_that_are_cleared(office: Office, direction: int) -> None:
    cleared, uncleared = [await office.add_party(cleared=each) for each in (True, False)]
    items = [move(cleared, 1, direction), move(uncleared, 1, direction)]
    passed, failed = await evaluate(office, *items)
    assert [passed.transaction_id, failed.transaction_id] == [item.transaction_id for item in items]
    assert (describe(passed), passed.HasField("failure")) == (("PASSED", ""), False)
    assert describe(failed) == ("FAILED", "PARTY_NOT_CLEARED")
    assert failed.failure.metadata == {"party_id": uncleared, "missing": WAITING}
    assert failed.failure.message == failed.explanation.statement == f"The party is not cleared: {WAITING}."
    assert not failed.failure.retryable


async def test_a_limit_counts_what_came_in_inside_one_question_too(office: Office) -> None:
    party, other = [await office.add_party(cleared=True) for _ in range(2)]
    await office.limit_deposits(100)
    decisions = await evaluate(
        office, move(party, 60), move(party, 41), move(party, 40), move(other, 100), move(party, 500, Item.OUT)
    )
    assert [describe(decision) for decision in decisions] == [
        ("PASSED", ""),
        ("FAILED", "TRANSACTION_LIMIT_EXCEEDED"),
        ("PASSED", ""),
        ("PASSED", ""),
        ("PASSED", ""),
    ]
    [full] = await evaluate(office, move(party, 1))
    expected = {
        "limit_type": "DAILY_DEPOSIT",
        "limit_minor": "100",
        "used_minor": "100",
        "requested_minor": "1",
        "remaining_minor": "0",
        "currency_code": "USD",
    }
    assert expected.items() <= dict(full.failure.metadata).items()
    assert full.failure.message


async def test_the_first_decision_about_a_transaction_stays_and_counts_once(office: Office) -> None:
    party, late = await office.add_party(cleared=True), await office.add_party(cleared=False)
    await office.limit_deposits(100)
    items = [move(party, 100), move(late, 1)]
    first = await evaluate(office, *items)
    await office.clear(late)
    assert await evaluate(office, *items) == first
    assert [describe(decision) for decision in first] == [("PASSED", ""), ("FAILED", "PARTY_NOT_CLEARED")]
    [afterwards] = await evaluate(office, move(late, 1))
    assert describe(afterwards) == ("PASSED", "")


async def test_who_is_not_cleared_is_told_with_what_is_missing(office: Office) -> None:
    cleared, uncleared = [await office.add_party(cleared=each) for each in (True, False)]
    of_transactions = ComplianceClient(Wire("transactions").open_channel(office.servicer))
    of_distributions = GrpcCompliance(Wire("distributions").open_channel(office.servicer))
    with acting_as(ADMIN):
        assert await of_transactions.list_uncleared([cleared, uncleared]) == {uncleared: WAITING}
        answer = await of_distributions.batch_get_clearances([uncleared, cleared])
    assert [(each.party_id, each.cleared) for each in answer] == [(uncleared, False), (cleared, True)]
