"""The escrow service inside a test: its database, its handlers, a clock that stands still, and callers."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from google.protobuf.message import Message
from realco.approvals.v1 import approvals_pb2
from realco.distributions.v1.payout_orders_pb2 import PayoutOrder
from realco.escrow.v1 import escrow_accounts_pb2 as accounts_pb
from realco.escrow.v1 import events_pb2 as events
from realco.escrow.v1 import holds_pb2 as holds_pb
from realco.escrow.v1 import journal_pb2 as journal_pb
from realco.escrow.v1 import postings_pb2 as postings_pb
from realco.transactions.v1.transactions_pb2 import Transaction
from realco.type.v1 import money_pb2
from realco.type.v1.approval_pb2 import Approval

from services.chassis.approvals.service import ApprovalsServicer
from services.chassis.calls.auth import Principal, acting_as
from services.chassis.calls.wire import to_timestamp
from services.chassis.values.clock import FakeClock
from services.chassis.values.errors import DomainError
from services.escrow.api import EscrowAccountsServicer, HoldsServicer, JournalServicer, PostingsServicer
from services.escrow.approvals import build_approvals
from services.escrow.clients import Peers
from services.escrow.commands.postings import build_payout
from services.escrow.dependencies import Dependencies
from services.escrow.jobs import expire_holds
from services.escrow.posting.group_commit import Poster
from tests.support import databases
from tests.support.ledger_accounts import ledger_account, name_of
from tests.support.money import usd as usd
from tests.support.peers.around_escrow import Compliance, Distributions, Transactions
from tests.support.persons import Persons
from tests.support.refusals import listed_only

NOW = datetime(2026, 11, 23, 15, tzinfo=UTC)
DEBIT, CREDIT = journal_pb.LedgerEntry.DEBIT, journal_pb.LedgerEntry.CREDIT
SPONSOR = "sponsor-1"
_numbers = itertools.count(1)
TWO_PERSONS = {
    "PostJournalEntry",
    "BatchPostJournalEntries",
    "ChangeEscrowAccountCustodian",
    "UnfreezeEscrowAccount",
    "CloseEscrowAccount",
    "CaptureHold",
    "ReleaseHold",
}


def key() -> str:
    """A idempotency_key nobody has used."""
    return f"key-{next(_numbers)}"


async def refusal(work: Awaitable[Any]) -> tuple[str, dict[str, str]]:
    """The reason and the facts with which the work is refused."""
    with pytest.raises(DomainError) as refused:
        await work
    return refused.value.reason, refused.value.metadata


def on(name: str) -> dict[str, Any]:
    """The filters of a list for a ledger account, or for all of a kind."""
    account = ledger_account(name)
    return {"kind": [account.kind], **({"party_id": [account.party_id]} if account.party_id else {})}


def new_entry(
    *legs: tuple[str, int], type_: int | None = None, currency: str = "USD", **values: Any
) -> journal_pb.NewJournalEntry:
    """An entry of (ledger account, amount): debits are positive, credits negative."""
    if type_ is None:
        type_ = (
            journal_pb.JournalEntry.REVERSAL
            if "reverses_journal_entry_id" in values
            else journal_pb.JournalEntry.ADJUSTMENT
        )
    return journal_pb.NewJournalEntry(
        type=type_,
        description=values.pop("description", "a test"),
        legs=[
            journal_pb.Leg(
                ledger_account=ledger_account(name),
                direction=DEBIT if minor > 0 else CREDIT,
                amount=money_pb2.Money(currency_code=currency, amount_minor=abs(minor)),
            )
            for name, minor in legs
        ],
        **values,
    )


class Postings(PostingsServicer):
    """The real one; what is submitted is what transactions is about to pay."""

    def __init__(self, dependencies: Dependencies, payer: Transactions) -> None:
        super().__init__(dependencies)
        self._payer = payer

    async def BatchBookPayouts(
        self, request: postings_pb.BatchBookPayoutsRequest, context: Any
    ) -> postings_pb.BatchBookPayoutsResponse:
        self._payer.payouts |= {item.transaction_id: build_payout(item, "admin-1") for item in request.items}
        return await super().BatchBookPayouts(request, context)


class Escrow:
    """The service as the callers of one organization see it."""

    def __init__(self, urls: SimpleNamespace) -> None:
        self.urls = urls
        self.database = databases.open_database(urls, "escrow")
        self.clock = FakeClock(NOW)
        self.poster = Poster(self.database, self.clock)
        self.compliance, self.payer, self.distributions = Compliance(), Transactions(), Distributions()
        self.dependencies = dependencies = Dependencies(
            database=self.database,
            clock=self.clock,
            poster=self.poster,
            peers=Peers(self.compliance, self.payer, self.distributions),
        )
        self.approvals = build_approvals(dependencies)
        self.servicers = (
            EscrowAccountsServicer(dependencies, self.approvals),
            JournalServicer(dependencies, self.approvals),
            HoldsServicer(dependencies, self.approvals),
            Postings(dependencies, self.payer),
        )
        self.org_id = f"org_{next(_numbers)}"
        self.admin = Principal("admin-1", "admin", self.org_id)
        self.transactions = Principal("service:transactions", "service", self.org_id, "admin-1")
        self.stranger = Principal("admin-1", "admin", f"{self.org_id}_other")

    async def __aenter__(self) -> Escrow:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def beside(self) -> Escrow:
        """A second process of the service, for the same organization."""
        other = Escrow(self.urls)
        other.org_id, other.admin = self.org_id, self.admin
        return other

    async def close(self) -> None:
        await self.poster.drain()
        await self.database.dispose()

    def order_set_offs(self, *items: postings_pb.SetOffReceivablesRequest.Payout) -> None:
        """Distributions has ordered these payouts, and what the payees owe is to be set off."""
        for item in items:
            order = PayoutOrder(type=Transaction.Type.Name(item.type), ordered_by="admin-1", sets_off_receivables=True)
            for field, value in item.ListFields():
                if field.name == "amount":
                    order.amount.CopyFrom(value)
                elif field.name != "type":
                    setattr(order, field.name, value)
            self.distributions.orders[item.idempotency_key] = order

    async def call(self, rpc: str, request: Message, principal: Principal | None = None) -> Any:
        """The answer. What needs two persons is ordered by a service in the caller's name, and so done at once."""
        two_persons = rpc in TWO_PERSONS
        caller = principal or self.admin
        if two_persons and not caller.service:
            caller = Principal("service:importer", "service", caller.org_id, caller.person)
        with acting_as(caller), listed_only(request):
            answer = await self._find_handler(rpc)(request, None)
        done = answer.WhichOneof("outcome") if two_persons and rpc != "BatchPostJournalEntries" else None
        return answer if done is None else getattr(answer, done)

    async def ask(self, rpc: str, request: Message, principal: Principal | None = None) -> Approval:
        """The approval that a person's call of an RPC leads to."""
        with acting_as(principal or self.admin), listed_only(request):
            answer = await self._find_handler(rpc)(request, None)
        approval: Approval = answer.approval
        return approval

    async def grant(self, approval: Approval) -> None:
        assert (await self.approve(approval)).status == Approval.EXECUTED  # another admin does

    async def approve(self, approval: Approval) -> Approval:
        """What becomes of it when another admin approves it."""
        request = approvals_pb2.ApproveApprovalRequest(
            idempotency_key=key(),
            approval_id=approval.approval_id,
            content_hash=approval.content_hash,
            etag=approval.etag,
        )
        desk = ApprovalsServicer(self.dependencies, self.approvals, Persons())
        with acting_as(dataclasses.replace(self.admin, subject="checker")):
            return await desk.ApproveApproval(request, None)

    async def list_approvals(self, **filters: Any) -> list[Approval]:
        inbox = ApprovalsServicer(self.dependencies, self.approvals, Persons())
        with acting_as(self.admin):
            return list((await inbox.ListApprovals(approvals_pb2.ListApprovalsRequest(**filters), None)).approvals)

    async def read_approval(self, asked: Approval) -> Approval:
        inbox = ApprovalsServicer(self.dependencies, self.approvals, Persons())
        with acting_as(self.admin):
            return await inbox.GetApproval(approvals_pb2.GetApprovalRequest(approval_id=asked.approval_id), None)

    def _find_handler(self, rpc: str) -> Callable[[Message, None], Awaitable[Any]]:
        [handler] = [getattr(servicer, rpc) for servicer in self.servicers if hasattr(servicer, rpc)]
        return handler

    async def open(self, *, currency: str = "USD", principal: Principal | None = None) -> str:
        request = accounts_pb.CreateEscrowAccountRequest(
            idempotency_key=key(),
            display_name="Oak Street",
            currency_code=currency,
            sponsor_party_id=SPONSOR,
            custodian_name="First Custody",
        )
        opened = await self.call("CreateEscrowAccount", request, principal)
        return str(opened.escrow_account_id)

    async def post(
        self,
        account: str,
        *legs: tuple[str, int],
        idempotency_key: str = "",
        principal: Principal | None = None,
        **values: Any,
    ) -> journal_pb.JournalEntry:
        request = journal_pb.PostJournalEntryRequest(
            idempotency_key=idempotency_key or key(),
            escrow_account_id=account,
            journal_entry=new_entry(*legs, **values),
        )
        return await self.call("PostJournalEntry", request, principal)

    async def post_together(
        self, account: str, entries: Sequence[tuple[str, journal_pb.NewJournalEntry]]
    ) -> list[journal_pb.PostingResult]:
        item = journal_pb.BatchPostJournalEntriesRequest.Item
        request = journal_pb.BatchPostJournalEntriesRequest(
            escrow_account_id=account,
            items=[item(idempotency_key=name, journal_entry=entry) for name, entry in entries],
        )
        return list((await self.call("BatchPostJournalEntries", request)).posted.results)

    async def balance(self, account: str, as_of: datetime | None = None) -> accounts_pb.EscrowAccountBalance:
        request = accounts_pb.GetEscrowAccountBalanceRequest(escrow_account_id=account)
        if as_of is not None:
            request.as_of.CopyFrom(to_timestamp(as_of))
        return await self.call("GetEscrowAccountBalance", request)

    async def posted(self, account: str, as_of: datetime | None = None) -> dict[str, int]:
        """Posted balances that are not zero."""
        found = {name_of(line.ledger_account): line.posted.amount_minor for line in await self._lines(account, as_of)}
        return {name: minor for name, minor in found.items() if minor}

    async def pending(self, account: str) -> dict[str, int]:
        found = {name_of(line.ledger_account): line.pending.amount_minor for line in await self._lines(account, None)}
        return {name: minor for name, minor in found.items() if minor}

    async def held(self, account: str) -> dict[str, int]:
        found = {name_of(line.ledger_account): line.held.amount_minor for line in await self._lines(account, None)}
        return {name: minor for name, minor in found.items() if minor}

    async def _lines(self, account: str, as_of: datetime | None) -> Sequence[journal_pb.LedgerAccountBalance]:
        request = journal_pb.ListLedgerAccountsRequest(escrow_account_id=account, page_size=1000)
        if as_of is not None:
            request.as_of.CopyFrom(to_timestamp(as_of))
        return (await self.call("ListLedgerAccounts", request)).ledger_accounts

    async def hold(self, account: str, name: str, minor: int, **values: Any) -> holds_pb.Hold:
        request = holds_pb.PlaceHoldRequest(
            idempotency_key=values.pop("idempotency_key", "") or key(),
            escrow_account_id=account,
            ledger_account=ledger_account(name),
            amount=usd(minor),
            reason=holds_pb.Hold.MANUAL,
            **values,
        )
        return await self.call("PlaceHold", request)

    async def freeze(self, account: str, note: str = "a court order", by: Principal | None = None) -> Any:
        request = accounts_pb.FreezeEscrowAccountRequest(escrow_account_id=account, note=note)
        return await self.call("FreezeEscrowAccount", request, by)

    async def unfreeze(self, account: str) -> accounts_pb.EscrowAccount:
        return await self.call(
            "UnfreezeEscrowAccount", accounts_pb.UnfreezeEscrowAccountRequest(escrow_account_id=account)
        )

    async def trial_balance(self, account: str) -> journal_pb.TrialBalance:
        return await self.call("GetTrialBalance", journal_pb.GetTrialBalanceRequest(escrow_account_id=account))

    async def ledger(self, account: str, **values: Any) -> journal_pb.ListLedgerEntriesResponse:
        request = journal_pb.ListLedgerEntriesRequest(escrow_account_id=account, **values)
        return await self.call("ListLedgerEntries", request)

    async def events(self, kind: type[Message]) -> list[Any]:
        """The events of a kind that wait in the outbox, oldest first."""
        query = sa.text("SELECT payload FROM outbox WHERE event_type = :event_type AND org_id = :org_id ORDER BY id")
        async with self.database.begin_for_all() as tx:
            found = await tx.scalars(query, {"event_type": kind.DESCRIPTOR.full_name, "org_id": self.org_id})
            return [kind.FromString(payload) for payload in found]

    async def journal(self) -> list[journal_pb.JournalEntry]:
        """Every entry that was published."""
        return [entry for event in await self.events(events.JournalEntriesPosted) for entry in event.journal_entries]

    async def expire_holds(self) -> int:
        return await expire_holds(self.dependencies)

    async def pass_time(self, **by: float) -> None:
        self.clock.advance(timedelta(**by))
