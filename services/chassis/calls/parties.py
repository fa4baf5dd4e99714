"""For which parties an investor acts: by what this service has heard, for a read; as it is at this moment, for a write.

Who acts for whom is kept by one service and heard by the others, a little later. What moves money cannot wait for
that: a person who was removed moves nothing from that moment on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from typing import Any, Protocol

from grpc import aio
from realco.compliance.v1 import compliance_pb2, compliance_pb2_grpc, parties_pb2, parties_pb2_grpc

from services.chassis.calls.auth import Principal
from services.chassis.calls.peers import ask, check_answers

# As the contract limits what is asked at once.
_PARTIES_A_CALL = 1000


class Parties(Protocol):
    """Who acts for whom, in the caller's organization."""

    async def list_heard(self, principal: Principal) -> frozenset[str]:
        """The parties the person acts for, as far as this service has heard."""
        ...

    async def list_current(self, principal: Principal) -> frozenset[str]:
        """The parties the person acts for at this moment.

        Raises:
            Unavailable: nobody can tell.
        """
        ...


class NoParties:
    """For a service that no investor calls."""

    async def list_heard(self, principal: Principal) -> frozenset[str]:
        return frozenset()

    async def list_current(self, principal: Principal) -> frozenset[str]:
        return frozenset()


class CurrentParties:
    """For a service that has heard nothing of who acts for whom, and asks whenever it must know.

    Args:
        ask: Asks the owner for which parties a person acts at this moment.
    """

    def __init__(self, ask: Callable[[str], Awaitable[Collection[str]]]) -> None:
        self._ask = ask

    async def list_heard(self, principal: Principal) -> frozenset[str]:
        return await self.list_current(principal)

    async def list_current(self, principal: Principal) -> frozenset[str]:
        return frozenset(await self._ask(principal.person))


async def ask_parties_of(channel: aio.Channel, person_id: str) -> Collection[str]:
    """The parties a person acts for at this moment, from the service that owns the relation. Raises Unavailable."""
    stub: Any = parties_pb2_grpc.PartiesServiceStub(channel)
    answer = await ask(stub.ListPartiesOfPerson, parties_pb2.ListPartiesOfPersonRequest(person_id=person_id))
    party_ids: Collection[str] = answer.party_ids
    return party_ids


async def ask_clearances_of(
    channel: aio.Channel, party_ids: Sequence[str]
) -> Sequence[compliance_pb2.BatchGetClearancesResponse.Clearance]:
    """Whether money of each party may move just now, in their order. Raises Unavailable."""
    stub: Any = compliance_pb2_grpc.ComplianceServiceStub(channel)
    found: list[compliance_pb2.BatchGetClearancesResponse.Clearance] = []
    for start in range(0, len(party_ids), _PARTIES_A_CALL):
        asked = party_ids[start : start + _PARTIES_A_CALL]
        request = compliance_pb2.BatchGetClearancesRequest(party_ids=asked)
        clearances = (await ask(stub.BatchGetClearances, request)).clearances
        check_answers(asked, (clearance.party_id for clearance in clearances), "compliance")
        found += clearances
    return found


async def find_parties(principal: Principal, parties: Parties, *, reads_only: bool) -> Principal:
    """The caller with the parties it acts for; whoever is no investor stays as it is.

    Raises:
        Unavailable: the call may write, and nobody can tell for whom the caller acts.
    """
    if not principal.confined:
        return principal
    found = await (parties.list_heard(principal) if reads_only else parties.list_current(principal))
    return replace(principal, parties=found)
