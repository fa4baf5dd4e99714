"""The compliance service for tests: its servicers over one database, and people who use it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from google.protobuf import symbol_database
from google.protobuf.message import Message
from joserfc.jwk import ECKey
from realco.compliance.v1 import clearances_pb2, parties_pb2, persons_pb2
from realco.compliance.v1 import compliance_pb2 as pb
from realco.transactions.v1 import transactions_pb2
from realco.type.v1 import money_pb2
from realco.type.v1.event_pb2 import EventMeta
from realco.type.v1.money_pb2 import Money

from services.chassis.approvals.service import ApprovalsServicer
from services.chassis.calls.auth import Principal, acting_as, service_principal
from services.chassis.calls.issuers import Issuer
from services.chassis.calls.wire import to_timestamp
from services.chassis.data.database import Database
from services.chassis.data.tables import outbox
from services.chassis.events.handling import Delivery
from services.chassis.values.clock import Clock, FakeClock
from services.chassis.values.ids import new_id
from services.compliance.api import (
    ApiKeysServicer,
    ClearancesServicer,
    ComplianceServicer,
    NotaryServicer,
    OwnParties,
    PartiesServicer,
    PersonsServicer,
)
from services.compliance.approvals import build_approvals
from services.compliance.clients import Peers
from services.compliance.dependencies import Dependencies
from services.compliance.key_tokens import KeyTokens
from services.compliance.subscribers import SUBSCRIPTIONS
from tests.support.peers.around_compliance import Transactions

START = datetime(2024, 12, 3, 15, tzinfo=UTC)
ORG = "org-a"
MAKER = Principal("admin-1", "admin", ORG)
CHECKER = Principal("admin-2", "admin", ORG)
AUDITOR = Principal("auditor-1", "auditor", ORG)
STRANGER = Principal("admin-9", "admin", "org-b")
TRANSACTIONS = service_principal("transactions", ORG, "inv-1")
Item = clearances_pb2.BatchEvaluateTransactionsRequest.Item
PARTY = parties_pb2.Party
CHECK = pb.ComplianceCheck
LIMIT = pb.TransactionLimit


def read_check(result: clearances_pb2.EvaluationResult) -> pb.ComplianceCheck:
    """The decision as a check has it, whichever way it went."""
    if result.HasField("failure"):
        return pb.ComplianceCheck(status=pb.ComplianceCheck.FAILED, failure=result.failure)
    return result.compliance_check


def money_in(
    amount_minor: int,
    *,
    party_id: str = "",
    direction: Money.Direction = Money.IN,
    currency: str = "USD",
    is_contribution: bool = True,
) -> Item:
    """A contribution of the harness' party, unless another is named."""
    return Item(
        transaction_id=new_id("txn"),
        party_id=party_id,
        direction=direction,
        amount=money_pb2.Money(currency_code=currency, amount_minor=amount_minor),
        is_contribution=is_contribution and direction == Money.IN,
    )


def ordered_for(principal: Principal) -> Principal:
    """A service that was granted it, for this person: what is tested here is not who decides."""
    return Principal("service:importer", "service", principal.org_id, principal.person)


def build_dependencies(database: Database, clock: Clock, transactions: Transactions | None = None) -> Dependencies:
    """Its tokens of API keys are accepted nowhere."""
    issuer = Issuer(issuer="https://keys.test", audience="realco", jwks="-", api_keys=True)
    tokens, peers = KeyTokens(issuer, ECKey.generate_key("P-256")), Peers(transactions or Transactions())
    return Dependencies(database, clock, key_tokens=tokens, peers=peers)


class ComplianceHarness:
    """The service without gRPC. `party_id` is the party that was created last."""

    def __init__(self, database: Database, key_tokens: KeyTokens | None = None) -> None:
        self.database, self.clock = database, FakeClock(START)
        self.transactions = Transactions()
        dependencies = build_dependencies(database, self.clock, self.transactions)
        if key_tokens is not None:
            dependencies = replace(dependencies, key_tokens=key_tokens)
        self.api_keys = ApiKeysServicer(dependencies)
        self.approvals = approvals = build_approvals(dependencies)
        self.servicer = ComplianceServicer(dependencies, approvals)
        self.parties = PartiesServicer(dependencies, approvals)
        self.clearances, self.persons = ClearancesServicer(dependencies), PersonsServicer(dependencies)
        self.notary = NotaryServicer(dependencies)
        self.inbox = ApprovalsServicer(dependencies, approvals, OwnParties(database, self.clock))
        self.party_id = new_id("pty")

    async def create(self, principal: Principal = MAKER, **facts: Any) -> Any:
        request = parties_pb2.CreatePartyRequest(
            **{
                "idempotency_key": new_id("key"),
                "kind": parties_pb2.Party.INDIVIDUAL,
                "legal_name": "Ada Park",
                **facts,
            }
        )
        with acting_as(principal):
            party = await self.parties.CreateParty(request, None)
        self.party_id = party.party_id
        return party

    async def get(self, principal: Principal = MAKER) -> Any:
        with acting_as(principal):
            return await self.parties.GetParty(parties_pb2.GetPartyRequest(party_id=self.party_id), None)

    async def update(
        self, principal: Principal = MAKER, etag: str = "", paths: Sequence[str] = (), **facts: Any
    ) -> Any:
        """Changes the given facts, and takes away those of `paths`."""
        request = parties_pb2.UpdatePartyRequest(
            party_id=self.party_id, etag=etag or (await self.get(principal)).etag, **facts
        )
        request.update_mask.paths.extend([*facts, *paths])
        with acting_as(principal):
            return await self.parties.UpdateParty(request, None)

    async def add(self, person: str, principal: Principal = MAKER, **more: Any) -> Any:
        """What two persons have decided."""
        request = parties_pb2.AddPartyPersonRequest(**{"party_id": self.party_id, "person_id": person, **more})
        with acting_as(ordered_for(principal)):
            return (await self.parties.AddPartyPerson(request, None)).party_person

    async def remove(self, person: str, etag: str | None = None) -> Any:
        request = parties_pb2.RemovePartyPersonRequest(party_id=self.party_id, person_id=person, etag=etag)
        with acting_as(MAKER):
            return await self.parties.RemovePartyPerson(request, None)

    async def list_persons(self) -> list[str]:
        return list(await self.list_titles())

    async def list_titles(self) -> dict[str, str]:
        """Who acts for the party, in the order of the list, and as what. Not who waits to."""
        with acting_as(MAKER):
            request = parties_pb2.ListPartyPersonsRequest(party_id=self.party_id)
            listed = (await self.parties.ListPartyPersons(request, None)).persons
        return {one.person_id: one.title for one in listed if one.HasField("act_start_time")}

    async def list_parties_of(
        self, person: str, *, include_former: bool = False, counts_yes: bool = False
    ) -> list[str]:
        """For whom the person acts, as a service is told that is about to move money."""
        asked = {"include_former": include_former, "counts_yes": counts_yes}
        request = persons_pb2.ListPartiesOfPersonRequest(person_id=person, **asked)
        with acting_as(TRANSACTIONS):
            return list((await self.persons.ListPartiesOfPerson(request, None)).party_ids)

    async def waiting(self, party_id: str = "", principal: Principal = CHECKER) -> list[Any]:
        return await self.list_checks(
            principal, party_id=[party_id] if party_id else None, status=[pb.ComplianceCheck.MANUAL_REVIEW]
        )

    async def list_checks(self, principal: Principal = CHECKER, **filters: Any) -> list[Any]:
        with acting_as(principal):
            answer = await self.servicer.ListComplianceChecks(pb.ListComplianceChecksRequest(**filters), None)
        return list(answer.compliance_checks)

    async def clear(self, **facts: Any) -> None:
        """A party that another person has passed."""
        await self.create(**facts)
        await self.review_all()

    async def review_all(self, party_id: str = "") -> None:
        for check in await self.waiting(party_id or self.party_id):
            await self.review(check.compliance_check_id)

    async def review(
        self, check_id: str, principal: Principal = CHECKER, decision: int = pb.ComplianceCheck.PASSED
    ) -> Any:
        check = await self.get_check(check_id, principal)
        with acting_as(principal):
            request = pb.ReviewComplianceCheckRequest(
                compliance_check_id=check_id, etag=check.etag, decision=decision, note="Passport seen."
            )
            return await self.servicer.ReviewComplianceCheck(request, None)

    async def get_check(self, check_id: str, principal: Principal = CHECKER) -> Any:
        with acting_as(principal):
            return await self.servicer.GetComplianceCheck(
                pb.GetComplianceCheckRequest(compliance_check_id=check_id), None
            )

    async def evaluate(self, *items: Any, principal: Principal = TRANSACTIONS) -> list[Any]:
        """What is decided on transactions that there are."""
        for item in items:
            item.party_id = item.party_id or self.party_id
        self.transactions.initiate(items)
        return await self.evaluate_as_known(*items, principal=principal)

    async def evaluate_as_known(self, *items: Any, principal: Principal = TRANSACTIONS) -> list[Any]:
        """What is decided on them as far as transactions says that there are such."""
        with acting_as(principal):
            answer = await self.clearances.BatchEvaluateTransactions(
                clearances_pb2.BatchEvaluateTransactionsRequest(items=items), None
            )
        return [read_check(result) for result in answer.results]

    async def put_limit(
        self,
        amount_minor: int,
        limit_type: int = pb.TransactionLimit.DAILY_DEPOSIT,
        currency: str = "USD",
        etag: str | None = None,
    ) -> Any:
        """In place of the limit in force, unless an etag names another; an empty one names none."""
        if etag is None:
            in_force = {limit.type: limit.etag for limit in await self.list_limits(currency_code=[currency])}
            etag = in_force.get(limit_type)
        amount = money_pb2.Money(currency_code=currency, amount_minor=amount_minor)
        request = pb.PutTransactionLimitRequest(type=limit_type, amount=amount, etag=etag or None)
        with acting_as(ordered_for(MAKER)):
            limit = (await self.servicer.PutTransactionLimit(request, None)).transaction_limit
        return await self.get_limit(limit.transaction_limit_id)

    async def get_limit(self, transaction_limit_id: str, principal: Principal = MAKER) -> Any:
        with acting_as(principal):
            request = pb.GetTransactionLimitRequest(transaction_limit_id=transaction_limit_id)
            return await self.servicer.GetTransactionLimit(request, None)

    async def delete_limit(self, limit: Any) -> None:
        request = pb.DeleteTransactionLimitRequest(transaction_limit_id=limit.transaction_limit_id, etag=limit.etag)
        with acting_as(ordered_for(MAKER)):
            await self.servicer.DeleteTransactionLimit(request, None)

    async def list_limits(self, principal: Principal = MAKER, **filters: Any) -> list[Any]:
        with acting_as(principal):
            answer = await self.servicer.ListTransactionLimits(pb.ListTransactionLimitsRequest(**filters), None)
        return list(answer.transaction_limits)

    async def list_names(self, **filters: Any) -> list[str]:
        """The legal names of the parties found."""
        with acting_as(MAKER):
            answer = await self.parties.ListParties(parties_pb2.ListPartiesRequest(**filters), None)
        return [party.legal_name for party in answer.parties]

    async def list_events(self) -> list[Any]:
        """All that were queued about parties, checks and limits, in their order."""
        async with self.database.begin_for_all() as tx:
            rows = (await tx.execute(sa.select(outbox.c.event_type, outbox.c.payload).order_by(outbox.c.id))).all()
        symbols = symbol_database.Default()
        return [symbols.GetSymbol(row.event_type).FromString(row.payload) for row in rows]

    async def hear(
        self,
        event_type: type[Message],
        transaction_id: str,
        version: int,
        *,
        retryable: bool = False,
        amount_minor: int = 1,
    ) -> None:
        transaction = transactions_pb2.Transaction(
            transaction_id=transaction_id,
            party_id=self.party_id,
            amount=Money(amount_minor=amount_minor, currency_code="USD"),
            direction=Money.Direction.IN,
            create_time=to_timestamp(self.clock.now()),
        )
        transaction.failure.retryable = retryable
        event = event_type(transaction=transaction, meta=EventMeta(aggregate_version=version))
        delivery = Delivery(self.clock.now())
        with acting_as(service_principal("compliance", ORG)):
            async with self.database.begin() as tx:
                await SUBSCRIPTIONS[0].handlers[event_type](tx, event, delivery)
