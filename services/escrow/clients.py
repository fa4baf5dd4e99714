"""The service this one asks: compliance knows for whom a person acts."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from grpc import aio
from realco.compliance.v1 import persons_pb2, persons_pb2_grpc

from services.chassis.calls.peers import ask


class ComplianceClient:
    def __init__(self, channel: aio.Channel) -> None:
        self._persons: Any = persons_pb2_grpc.PersonsServiceStub(channel)

    async def list_parties_of_person(self, person_id: str, *, include_former: bool = False) -> Collection[str]:
        """The parties a person acts for at this moment, or also those not long ago. Raises Unavailable."""
        request = persons_pb2.ListPartiesOfPersonRequest(person_id=person_id, include_former=include_former)
        party_ids: Collection[str] = (await ask(self._persons.ListPartiesOfPerson, request)).party_ids
        return party_ids
