"""The gRPC services: what must be asked of others first, then one transaction, once.

Remote reads come before the transaction and their verdict falls inside it, so a repeated request gets its first answer
whatever the others say by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import Message
from grpc.aio import ServicerContext
from realco.distributions.v1 import distributions_pb2, distributions_pb2_grpc, offerings_pb2, offerings_pb2_grpc
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.data.database import Database
from services.chassis.data.once import answered_before, once
from services.chassis.values.clock import Clock
from services.distributions import gates, queries
from services.distributions.clients import Peers
from services.distributions.commands import distributions, executions, investments, offerings
from services.distributions.errors import OfferingNotFound
from services.distributions.store import rows
from services.distributions.tables import offerings as offerings_table

Context = ServicerContext[Any, Any]
Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer", bound=Message)
Facts = TypeVar("Facts")


@dataclass(frozen=True)
class Room:
    """What every servicer of this service works with."""

    database: Database
    peers: Peers
    clock: Clock
    nudge: asyncio.Event  # a commit may leave work for a job

    async def write(self, request: Message, answer: type[Answer], run: Callable[..., Awaitable[Answer]]) -> Answer:
        """`run(tx, request, now)` in a transaction, once for each idempotency_key."""
        now = self.clock.now()
        response = await once(self.database, request, answer, lambda tx: run(tx, request, now))
        self.nudge.set()
        return response

    async def write_on_facts(
        self,
        request: Message,
        answer: type[Answer],
        look: Callable[[], Awaitable[Facts]],
        run: Callable[..., Awaitable[Answer]],
    ) -> Answer:
        """`run(tx, request, facts, now)` on what `look` read from other services; a replay asks none of them."""
        if (before := await answered_before(self.database, request, answer)) is not None:
            return before
        facts = await look()
        return await self.write(request, answer, lambda tx, request, now: run(tx, request, facts, now))

    async def read(self, request: Request, run: Callable[[AsyncConnection, Request], Awaitable[Answer]]) -> Answer:
        async with self.database.begin() as tx:
            return await run(tx, request)


class OfferingsServicer(offerings_pb2_grpc.OfferingsServiceServicer):
    """Offerings from opening to closing or refund."""

    def __init__(self, room: Room) -> None:
        self._room = room

    async def CreateOffering(
        self, request: offerings_pb2.CreateOfferingRequest, context: Context
    ) -> offerings_pb2.Offering:
        return await self._room.write_on_facts(
            request,
            offerings_pb2.Offering,
            lambda: offerings.read_escrow_account(self._room.peers.escrow, request),
            offerings.create,
        )

    async def GetOffering(self, request: offerings_pb2.GetOfferingRequest, context: Context) -> offerings_pb2.Offering:
        return await self._room.read(request, queries.get_offering)

    async def ListOfferings(
        self, request: offerings_pb2.ListOfferingsRequest, context: Context
    ) -> offerings_pb2.ListOfferingsResponse:
        return await self._room.read(request, queries.list_offerings)

    async def UpdateOffering(
        self, request: offerings_pb2.UpdateOfferingRequest, context: Context
    ) -> offerings_pb2.Offering:
        return await self._room.write(request, offerings_pb2.Offering, offerings.update)

    async def GetClosingGates(
        self, request: offerings_pb2.GetClosingGatesRequest, context: Context
    ) -> offerings_pb2.ClosingGates:
        seen = await gates.look(self._room.database, self._room.peers, request.offering_id)
        async with self._room.database.begin() as tx:
            row = await rows.find(tx, offerings_table, request.offering_id)
            if row is None:
                raise OfferingNotFound("No such offering.")
            return gates.message_of(row.offering_id, await gates.evaluate(tx, row, seen, self._room.clock.now()))

    async def CloseOffering(
        self, request: offerings_pb2.CloseOfferingRequest, context: Context
    ) -> offerings_pb2.Offering:
        return await self._room.write_on_facts(
            request,
            offerings_pb2.Offering,
            lambda: gates.look(self._room.database, self._room.peers, request.offering_id),
            offerings.close,
        )

    async def RefundOffering(
        self, request: offerings_pb2.RefundOfferingRequest, context: Context
    ) -> offerings_pb2.Offering:
        return await self._room.write(request, offerings_pb2.Offering, offerings.refund)


class InvestmentsServicer(offerings_pb2_grpc.InvestmentsServiceServicer):
    """Investors' commitments."""

    def __init__(self, room: Room) -> None:
        self._room = room

    async def CreateInvestment(
        self, request: offerings_pb2.CreateInvestmentRequest, context: Context
    ) -> offerings_pb2.Investment:
        return await self._room.write(request, offerings_pb2.Investment, investments.create)

    async def GetInvestment(
        self, request: offerings_pb2.GetInvestmentRequest, context: Context
    ) -> offerings_pb2.Investment:
        return await self._room.read(request, queries.get_investment)

    async def ListInvestments(
        self, request: offerings_pb2.ListInvestmentsRequest, context: Context
    ) -> offerings_pb2.ListInvestmentsResponse:
        return await self._room.read(request, queries.list_investments)

    async def CancelInvestment(
        self, request: offerings_pb2.CancelInvestmentRequest, context: Context
    ) -> offerings_pb2.Investment:
        return await self._room.write(request, offerings_pb2.Investment, investments.cancel)


class DistributionsServicer(distributions_pb2_grpc.DistributionsServiceServicer):
    """Who gets what of distributable cash."""

    def __init__(self, room: Room) -> None:
        self._room = room

    async def CreateDistribution(
        self, request: distributions_pb2.CreateDistributionRequest, context: Context
    ) -> distributions_pb2.Distribution:
        return await self._room.write(request, distributions_pb2.Distribution, distributions.create)

    async def GetDistribution(
        self, request: distributions_pb2.GetDistributionRequest, context: Context
    ) -> distributions_pb2.Distribution:
        return await self._room.read(request, queries.get_distribution)

    async def ListDistributions(
        self, request: distributions_pb2.ListDistributionsRequest, context: Context
    ) -> distributions_pb2.ListDistributionsResponse:
        return await self._room.read(request, queries.list_distributions)

    async def ListAllocations(
        self, request: distributions_pb2.ListAllocationsRequest, context: Context
    ) -> distributions_pb2.ListAllocationsResponse:
        return await self._room.read(request, queries.list_allocations)

    async def CalculateDistribution(
        self, request: distributions_pb2.CalculateDistributionRequest, context: Context
    ) -> distributions_pb2.Distribution:
        return await self._room.write(request, distributions_pb2.Distribution, distributions.calculate_one)

    async def SubmitDistribution(
        self, request: distributions_pb2.SubmitDistributionRequest, context: Context
    ) -> distributions_pb2.Distribution:
        return await self._room.write(request, distributions_pb2.Distribution, distributions.submit)

    async def ApproveDistribution(
        self, request: distributions_pb2.ApproveDistributionRequest, context: Context
    ) -> distributions_pb2.Distribution:
        return await self._room.write(request, distributions_pb2.Distribution, distributions.approve)

    async def RejectDistribution(
        self, request: distributions_pb2.RejectDistributionRequest, context: Context
    ) -> distributions_pb2.Distribution:
        return await self._room.write(request, distributions_pb2.Distribution, distributions.reject)

    async def ExecuteDistribution(
        self, request: distributions_pb2.ExecuteDistributionRequest, context: Context
    ) -> distributions_pb2.Distribution:
        return await self._room.write_on_facts(
            request,
            distributions_pb2.Distribution,
            lambda: executions.look(self._room.database, self._room.peers.escrow, request.distribution_id),
            distributions.execute,
        )

    async def ResendAllocation(
        self, request: distributions_pb2.ResendAllocationRequest, context: Context
    ) -> distributions_pb2.Allocation:
        return await self._room.write(request, distributions_pb2.Allocation, distributions.resend)

    async def CancelDistribution(
        self, request: distributions_pb2.CancelDistributionRequest, context: Context
    ) -> distributions_pb2.Distribution:
        return await self._room.write(request, distributions_pb2.Distribution, distributions.cancel)
