"""The service this one asks: compliance knows for whom a person acts, and heard what persons decided."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Protocol

from grpc import aio
from realco.compliance.v1 import notary_pb2, notary_pb2_grpc, persons_pb2, persons_pb2_grpc

from services.chassis.calls.peers import ask


class Notary(Protocol):
    """Who heard both persons."""

    async def check_movement(
        self,
        kind: str,
        resource_id: str,
        content_hash: str,
        escrow_account_id: str,
        lines: Sequence[notary_pb2.Movement.Line],
    ) -> None:
        """Returns if two persons decided that exactly these lines move. Raises MovementNotDecided, Unavailable."""
        ...


class ComplianceClient:
    def __init__(self, channel: aio.Channel) -> None:
        self._persons: Any = persons_pb2_grpc.PersonsServiceStub(channel)
        self._notary: Any = notary_pb2_grpc.NotaryServiceStub(channel)

    async def list_parties_of_person(self, person_id: str, *, include_former: bool = False) -> Collection[str]:
        """The parties a person acts for at this moment, or also those not long ago. Raises Unavailable."""
        request = persons_pb2.ListPartiesOfPersonRequest(person_id=person_id, include_former=include_former)
        party_ids: Collection[str] = (await ask(self._persons.ListPartiesOfPerson, request)).party_ids
        return party_ids

    async def check_movement(
        self,
        kind: str,
        resource_id: str,
        content_hash: str,
        escrow_account_id: str,
        lines: Sequence[notary_pb2.Movement.Line],
    ) -> None:
        request = notary_pb2.CheckMovementRequest(
            kind=kind,
            resource_id=resource_id,
            content_hash=content_hash,
            movement=notary_pb2.Movement(escrow_account_id=escrow_account_id, lines=lines),
        )
        await ask(self._notary.CheckMovement, request)
