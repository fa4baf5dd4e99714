"""Escrow in memory: accounts, a book of posted legs, open holds, and the first decision about each key.

test_peers_escrow.py holds it against the real service, in all that other services read of the answers.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from realco.escrow.v1 import escrow_accounts_pb2 as accounts_pb
from realco.escrow.v1 import holds_pb2 as holds_pb
from realco.escrow.v1 import journal_pb2 as journal_pb
from realco.escrow.v1 import postings_pb2 as postings_pb
from realco.escrow.v1.events_pb2 import JournalEntriesPosted
from realco.transactions.v1.transactions_pb2 import Transaction
from realco.type.v1.money_pb2 import Money

from services.chassis.calls.auth import current_principal
from services.chassis.calls.wire import to_failure
from services.chassis.values.errors import DomainError
from services.chassis.values.failure import make_failure
from services.chassis.values.ids import new_id
from services.chassis.values.refusals import (
    EscrowAccountClosed,
    EscrowAccountFrozen,
    EscrowAccountNotFound,
    IdempotencyKeyReused,
    check_currency,
)
from services.escrow.domain import refusals
from services.escrow.domain.account import Balance, Status
from services.escrow.domain.beneficiaries import Beneficiaries
from services.escrow.domain.chart import Direction, LedgerAccountKind, line_of
from services.escrow.domain.journal import EntryType, Leg, is_by_hand
from services.escrow.domain.previews import Book
from services.escrow.domain.types import require_type
from services.escrow.messages import read_ledger_account
from services.escrow.queries.previews import answer_movement_preview, answer_preview, read_movings
from tests.support.ledger_accounts import ledger_account
from tests.support.peers.journals import MemoryJournals
from tests.support.peers.set_offs import answer_set_offs, build_debt, build_leg, find_source, plan_set_off

_Type, _Leg = journal_pb.JournalEntry, journal_pb.LedgerEntry


class MemoryEscrow(MemoryJournals):
    """Ledger accounts are written as everywhere in tests: `cash`, `payable:inv-001`."""

    def __init__(self) -> None:
        super().__init__()
        self.holds: dict[str, holds_pb.Hold] = {}  # the open ones
        self.submitted: list[str] = []  # the keys of the payouts whose money was taken
        self.balanced = True
        self.committed: dict[str, set[str]] = {}  # escrow account -> who has committed to its offering
        self.set_offs: dict[str, tuple[int, JournalEntriesPosted]] = {}  # by key: how much, and what tells of it
        self.given_up: set[str] = set()  # the keys of payouts of which nothing is to be set off any more
        # By escrow account and transaction; of what is of none, under nothing.
        self._booked: dict[tuple[str, str], list[Leg]] = defaultdict(list)
        self._decisions: dict[tuple[str, str], tuple[bytes, journal_pb.JournalEntry | DomainError]] = {}

    def open(self, currency: str = "USD", *, escrow_account_id: str = "", sponsor: str = "sponsor-1") -> str:
        """The id of a new account."""
        account = accounts_pb.EscrowAccount(
            escrow_account_id=escrow_account_id or new_id("esc"),
            currency_code=currency,
            sponsor_party_id=sponsor,
            status=accounts_pb.EscrowAccount.ACTIVE,
        )
        self.accounts[account.escrow_account_id] = account
        return account.escrow_account_id

    def post(
        self, escrow_account_id: str, entry_type: int, debit: str, credit: str, minor: int, **context: str
    ) -> JournalEntriesPosted:
        """Books one entry of two legs, whatever stands there; the event that tells of it."""
        entry = self._book(escrow_account_id, entry_type, [(debit, -minor), (credit, minor)], context)
        return self.tell(escrow_account_id, entry)

    def hold(self, escrow_account_id: str, name: str, minor: int) -> str:
        """The id of a new hold on a ledger account."""
        hold = holds_pb.Hold(
            hold_id=new_id("hold"),
            escrow_account_id=escrow_account_id,
            ledger_account=ledger_account(name),
            amount=_money(minor, self._find(escrow_account_id).currency_code),
            status=holds_pb.Hold.PLACED,
        )
        self.holds[hold.hold_id] = hold
        return hold.hold_id

    # --- the RPCs ---

    async def GetEscrowAccount(
        self, request: accounts_pb.GetEscrowAccountRequest, _: None
    ) -> accounts_pb.EscrowAccount:
        return self._find(request.escrow_account_id)

    async def GetEscrowAccountBalance(
        self, request: accounts_pb.GetEscrowAccountBalanceRequest, _: None
    ) -> accounts_pb.EscrowAccountBalance:
        currency = self._find(request.escrow_account_id).currency_code
        kinds = Counter({kind: 0 for kind in LedgerAccountKind if not line_of(kind).of_party})
        for (escrow_account_id, name), minor in self.book.items():
            if escrow_account_id == request.escrow_account_id:
                kind = LedgerAccountKind(name.partition(":")[0].upper())
                kinds[kind] += minor if line_of(kind).normal_balance is Direction.CREDIT else -minor
        kept_back = sum(
            minor
            for kind, minor in kinds.items()
            if line_of(kind).normal_balance is Direction.CREDIT and not line_of(kind).counts_as_available
        )
        cash = kinds[LedgerAccountKind.CASH] + min(0, kinds[LedgerAccountKind.IN_TRANSIT])
        return accounts_pb.EscrowAccountBalance(
            escrow_account_id=request.escrow_account_id,
            available=_money(cash - kept_back, currency),
            ledger_accounts=[
                journal_pb.LedgerAccountBalance(
                    ledger_account=ledger_account(kind),
                    posted=_money(minor, currency),
                    available=_money(minor, currency),
                )
                for kind, minor in sorted(kinds.items())
            ],
        )

    async def GetTrialBalance(self, request: journal_pb.GetTrialBalanceRequest, _: None) -> journal_pb.TrialBalance:
        self._find(request.escrow_account_id)
        return journal_pb.TrialBalance(escrow_account_id=request.escrow_account_id, balanced=self.balanced)

    async def ListLedgerAccounts(
        self, request: journal_pb.ListLedgerAccountsRequest, _: None
    ) -> journal_pb.ListLedgerAccountsResponse:
        currency = self._find(request.escrow_account_id).currency_code
        named = sorted(name for id_, name in self.book if id_ == request.escrow_account_id)
        after = named.index(request.page_token) + 1 if request.page_token else 0
        wanted = [name for name in named[after:] if not request.kind or ledger_account(name).kind in request.kind]
        page = wanted[: request.page_size or 50]
        return journal_pb.ListLedgerAccountsResponse(
            ledger_accounts=[
                journal_pb.LedgerAccountBalance(
                    ledger_account=ledger_account(name),
                    posted=_money(self._read_balance(request.escrow_account_id, name).posted_minor, currency),
                    held=_money(self._sum_held(request.escrow_account_id, name), currency),
                    available=_money(self._find_available(request.escrow_account_id, name), currency),
                )
                for name in page
            ],
            next_page_token=page[-1] if len(page) < len(wanted) else "",
        )

    async def ListHolds(self, request: holds_pb.ListHoldsRequest, _: None) -> holds_pb.ListHoldsResponse:
        self._find(request.escrow_account_id)
        found = [
            hold
            for hold in self.holds.values()
            if hold.escrow_account_id == request.escrow_account_id
            and hold.ledger_account.kind in request.kind
            and hold.ledger_account.party_id in request.party_id
        ]
        return holds_pb.ListHoldsResponse(holds=reversed(found))

    async def ReleaseSubscriptions(
        self, request: postings_pb.ReleaseSubscriptionsRequest, _: None
    ) -> journal_pb.JournalEntry:
        legs = [(f"subscription:{part.party_id}", -part.amount.amount_minor) for part in request.subscriptions]
        total = sum(part.amount.amount_minor for part in request.subscriptions)
        currency = request.subscriptions[0].amount.currency_code
        answer, _replayed = self._post(
            "release", request, currency, _Type.RELEASE, [*legs, ("issuer_proceeds", total)], {}, forbids_debts=True
        )
        return _raise_refusal(answer)

    async def DeclareDistribution(
        self, request: postings_pb.DeclareDistributionRequest, _: None
    ) -> journal_pb.JournalEntry:
        legs = [(f"payable:{part.party_id}", part.amount.amount_minor) for part in request.payables]
        total = sum(part.amount.amount_minor for part in request.payables)
        currency = request.payables[0].amount.currency_code
        context = {"distribution_id": request.distribution_id}
        answer, _replayed = self._post(
            "declare", request, currency, _Type.DISTRIBUTION, [("distributable", -total), *legs], context
        )
        return _raise_refusal(answer)

    async def BatchBookPayouts(
        self, request: postings_pb.BatchBookPayoutsRequest, _: None
    ) -> postings_pb.BatchBookPayoutsResponse:
        return postings_pb.BatchBookPayoutsResponse(results=[self._book_payout(item) for item in request.items])

    async def SetOffReceivables(
        self, request: postings_pb.SetOffReceivablesRequest, _: None
    ) -> postings_pb.SetOffReceivablesResponse:
        self.given_up.update(item.idempotency_key for item in request.payouts if request.gives_up)
        return answer_set_offs((item, self._set_off(item)) for item in request.payouts)

    async def ListBeneficiaries(
        self, request: postings_pb.ListBeneficiariesRequest, _: None
    ) -> postings_pb.ListBeneficiariesResponse:
        account = self._find(request.escrow_account_id)
        named = (name.partition(":")[2] for id_, name in self.book if id_ == account.escrow_account_id)
        committed = self.committed.get(account.escrow_account_id, set())
        beneficiaries = Beneficiaries(account.sponsor_party_id, frozenset(named) - {""} | committed)
        owners = beneficiaries.list_owners(read_ledger_account(request.ledger_account, "ledger_account"))
        return postings_pb.ListBeneficiariesResponse(party_ids=sorted(owners))

    async def GetTransactionPreview(
        self, request: postings_pb.GetTransactionPreviewRequest, _: None
    ) -> postings_pb.BookPreview:
        book = self._read_book(request.escrow_account_id, request.transaction_id)
        return answer_preview(request, book, read_movings(request, book.currency))

    async def GetMovementPreview(
        self, request: postings_pb.GetMovementPreviewRequest, _: None
    ) -> postings_pb.BookPreview:
        return answer_movement_preview(request, self._read_book(request.escrow_account_id))

    # --- how they are answered ---

    def _read_book(self, escrow_account_id: str, transaction_id: str = "") -> Book:
        account = self._find(escrow_account_id)
        names = [name for id_, name in self.book if id_ == account.escrow_account_id]
        balances = [self._read_balance(account.escrow_account_id, name) for name in names]
        status = Status(accounts_pb.EscrowAccount.Status.Name(account.status))
        booked = self._booked[escrow_account_id, transaction_id] if transaction_id else ()
        kinds = LedgerAccountKind.RETURNS_RECEIVABLE, LedgerAccountKind.PROVIDER_FEES
        missing = (sum(each.posted_minor for each in balances if each.ledger_account.kind is kind) for kind in kinds)
        totals = sum(each.held_minor for each in balances), *missing
        return Book(status, account.currency_code, {each.ledger_account: each for each in balances}, *totals, booked)

    def _read_balance(self, escrow_account_id: str, name: str) -> Balance:
        account = read_ledger_account(ledger_account(name), "")
        minor = self.book[escrow_account_id, name]
        on_normal_side = minor if line_of(account.kind).normal_balance is Direction.CREDIT else -minor
        return Balance(account, on_normal_side, 0, self._sum_held(escrow_account_id, name))

    def _book_payout(self, item: postings_pb.BatchBookPayoutsRequest.Item) -> journal_pb.PostingResult:
        payout, source = require_type(Transaction.Type.Name(item.type)), find_source(item)
        named = ("transaction_id", "investment_id", "distribution_id")
        context = {name: getattr(item, name) for name in named if getattr(item, name)}
        legs = [(source, -item.amount.amount_minor), ("in_transit", item.amount.amount_minor)]
        entry_type = _Type.Type.Value(payout.entry_type.value)
        currency, payee = item.amount.currency_code, item.party_id
        answer, replayed = self._post("payout", item, currency, entry_type, legs, context, payee=payee)
        result = journal_pb.PostingResult(idempotency_key=item.idempotency_key, replayed=replayed)
        if isinstance(answer, DomainError):
            result.failure.CopyFrom(to_failure(make_failure(answer)))
        else:
            result.journal_entry.CopyFrom(answer)
            self.submitted += [] if replayed else [item.idempotency_key]
        return result

    def _set_off(self, item: postings_pb.SetOffReceivablesRequest.Payout) -> int:
        """How much; the entries that it books are told by `set_offs`, under its key."""
        key, escrow_account_id = item.idempotency_key, item.escrow_account_id
        if key in self.set_offs:
            return self.set_offs[key][0]
        owed_minor = 0 if key in self.given_up else -self.book[escrow_account_id, f"returns_receivable:{item.party_id}"]
        minor = min(item.amount.amount_minor, owed_minor, self._find_available(escrow_account_id, find_source(item)))
        if minor <= 0 or self._find(escrow_account_id).status != accounts_pb.EscrowAccount.ACTIVE:
            return 0
        made = plan_set_off(item, minor, self._entries[escrow_account_id])
        entries = [self._book(escrow_account_id, _Type.SET_OFF, legs, context) for legs, context in made]
        self.set_offs[key] = minor, self.tell(escrow_account_id, *entries)
        return minor

    def _find(self, escrow_account_id: str) -> accounts_pb.EscrowAccount:
        if escrow_account_id not in self.accounts:
            raise EscrowAccountNotFound
        return self.accounts[escrow_account_id]

    def _post(
        self,
        scope: str,
        request: Any,
        currency: str,
        entry_type: int,
        legs: Sequence[tuple[str, int]],
        context: dict[str, str],
        payee: str = "",
        forbids_debts: bool = False,
    ) -> tuple[journal_pb.JournalEntry | DomainError, bool]:
        """The entry or its refusal, and whether an earlier request with the key was given it."""
        key = request.idempotency_key
        body = request.SerializeToString(deterministic=True)
        if (scope, key) in self._decisions:
            first, answer = self._decisions[scope, key]
            if first != body:
                return IdempotencyKeyReused("The key was used with another request.", idempotency_key=key), False
            return answer, True
        try:
            self._check(request.escrow_account_id, currency, legs)
            if payee:
                self._check_payee(request.escrow_account_id, payee, request.amount)
            if forbids_debts:
                self._check_debts(request.escrow_account_id, currency)
        except EscrowAccountNotFound as refusal:
            return refusal, False  # an unknown account decides nothing about the key
        except DomainError as refusal:
            answer = refusal
        else:
            made_by = {"created_by": current_principal().person}
            answer = self._book(request.escrow_account_id, entry_type, legs, made_by | context)
        self._decisions[scope, key] = body, answer
        return answer, False

    def _check(self, escrow_account_id: str, currency: str, legs: Sequence[tuple[str, int]]) -> None:
        """Raises the refusal, if there is one."""
        account = self._find(escrow_account_id)
        if account.status == accounts_pb.EscrowAccount.CLOSED:
            raise EscrowAccountClosed(escrow_account_id)
        if account.status == accounts_pb.EscrowAccount.FROZEN:
            raise EscrowAccountFrozen(escrow_account_id)
        check_currency(currency, account.currency_code)
        for name, minor in legs:
            available = self._find_available(escrow_account_id, name)
            if available + minor < 0:
                kind, _, party_id = name.partition(":")
                raise refusals.InsufficientAvailableBalance(
                    f"The ledger account {name} has too little available.",
                    available_minor=available,
                    requested_minor=-minor,
                    currency_code=self.accounts[escrow_account_id].currency_code,
                    ledger_account_kind=kind.upper(),
                    party_id=party_id,
                )

    def _check_payee(self, escrow_account_id: str, payee: str, amount: Money) -> None:
        """Raises the refusal of a payout, if there is one."""
        if owed_minor := -self.book[escrow_account_id, f"returns_receivable:{payee}"]:
            raise build_debt(escrow_account_id, payee, owed_minor, amount.currency_code)
        cash = -self.book[escrow_account_id, "cash"] - self.book[escrow_account_id, "in_transit"]
        held = (each for each in self.holds.values() if each.escrow_account_id == escrow_account_id)
        free_minor = cash - sum(each.amount.amount_minor for each in held)
        if free_minor < amount.amount_minor:
            raise refusals.InsufficientAvailableBalance(
                "There is too little cash that nobody holds and no payout before takes.",
                available_minor=max(free_minor, 0),
                requested_minor=amount.amount_minor,
                currency_code=amount.currency_code,
                ledger_account_kind="CASH",
                party_id="",
            )

    def _check_debts(self, escrow_account_id: str, currency: str) -> None:
        """Raises the refusal, if anybody owes anything."""
        if owed_minor := self._read_book(escrow_account_id).owed_minor:
            raise build_debt(escrow_account_id, "", owed_minor, currency)

    def _find_available(self, escrow_account_id: str, name: str) -> int:
        return self.book[escrow_account_id, name] - self._sum_held(escrow_account_id, name)

    def _sum_held(self, escrow_account_id: str, name: str) -> int:
        return sum(
            hold.amount.amount_minor
            for hold in self.holds.values()
            if (hold.escrow_account_id, hold.ledger_account) == (escrow_account_id, ledger_account(name))
        )

    def _book(
        self, escrow_account_id: str, entry_type: int, legs: Sequence[tuple[str, int]], context: dict[str, str]
    ) -> journal_pb.JournalEntry:
        currency = self.accounts[escrow_account_id].currency_code
        booked = []
        for name, minor in legs:
            self.book[escrow_account_id, name] += minor
            booked.append(build_leg(name, minor))
        self._booked[escrow_account_id, context.get("transaction_id", "")] += booked
        entry = journal_pb.JournalEntry(
            journal_entry_id=new_id("je"),
            escrow_account_id=escrow_account_id,
            journal_sequence=len(self._entries[escrow_account_id]) + 1,
            type=entry_type,
            by_hand=is_by_hand(EntryType(_Type.Type.Name(entry_type)), context.get("transaction_id"), "admin-1"),
            leg_count=len(legs),
            ledger_entries=[
                _Leg(
                    leg=number,
                    ledger_account=ledger_account(name),
                    direction=_Leg.CREDIT if minor > 0 else _Leg.DEBIT,
                    amount=_money(abs(minor), currency),
                    layer=_Leg.POSTED,
                )
                for number, (name, minor) in enumerate(legs, start=1)
            ],
            **context,
        )
        self._entries[escrow_account_id].append((entry, booked))
        return entry


def _raise_refusal(answer: journal_pb.JournalEntry | DomainError) -> journal_pb.JournalEntry:
    if isinstance(answer, DomainError):
        raise answer
    return answer


def _money(amount_minor: int, currency: str) -> Money:
    return Money(currency_code=currency, amount_minor=amount_minor)
