"""Whose an offering or an investment is: a party that is there, as was heard of it, or as its owner says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from realco.compliance.v1 import events_pb2 as compliance_events
from realco.compliance.v1 import parties_pb2
from realco.distributions.v1 import offerings_pb2 as opb
from realco.type.v1.event_pb2 import EventMeta

from services.chassis.data.database import Database
from services.chassis.values.errors import DomainError
from services.chassis.values.ids import new_id
from services.distributions.domain import investment as rules
from tests.support.distributions import DistributionsHarness
from tests.support.money import usd

Create = Callable[[str], Awaitable[Any]]


@pytest.fixture
async def service(service_database: Callable[[str], Awaitable[Database]]) -> DistributionsHarness:
    return DistributionsHarness(await service_database("distributions"))


@pytest.fixture(params=["an offering's sponsor", "an investment's investor"])
async def creation(request: pytest.FixtureRequest, service: DistributionsHarness) -> tuple[Create, str]:
    """What staff creates for a party, under the same key each time, and the field that names the party."""
    account, key = service.escrow.open(), new_id("key")
    if request.param == "an offering's sponsor":

        async def open_offering(party_id: str) -> opb.Offering:
            service.escrow.accounts[account].sponsor_party_id = party_id
            wanted = {"sponsor_party_id": party_id, "escrow_account_id": account, "idempotency_key": key}
            return await service.offering(100_00, **wanted)

        return open_offering, "sponsor_party_id"
    offering = await service.offering(100_00)
    wanted = {"offering_id": offering.offering_id, "amount": usd(1_00), "idempotency_key": key}
    return (
        lambda party_id: service.call(
            service.investments.CreateInvestment, opb.CreateInvestmentRequest(party_id=party_id, **wanted)
        ),
        "party_id",
    )


async def refused(made: Awaitable[Any]) -> tuple[str, list[str]]:
    with pytest.raises(DomainError) as refusal:
        await made
    return refusal.value.reason, list(refusal.value.fields)


async def test_a_party_that_is_not_there_is_refused_and_the_key_stays_free(
    service: DistributionsHarness, creation: tuple[Create, str]
) -> None:
    create, field = creation
    party_id = new_id("pty")
    service.compliance.unknown.add(party_id)
    assert await refused(create(party_id)) == ("PARTY_NOT_FOUND", [field])
    service.compliance.unknown.clear()
    assert await create(party_id)


async def test_where_nobody_can_tell_nothing_is_made_and_the_key_stays_free(
    service: DistributionsHarness, creation: tuple[Create, str]
) -> None:
    create, _ = creation
    party_id = new_id("pty")
    with service.wire.cut(service.compliance):
        assert await refused(create(party_id)) == ("UNAVAILABLE", [])
    assert await create(party_id)


async def test_of_a_party_that_was_heard_of_nobody_is_asked(
    service: DistributionsHarness, creation: tuple[Create, str]
) -> None:
    create, _ = creation
    party_id = new_id("pty")
    meta = EventMeta(aggregate_version=1)
    await service.deliver(compliance_events.PartyCreated(meta=meta, party=parties_pb2.Party(party_id=party_id)))
    with service.wire.cut(service.compliance):
        assert await create(party_id)


async def test_however_often_one_party_invests_the_offering_has_so_many_of_its_investments_and_no_more(
    service: DistributionsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "INVESTMENTS_MAX", 2)
    offering = await service.offering(100_00)

    async def invest(party_id: str = "inv-001") -> opb.Investment:
        return await service.invest(offering, party_id, 1, fund=False)

    answers = await asyncio.gather(*(invest() for _ in range(4)), return_exceptions=True)
    held = [answer for answer in answers if isinstance(answer, opb.Investment)]
    refusals = [(each.reason, each.metadata) for each in answers if isinstance(each, DomainError)]
    assert (len(held), refusals) == (2, [("TOO_MANY_INVESTMENTS", {"investments_max": "2"})] * 2)
    assert await invest("inv-002"), "another party invests all the same"
    cancel = opb.CancelInvestmentRequest(investment_id=held[0].investment_id)
    await service.call(service.investments.CancelInvestment, cancel)
    await service.work()
    assert (await service.get(held[0])).status == opb.Investment.CANCELLED
    assert await refused(invest()) == ("TOO_MANY_INVESTMENTS", [])
    service.clock.advance(rules.CANCELLED_COUNTS)
    assert await invest(), "what was cancelled makes room a day later"


async def test_nobody_uses_up_the_investments_that_a_party_makes_for_itself(
    service: DistributionsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "INVESTMENTS_MAX", 2)
    offering = await service.offering(100_00)

    async def commit(person: str, role: str) -> opb.Investment:
        request = opb.CreateInvestmentRequest(
            offering_id=offering.offering_id, terms_etag=offering.terms_etag, party_id="inv-001", amount=usd(1)
        )
        return await service.call(service.investments.CreateInvestment, request, person, role)

    for person, role in (("admin-1", "admin"), ("sponsor-9", "sponsor"), ("inv-001", "investor")):
        made = [await commit(person, role) for _ in range(2)]
        assert {each.party_id for each in made} == {"inv-001"}
        assert await refused(commit(person, role)) == ("TOO_MANY_INVESTMENTS", [])


async def test_whose_investment_two_persons_ended_commits_again_by_staff_alone(service: DistributionsHarness) -> None:
    """Else it has the room of everybody else again in the same second."""
    offering = await service.offering(100_00)
    held = await service.invest(offering, "inv-001", 100_00, fund=False)
    cancel = opb.CancelInvestmentRequest(investment_id=held.investment_id)
    await service.grant(await service.ask(service.investments.CancelInvestment, cancel))
    assert await refused(service.invest(offering, "inv-001", 1, fund=False)) == ("INVESTMENT_ENDED_BY_STAFF", [])
    assert await service.invest(offering, "inv-002", 99_00, fund=False), "there is room again"
    again = opb.CreateInvestmentRequest(
        offering_id=offering.offering_id, terms_etag=offering.terms_etag, party_id="inv-001", amount=usd(1_00)
    )
    assert await service.call(service.investments.CreateInvestment, again)


async def test_who_withdrew_alone_commits_again(service: DistributionsHarness) -> None:
    offering = await service.offering(100_00)
    held = await service.invest(offering, "inv-001", 100_00, fund=False)
    cancel = opb.CancelInvestmentRequest(investment_id=held.investment_id)
    await service.call(service.investments.CancelInvestment, cancel, "inv-001", "investor")
    assert await service.invest(offering, "inv-001", 100_00, fund=False)
