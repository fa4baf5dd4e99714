"""Whether many inflows could be received: each party, escrow account, investment and offering is asked about once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TypeVar

from realco.distributions.v1.offerings_pb2 import Investment

from services.chassis.values.errors import AnswerWithheld, DomainError, Unavailable
from services.chassis.values.refusals import PartyNotFound
from services.transactions.clients import Distributions
from services.transactions.commands.inflow import Inflow, InflowVerdict, judge_inflow
from services.transactions.dependencies import Dependencies

T = TypeVar("T")

# So many questions about single resources at a time: most batches are about a few accounts and offerings.
_CALLS_MAX = 16


async def ask_about_inflows(dependencies: Dependencies, inflows: Mapping[str, Inflow]) -> dict[str, InflowVerdict]:
    """What the others say of each, by its key, as `ask_about_new_inflow` asks of one.

    What is not known for a row that a peer did not write is the refusal of those that are about it.

    Raises:
        Unavailable: escrow or distributions cannot be reached; nothing was written.
    """
    peers = dependencies.peers
    unknown = await _list_unknown(dependencies, {each.party_id for each in inflows.values()})
    asked = {key: each for key, each in inflows.items() if each.party_id not in unknown}
    named = {each.escrow_account_id for each in asked.values()}
    named |= {each.to_escrow_account_id for each in asked.values() if each.to_escrow_account_id}
    accounts = await _ask_each(named, peers.escrow.get_escrow_account)
    paid = {each.investment_id for each in asked.values() if each.investment_id}
    investments = await _ask_about_investments(peers.distributions, paid)
    offerings = await _ask_each(
        {each.offering_id for each in investments.values() if isinstance(each, Investment)},
        peers.distributions.get_offering,
    )
    now = dependencies.clock.now()
    verdicts = {key: InflowVerdict(PartyNotFound("party_id")) for key in inflows.keys() - asked.keys()}
    for key, inflow in asked.items():
        account, investment = accounts[inflow.escrow_account_id], investments.get(inflow.investment_id or "")
        destination = accounts.get(inflow.to_escrow_account_id or "")
        offering = offerings[investment.offering_id] if isinstance(investment, Investment) else None
        answers = account, destination, investment, offering
        withheld = next((each for each in answers if isinstance(each, DomainError)), None)
        if withheld is None:
            assert not isinstance(account, DomainError)
            assert not isinstance(destination, DomainError)
            assert not isinstance(investment, DomainError)
            assert not isinstance(offering, DomainError)
            verdicts[key] = judge_inflow(inflow, account, destination, investment, offering, now)
        else:
            verdicts[key] = InflowVerdict(withheld)
    return verdicts


async def _list_unknown(dependencies: Dependencies, party_ids: Collection[str]) -> set[str]:
    """Where compliance is away they are let in: their transactions wait for compliance, which refuses them."""
    try:
        return await dependencies.known_parties.list_unknown(party_ids)
    except Unavailable:
        return set()


async def _ask_about_investments(
    distributions: Distributions, investment_ids: Collection[str]
) -> dict[str, Investment | DomainError | None]:
    try:
        found = await distributions.list_investments(investment_ids)
    except AnswerWithheld:  # for one of them; what is known of the others?
        return await _ask_each(investment_ids, distributions.get_investment)
    return {each.investment_id: each for each in found}


async def _ask_each(
    ids: Collection[str], ask: Callable[[str], Awaitable[T | None]]
) -> dict[str, T | DomainError | None]:
    """What is answered about each id; why nobody can tell, where that goes for this one alone. Raises: Unavailable."""
    turn = asyncio.Semaphore(_CALLS_MAX)

    async def ask_one(each: str) -> T | DomainError | None:
        async with turn:
            try:
                return await ask(each)
            except AnswerWithheld as withheld:
                return withheld

    asked = sorted(ids)
    return dict(zip(asked, await asyncio.gather(*map(ask_one, asked)), strict=True))
