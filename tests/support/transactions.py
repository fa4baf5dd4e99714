"""The transactions service for tests, put together with peers and a bank that live in memory.

The bank passes the same test body as the real adapter over HTTP (test_transactions_providers.py), so it may be trusted
where a test needs a bank that fails at a chosen point.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from google.api.httpbody_pb2 import HttpBody
from realco.approvals.v1 import approvals_pb2
from realco.escrow.v1.journal_pb2 import JournalEntry
from realco.transactions.v1 import bank_accounts_pb2 as bank_pb
from realco.transactions.v1 import payouts_pb2, webhooks_pb2
from realco.transactions.v1 import transactions_pb2 as pb
from realco.type.v1.approval_pb2 import Approval

from services.chassis.approvals.jobs import build_approval_jobs
from services.chassis.approvals.service import ApprovalsServicer
from services.chassis.calls.auth import Principal, acting_as
from services.chassis.calls.parties import CurrentParties
from services.chassis.data.database import Database
from services.chassis.data.work import WorkFinder
from services.chassis.spelling.visibility import withhold
from services.chassis.values.clock import FakeClock
from services.chassis.values.ids import new_id
from services.transactions.api import (
    BankAccountsServicer,
    ContributionsServicer,
    EvaluationsServicer,
    ExceptionsServicer,
    PayoutsServicer,
    ReturnRatesServicer,
    SweepsServicer,
    TransactionsServicer,
    UnfinishedTransactionsServicer,
    WebhooksServicer,
)
from services.transactions.approvals import build_approvals
from services.transactions.clients import ComplianceClient, DistributionsClient, EscrowClient, Peers
from services.transactions.dependencies import NAME, Dependencies
from services.transactions.domain.bank_accounts import COOL_DOWN
from services.transactions.domain.payments import PaymentStatus
from services.transactions.domain.rails import PROVIDERS
from services.transactions.jobs import build_jobs
from services.transactions.jobs.look_up_submitted import look_up_submitted
from services.transactions.providers import ach_file, manual, sandbox
from services.transactions.providers.ach_file.config import AchFileConfig
from services.transactions.providers.ach_file.orders import AchFileOrders
from services.transactions.providers.choice import NO_CHOICE, ProviderChoice
from services.transactions.providers.manual.orders import ManualOrders
from services.transactions.providers.plaid.transfers import PlaidTransfers
from services.transactions.providers.protocols import BankLinks, LinksNotSetUp, Providers
from services.transactions.providers.registry import build_webhook_readers
from services.transactions.providers.sandbox.bank import SandboxBank
from services.transactions.providers.settings import ProviderSettings
from services.transactions.providers.stripe.payments import StripePayments
from services.transactions.tables import transactions
from tests.support.memory_bank import MemoryBank
from tests.support.money import usd as usd
from tests.support.peers.compliance import MemoryCompliance
from tests.support.peers.distributions import MemoryDistributions
from tests.support.peers.escrow import MemoryEscrow
from tests.support.peers.wire import Wire
from tests.support.provider_events import events_of, sweeps_of, verifications_of
from tests.support.refusals import listed_only
from tests.support.vault import build_vault

ORG = "org-1"
MONDAY = datetime(2024, 12, 2, 12, tzinfo=UTC)
ROUTING_NUMBER = "021000021"
ACCOUNT = "0001111111"
ESCROW_ACCOUNT = "esc_" + "0" * 26

ADMIN = Principal("admin-1", "admin", ORG)
CHECKER = Principal("admin-2", "admin", ORG)
INVESTOR = Principal("inv-001", "investor", ORG, parties=frozenset({"inv-001"}))
DISTRIBUTIONS = Principal("service:distributions", "service", ORG, "admin-1")
IMPORT = Principal("service:import", "service", ORG, "admin-1")


@dataclass
class TransactionsHarness:
    """The service without gRPC: its servicers and jobs over one database, and memory peers and a bank around it."""

    database: Database
    clock: FakeClock = field(default_factory=lambda: FakeClock(MONDAY))
    bank: MemoryBank = field(default_factory=MemoryBank)
    wire: Wire = field(default_factory=lambda: Wire("transactions"))
    escrow: MemoryEscrow = field(default_factory=MemoryEscrow)
    compliance: MemoryCompliance = field(default_factory=MemoryCompliance)
    distributions: MemoryDistributions = field(default_factory=lambda: MemoryDistributions(ESCROW_ACCOUNT))
    provider: SandboxBank | StripePayments | PlaidTransfers | None = None
    choice: ProviderChoice = NO_CHOICE
    ach: AchFileConfig | None = None
    settings: ProviderSettings = field(default_factory=ProviderSettings)
    operator_org_id: str = ""
    links: BankLinks = field(default_factory=lambda: LinksNotSetUp("A_SETTING"))

    def __post_init__(self) -> None:
        bank = self.provider or self.bank
        vault = build_vault()
        asked: dict[str, Any] = {name: bank for name, each in PROVIDERS.items() if each.is_asked_for_payments}
        if self.ach is not None:
            asked[ach_file.NAME] = AchFileOrders(self.ach, self.database, self.clock, vault)
        self.escrow.open(escrow_account_id=ESCROW_ACCOUNT)
        self.dependencies = Dependencies(
            database=self.database,
            clock=self.clock,
            vault=vault,
            providers=Providers(
                orders={manual.NAME: ManualOrders(), **asked},
                look_ups=asked,
                links=self.links,
                webhooks={**build_webhook_readers(self.settings), sandbox.NAME: self.bank},
                events={name: events_of(name, bank) for name, each in PROVIDERS.items() if each.tells_events},
                sweeps={name: sweeps_of(name, bank) for name, each in PROVIDERS.items() if each.makes_sweeps},
                cancellations={name: asked[name] for name, each in PROVIDERS.items() if each.is_confirmed_by_payers},
                verifications={
                    name: verifications_of(asked[name])
                    for name, each in PROVIDERS.items()
                    if each.is_confirmed_by_payers
                },
                reversals={name: asked[name] for name, each in PROVIDERS.items() if each.reverses_payouts},
                choice=self.choice,
                ach_files=self.ach,
            ),
            peers=Peers(
                escrow=EscrowClient(self.wire.open_channel(self.escrow)),
                compliance=ComplianceClient(self.wire.open_channel(self.compliance)),
                distributions=DistributionsClient(self.wire.open_channel(self.distributions)),
            ),
            operator_org_id=self.operator_org_id,
        )
        self.approvals = build_approvals(self.dependencies)
        asking = CurrentParties(self.dependencies.peers.compliance.list_parties_of_person)
        self.transactions: Any = TransactionsServicer(self.dependencies, self.approvals, asking)
        self.payouts: Any = PayoutsServicer(self.dependencies)
        self.contributions: Any = ContributionsServicer(self.dependencies)
        self.evaluations: Any = EvaluationsServicer(self.dependencies)
        self.unfinished: Any = UnfinishedTransactionsServicer(self.dependencies)
        self.accounts: Any = BankAccountsServicer(self.dependencies, self.approvals)
        self.webhooks: Any = WebhooksServicer(self.dependencies, self.approvals)
        self.exceptions: Any = ExceptionsServicer(self.dependencies, asking)
        self.return_rates: Any = ReturnRatesServicer(self.dependencies)
        self.sweeps: Any = SweepsServicer(self.dependencies)
        self.inbox: Any = ApprovalsServicer(self.dependencies, self.approvals, asking)

    async def run(self, job: Callable[[Dependencies], Awaitable[int]]) -> int:
        """Runs a job once; how much it did."""
        return await job(self.dependencies)

    async def ask(self, principal: Principal, rpc: str, request: Any) -> Any:
        """Calls an RPC as somebody, as the interceptor would."""
        with acting_as(principal), listed_only(request):
            servicers = (self.transactions, self.payouts, self.contributions, self.evaluations, self.unfinished)
            servicers = (*servicers, self.sweeps)
            for servicer in (*servicers, self.accounts, self.webhooks, self.exceptions, self.return_rates, self.inbox):
                if rpc in type(servicer).__dict__:
                    answer = await getattr(servicer, rpc)(request, None)
                    withhold(answer, principal, request)
                    return answer
        raise AssertionError(f"no such RPC: {rpc}")

    async def bank_account(
        self, party_id: str, suffix: str = "02", principal: Principal | None = None, **more: Any
    ) -> Any:
        """Added by somebody who acts for the party, unless a principal is named."""
        owner = Principal(party_id, "investor", ADMIN.org_id, parties=frozenset({party_id}))
        values: dict[str, Any] = {
            "idempotency_key": new_id("key"),
            "party_id": party_id,
            "account_holder_name": "Ada Investor",
            "routing_number": ROUTING_NUMBER,
            "account_number": ACCOUNT + suffix,
        }
        request = bank_pb.CreateBankAccountRequest(**values | more)
        return await self.ask(principal or owner, "CreateBankAccount", request)

    async def list_waiting(self, resource_id: str) -> list[Any]:
        request = approvals_pb2.ListApprovalsRequest(resource_id=[resource_id], status=["PENDING"])
        return list((await self.ask(CHECKER, "ListApprovals", request)).approvals)

    async def waiting(self, resource_id: str) -> Any:
        """What waits about it in the inbox, as a second person reads it."""
        [found] = await self.list_waiting(resource_id)
        return await self.ask(CHECKER, "GetApproval", approvals_pb2.GetApprovalRequest(approval_id=found.approval_id))

    async def grant(self, approval: Any, principal: Principal = CHECKER) -> Any:
        """The second person's yes to what was read."""
        request = approvals_pb2.ApproveApprovalRequest(
            idempotency_key=new_id("key"),
            approval_id=approval.approval_id,
            content_hash=approval.content_hash,
            etag=approval.etag,
        )
        return await self.ask(principal, "ApproveApproval", request)

    async def hook(self, event_id: str, payment_id: str, kind: str = "payment.changed") -> Any:
        """The bank says by a webhook that something is new about a payment."""
        body = HttpBody(data=f"{event_id} {kind} {payment_id}".encode())
        return await self.ask(ADMIN, "ReceiveSandboxWebhook", webhooks_pb2.ReceiveSandboxWebhookRequest(body=body))

    async def ask_for_replay(self, made: Any) -> Approval:
        """A webhook says that the transaction settled; admin-1 wants it applied again."""
        await self.work()
        await self.hook("evt_1", self.bank.report(made.transaction_id, PaymentStatus.SETTLED))
        await self.work()
        return await self.ask_to_apply_again()

    async def ask_to_apply_again(self) -> Approval:
        """Admin-1 wants the only webhook applied again."""
        [hook] = (await self.ask(ADMIN, "ListWebhooks", webhooks_pb2.ListWebhooksRequest())).webhooks
        request = webhooks_pb2.ReplayWebhookRequest(idempotency_key=new_id("key"), webhook_id=hook.webhook_id)
        asked: Approval = (await self.ask(ADMIN, "ReplayWebhook", request)).approval
        return asked

    async def expire_approvals(self) -> None:
        """Writes down what nobody decided in time."""
        [job] = [
            job
            for job in build_approval_jobs(NAME, self.dependencies, self.approvals)
            if job.name == "expire_approvals"
        ]
        await job.run()

    async def confirm(self, account: Any, *, cooled_down: bool = True) -> Any:
        """The account, confirmed by a second person, a day ago unless said otherwise."""
        now, waiting = self.clock.now(), await self.waiting(account.bank_account_id)
        self.clock.set(now - COOL_DOWN if cooled_down else now)
        await self.grant(waiting)
        self.clock.set(now)
        request = bank_pb.GetBankAccountRequest(bank_account_id=account.bank_account_id)
        return await self.ask(ADMIN, "GetBankAccount", request)

    async def deposit_request(self, party_id: str = "inv-001", suffix: str = "02", **more: Any) -> Any:
        """A contribution by ACH that nothing stands against."""
        account = await self.bank_account(party_id, suffix)
        values: dict[str, Any] = {
            "idempotency_key": new_id("key"),
            "type": pb.Transaction.ESCROW_DEPOSIT,
            "payment_method": pb.Transaction.ACH,
            "amount": usd(100_00),
            "escrow_account_id": ESCROW_ACCOUNT,
            "party_id": party_id,
            "bank_account_id": account.bank_account_id,
            "investment_id": self.distributions.invest(party_id, 1_000_00),
        }
        return pb.CreateTransactionRequest(**values | more)  # what a test says goes over what stands here

    async def deposit(self, party_id: str = "inv-001", suffix: str = "02", **more: Any) -> Any:
        """Ordered by a service in an admin's name: what an admin orders alone waits for a second person."""
        return await self.ask(IMPORT, "CreateTransaction", await self.deposit_request(party_id, suffix, **more))

    async def payout(self, party_id: str = "inv-001", suffix: str = "01", *, owed: bool = True, **more: Any) -> Any:
        """A payout of 50.00 to a party with a bank account; escrow has the money for it, if it is `owed`."""
        await self.confirm(await self.bank_account(party_id, suffix))
        if owed:
            self.owe(party_id)
        return await self.payout_to(None, party_id, **more)

    async def payout_to(
        self,
        bank_account_id: str | None,
        party_id: str,
        *,
        approved: bool = False,
        released_minor: int = 0,
        has_entries_by_hand: bool = False,
        makers_and_checkers: Sequence[str] = (),
        **more: Any,
    ) -> Any:
        """The transaction, or the result that says why there is none. None is the party's default account.

        Args:
            approved: Whether two persons decided on the refund that it is.
            released_minor: What a closing took of the investment that it gives back of.
            has_entries_by_hand: Persons posted some of that.
            makers_and_checkers: Who asked for it at distributions, and who approved it there.
        """
        values: dict[str, Any] = {
            "idempotency_key": new_id("key"),
            "type": pb.Transaction.DISTRIBUTION,
            "amount": usd(50_00),
            "escrow_account_id": ESCROW_ACCOUNT,
            "party_id": party_id,
            "bank_account_id": bank_account_id,
        }
        item = payouts_pb2.BatchCreatePayoutsRequest.Item(**values | more)
        self.distributions.order(
            [item],
            approved=approved,
            released_minor=released_minor,
            has_entries_by_hand=has_entries_by_hand,
            makers_and_checkers=makers_and_checkers,
        )
        answer = await self.ask(
            DISTRIBUTIONS, "BatchCreatePayouts", payouts_pb2.BatchCreatePayoutsRequest(items=[item])
        )
        result = answer.results[0]
        return result.transaction if result.HasField("transaction") else result

    def owe(self, party_id: str) -> None:
        """Escrow has enough for any payout to the party: declared, released, or contributed."""
        for source in (f"payable:{party_id}", "issuer_proceeds", f"subscription:{party_id}"):
            self.escrow.post(ESCROW_ACCOUNT, JournalEntry.ADJUSTMENT, "cash", source, 1_000_000_00)

    async def get(self, transaction_id: str, principal: Principal = ADMIN) -> Any:
        return await self.ask(principal, "GetTransaction", pb.GetTransactionRequest(transaction_id=transaction_id))

    async def path(self, transaction_id: str) -> list[str]:
        """The statuses a transaction went through."""
        request = pb.ListTransactionStatusChangesRequest(transaction_id=transaction_id)
        answer = await self.ask(ADMIN, "ListTransactionStatusChanges", request)
        assert [move.aggregate_version for move in answer.status_changes] == list(
            range(1, len(answer.status_changes) + 1)
        )
        return [pb.Transaction.Status.Name(move.status) for move in answer.status_changes]

    async def events(self, transaction_id: str) -> list[str]:
        """The names of its events, in order."""
        async with self.database.begin_for_all() as tx:
            rows = await tx.execute(
                sa.text("SELECT event_type FROM outbox WHERE aggregate_id = :id ORDER BY id"), {"id": transaction_id}
            )
            return [row.event_type.rsplit(".", 1)[1] for row in rows]

    async def hurry(self) -> None:
        """Makes every lease and back-off run out now: what waits by the machine's clock is due."""
        async with self.database.begin_for_all() as tx:
            past = sa.func.clock_timestamp() - sa.text("interval '1 second'")
            t = transactions.c
            await tx.execute(sa.update(transactions).where(t.due_at.is_not(None)).values(due_at=past))
            await tx.execute(
                sa.text("UPDATE received_webhooks SET due_at = clock_timestamp() WHERE due_at IS NOT NULL")
            )

    async def work(self, *, hurried: bool = False) -> None:
        """Runs every job until none finds anything to do; the one that asks for an end only when hurried."""
        if hurried:
            await self.hurry()
            await self.run(look_up_submitted)
        jobs = [job for job in build_jobs(self.dependencies) if job.name != look_up_submitted.__name__]
        finder = WorkFinder(self.database, self.clock, jobs, {})
        for _ in range(50):
            found = (await finder.find()).due
            if not sum([await job.run() for job in jobs if job.work is None or job.name in found]):
                return
        raise AssertionError("the jobs found no end")
