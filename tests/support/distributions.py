"""A world for the distributions service: its real code and database, and its peers as small in-memory services.

The peers keep the promises their protos make (a key used again gives the first answer), and can be cut off: before
the effect, after it, or by a kill that leaves the caller dead in the middle.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

import sqlalchemy as sa
from google.protobuf.message import Message
from google.type import date_pb2
from realco.compliance.v1 import compliance_pb2 as compliance
from realco.distributions.v1 import distributions_pb2 as dpb
from realco.distributions.v1 import offerings_pb2 as opb
from realco.escrow.v1 import escrow_pb2 as escrow
from realco.escrow.v1 import events_pb2 as escrow_events
from realco.transactions.v1 import events_pb2 as transactions_events
from realco.transactions.v1 import transactions_pb2 as transactions
from realco.type.v1 import money_pb2

from services.chassis import tables as chassis_tables
from services.chassis.auth import Principal, acting_as, service_principal
from services.chassis.clock import FakeClock
from services.chassis.consumer import EventMeta
from services.chassis.database import Database
from services.chassis.errors import Kind, Refused
from services.chassis.ids import new_id
from services.chassis.wire import to_timestamp
from services.distributions import subscribers
from services.distributions.api import DistributionsServicer, InvestmentsServicer, OfferingsServicer, Room
from services.distributions.clients import Peers, PeerUnavailable
from services.distributions.jobs import jobs

Txn = transactions.Transaction
Entry = escrow.LedgerEntry
ORG = "org-1"
START = datetime(2024, 11, 1, 12, tzinfo=UTC)
CLOSING = datetime(2025, 1, 1, 12, tzinfo=UTC)
M = TypeVar("M", bound=Message)


def usd(minor: int) -> money_pb2.Money:
    return money_pb2.Money(currency_code="USD", amount_minor=minor)


class Killed(BaseException):
    """The process is gone: nothing after this line happens, not even error handling."""


class Wire:
    """What happens to calls on their way: each of `faults` is used up by one call of that name."""

    def __init__(self) -> None:
        self.faults: dict[str, list[str]] = {}
        self.calls: list[tuple[str, Message]] = []

    def fail(self, call: str, *how: str) -> None:
        """`lost` before the effect, `unanswered` after it, `killed` and `killed_after`: the caller dies there."""
        self.faults.setdefault(call, []).extend(how)

    def begin(self, call: str, request: Message) -> str:
        self.calls.append((call, request))
        fault = self.faults.get(call, [])
        how = fault.pop(0) if fault else ""
        if how == "lost":
            raise PeerUnavailable("lost")
        if how == "killed":
            raise Killed
        return how

    def end(self, how: str) -> None:
        if how == "unanswered":
            raise PeerUnavailable("no answer")
        if how == "killed_after":
            raise Killed

    def count(self, call: str) -> int:
        return sum(name == call for name, _ in self.calls)


def refused(kind: Kind, reason: str) -> Refused:
    return Refused(kind, reason, f"{reason} it is", {}, {}, "peer.realco")


class MemoryEscrow:
    """A book of posted legs: (escrow account, ledger account) -> credit less debit."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.accounts: dict[str, escrow.EscrowAccount] = {}
        self.book: Counter[tuple[str, str]] = Counter()
        self.answers: dict[str, tuple[bytes, escrow.JournalEntry]] = {}
        self.refuse: dict[str, Refused] = {}
        self.balanced = True

    def open(self, currency: str = "USD") -> str:
        account = escrow.EscrowAccount(
            escrow_account_id=new_id("esc"), currency_code=currency, status=escrow.EscrowAccount.ACTIVE
        )
        self.accounts[account.escrow_account_id] = account
        return account.escrow_account_id

    def post(
        self, escrow_account_id: str, kind: int, debit: str, credit: str, minor: int, **context: str
    ) -> escrow_events.JournalEntriesPosted:
        """Books one entry of two legs; the event that tells of it."""
        entry = self._entry(escrow_account_id, kind, [(debit, -minor), (credit, minor)], **context)
        return escrow_events.JournalEntriesPosted(escrow_account_id=escrow_account_id, journal_entries=[entry])

    def _entry(
        self, escrow_account_id: str, kind: int, legs: Sequence[tuple[str, int]], **context: str
    ) -> escrow.JournalEntry:
        for code, minor in legs:
            self.book[escrow_account_id, code] += minor
        return escrow.JournalEntry(
            journal_entry_id=new_id("je"),
            escrow_account_id=escrow_account_id,
            type=kind,
            ledger_entries=[
                Entry(
                    ledger_account=code,
                    direction=Entry.CREDIT if minor > 0 else Entry.DEBIT,
                    amount=usd(abs(minor)),
                    layer=Entry.POSTED,
                    type=kind,
                )
                for code, minor in legs
            ],
            **context,
        )

    async def get_escrow_account(self, escrow_account_id: str) -> escrow.EscrowAccount:
        how = self.wire.begin("get_escrow_account", escrow.GetEscrowAccountRequest())
        self.wire.end(how)
        if escrow_account_id not in self.accounts:
            raise refused(Kind.NOT_FOUND, "ESCROW_ACCOUNT_NOT_FOUND")
        return self.accounts[escrow_account_id]

    async def get_balance(self, escrow_account_id: str) -> escrow.EscrowAccountBalance:
        self.wire.end(self.wire.begin("get_balance", escrow.GetEscrowAccountBalanceRequest()))
        return escrow.EscrowAccountBalance(
            ledger_accounts=[
                escrow.LedgerAccountBalance(ledger_account=code, posted=usd(minor), available=usd(minor))
                for (account, code), minor in sorted(self.book.items())
                if account == escrow_account_id
            ]
        )

    async def get_trial_balance(self, escrow_account_id: str) -> escrow.TrialBalance:
        self.wire.end(self.wire.begin("get_trial_balance", escrow.GetTrialBalanceRequest()))
        return escrow.TrialBalance(escrow_account_id=escrow_account_id, balanced=self.balanced)

    async def release_subscriptions(self, request: escrow.ReleaseSubscriptionsRequest) -> escrow.JournalEntry:
        legs = [(f"subscription:{part.party_id}", -part.amount_minor) for part in request.subscriptions]
        total = sum(part.amount_minor for part in request.subscriptions)
        return self._once("release_subscriptions", request, Entry.RELEASE, [*legs, ("issuer_proceeds", total)])

    async def declare_distribution(self, request: escrow.DeclareDistributionRequest) -> escrow.JournalEntry:
        legs = [(f"payable:{part.party_id}", part.amount_minor) for part in request.payables]
        total = sum(part.amount_minor for part in request.payables)
        return self._once("declare_distribution", request, Entry.DISTRIBUTION, [("distributable", -total), *legs])

    def _once(self, call: str, request: Any, kind: int, legs: Sequence[tuple[str, int]]) -> escrow.JournalEntry:
        how = self.wire.begin(call, request)
        if call in self.refuse:
            raise self.refuse.pop(call)
        body = request.SerializeToString(deterministic=True)
        known = self.answers.get(request.request_id)
        if known is None:
            known = (body, self._entry(request.escrow_account_id, kind, legs))
            self.answers[request.request_id] = known
        if known[0] != body:
            raise refused(Kind.FAILED_PRECONDITION, "IDEMPOTENCY_KEY_REUSED")
        self.wire.end(how)
        return known[1]


class MemoryTransactions:
    """Payouts by key. The test moves them; each move gives the event that tells of it."""

    def __init__(self, wire: Wire, clock: FakeClock) -> None:
        self.wire = wire
        self.clock = clock
        self.by_key: dict[str, Txn] = {}
        self.refuse: dict[str, str] = {}  # party -> reason

    async def batch_create_payouts(
        self, request: transactions.BatchCreatePayoutsRequest
    ) -> transactions.BatchCreatePayoutsResponse:
        how = self.wire.begin("batch_create_payouts", request)
        results = [self._result(item) for item in request.items]
        self.wire.end(how)
        return transactions.BatchCreatePayoutsResponse(results=results)

    def _result(self, item: transactions.BatchCreatePayoutsRequest.Item) -> Any:
        result = transactions.BatchCreatePayoutsResponse.Result(request_id=item.request_id)
        if item.party_id in self.refuse:
            result.refusal.CopyFrom(Txn.Failure(code=self.refuse[item.party_id], message="no"))
            return result
        if item.request_id not in self.by_key:
            self.by_key[item.request_id] = Txn(
                transaction_id=new_id("txn"),
                type=item.type,
                status=Txn.INITIATED,
                amount=item.amount,
                escrow_account_id=item.escrow_account_id,
                party_id=item.party_id,
                bank_account_id=item.bank_account_id,
                investment_id=item.investment_id,
                distribution_id=item.distribution_id,
                allocation_id=item.allocation_id,
                version=1,
            )
        result.transaction.CopyFrom(self.by_key[item.request_id])
        return result

    def of(self, party_id: str) -> Txn:
        """The newest payout to a party."""
        return [payout for payout in self.by_key.values() if payout.party_id == party_id][-1]


def moved(transaction: Txn, event: type[M], status: int, code: str = "") -> M:
    """The transaction one version on, and the event of it."""
    transaction.version += 1
    transaction.status = status
    if code:
        transaction.failure.CopyFrom(Txn.Failure(code=code, message=f"{code} it is"))
    else:
        transaction.ClearField("failure")
    return event(transaction=transaction)


def completed(transaction: Txn) -> transactions_events.TransactionCompleted:
    return moved(transaction, transactions_events.TransactionCompleted, Txn.COMPLETED)


def failed(transaction: Txn, code: str = "R03") -> transactions_events.TransactionFailed:
    return moved(transaction, transactions_events.TransactionFailed, Txn.FAILED, code)


def returned(transaction: Txn, code: str = "R02") -> transactions_events.TransactionReturned:
    return moved(transaction, transactions_events.TransactionReturned, Txn.RETURNED, code)


class MemoryCompliance:
    """Everybody is cleared who is not named."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.uncleared: set[str] = set()

    async def batch_get_clearances(self, party_ids: Sequence[str]) -> Sequence[Any]:
        self.wire.end(self.wire.begin("batch_get_clearances", compliance.BatchGetClearancesRequest()))
        return [
            compliance.BatchGetClearancesResponse.Clearance(party_id=party, cleared=party not in self.uncleared)
            for party in party_ids
        ]


class World:
    """The service and its surroundings."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = FakeClock(START)
        self.wire = Wire()
        self.escrow = MemoryEscrow(self.wire)
        self.transactions = MemoryTransactions(self.wire, self.clock)
        self.compliance = MemoryCompliance(self.wire)
        peers = Peers(self.escrow, self.transactions, self.compliance)
        room = Room(database, peers, self.clock, asyncio.Event())
        self.offerings = OfferingsServicer(room)
        self.investments = InvestmentsServicer(room)
        self.distributions = DistributionsServicer(room)
        self._jobs = {job.name: job for job in jobs(database, peers, self.clock)}
        self._handlers = {
            event: handler for each in subscribers.SUBSCRIPTIONS for event, handler in each.handlers.items()
        }

    # --- who calls ---------------------------------------------------------------------------------------------------

    def as_(self, person: str, role: str = "admin", org: str = ORG) -> AbstractContextManager[Principal]:
        return acting_as(Principal(person, role, org))

    async def call(self, method: Any, request: M, person: str = "admin-1", role: str = "admin", org: str = ORG) -> Any:
        fields = request.DESCRIPTOR.fields_by_name
        if "request_id" in fields and not request.request_id:  # type: ignore[attr-defined]
            request.request_id = new_id("key")  # type: ignore[attr-defined]
        with self.as_(person, role, org):
            return await method(request, None)

    async def deliver(self, *events: Message) -> None:
        """Hands each event to its handler as the consumer does, in one transaction each."""
        for event in events:
            meta = EventMeta("", event.DESCRIPTOR.full_name, ORG, "", self.clock.now(), 1)
            with acting_as(service_principal("distributions", ORG, "service:peer")):
                async with self.database.begin() as tx:
                    await self._handlers[type(event)](tx, event, meta)

    async def work(self) -> int:
        """Runs every job until none finds anything due; how many steps that took."""
        steps = 0
        while done := sum([await job.run() for job in self._jobs.values()]):
            steps += done
        return steps

    async def told(self, event: type[M]) -> list[M]:
        """The events of this type in the outbox, in order."""
        outbox = chassis_tables.outbox.c
        async with self.database.begin("*") as tx:
            payloads = await tx.scalars(
                sa.select(outbox.payload).where(outbox.subject == event.DESCRIPTOR.full_name).order_by(outbox.id)
            )
            return [event.FromString(payload) for payload in payloads]

    # --- the story ---------------------------------------------------------------------------------------------------

    async def offering(self, target: int = 200_000_00, **fields: Any) -> opb.Offering:
        request = opb.CreateOfferingRequest(
            display_name="Oak Street Apartments",
            sponsor_id="sponsor-1",
            escrow_account_id=self.escrow.open(),
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
        request = opb.CreateInvestmentRequest(offering_id=offering.offering_id, investor_id=investor, amount=usd(minor))
        investment = await self.call(self.investments.CreateInvestment, request, investor, "investor")
        if fund:
            await self.fund(offering, investment, minor)
        return investment

    async def fund(self, offering: opb.Offering, investment: opb.Investment, minor: int, *, clear: bool = True) -> Txn:
        """A contribution that arrives, and whose return risk passes."""
        transaction = self.contribution(offering, investment, minor)
        await self.deliver(self.arrived(transaction))
        if clear:
            await self.deliver(completed(transaction))
        return transaction

    def contribution(self, offering: opb.Offering, investment: opb.Investment, minor: int) -> Txn:
        return Txn(
            transaction_id=new_id("txn"),
            type=Txn.ESCROW_DEPOSIT,
            status=Txn.SETTLED,
            amount=usd(minor),
            escrow_account_id=offering.escrow_account_id,
            party_id=investment.investor_id,
            investment_id=investment.investment_id,
            version=5,
        )

    def arrived(self, transaction: Txn) -> escrow_events.JournalEntriesPosted:
        return self.escrow.post(
            transaction.escrow_account_id,
            Entry.DEPOSIT,
            "cash",
            f"subscription:{transaction.party_id}",
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

    def deposit(self, offering: opb.Offering, minor: int) -> None:
        """Cash to distribute is moved in."""
        self.escrow.post(offering.escrow_account_id, Entry.DEPOSIT, "cash", "distributable", minor)

    async def draft(self, offering: opb.Offering, minor: int, on: date = date(2026, 1, 1)) -> dpb.Distribution:
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
            distribution_id=distribution.distribution_id, content_hash=content_hash or distribution.content_hash
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
                await self.deliver(completed(payout))

    async def get(self, thing: M) -> M:
        """The thing as it is now."""
        if isinstance(thing, opb.Offering):
            return await self.call(self.offerings.GetOffering, opb.GetOfferingRequest(offering_id=thing.offering_id))  # type: ignore[no-any-return]
        if isinstance(thing, opb.Investment):
            return await self.call(
                self.investments.GetInvestment, opb.GetInvestmentRequest(investment_id=thing.investment_id)
            )  # type: ignore[no-any-return]
        assert isinstance(thing, dpb.Distribution)
        request = dpb.GetDistributionRequest(distribution_id=thing.distribution_id)
        return await self.call(self.distributions.GetDistribution, request)  # type: ignore[no-any-return]

    async def allocations(self, distribution: dpb.Distribution) -> dict[str, dpb.Allocation]:
        """By payee."""
        request = dpb.ListAllocationsRequest(distribution_id=distribution.distribution_id, page_size=1000)
        answer = await self.call(self.distributions.ListAllocations, request)
        return {allocation.payee_id: allocation for allocation in answer.allocations}

    async def positions(self, offering: opb.Offering) -> dict[str, opb.Investment]:
        """The investments of an offering, by investor."""
        request = opb.ListInvestmentsRequest(offering_id=offering.offering_id, page_size=1000)
        answer = await self.call(self.investments.ListInvestments, request)
        return {investment.investor_id: investment for investment in answer.investments}
