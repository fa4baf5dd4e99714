"""The services this one asks: compliance heard what persons decided, and transactions knows what it is about to pay."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Protocol

from grpc import aio
from realco.compliance.v1 import notary_pb2, notary_pb2_grpc, persons_pb2, persons_pb2_grpc
from realco.escrow.v1.journal_pb2 import LedgerAccount
from realco.escrow.v1.postings_pb2 import BatchSubmitPayoutsRequest
from realco.transactions.v1 import payouts_pb2, payouts_pb2_grpc

from services.chassis.calls.peers import ask
from services.escrow.domain.refusals import PayoutNotKnown


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


class Payer(Protocol):
    """Who has money paid."""

    async def check_payouts(self, items: Sequence[BatchSubmitPayoutsRequest.Item]) -> None:
        """Returns if it is about to pay exactly these. Raises PayoutNotKnown, Unavailable."""
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


class TransactionsClient:
    def __init__(self, channel: aio.Channel) -> None:
        self._payouts: Any = payouts_pb2_grpc.PayoutsServiceStub(channel)

    async def check_payouts(self, items: Sequence[BatchSubmitPayoutsRequest.Item]) -> None:
        request = payouts_pb2.BatchGetPayoutsRequest(transaction_ids=[item.transaction_id for item in items])
        found: Sequence[payouts_pb2.Payout] = (await ask(self._payouts.BatchGetPayouts, request)).payouts
        known = {payout.transaction_id: payout for payout in found}
        for item in items:
            if known.get(item.transaction_id) != _to_payout(item):
                message = "The transactions service is not about to pay this."
                raise PayoutNotKnown(message, transaction_id=item.transaction_id)


def _to_payout(item: BatchSubmitPayoutsRequest.Item) -> payouts_pb2.Payout:
    return payouts_pb2.Payout(
        transaction_id=item.transaction_id,
        idempotency_key=item.idempotency_key,
        escrow_account_id=item.escrow_account_id,
        ledger_account_kind=LedgerAccount.Kind.Name(item.source),
        party_id=item.party_id,
        amount=item.amount,
        investment_id=item.investment_id if item.HasField("investment_id") else None,
        distribution_id=item.distribution_id if item.HasField("distribution_id") else None,
    )
