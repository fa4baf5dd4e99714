"""A book to ask, in memory and real, with what people do to it; and the clients of the services that ask."""

from __future__ import annotations

from typing import Any

from realco.escrow.v1 import escrow_accounts_pb2 as accounts_pb
from realco.escrow.v1 import journal_pb2 as journal_pb
from realco.escrow.v1 import postings_pb2 as postings_pb

from services.chassis.calls.auth import Principal, acting_as
from services.chassis.values.errors import DomainError
from services.distributions import clients as distributions_clients
from services.transactions.clients import EscrowClient
from tests.support.escrow import Escrow
from tests.support.ledger_accounts import name_of
from tests.support.peers.escrow import MemoryEscrow
from tests.support.peers.wire import Wire


class MemoryBook:
    """The fake, and what people do to it."""

    def __init__(self) -> None:
        self._memory = MemoryEscrow()
        self.servicers = (self._memory,)
        self.org_id = "org-1"

    async def open(self, currency: str = "USD") -> str:
        return self._memory.open(currency)

    async def fund(self, account: str, name: str, minor: int) -> None:
        self._memory.post(account, journal_pb.JournalEntry.ADJUSTMENT, "cash", name, minor)

    def commit(self, account: str, party_id: str) -> None:
        self._memory.committed[account] = {party_id}

    async def hold(self, account: str, name: str, minor: int) -> str:
        return self._memory.hold(account, name, minor)

    async def freeze(self, account: str) -> None:
        self._memory.accounts[account].status = accounts_pb.EscrowAccount.FROZEN

    async def unfreeze(self, account: str) -> None:
        self._memory.accounts[account].status = accounts_pb.EscrowAccount.ACTIVE

    def order_set_offs(self, *items: postings_pb.SetOffReceivablesRequest.Payout) -> None:
        """It asks nobody whether they are ordered."""

    async def close(self, account: str) -> None:
        self._memory.accounts[account].status = accounts_pb.EscrowAccount.CLOSED


class RealBook:
    """The service, and what people do to it."""

    def __init__(self, escrow: Escrow) -> None:
        self._escrow = escrow
        self.servicers = escrow.servicers
        self.org_id = escrow.org_id

    async def open(self, currency: str = "USD") -> str:
        return await self._escrow.open(currency=currency)

    async def fund(self, account: str, name: str, minor: int) -> None:
        await self._escrow.post(account, ("cash", minor), (name, -minor))

    def commit(self, account: str, party_id: str) -> None:
        self._escrow.distributions.committed[account] = {party_id}

    async def hold(self, account: str, name: str, minor: int) -> str:
        return (await self._escrow.hold(account, name, minor)).hold_id

    async def freeze(self, account: str) -> None:
        await self._escrow.freeze(account)

    async def unfreeze(self, account: str) -> None:
        await self._escrow.unfreeze(account)

    def order_set_offs(self, *items: postings_pb.SetOffReceivablesRequest.Payout) -> None:
        self._escrow.order_set_offs(*items)

    async def close(self, account: str) -> None:
        await self._escrow.call("CloseEscrowAccount", accounts_pb.CloseEscrowAccountRequest(escrow_account_id=account))


class Callers:
    """The clients of the two services that ask escrow, at work for admin-1."""

    def __init__(self, book: MemoryBook | RealBook) -> None:
        self.admin = Principal("admin-1", "admin", book.org_id)
        self.of_transactions = EscrowClient(Wire("transactions").open_channel(*book.servicers))
        self.of_distributions = distributions_clients.EscrowClient(Wire("distributions").open_channel(*book.servicers))

    async def book_payouts(self, *items: postings_pb.BatchBookPayoutsRequest.Item) -> list[journal_pb.PostingResult]:
        with acting_as(self.admin):
            return list(await self.of_transactions.batch_book_payouts(items))

    async def ask(self, method: str, *arguments: Any) -> Any:
        """What distributions is answered; the code and the facts of a refusal."""
        with acting_as(self.admin):
            try:
                return await getattr(self.of_distributions, method)(*arguments)
            except DomainError as refusal:
                return refusal.reason, refusal.metadata


async def balances(callers: Callers, account: str) -> dict[str, int]:
    """What stands on each kind of ledger account, on the side where it grows."""
    answer = await callers.ask("get_escrow_account_balance", account)
    found = {name_of(line.ledger_account): line.available.amount_minor for line in answer.ledger_accounts}
    assert set(found) >= {"cash", "in_transit", "issuer_proceeds", "distributable"}, "they are there without money too"
    return {kind: minor for kind, minor in found.items() if minor}
