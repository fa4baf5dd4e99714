"""Compliance as other services ask it: one test body, over the fake of their tests and over the real service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

import pytest
from realco.compliance.v1 import api_keys_pb2, parties_pb2
from realco.compliance.v1 import compliance_pb2 as pb
from realco.compliance.v1.parties_pb2 import Party
from realco.type.v1.money_pb2 import Money

from services.chassis.calls.auth import Principal, acting_as
from services.chassis.calls.wire import from_timestamp
from services.chassis.data.database import Database
from services.chassis.values.errors import DomainError
from services.chassis.values.ids import new_id
from services.chassis.values.money import Money as Amount
from services.chassis.values.movement import Movement, MovementLine
from services.chassis.values.session import Standing
from services.distributions import clients as distributions_clients
from services.escrow import clients as escrow_clients
from services.transactions.clients import ComplianceClient
from tests.support.compliance import MAKER, START, ComplianceHarness, Item, read_check
from tests.support.peers.compliance import MemoryCompliance
from tests.support.peers.wire import Wire

WAITING = "KYC is MANUAL_REVIEW; OFAC is MANUAL_REVIEW"


class MemoryOffice:
    """The fake, and what people do to it."""

    def __init__(self) -> None:
        self.servicer = MemoryCompliance()
        self.servicers: tuple[object, ...] = (self.servicer,)

    def initiate(self, items: Iterable[Item]) -> None:
        """The fake asks nobody."""

    async def add_person(self, party_id: str, person: str) -> None:
        self.servicer.parties.setdefault(person, set()).add(party_id)

    async def end_sessions(self, person: str) -> datetime:
        self.servicer.ended[person] = START
        self.servicer.not_counted = person
        return START

    async def add_key(self) -> str:
        return new_id("key")

    async def revoke(self, api_key_id: str) -> None:
        self.servicer.revoked.add(api_key_id)

    async def add_party(self, *, cleared: bool) -> str:
        party_id = new_id("pty")
        if not cleared:
            self.servicer.uncleared[party_id] = WAITING
        return party_id

    def name_nobody(self) -> str:
        party_id = new_id("pty")
        self.servicer.unknown.add(party_id)
        return party_id

    async def clear(self, party_id: str) -> None:
        del self.servicer.uncleared[party_id]

    async def limit_deposits(self, daily_minor: int) -> None:
        self.servicer.daily_deposit_minor = daily_minor


class RealOffice:
    """The service, and what people do to it."""

    def __init__(self, database: Database) -> None:
        self._harness = ComplianceHarness(database)
        self.servicer = self._harness.clearances
        self.servicers: tuple[object, ...] = (self.servicer, self._harness.persons, self._harness.notary)
        self.initiate = self._harness.transactions.initiate

    async def add_person(self, party_id: str, person: str) -> None:
        await self._harness.add(person, party_id=party_id)

    async def end_sessions(self, person: str) -> datetime:
        answer = await self._harness.parties.EndSessions(
            parties_pb2.EndSessionsRequest(idempotency_key=new_id("key"), person_id=person), None
        )
        return from_timestamp(answer.end_time)

    async def add_key(self) -> str:
        request = api_keys_pb2.CreateApiKeyRequest(display_name="ERP", scopes=[api_keys_pb2.ApiKey.ESCROW_READ])
        request.expire_time.FromDatetime(START + timedelta(days=1))
        issued = await self._harness.api_keys.CreateApiKey(request, None)
        return str(issued.api_key.api_key_id)

    async def revoke(self, api_key_id: str) -> None:
        await self._harness.api_keys.RevokeApiKey(api_keys_pb2.RevokeApiKeyRequest(api_key_id=api_key_id), None)

    async def add_party(self, *, cleared: bool) -> str:
        party_id: str = (await self._harness.create()).party_id
        if cleared:
            await self.clear(party_id)
        return party_id

    def name_nobody(self) -> str:
        return new_id("pty")

    async def clear(self, party_id: str) -> None:
        for check in await self._harness.waiting(party_id):
            await self._harness.review(check.compliance_check_id)

    async def limit_deposits(self, daily_minor: int) -> None:
        await self._harness.put_limit(daily_minor)


Office = MemoryOffice | RealOffice


@pytest.fixture(params=["memory", "real"])
async def office(request: pytest.FixtureRequest, service_database: Callable[[str], Awaitable[Database]]) -> Office:
    return MemoryOffice() if request.param == "memory" else RealOffice(await service_database("compliance"))


async def evaluate(office: Office, *items: Item, validate_only: bool = False) -> list[Any]:
    client = ComplianceClient(Wire("transactions").open_channel(office.servicer))
    office.initiate(items)
    with acting_as(MAKER):
        return list(await client.batch_evaluate_transactions(items, validate_only=validate_only))


def move(party_id: str, minor: int, direction: int = Money.IN) -> Item:
    amount: Any = {"currency_code": "USD", "amount_minor": minor}
    item = Item(transaction_id=new_id("txn"), party_id=party_id, direction=direction, amount=amount)
    item.is_contribution = direction == Money.IN
    return item


def describe(decision: Any) -> tuple[str, str]:
    check = read_check(decision)
    return pb.ComplianceCheck.Status.Name(check.status), check.failure.code


@pytest.mark.parametrize("direction", [Money.IN, Money.OUT])
async def test_money_moves_for_parties_that_are_cleared(office: Office, direction: int) -> None:
    cleared, uncleared = [await office.add_party(cleared=each) for each in (True, False)]
    items = [move(cleared, 1, direction), move(uncleared, 1, direction)]
    passed, failed = await evaluate(office, *items)
    assert [passed.transaction_id, failed.transaction_id] == [item.transaction_id for item in items]
    assert (describe(passed), passed.HasField("failure")) == (("PASSED", ""), False)
    assert describe(failed) == ("FAILED", "PARTY_NOT_CLEARED")
    assert failed.failure.metadata == {"party_id": uncleared, "check_types": '["KYC", "OFAC"]'}
    assert failed.failure.message == f"The party is not cleared: {WAITING}."
    assert not failed.failure.retryable


async def test_a_limit_counts_what_came_in_inside_one_question_too(office: Office) -> None:
    party, other = [await office.add_party(cleared=True) for _ in range(2)]
    await office.limit_deposits(100)
    asked = await evaluate(office, move(party, 60), move(party, 41), validate_only=True)
    assert [describe(decision)[0] for decision in asked] == ["PASSED", "FAILED"], "and nothing is counted:"
    decisions = await evaluate(
        office, move(party, 60), move(party, 41), move(party, 40), move(other, 100), move(party, 500, Money.OUT)
    )
    assert [describe(decision) for decision in decisions] == [
        ("PASSED", ""),
        ("FAILED", "TRANSACTION_LIMIT_EXCEEDED"),
        ("PASSED", ""),
        ("PASSED", ""),
        ("PASSED", ""),
    ]
    [full] = await evaluate(office, move(party, 1))
    [asked] = await evaluate(office, move(other, 1), validate_only=True)
    assert describe(asked) == describe(full) == ("FAILED", "TRANSACTION_LIMIT_EXCEEDED")
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
    again = await evaluate(office, *items)
    assert [read_check(result) for result in again] == [read_check(result) for result in first]
    assert [result.replayed for result in (*first, *again)] == [False, False, True, True]
    items[0].amount.amount_minor += 1
    changed, _ = await evaluate(office, *items)
    assert (changed.failure.code, changed.replayed) == ("IDEMPOTENCY_KEY_REUSED", False)
    assert [describe(decision) for decision in first] == [("PASSED", ""), ("FAILED", "PARTY_NOT_CLEARED")]
    [afterwards] = await evaluate(office, move(late, 1))
    assert describe(afterwards) == ("PASSED", "")


async def test_who_is_not_cleared_is_told_with_what_is_missing(office: Office) -> None:
    cleared, uncleared = [await office.add_party(cleared=each) for each in (True, False)]
    of_transactions = ComplianceClient(Wire("transactions").open_channel(office.servicer))
    of_distributions = distributions_clients.ComplianceClient(Wire("distributions").open_channel(office.servicer))
    with acting_as(MAKER):
        told = await of_transactions.batch_get_clearances({cleared, uncleared})
        answer = await of_distributions.batch_get_clearances([uncleared, cleared])
    missing = {each.party_id: {one.rule: one.statement for one in each.missing} for each in told}
    assert missing == {cleared: {}, uncleared: {"KYC": "KYC is MANUAL_REVIEW", "OFAC": "OFAC is MANUAL_REVIEW"}}
    assert [(each.party_id, each.cleared) for each in answer] == [(uncleared, False), (cleared, True)]


async def test_a_party_that_is_not_there_is_told_from_one_that_is_not_cleared(office: Office) -> None:
    uncleared, nobody = await office.add_party(cleared=False), office.name_nobody()
    client = distributions_clients.ComplianceClient(Wire("distributions").open_channel(office.servicer))
    with acting_as(MAKER):
        answer = await client.batch_get_clearances([uncleared, nobody])
    assert [(each.cleared, each.known) for each in answer] == [(False, True), (False, False)]
    assert [each.kind for each in answer] == [Party.INDIVIDUAL, Party.KIND_UNSPECIFIED]
    [decision] = await evaluate(office, move(nobody, 1))
    assert describe(decision) == ("FAILED", "PARTY_NOT_FOUND")
    assert (decision.failure.message, dict(decision.failure.metadata)) == ("There is no such party.", {})


async def test_the_name_of_a_party_is_told_with_whether_a_second_person_has_passed_it(office: Office) -> None:
    cleared, uncleared = [await office.add_party(cleared=each) for each in (True, False)]
    client = ComplianceClient(Wire("transactions").open_channel(office.servicer))
    with acting_as(MAKER):
        told = [await client.get_party_name(each) for each in (cleared, uncleared)]
        assert await client.get_party_name(office.name_nobody()) is None
    assert [(each.party_id, each.cleared) for each in told] == [(cleared, True), (uncleared, False)]
    assert [(each.legal_name, each.kind) for each in told] == [("Ada Park", Party.INDIVIDUAL)] * 2


async def test_for_whom_a_person_acts_is_told_at_once(office: Office) -> None:
    party, _ = [await office.add_party(cleared=True) for _ in range(2)]
    clients = [
        ComplianceClient(Wire("transactions").open_channel(*office.servicers)),
        distributions_clients.ComplianceClient(Wire("distributions").open_channel(*office.servicers)),
        escrow_clients.ComplianceClient(Wire("escrow").open_channel(*office.servicers)),
    ]
    with acting_as(MAKER):
        assert [await client.list_parties_of_person("ann") for client in clients] == [Standing()] * 3
        await office.add_person(party, "ann")
        ended_at = await office.end_sessions("ann")
        told = [await client.list_parties_of_person("ann") for client in clients]
        assert told == [Standing(frozenset({party}), ended_at)] * 3
        key = await office.add_key()
        for revoked in (False, True):
            told = [await client.list_parties_of_person("bob", api_key_id=key) for client in clients]
            assert told == [Standing(api_key_revoked=revoked)] * 3
            await office.revoke(key)


async def test_what_two_persons_decided_is_decided_until_one_who_approved_it_counts_no_longer(office: Office) -> None:
    client = distributions_clients.ComplianceClient(Wire("distributions").open_channel(*office.servicers))
    line = MovementLine(await office.add_party(cleared=True), Amount(100, "USD"))
    movement = Movement("APPROVE_DISTRIBUTION", new_id("dist"), "a" * 64, new_id("esc"), (line,))
    with acting_as(MAKER):
        await client.record_request(movement, makers=(), beneficiary_party_ids=())
    with acting_as(Principal("admin-9", "admin", MAKER.org_id, signed_in_at=1)):
        await client.record_approval(movement)
    with acting_as(MAKER):
        await client.record_execution(movement, validate_only=False)
        await office.end_sessions("admin-9")
        with pytest.raises(DomainError) as refusal:
            await client.record_execution(movement, validate_only=False)
    told = (refusal.value.reason, refusal.value.metadata["person_ids"])
    assert told == ("MOVEMENT_NOT_DECIDED", '["admin-9"]')
