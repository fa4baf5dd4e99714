"""Contributions from REST to the funded investment, through everything: gateway, services, PostgreSQL, NATS, the bank.

- One contribution is a commitment and its ACH debit over REST, the bank's settlement, what the book posts, and the
  investment that counts it. Several investors pay in, by several callers.
- First the bank settles at once. Then it holds very many back and, when the clock moves, settles all of them together.
- The callers are threads of the benchmark on the same cores. Their CPU is not counted, but they have it.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import TypeVar

import asyncpg

from demo.harness.bank import AT_ONCE, TWO_DAYS_LATER, open_bank
from demo.harness.rest import Json
from deploy.local.instance import Instance
from tests.e2e.organization import Organization
from tests.performance.measure import Results
from tests.performance.usage import read_cpu

T = TypeVar("T")

INVESTORS, CALLERS = 16, 16
AMOUNT_MINOR = 100_00
_WARMED_BY = 16
_POLL_SECONDS, _SECONDS_MAX = 0.05, 600.0
_AFTERWARDS_SECONDS = 2.0  # what is still done when an investment is funded belongs to its contribution
_FUNDED = "SELECT count(*) FROM investments WHERE org_id = $1 AND offering_id = $2 AND funded_minor = amount_minor"
_AT_THE_BANK = (
    "SELECT count(*) FROM transactions WHERE org_id = $1 AND escrow_account_id = $2 AND status = 'PENDING_SETTLEMENT'"
)
_BOOKED = (
    "SELECT (debits_posted / $3)::bigint FROM ledger_accounts"
    " WHERE org_id = $1 AND escrow_account_id = $2 AND kind = 'CASH'"
)


class Flow:
    """An organization with its investors, and connections that look how far things are."""

    def __init__(self, instance: Instance, threads: ThreadPoolExecutor) -> None:
        self._instance, self._threads = instance, threads
        self._org = Organization(instance, check=None)
        self._bank = open_bank(instance)
        self._investors: list[str] = []
        self._connections: dict[str, asyncpg.Connection] = {}

    @classmethod
    async def measure(cls, instance: Instance, results: Results, count: int, together: int) -> None:
        """`count` contributions that settle at once, and `together` that settle at one moment."""
        with ThreadPoolExecutor(CALLERS) as threads:
            flow = cls(instance, threads)
            try:
                await flow._do(flow._open)
                for name in ("transactions", "escrow", "distributions"):
                    flow._connections[name] = await asyncpg.connect(instance.database_url(name))
                await flow._contribute_at_once(results, count)
                await flow._settle_together(results, together)
            finally:
                for connection in flow._connections.values():
                    await connection.close()
                flow._org.close()
                flow._bank.close()

    def _open(self) -> None:
        self._investors = [self._org.add_cleared_party() for _ in range(INVESTORS)]

    def _open_offering(self, count: int, test_value: int) -> tuple[Json, dict[str, str]]:
        """An offering with room for so many, and each investor's bank account that behaves so."""
        accounts = {investor: self._org.add_bank_account(investor, test_value) for investor in self._investors}
        for account in accounts.values():
            self._org.confirm_bank_account(account)
        return self._org.open_offering(count * AMOUNT_MINOR), accounts

    async def _contribute_at_once(self, results: Results, count: int) -> None:
        offering, accounts = await self._do(lambda: self._open_offering(count + _WARMED_BY, AT_ONCE))
        await self._contribute(offering, accounts, _WARMED_BY)
        await self._wait("distributions", _FUNDED, offering["offeringId"], _WARMED_BY)
        used, began = read_cpu(self._instance), time.perf_counter()
        await self._contribute(offering, accounts, count)
        await self._wait("distributions", _FUNDED, offering["offeringId"], _WARMED_BY + count)
        seconds = time.perf_counter() - began
        await asyncio.sleep(_AFTERWARDS_SECONDS)
        cpu = read_cpu(self._instance)
        cpu.subtract(used)
        results.note("contribution", per_second=count / seconds, cpu_ms=1000 * sum(cpu.values()) / count)
        for name, its in cpu.items():
            results.note(f"contribution, {name}", cpu_ms=1000 * its / count)

    async def _settle_together(self, results: Results, count: int) -> None:
        offering, accounts = await self._do(lambda: self._open_offering(count, TWO_DAYS_LATER))
        account = offering["escrowAccountId"]
        began = time.perf_counter()
        await self._contribute(offering, accounts, count)
        await self._wait("transactions", _AT_THE_BANK, account, count)
        results.note("submitted", per_second=count / (time.perf_counter() - began))
        newest = await self._do(self._find_newest_payment)
        settles_at = datetime.fromisoformat(f"{newest['expected_settlement_date']}T00:00:00+00:00")
        self._org.move_clock(settles_at + timedelta(seconds=1))
        booked = asyncio.create_task(self._wait("escrow", _BOOKED, account, count, AMOUNT_MINOR))
        # It settles them in the order in which it got them.
        await self._do(self._wait_for_the_bank)
        settled = time.perf_counter()
        await booked
        results.note("settled together", seconds=time.perf_counter() - settled)

    async def _contribute(self, offering: Json, accounts: dict[str, str], count: int) -> None:
        turns = itertools.islice(itertools.cycle(accounts.items()), count)
        await asyncio.gather(*[self._do(lambda turn=turn: self._contribute_once(offering, *turn)) for turn in turns])

    def _contribute_once(self, offering: Json, investor: str, account: str) -> None:
        investment = self._org.invest(offering, investor, AMOUNT_MINOR)
        body = self._org.build_contribution(offering, investment, account)
        self._org.sign_in_investor(investor).post("/transactions", body)

    def _wait_for_the_bank(self) -> None:
        while self._find_newest_payment()["status"] != "settled":
            time.sleep(_POLL_SECONDS)

    def _find_newest_payment(self) -> Json:
        return self._bank.get("/payments", limit="1")["data"][0]

    async def _wait(self, service: str, question: str, about: str, wanted: int, *arguments: int) -> None:
        """Until the service's database counts as many."""
        deadline = time.monotonic() + _SECONDS_MAX
        asked = self._connections[service]
        while (found := await asked.fetchval(question, self._org.org_id, about, *arguments) or 0) < wanted:
            assert time.monotonic() < deadline, f"{found} of {wanted} contributions are where they should be"
            await asyncio.sleep(_POLL_SECONDS)

    async def _do(self, work: Callable[[], T]) -> T:
        """In a thread: REST clients wait for their answers."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)
