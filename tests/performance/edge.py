"""A running instance as its callers see it over gRPC: postings and the five required reads, beside an empty RPC.

The caller is one Python process on the same machine, so half of what a call costs is the caller's own.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import asyncpg
import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc
from realco.distributions.v1 import distributions_pb2, distributions_pb2_grpc
from realco.escrow.v1 import bulk_postings_pb2, escrow_accounts_pb2, journal_pb2
from realco.escrow.v1.bulk_postings_pb2_grpc import BulkPostingsServiceStub
from realco.escrow.v1.escrow_accounts_pb2_grpc import EscrowAccountsServiceStub
from realco.escrow.v1.journal_pb2_grpc import JournalServiceStub
from realco.transactions.v1 import transactions_pb2, transactions_pb2_grpc

from deploy.local.channels import credentials_of, options_of
from deploy.local.instance import Instance
from services.chassis.calls.wire import to_timestamp
from services.chassis.data.seals import Seals
from services.distributions.tables import metadata as distributions_tables
from services.escrow.tables import metadata as escrow_tables
from services.transactions.tables import metadata as transactions_tables
from tests.performance import importer, load
from tests.performance.measure import Cpu, Results, Sample, run_callers, run_for

UNARY_CALLERS = 64
BATCH, BATCH_CALLERS, STREAMS = 100, 32, 8
READERS = (1, 16, 128)
CALCULATORS = (1, 4)
# What is required of each: milliseconds that half and nineteen of twenty calls may take, and how many ask at once.
READ_TARGETS: dict[str, tuple[float, float, tuple[int, ...]]] = {
    "transaction by id": (5, 10, READERS),
    "50 newest of a party": (15, 30, READERS),
    "escrow balance": (3, 8, READERS),
    "escrow balance, 1,000 investors": (3, 8, READERS),
    "30-day ledger, page of 100": (20, 40, READERS),
    "distribution of 1,000 investors": (100, 200, CALCULATORS),
}
_CONNECTIONS = 16  # the 128 callers of a statement share them, as those of a service do
_SECONDS = 30.0
_MESSAGE_BYTES_MAX = 16 * 1024 * 1024

_TRANSACTION = "SELECT * FROM transactions WHERE org_id = $1 AND transaction_id = $2"
_LIST = (
    "SELECT * FROM transactions WHERE org_id = $1 AND party_id = $2"
    " ORDER BY created_at DESC, transaction_id DESC LIMIT 51"
)
_BALANCE = (
    "SELECT kind, sum(debits_posted), sum(credits_posted), sum(debits_pending),"
    " sum(credits_pending), sum(held) FROM ledger_accounts WHERE org_id = $1 AND escrow_account_id = $2 GROUP BY 1"
)
_LEDGER = (
    "SELECT l.*, a.kind, a.party_id, j.journal_entry_id, j.type, j.description FROM ledger_entries l"
    " JOIN ledger_accounts a ON a.account_no = l.account_no"
    " JOIN journal_entries j ON j.escrow_no = l.escrow_no AND j.sequence = l.journal_sequence"
    " WHERE l.escrow_no = (SELECT escrow_no FROM escrow_accounts WHERE org_id = $1 AND escrow_account_id = $2)"
    " AND l.journal_sequence > $3"
    " ORDER BY l.journal_sequence DESC, l.leg DESC LIMIT 101"
)


@dataclass(frozen=True)
class Read:
    """`call(caller, number)` asks a service over gRPC; `sql` is what that comes down to, where it is one statement."""

    name: str
    service: str
    call: Callable[[int, int], Awaitable[Any]]
    sql: str = ""
    arguments: Callable[[], tuple[Any, ...]] = tuple


def _seals_of(instance: Instance, service: str) -> Seals:
    """What the running service seals its rows with."""
    return Seals([bytes.fromhex(instance.identity.keys.data_key(service))])


class Edge:
    """The channels, tokens and connections of a run."""

    def __init__(self, instance: Instance, scale: int) -> None:
        self._scale = scale
        self._dice = random.Random(1)
        self._metadata, self._other_metadata = (
            (("authorization", f"Bearer {instance.issue_token('admin', sub, org=load.ORG)}"),)
            for sub in ("admin-1", "admin-2")
        )
        self._importer = importer.sign_in(instance)
        self._urls = {name: instance.database_url(name) for name in ("transactions", "escrow", "distributions")}
        credentials = credentials_of(instance.identity, importer.NAME)
        limit = [("grpc.max_receive_message_length", _MESSAGE_BYTES_MAX)]
        self._channels = {
            name: grpc.aio.secure_channel(instance.grpc_address(name), credentials, options=[*options_of(name), *limit])
            for name in self._urls
        }
        self._cpu = {name: cpu_of(instance, name) for name in self._urls}
        health: Any = health_pb2_grpc.HealthStub  # has no types
        self._health = health(self._channels["escrow"])
        self._accounts = EscrowAccountsServiceStub(self._channels["escrow"])
        self._journal = JournalServiceStub(self._channels["escrow"])
        self._bulk = BulkPostingsServiceStub(self._channels["escrow"])
        self._transactions = transactions_pb2_grpc.TransactionsServiceStub(self._channels["transactions"])
        self._distributions = distributions_pb2_grpc.DistributionsServiceStub(self._channels["distributions"])
        self._pools: dict[str, asyncpg.Pool] = {}

    @classmethod
    async def prepare(cls, instance: Instance, scale: int) -> Self:
        edge = cls(instance, scale)
        for name, url in edge._urls.items():
            edge._pools[name] = await asyncpg.create_pool(url, min_size=1, max_size=_CONNECTIONS)
        async with edge._pools["escrow"].acquire() as connection:
            await load.load_book(connection, _seals_of(instance, "escrow"), scale)
        async with edge._pools["transactions"].acquire() as connection:
            await load.load_transactions(connection, scale)
        async with edge._pools["distributions"].acquire() as connection:
            await load.load_offerings(connection)
        tables = {
            "escrow": escrow_tables,
            "transactions": transactions_tables,
            "distributions": distributions_tables,
        }
        for name, metadata in tables.items():
            await load.seal_tables(edge._urls[name], _seals_of(instance, name), metadata)
        return edge

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()
        for pool in self._pools.values():
            await pool.close()

    async def check(self) -> None:
        """The book on which everything was posted ties out. Raises: AssertionError."""
        request = journal_pb2.GetTrialBalanceRequest(escrow_account_id=load.escrow_account_id(load.HOT))
        found = await self._journal.GetTrialBalance(request, metadata=self._metadata, timeout=_SECONDS)
        assert found.balanced, f"the trial balance is off by {found.difference.amount_minor}"

    # --- postings ---------------------------------------------------------------------------------------------------

    async def postings_round(self, results: Results, count: int) -> None:
        unary, cpu = count // 5, self._cpu["escrow"]
        nothing = [health_pb2.HealthCheckRequest()] * unary
        results.add("gRPC, empty", await run_callers(nothing, UNARY_CALLERS, self._ask_health, cpu=cpu))
        asked = [self._unary(n) for n in range(unary)]
        results.add("gRPC, unary", await run_callers(asked, UNARY_CALLERS, self._post_one, cpu=cpu))
        for callers in (1, 8, 128):
            asked = [self._unary(n) for n in range(max(50, unary // 10))]
            results.add(f"gRPC, unary, {callers} in flight", await run_callers(asked, callers, self._post_one, cpu=cpu))
        for name, spread in (("hot", False), ("spread", True)):
            batches = [self._batch(n % load.SPREAD + 1 if spread else load.HOT) for n in range(count // BATCH)]
            callers = min(BATCH_CALLERS, len(batches))
            results.add(
                f"gRPC, batches, {name}", await run_callers(batches, callers, self._post_together, each=BATCH, cpu=cpu)
            )
            each = max(1, count // BATCH // STREAMS)
            streams = [
                [self._streamed(n % load.SPREAD + 1 if spread else load.HOT) for n in range(number, number + each)]
                for number in range(0, STREAMS * each, each)
            ]
            streamed = await run_callers(streams, STREAMS, self._stream, each=BATCH * each, cpu=cpu)
            results.add(f"gRPC, streams, {name}", streamed)

    async def _ask(self, _caller: int, _number: int) -> None:
        await self._ask_health(health_pb2.HealthCheckRequest())

    async def _ask_health(self, request: health_pb2.HealthCheckRequest) -> None:
        await self._health.Check(request, timeout=_SECONDS)

    def _as_importer(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self._importer.token('escrow')}"), ("x-realco-org", load.ORG))

    async def _post_one(self, request: journal_pb2.PostJournalEntryRequest) -> None:
        await self._journal.PostJournalEntry(request, metadata=self._as_importer(), timeout=_SECONDS)

    async def _post_together(self, request: journal_pb2.BatchPostJournalEntriesRequest) -> None:
        answer = await self._journal.BatchPostJournalEntries(request, metadata=self._as_importer(), timeout=_SECONDS)
        assert all(result.HasField("journal_entry") for result in answer.posted.results), "a posting was refused"

    async def _stream(self, requests: Sequence[bulk_postings_pb2.StreamPostJournalEntriesRequest]) -> None:
        call = self._bulk.StreamPostJournalEntries(iter(requests), metadata=self._as_importer(), timeout=_SECONDS)
        async for answer in call:
            assert all(result.HasField("journal_entry") for result in answer.results), "a posting was refused"

    def _unary(self, number: int) -> journal_pb2.PostJournalEntryRequest:
        return journal_pb2.PostJournalEntryRequest(
            idempotency_key=uuid.uuid4().hex,
            escrow_account_id=load.escrow_account_id(load.HOT),
            journal_entry=_contribution(number % load.INVESTORS),
        )

    def _batch(self, account: int) -> journal_pb2.BatchPostJournalEntriesRequest:
        return journal_pb2.BatchPostJournalEntriesRequest(
            escrow_account_id=load.escrow_account_id(account), items=_items()
        )

    def _streamed(self, account: int) -> bulk_postings_pb2.StreamPostJournalEntriesRequest:
        return bulk_postings_pb2.StreamPostJournalEntriesRequest(
            escrow_account_id=load.escrow_account_id(account), items=_items()
        )

    # --- reads ------------------------------------------------------------------------------------------------------

    async def reads_round(self, results: Results, seconds: float) -> None:
        for callers in READERS:
            results.add(f"gRPC, empty, {callers}", await run_for(seconds, callers, self._ask, cpu=self._cpu["escrow"]))
        for read in self.reads():
            await read.call(0, 0)
            for callers in READ_TARGETS[read.name][2]:
                sample = await run_for(seconds, callers, read.call, cpu=self._cpu[read.service])
                results.add(f"{read.name}, {callers}", sample)
                if read.sql:
                    results.add(f"{read.name}, {callers}, SQL", await self._query(read, callers, seconds / 2))

    async def _query(self, read: Read, callers: int, seconds: float) -> Sample:
        pool = self._pools[read.service]

        async def query(_caller: int, _number: int) -> None:
            await pool.fetch(read.sql, *read.arguments())

        await query(0, 0)
        return await run_for(seconds, callers, query)

    def reads(self) -> list[Read]:
        """What the user requires."""
        book = (load.ORG, load.escrow_account_id(load.HOT))
        last_month = self._scale * 2 // 3  # entries are evenly laid over 90 days
        return [
            Read("transaction by id", "transactions", self._get, _TRANSACTION, self._any_transaction),
            Read("50 newest of a party", "transactions", self._list, _LIST, lambda: (load.ORG, load.LISTED_PARTY)),
            Read("escrow balance", "escrow", self._small_balance, _BALANCE, self._any_account),
            Read("escrow balance, 1,000 investors", "escrow", self._large_balance, _BALANCE, lambda: book),
            Read("30-day ledger, page of 100", "escrow", self._ledger, _LEDGER, lambda: (*book, last_month)),
            Read("distribution of 1,000 investors", "distributions", self._calculate),
        ]

    def _any_transaction(self) -> tuple[Any, ...]:
        return load.ORG, load.transaction_id(self._dice.randint(1, self._scale))

    def _any_account(self) -> tuple[Any, ...]:
        return load.ORG, load.escrow_account_id(self._dice.randint(1, load.SPREAD))

    async def _get(self, _caller: int, _number: int) -> None:
        request = transactions_pb2.GetTransactionRequest(transaction_id=self._any_transaction()[1])
        await self._transactions.GetTransaction(request, metadata=self._metadata, timeout=_SECONDS)

    async def _list(self, _caller: int, _number: int) -> None:
        request = transactions_pb2.ListTransactionsRequest(party_id=[load.LISTED_PARTY], page_size=50)
        answer = await self._transactions.ListTransactions(request, metadata=self._metadata, timeout=_SECONDS)
        assert len(answer.transactions) == 50, "the party has fewer transactions than a page"

    async def _small_balance(self, _caller: int, _number: int) -> None:
        await self._balance(self._any_account()[1])

    async def _large_balance(self, _caller: int, _number: int) -> None:
        await self._balance(load.escrow_account_id(load.HOT))

    async def _balance(self, account: str) -> None:
        request = escrow_accounts_pb2.GetEscrowAccountBalanceRequest(escrow_account_id=account)
        await self._accounts.GetEscrowAccountBalance(request, metadata=self._metadata, timeout=_SECONDS)

    async def _ledger(self, _caller: int, _number: int) -> None:
        request = journal_pb2.ListLedgerEntriesRequest(
            escrow_account_id=load.escrow_account_id(load.HOT),
            from_time=to_timestamp(datetime.now(UTC) - timedelta(days=30)),
            page_size=100,
        )
        answer = await self._journal.ListLedgerEntries(request, metadata=self._metadata, timeout=_SECONDS)
        assert len(answer.ledger_entries) == 100, "the month has fewer entries than a page"

    async def _calculate(self, caller: int, number: int) -> None:
        """What another person has calculated is replaced; what the same person has stays as it is."""
        request = distributions_pb2.CalculateDistributionRequest(distribution_id=load.distribution_id(caller))
        metadata = self._metadata if number % 2 else self._other_metadata
        await self._distributions.CalculateDistribution(request, metadata=metadata, timeout=_SECONDS)


def cpu_of(instance: Instance, name: str) -> Cpu:
    """Of the process of that name, as long as it is the same one."""
    process = psutil.Process(instance.read_pid(name))
    return lambda: sum(process.cpu_times()[:2])


def _items() -> list[journal_pb2.BatchPostJournalEntriesRequest.Item]:
    item = journal_pb2.BatchPostJournalEntriesRequest.Item
    return [item(idempotency_key=uuid.uuid4().hex, journal_entry=_contribution(n)) for n in range(BATCH)]


def _contribution(investor: int) -> journal_pb2.NewJournalEntry:
    entry = journal_pb2.LedgerEntry
    amount: Any = {"currency_code": "USD", "amount_minor": load.AMOUNT_MINOR}
    return journal_pb2.NewJournalEntry(
        type=journal_pb2.JournalEntry.DEPOSIT,
        description="Contribution",
        legs=[
            journal_pb2.Leg(ledger_account={"kind": "CASH"}, direction=entry.DEBIT, amount=amount),
            journal_pb2.Leg(
                ledger_account={"kind": "SUBSCRIPTION", "party_id": load.investor_id(investor)},
                direction=entry.CREDIT,
                amount=amount,
            ),
        ],
    )
