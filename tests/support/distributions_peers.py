"""The peers of the distributions service as small in-memory services.

They keep the promises their protos make (a key used again gives the first answer), and can be cut off: before the
effect, after it, or by a kill that leaves the caller dead in the middle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeVar

from google.protobuf.message import Message
from realco.compliance.v1 import compliance_pb2 as compliance
from realco.escrow.v1 import escrow_pb2 as escrow
from realco.escrow.v1 import events_pb2 as escrow_events
from realco.transactions.v1 import events_pb2 as transactions_events
from realco.transactions.v1 import transactions_pb2 as transactions
from realco.type.v1 import money_pb2

from services.chassis.calls.auth import current_principal
from services.chassis.values.errors import Kind, Refused, Unavailable
from services.chassis.values.ids import new_id
from tests.support.ledger_accounts import ledger_account

Txn = transactions.Transaction
Entry, Leg = escrow.JournalEntry, escrow.LedgerEntry
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
        self.persons: dict[str, str] = {}  # for whom each call was last made

    def fail(self, call: str, *how: str) -> None:
        """`lost` before the effect, `unanswered` after it, `killed` and `killed_after`: the caller dies there."""
        self.faults.setdefault(call, []).extend(how)

    def begin(self, call: str, request: Message) -> str:
        self.calls.append((call, request))
        self.persons[call] = current_principal().person
        fault = self.faults.get(call, [])
        how = fault.pop(0) if fault else ""
        if how == "lost":
            raise Unavailable("lost")
        if how == "killed":
            raise Killed
        return how

    def end(self, how: str) -> None:
        if how == "unanswered":
            raise Unavailable("no answer")
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
                Leg(
                    ledger_account=ledger_account(code),
                    direction=Leg.CREDIT if minor > 0 else Leg.DEBIT,
                    amount=usd(abs(minor)),
                    layer=Leg.POSTED,
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
                escrow.LedgerAccountBalance(
                    ledger_account=ledger_account(code), posted=usd(minor), available=usd(minor)
                )
                for (account, code), minor in sorted(self.book.items())
                if account == escrow_account_id
            ]
        )

    async def get_trial_balance(self, escrow_account_id: str) -> escrow.TrialBalance:
        self.wire.end(self.wire.begin("get_trial_balance", escrow.GetTrialBalanceRequest()))
        return escrow.TrialBalance(escrow_account_id=escrow_account_id, balanced=self.balanced)

    async def release_subscriptions(self, request: escrow.ReleaseSubscriptionsRequest) -> escrow.JournalEntry:
        legs = [(f"subscription:{part.party_id}", -part.amount.amount_minor) for part in request.subscriptions]
        total = sum(part.amount.amount_minor for part in request.subscriptions)
        return self._once("release_subscriptions", request, Entry.RELEASE, [*legs, ("issuer_proceeds", total)])

    async def declare_distribution(self, request: escrow.DeclareDistributionRequest) -> escrow.JournalEntry:
        legs = [(f"payable:{part.party_id}", part.amount.amount_minor) for part in request.payables]
        total = sum(part.amount.amount_minor for part in request.payables)
        return self._once("declare_distribution", request, Entry.DISTRIBUTION, [("distributable", -total), *legs])

    def _once(self, call: str, request: Any, kind: int, legs: Sequence[tuple[str, int]]) -> escrow.JournalEntry:
        how = self.wire.begin(call, request)
        if call in self.refuse:
            raise self.refuse.pop(call)
        body = request.SerializeToString(deterministic=True)
        known = self.answers.get(request.idempotency_key)
        if known is None:
            known = (body, self._entry(request.escrow_account_id, kind, legs))
            self.answers[request.idempotency_key] = known
        if known[0] != body:
            raise refused(Kind.FAILED_PRECONDITION, "IDEMPOTENCY_KEY_REUSED")
        self.wire.end(how)
        return known[1]


class MemoryTransactions:
    """Payouts by key. The test moves them; each move gives the event that tells of it."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
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
        result = transactions.BatchCreatePayoutsResponse.Result(idempotency_key=item.idempotency_key)
        if item.party_id in self.refuse:
            result.refusal.CopyFrom(Txn.Failure(code=self.refuse[item.party_id], message="no"))
            return result
        if item.idempotency_key not in self.by_key:
            self.by_key[item.idempotency_key] = Txn(
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
        result.transaction.CopyFrom(self.by_key[item.idempotency_key])
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
