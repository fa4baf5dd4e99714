"""The distributions service for tests: its real code and database, and in-memory peers around them."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa
from google.protobuf.message import Message
from google.type import date_pb2
from realco.approvals.v1 import approvals_pb2
from realco.distributions.v1 import distributions_pb2 as dpb
from realco.distributions.v1 import offerings_pb2 as opb
from realco.distributions.v1.payout_orders_pb2 import BatchGetPayoutOrdersRequest
from realco.escrow.v1 import events_pb2 as escrow_events
from realco.escrow.v1.journal_pb2 import JournalEntry as Entry
from realco.type.v1.approval_pb2 import Approval
from realco.type.v1.money_pb2 import Money

from services.chassis.approvals.jobs import build_approval_jobs
from services.chassis.approvals.service import ApprovalsServicer
from services.chassis.calls.auth import Principal, acting_as, current_principal, service_principal
from services.chassis.calls.wire import to_timestamp
from services.chassis.data import tables as chassis_tables
from services.chassis.data.database import Database
from services.chassis.data.work import WorkFinder
from services.chassis.events.handling import Delivery
from services.chassis.spelling.visibility import withhold
from services.chassis.values.clock import FakeClock
from services.chassis.values.errors import DomainError
from services.chassis.values.ids import new_id
from services.distributions import subscribers
from services.distributions.api import (
    CommitmentsServicer,
    DistributionsServicer,
    InvestmentsServicer,
    OfferingsServicer,
    PayoutOrdersServicer,
)
from services.distributions.approvals import build_approvals
from services.distributions.clients import ComplianceClient, EscrowClient, Peers, TransactionsClient
from services.distributions.dependencies import Dependencies
from services.distributions.jobs import build_jobs
from services.distributions.tables import counted_journals, sagas
from tests.support.money import usd
from tests.support.peers.compliance import MemoryCompliance
from tests.support.peers.escrow import MemoryEscrow
from tests.support.peers.journals import InOrder
from tests.support.peers.transactions import MemoryTransactions, Txn, complete_payout
from tests.support.peers.wire import Wire
from tests.support.persons import Persons
from tests.support.refusals import listed_only

ORG = "org-1"
START = datetime(2024, 11, 1, 12, tzinfo=UTC)
CLOSING = datetime(2025, 1, 1, 12, tzinfo=UTC)
M = TypeVar("M", bound=Message)


# What staff may do with an offering that is open.
OF_AN_OPEN_ONE = ["update", "change_receivables_policy", "close", "refund", "create_investment"]
TWO_PERSONS = {
    *("ChangeReceivablesPolicy", "CloseOffering", "RefundOffering", "ResendProceeds"),
    *("CancelInvestment", "ResendRefund", "ResendAllocation"),
}


def _name_key(request: Any) -> None:
    if "idempotency_key" in request.DESCRIPTOR.fields_by_name and not request.idempotency_key:
        request.idempotency_key = new_id("key")


class DistributionsHarness:
    """The service without gRPC over one database, and memory peers around it; or a `book` in place of escrow's."""

    def __init__(self, database: Database, *book: object) -> None:
        self.database = database
        self.clock = FakeClock(START)
        self.wire = Wire("distributions")
        self.escrow = MemoryEscrow()
        self.in_order = InOrder(self.escrow)
        self.transactions = MemoryTransactions()
        self.compliance = MemoryCompliance()
        peers = Peers(
            EscrowClient(self.wire.open_channel(*(book or [self.escrow]))),
            TransactionsClient(self.wire.open_channel(self.transactions)),
            ComplianceClient(self.wire.open_channel(self.compliance)),
        )
        self.dependencies = dependencies = Dependencies(database=database, clock=self.clock, peers=peers)
        self.workflow = approvals = build_approvals(dependencies)
        self.persons = Persons()
        self.offerings = OfferingsServicer(dependencies, approvals)
        self.investments = InvestmentsServicer(dependencies, approvals)
        self.commitments = CommitmentsServicer(dependencies)
        self.payout_orders = PayoutOrdersServicer(dependencies)
        self.distributions = DistributionsServicer(dependencies, approvals, self.persons)
        self.approvals = ApprovalsServicer(dependencies, approvals, self.persons)
        jobs = [*build_jobs(dependencies), *build_approval_jobs("distributions", dependencies, approvals)]
        self._jobs = {job.name: job for job in jobs}
        self._handlers = {
            event: handler for each in subscribers.SUBSCRIPTIONS for event, handler in each.handlers.items()
        }

    # --- who calls ---------------------------------------------------------------------------------------------------

    def as_(self, person: str, role: str = "admin", org: str = ORG) -> AbstractContextManager[Principal]:
        parties = frozenset({person}) if role == "investor" else frozenset[str]()
        return acting_as(Principal(person, role, org, parties=parties))

    async def call(self, method: Any, request: M, person: str = "admin-1", role: str = "admin", org: str = ORG) -> Any:
        """The answer. What needs two persons is ordered by a service in the caller's name, and so done at once."""
        _name_key(request)
        if method.__name__ not in TWO_PERSONS:
            with self.as_(person, role, org), listed_only(request):
                answer = await method(request, None)
                withhold(answer, current_principal(), request)
                return answer
        ordering = Principal("service:importer", "service", org, person)
        with self.as_(person, role, org) if role == "investor" else acting_as(ordering), listed_only(request):
            answer = await method(request, None)
        return getattr(answer, answer.WhichOneof("outcome"))

    async def ask(self, method: Any, request: M, person: str = "admin-1", role: str = "admin") -> Approval:
        """The approval that a person's call leads to."""
        _name_key(request)
        with self.as_(person, role), listed_only(request):
            answer = await method(request, None)
        approval: Approval = answer.approval
        return approval

    async def read_approval(self, approval_id: str, person: str = "admin-2") -> Approval:
        request = approvals_pb2.GetApprovalRequest(approval_id=approval_id)
        return await self.call(self.approvals.GetApproval, request, person)

    async def find_approval(self, resource_id: str) -> Approval:
        """The newest one about a resource, with all that a decision needs."""
        request = approvals_pb2.ListApprovalsRequest(resource_id=[resource_id])
        listed = (await self.call(self.approvals.ListApprovals, request)).approvals
        return await self.read_approval(listed[0].approval_id)

    async def grant(self, approval: Approval, person: str = "admin-2") -> Approval:
        request = approvals_pb2.ApproveApprovalRequest(
            approval_id=approval.approval_id, content_hash=approval.content_hash, etag=approval.etag
        )
        return await self.call(self.approvals.ApproveApproval, request, person)

    async def decline(self, approval: Approval, person: str = "admin-2") -> None:
        request = approvals_pb2.RejectApprovalRequest(approval_id=approval.approval_id, note="no", etag=approval.etag)
        await self.call(self.approvals.RejectApproval, request, person)

    async def deliver(self, *events: Message) -> None:
        """Hands each event to its handler as the consumer does, in one transaction each."""
        for event in self.in_order.list_with_earlier(*events):
            delivery = Delivery(self.clock.now())
            with acting_as(service_principal("distributions", ORG, "service:peer")):
                async with self.database.begin() as tx:
                    await self._handlers[type(event)](tx, event, delivery)

    async def work(self) -> int:
        """Runs every job until none finds anything due; how many steps that took."""
        steps = 0
        finder = WorkFinder(self.database, self.clock, self._jobs.values(), {})
        while True:
            found = (await finder.find()).due
            done = [await job.run() for job in self._jobs.values() if job.work is None or job.name in found]
            if not sum(done):
                return steps
            steps += sum(done)

    async def make_due(self) -> None:
        """Every lease runs out and every pause ends, by the database's clock."""
        async with self.database.begin_for_all() as tx:
            for table in (sagas, counted_journals):
                due = sa.update(table).where(table.c.due_at.is_not(None))
                await tx.execute(due.values(due_at=sa.func.clock_timestamp()))

    async def told(self, event: type[M]) -> list[M]:
        """The events of this type in the outbox, in order."""
        outbox = chassis_tables.outbox.c
        async with self.database.begin_for_all() as tx:
            payloads = await tx.scalars(
                sa.select(outbox.payload).where(outbox.event_type == event.DESCRIPTOR.full_name).order_by(outbox.id)
            )
            return [event.FromString(payload) for payload in payloads]

    # --- the story ---------------------------------------------------------------------------------------------------

    async def withdraw(self, held: opb.Investment) -> None:
        """The investor takes it back, and what follows from that."""
        request = opb.CancelInvestmentRequest(investment_id=held.investment_id)
        await self.call(self.investments.CancelInvestment, request, held.party_id, "investor")
        await self.work()

    async def offering(self, target: int = 200_000_00, **fields: Any) -> opb.Offering:
        request = opb.CreateOfferingRequest(
            display_name="Oak Street Apartments",
            sponsor_party_id="sponsor-1",
            escrow_account_id=self.escrow.open(sponsor=fields.get("sponsor_party_id", "sponsor-1")),
            exemption=opb.Offering.REG_CF,
            target_amount=usd(target),
            deadline_time=to_timestamp(START + timedelta(days=45)),
        )
        for name, value in fields.items():
            if isinstance(value, Message):
                getattr(request, name).CopyFrom(value)
            else:
                setattr(request, name, value)
        return await self.call(self.offerings.CreateOffering, request)

    async def invest(self, offering: opb.Offering, investor: str, minor: int, *, fund: bool = True) -> opb.Investment:
        request = opb.CreateInvestmentRequest(
            offering_id=offering.offering_id, terms_etag=offering.terms_etag, party_id=investor, amount=usd(minor)
        )
        investment = await self.call(self.investments.CreateInvestment, request, investor, "investor")
        if fund:
            await self.fund(offering, investment, minor)
        return investment

    async def fund(self, offering: opb.Offering, investment: opb.Investment, minor: int, *, clear: bool = True) -> Txn:
        """A contribution that arrives, and whose return risk passes."""
        transaction = self.contribution(offering, investment, minor)
        await self.deliver(self.arrived(transaction))
        if clear:
            await self.deliver(complete_payout(transaction))
        return transaction

    def contribution(self, offering: opb.Offering, investment: opb.Investment, minor: int) -> Txn:
        return Txn(
            transaction_id=new_id("txn"),
            type=Txn.ESCROW_DEPOSIT,
            direction=Money.Direction.IN,
            status=Txn.SETTLED,
            amount=usd(minor),
            escrow_account_id=offering.escrow_account_id,
            party_id=investment.party_id,
            investment_id=investment.investment_id,
        )

    def at_the_bank(self, offering: opb.Offering, investment: opb.Investment, minor: int) -> Txn:
        """A contribution that a bank has, and that transactions knows of."""
        transaction = self.contribution(offering, investment, minor)
        transaction.status, transaction.aggregate_version = Txn.PENDING_SETTLEMENT, 1
        self.transactions.contributions.append(transaction)
        return transaction

    def arrived(self, transaction: Txn, on: str = "subscription") -> escrow_events.JournalEntriesPosted:
        return self.escrow.post(
            transaction.escrow_account_id,
            Entry.DEPOSIT,
            "cash",
            f"{on}:{transaction.party_id}",
            transaction.amount.amount_minor,
            transaction_id=transaction.transaction_id,
            investment_id=transaction.investment_id,
        )

    def gave_back(self, payout: Txn) -> escrow_events.JournalEntriesPosted:
        """Escrow's entry when a refund is submitted."""
        return self.escrow.post(
            payout.escrow_account_id,
            Entry.REFUND,
            f"subscription:{payout.party_id}",
            "in_transit",
            payout.amount.amount_minor,
            transaction_id=payout.transaction_id,
            investment_id=payout.investment_id,
        )

    def bounced(self, payout: Txn) -> escrow_events.JournalEntriesPosted:
        """Escrow's entry when a refund that was submitted comes to nothing."""
        return self.escrow.post(
            payout.escrow_account_id,
            Entry.REVERSAL,
            "in_transit",
            f"subscription:{payout.party_id}",
            payout.amount.amount_minor,
            transaction_id=payout.transaction_id,
            investment_id=payout.investment_id,
        )

    async def closed_offering(self, *parts: tuple[str, int], **fields: Any) -> opb.Offering:
        """An offering that these investors funded, closed on 1 January 2025."""
        total = sum(minor for _, minor in parts)
        offering = await self.offering(total, **fields)
        for investor, minor in parts:
            await self.invest(offering, investor, minor)
        self.clock.set(CLOSING)
        await self.close(offering)
        await self.work()
        return await self.get(offering)

    async def close(self, offering: opb.Offering, person: str = "admin-1") -> opb.Offering:
        request = opb.CloseOfferingRequest(offering_id=offering.offering_id)
        return await self.call(self.offerings.CloseOffering, request, person)

    async def resend_proceeds(self, offering: opb.Offering, person: str = "admin-1") -> opb.Offering:
        request = opb.ResendProceedsRequest(offering_id=offering.offering_id)
        return await self.call(self.offerings.ResendProceeds, request, person)

    async def resend_refund(self, investment: opb.Investment, *who: str) -> opb.Investment:
        """`who`: the person and the role, if not an admin."""
        request = opb.ResendRefundRequest(investment_id=investment.investment_id)
        return await self.call(self.investments.ResendRefund, request, *who)

    async def decided_by_two(self) -> list[bool]:
        """What transactions is told about each refund, in the order in which they were ordered."""
        await self.work()
        keys = list(self.transactions.by_key)
        request = BatchGetPayoutOrdersRequest(idempotency_keys=keys)
        orders = (await self.call(self.payout_orders.BatchGetPayoutOrders, request)).payout_orders
        told = {order.idempotency_key: order.refund_approved for order in orders if order.type == "REFUND"}
        return [told[key] for key in keys if key in told]

    def deposit(self, offering: opb.Offering, minor: int) -> None:
        """Cash to distribute is moved in."""
        self.escrow.post(offering.escrow_account_id, Entry.DEPOSIT, "cash", "distributable", minor)

    async def draft(self, offering: opb.Offering, minor: int, on: date = date(2026, 1, 1)) -> dpb.Distribution:
        """Drafted on its day: nothing is paid before."""
        self.clock.set(max(self.clock.now(), datetime(on.year, on.month, on.day, 12, tzinfo=UTC)))
        request = dpb.CreateDistributionRequest(
            offering_id=offering.offering_id,
            type=dpb.Distribution.PROFIT_SPLIT,
            amount=usd(minor),
            distribution_date=date_pb2.Date(year=on.year, month=on.month, day=on.day),
        )
        return await self.call(self.distributions.CreateDistribution, request)

    async def calculate(self, distribution: dpb.Distribution, person: str = "admin-1") -> dpb.Distribution:
        request = dpb.CalculateDistributionRequest(distribution_id=distribution.distribution_id)
        return await self.call(self.distributions.CalculateDistribution, request, person)

    async def submit(self, distribution: dpb.Distribution, person: str = "admin-1") -> dpb.Distribution:
        request = dpb.SubmitDistributionRequest(distribution_id=distribution.distribution_id)
        return await self.call(self.distributions.SubmitDistribution, request, person)

    async def approve(
        self, distribution: dpb.Distribution, person: str = "admin-2", content_hash: str = ""
    ) -> dpb.Distribution:
        request = dpb.ApproveDistributionRequest(
            distribution_id=distribution.distribution_id,
            content_hash=content_hash or distribution.content_hash,
            etag=distribution.etag,
        )
        return await self.call(self.distributions.ApproveDistribution, request, person)

    async def execute(self, distribution: dpb.Distribution, person: str = "admin-1") -> dpb.Distribution:
        request = dpb.ExecuteDistributionRequest(distribution_id=distribution.distribution_id)
        return await self.call(self.distributions.ExecuteDistribution, request, person)

    async def approved(self, offering: opb.Offering, minor: int, on: date = date(2026, 1, 1)) -> dpb.Distribution:
        distribution = await self.draft(offering, minor, on)
        return await self.approve(await self.submit(await self.calculate(distribution)))

    async def executed(self, offering: opb.Offering, minor: int, on: date = date(2026, 1, 1)) -> dpb.Distribution:
        """A distribution declared and with its payouts under way."""
        self.deposit(offering, minor)
        distribution = await self.execute(await self.approved(offering, minor, on))
        await self.work()
        return await self.get(distribution)

    async def pay(self, distribution: dpb.Distribution, *, but: Sequence[str] = ()) -> None:
        """Every payout of the distribution completes, but those to the parties named."""
        for payout in list(self.transactions.by_key.values()):
            if payout.distribution_id == distribution.distribution_id and payout.party_id not in but:
                await self.deliver(complete_payout(payout))

    async def get(self, thing: M) -> M:
        """The thing as it is now."""
        if isinstance(thing, opb.Offering):
            return await self.call(self.offerings.GetOffering, opb.GetOfferingRequest(offering_id=thing.offering_id))
        if isinstance(thing, opb.Investment):
            return await self.call(
                self.investments.GetInvestment, opb.GetInvestmentRequest(investment_id=thing.investment_id)
            )
        assert isinstance(thing, dpb.Distribution)
        request = dpb.GetDistributionRequest(distribution_id=thing.distribution_id)
        return await self.call(self.distributions.GetDistribution, request)

    async def allocations(self, distribution: dpb.Distribution) -> dict[str, dpb.Allocation]:
        """By payee."""
        request = dpb.ListAllocationsRequest(distribution_id=distribution.distribution_id, page_size=1000)
        answer = await self.call(self.distributions.ListAllocations, request)
        return {allocation.party_id: allocation for allocation in answer.allocations}

    async def positions(self, offering: opb.Offering) -> dict[str, opb.Investment]:
        """The investments of an offering, by investor."""
        request = opb.ListInvestmentsRequest(offering_id=[offering.offering_id], page_size=1000)
        answer = await self.call(self.investments.ListInvestments, request)
        return {investment.party_id: investment for investment in answer.investments}


async def refusal_of(call: Awaitable[Any]) -> str:
    with pytest.raises(DomainError) as refusal:
        await call
    return refusal.value.reason
