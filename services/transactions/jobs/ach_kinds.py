"""What becomes of what a file for the bank carries, by its kind: may it still leave, what if not, and what if it comes
back.

A kind is a class of domain/ach.py and its line in `KINDS`: who makes, releases and reads files decides by no kind.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from services.chassis.data.seals import NotSealed, build_withheld
from services.chassis.data.transaction import Tx
from services.chassis.values.errors import DomainError
from services.chassis.values.failure import Failure, make_failure
from services.chassis.values.invariant import require_present
from services.transactions.commands.attempts import ask_about_attempts, find_account_refusal
from services.transactions.commands.bank_accounts import block_altered_account, forbid_bank_account
from services.transactions.commands.reversal_outcomes import fail_reversal
from services.transactions.commands.settlement import try_to_follow
from services.transactions.dependencies import ACTOR, Dependencies
from services.transactions.domain.ach import (
    AchEntry,
    Due,
    EntryStatus,
    PaymentEntry,
    PrenoteEntry,
    ReversalEntry,
    to_payment,
    to_reversing_payment,
)
from services.transactions.domain.payments import Payment
from services.transactions.domain.refusals import build_altered
from services.transactions.domain.returns import find_return_code
from services.transactions.domain.reversal_rules import find_reversal_refusal
from services.transactions.domain.states import Status
from services.transactions.domain.transaction import Transaction
from services.transactions.providers.ach_file.prenotes import leave_until_known
from services.transactions.store import ach, moves
from services.transactions.store import transactions as store
from services.transactions.store.bank_accounts import find_bank_account

E = TypeVar("E", bound=AchEntry, contravariant=True)


class Facts(NamedTuple):
    """What is known of the transactions of entries, by their ids, asked before the transaction that locks the entries.

    Args:
        known: As this service wrote them.
        refusals: What other services refuse.
        unanswered: Of which nobody says whether they are wanted, or whose escrow account is frozen.
        settles_on: When what leaves now settles.
    """

    known: Mapping[str, Transaction]
    refusals: Mapping[str, DomainError]
    unanswered: Collection[str]
    settles_on: date

    def is_altered(self, entry: AchEntry) -> bool:
        """Whether its transaction is not as it was ordered: it waits, and is in the log."""
        return entry.transaction_id is not None and entry.transaction_id not in self.known

    def is_open(self, entry: AchEntry) -> bool:
        """Whether nobody knows if it is wanted: it waits."""
        return self.is_altered(entry) or entry.transaction_id in self.unanswered


class Kind(Protocol[E]):
    """
    Args:
        asks_others: Whether other services say if it is still wanted.
    """

    asks_others: bool

    async def list_due(
        self, tx: Tx, entries: Sequence[E], before: datetime, now: datetime, *, asks_first: bool
    ) -> list[Due]:
        """Those that may leave at a cut-off, or never will; the rest waits. Raises: NotSealed.

        Args:
            asks_first: What goes to an account that no bank was asked about waits for its prenote.
        """
        ...

    async def find_refusal(self, tx: Tx, entry: E, facts: Facts, now: datetime) -> DomainError | None:
        """Why a locked entry is not wanted any more, if so."""
        ...

    async def withdraw(self, tx: Tx, entry: E, failure: Failure, now: datetime) -> None:
        """A locked entry is not sent: what that means for what ordered it."""
        ...

    async def follow(self, tx: Tx, entry: E, now: datetime) -> bool:
        """It came back: brings what ordered it to where it is. Whether that could be believed. Raises: NotSealed."""
        ...

    def find_doubt(self, code: str) -> str:
        """Why a person looks at it when it comes back so, where nobody else says it; empty where nobody has to."""
        ...


class _Payments:
    """A transaction waits for it, and other services are asked whether it is still wanted."""

    asks_others = True

    async def list_due(
        self, tx: Tx, entries: Sequence[PaymentEntry], before: datetime, now: datetime, *, asks_first: bool
    ) -> list[Due]:
        return await leave_until_known(tx, entries, before, now) if asks_first else [Due(each) for each in entries]

    async def find_refusal(self, tx: Tx, entry: PaymentEntry, facts: Facts, now: datetime) -> DomainError | None:
        refusal = facts.refusals.get(entry.transaction_id)
        return refusal or await _find_account_refusal(tx, entry, entry.transaction_id, now)

    async def withdraw(self, tx: Tx, entry: PaymentEntry, failure: Failure, now: datetime) -> None:
        row = await store.lock_transaction(tx, entry.transaction_id)
        if row is None or row.provider_reference not in (None, entry.ach_entry_id):
            return
        if row.status is Status.PENDING_SETTLEMENT:
            await moves.save_move(tx, row, Status.FAILED, actor=ACTOR, now=now, note=failure.message, failure=failure)

    async def follow(self, tx: Tx, entry: PaymentEntry, now: datetime) -> bool:
        row = await store.lock_transaction(tx, entry.transaction_id)
        return row is None or await try_to_follow(tx, row, to_payment(entry, None, now), now) is None

    def find_doubt(self, code: str) -> str:
        return ""  # its transaction has it told


class _Prenotes:
    """Nothing but the account is asked about. What waits for its bank's word is a payment, and looks for itself."""

    asks_others = False

    async def list_due(
        self, tx: Tx, entries: Sequence[PrenoteEntry], before: datetime, now: datetime, *, asks_first: bool
    ) -> list[Due]:
        return [Due(each) for each in entries]

    async def find_refusal(self, tx: Tx, entry: PrenoteEntry, facts: Facts, now: datetime) -> DomainError | None:
        return await _find_account_refusal(tx, entry, "", now)

    async def withdraw(self, tx: Tx, entry: PrenoteEntry, failure: Failure, now: datetime) -> None:
        """Nothing waits for it."""

    async def follow(self, tx: Tx, entry: PrenoteEntry, now: datetime) -> bool:
        """What waits for it fails when its file is made."""
        await _forbid_account(tx, entry, now)
        return True

    def find_doubt(self, code: str) -> str:
        return _spell_doubt(code, "a prenote")


class _Reversals:
    """A payout is taken back by it, from where it went: no more is asked about the account, or about its party."""

    asks_others = False

    async def list_due(
        self, tx: Tx, entries: Sequence[ReversalEntry], before: datetime, now: datetime, *, asks_first: bool
    ) -> list[Due]:
        return [Due(each) for each in entries]

    async def find_refusal(self, tx: Tx, entry: ReversalEntry, facts: Facts, now: datetime) -> DomainError | None:
        row = require_present(await store.find_transaction(tx, entry.transaction_id), "what is reversed was paid")
        payment = await self._read_payment(tx, entry, now)
        return find_reversal_refusal(row, facts.settles_on, payment.status)

    async def withdraw(self, tx: Tx, entry: ReversalEntry, failure: Failure, now: datetime) -> None:
        row = await store.lock_transaction(tx, entry.transaction_id)
        if row is not None:
            await fail_reversal(tx, row, failure, now)

    async def follow(self, tx: Tx, entry: ReversalEntry, now: datetime) -> bool:
        row = require_present(await store.lock_transaction(tx, entry.transaction_id), "what is reversed was paid")
        is_followed = await try_to_follow(tx, row, await self._read_payment(tx, entry, now), now) is None
        await _forbid_account(tx, entry, now)
        return is_followed

    async def _read_payment(self, tx: Tx, entry: ReversalEntry, now: datetime) -> Payment:
        """The payout, and what is to be said of a reversal that has not settled, or came back. Raises: NotSealed."""
        paid = await ach.ENTRIES.find(tx, entry.reversed_entry_id)
        assert isinstance(paid, PaymentEntry)
        file = None if paid.ach_file_id is None else await ach.FILES.find(tx, paid.ach_file_id)
        return to_payment(paid, file, now, to_reversing_payment(entry, None, now))

    def find_doubt(self, code: str) -> str:
        return _spell_doubt(code, "a reversal")


KINDS: Final[Mapping[type[AchEntry], Kind[Any]]] = {
    PaymentEntry: _Payments(),
    PrenoteEntry: _Prenotes(),
    ReversalEntry: _Reversals(),
}


def _spell_doubt(code: str, of: str) -> str:
    meaning = find_return_code(code)
    return f"{code}, of {of}: {meaning.name}" if meaning.review else ""


async def _forbid_account(tx: Tx, entry: AchEntry, now: datetime) -> None:
    """What the bank says of the account forbids it where the code does."""
    code = entry.return_code or ""
    account = await find_bank_account(tx, entry.bank_account_id)
    if account is not None and find_return_code(code).blocks:
        digest = account.account_number_digest
        await forbid_bank_account(tx, entry.party_id, entry.bank_account_id, digest, code, now)


async def _find_account_refusal(tx: Tx, entry: AchEntry, transaction_id: str, now: datetime) -> DomainError | None:
    """Why its account may not be used any more, if so."""
    try:
        return await find_account_refusal(tx, entry.bank_account_id, entry.party_id, is_inbound=entry.is_inbound)
    except NotSealed:
        await block_altered_account(tx, entry.bank_account_id, transaction_id, now)
        return build_altered()


async def list_due(
    tx: Tx, waiting: Sequence[AchEntry], before: datetime, now: datetime, *, asks_first: bool
) -> list[Due]:
    """Of each kind those that may leave at a cut-off, or never will. Raises: NotSealed."""
    by_kind = defaultdict[type[AchEntry], list[AchEntry]](list)
    for each in waiting:
        by_kind[type(each)].append(each)
    due = [await KINDS[kind].list_due(tx, found, before, now, asks_first=asks_first) for kind, found in by_kind.items()]
    return [each for found in due for each in found]


async def list_known(tx: Tx, entries: Sequence[AchEntry]) -> dict[str, Transaction]:
    """Their transactions, without those that this service did not write as they are."""
    found: dict[str, Transaction] = {}
    for transaction_id in dict.fromkeys(each.transaction_id for each in entries):
        with suppress(NotSealed):
            row = None if transaction_id is None else await store.find_transaction(tx, transaction_id)
            if row is not None:
                found[row.transaction_id] = row
    return found


async def ask_about(
    dependencies: Dependencies,
    entries: Sequence[AchEntry],
    known: Mapping[str, Transaction],
    settles_on: date,
    now: datetime,
) -> Facts:
    """What other services say of those that are asked about.

    Args:
        settles_on: When what leaves now settles.
    """
    ids = dict.fromkeys(each.transaction_id or "" for each in entries if KINDS[type(each)].asks_others)
    refusals, unanswered = await ask_about_attempts(dependencies, [known[each] for each in ids if each in known], now)
    return Facts(known, refusals, unanswered, settles_on)


async def withdraw_unwanted(
    tx: Tx,
    entries: Sequence[AchEntry],
    facts: Facts,
    now: datetime,
    failures: Mapping[str, Failure | None] | None = None,
) -> list[AchEntry]:
    """The locked entries that are still wanted; the others are withdrawn.

    Args:
        failures: Why they never leave, by their ids, as far as that is known.
    """
    wanted: list[AchEntry] = []
    for entry in entries:
        kind, failure = KINDS[type(entry)], (failures or {}).get(entry.ach_entry_id)
        try:
            if failure is None and (refusal := await kind.find_refusal(tx, entry, facts, now)) is not None:
                failure = make_failure(refusal)
        except NotSealed as error:  # in the log: what it is about was altered, and nothing else waits for that
            failure = make_failure(build_withheld(error))
        if failure is None:
            wanted.append(entry)
        else:
            withdrawn = await ach.ENTRIES.save(tx, entry, replace(entry, status=EntryStatus.WITHDRAWN), now)
            await kind.withdraw(tx, withdrawn, failure, now)
    return wanted


async def follow_return(tx: Tx, entry: AchEntry, now: datetime) -> bool:
    """Brings what ordered an entry that came back to where it is. Whether that could be believed. Raises: NotSealed."""
    return await KINDS[type(entry)].follow(tx, entry, now)


def find_doubt(entry: AchEntry, code: str) -> str:
    """Why a person looks at an entry that comes back so, where nothing else says it; empty where nobody has to."""
    return KINDS[type(entry)].find_doubt(code)
