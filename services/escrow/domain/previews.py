"""What would be done to the book, by a transaction's stages (stages.py) or by what is decided (movements.py): the legs
added up, and posted nowhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from services.chassis.values.approval import Effect, Preview
from services.chassis.values.explanation import Explanation
from services.chassis.values.money import Money
from services.escrow.domain.account import Balance, Status, may_post
from services.escrow.domain.chart import (
    CASH,
    IN_TRANSIT,
    Direction,
    LedgerAccount,
    LedgerAccountKind,
    account_of_party,
)
from services.escrow.domain.explanations import (
    explain_available,
    explain_cash,
    explain_debts,
    explain_missing,
    explain_status,
)
from services.escrow.domain.journal import Leg, sum_changes
from services.escrow.domain.stages import BookedPosition, Moving, Stage, build_legs, build_payout_legs, unapplied_of


@dataclass(frozen=True, slots=True)
class Book:
    """What the book has of an escrow account.

    Args:
        balances: Of the ledger accounts that `list_touched` names, or of all.
        booked: What is posted of the transaction already, where it is about one.
        held_minor: What is held in it, on whatever ledger accounts.
        owed_minor: What its parties owe of what the bank took back.
        unbound: What of the held money the bank takes all the same, by ledger account.
    """

    status: Status
    currency: str
    balances: Mapping[LedgerAccount, Balance]
    held_minor: int
    owed_minor: int
    booked: Sequence[Leg] = ()
    unbound: Mapping[LedgerAccount, int] = field(default_factory=dict)

    def balance_of(self, account: LedgerAccount) -> Balance:
        return self.balances.get(account) or Balance(account, 0, 0, 0)


def list_touched(moving: Moving, booked: Sequence[Leg]) -> list[LedgerAccount]:
    """The ledger accounts that a transaction may touch, whatever becomes of it."""
    owed = account_of_party(LedgerAccountKind.RETURNS_RECEIVABLE, moving.party_id)
    named = (CASH, IN_TRANSIT, unapplied_of(moving), moving.target, owed, *(leg.ledger_account for leg in booked))
    return list(dict.fromkeys(named))


def preview_transactions(book: Book, stage: Stage, wanted: Sequence[Moving]) -> Preview:
    """What would be posted until each of them has come to the stage, one after the other, and what is asked then."""
    ordered, followed, changes = list[Leg](), list[Leg](), Counter[LedgerAccount]()

    def count_takeable(account: LedgerAccount) -> int:
        return book.balance_of(account).available_minor + book.unbound.get(account, 0) + changes[account]

    for moving in wanted:
        is_ordered = moving.type.is_inbound or BookedPosition(book.booked).at_the_bank() != 0
        out = () if is_ordered or stage is not Stage.SETTLED else build_payout_legs(moving)
        changes.update(sum_changes(out))
        position, frozen = BookedPosition((*book.booked, *out)), book.status is Status.FROZEN
        then = build_legs(stage, moving, position, frozen=frozen, count_takeable=count_takeable)
        changes.update(sum_changes(then))
        ordered += out
        followed += then
    # What the rails have done is booked in a frozen account, too.
    is_open = may_post(book.status) if ordered else book.status is not Status.CLOSED
    explanations = [explain_status(book.status, is_open=is_open)]
    if ordered:
        taken = sum_changes(ordered)
        balances = {account: book.balance_of(account) for account in taken}
        explanations += explain_available(balances, taken.items(), book.currency)
        paid_minor = sum(moving.amount_minor for moving in wanted)
        explanations += _explain_money(book, {moving.party_id for moving in wanted}, paid_minor)
    changed = {account: change for account, change in changes.items() if change}
    is_one = len(wanted) == 1
    effects = _list_effects(book, changed) if is_one else _list_effects_by_kind(book, changed)
    return Preview(effects, tuple(explanations))


def preview_movement(book: Book, legs: Sequence[Leg]) -> Preview:
    """What a closing or a declaration would post, and what is behind it: soon all of it is paid."""
    minor = sum(leg.amount_minor for leg in legs if leg.direction is Direction.DEBIT)
    party_ids = {leg.ledger_account.party_id for leg in legs}
    return Preview(_list_effects_by_kind(book, sum_changes(legs)), (*_explain_money(book, party_ids, minor),))


def _explain_money(book: Book, party_ids: Collection[str], paid_minor: int) -> list[Explanation]:
    """Whether there is the cash to pay so much, and who of the parties owes some."""
    # What was ordered before and is not settled takes of it, too.
    left_minor = book.balance_of(CASH).posted_minor + book.balance_of(IN_TRANSIT).posted_minor - book.held_minor
    owing = {
        account.party_id: balance.posted_minor
        for account, balance in book.balances.items()
        if account.kind is LedgerAccountKind.RETURNS_RECEIVABLE and account.party_id in party_ids
    }
    debts = {party_id: minor for party_id, minor in sorted(owing.items()) if minor > 0}
    return [
        explain_cash(left_minor, paid_minor, book.currency),
        *explain_debts(debts, book.currency),
        *explain_missing(book.owed_minor, book.currency),
    ]


def _list_effects(book: Book, changes: Mapping[LedgerAccount, int]) -> tuple[Effect, ...]:
    return tuple(
        build_effect(account.kind, account.party_id, book.balance_of(account).posted_minor, change, book.currency)
        for account, change in sorted(changes.items())
    )


def _list_effects_by_kind(book: Book, changes: Mapping[LedgerAccount, int]) -> tuple[Effect, ...]:
    """Of the ledger accounts of all parties together, where there may be thousands."""
    by_kind, before = Counter[LedgerAccountKind](), Counter[LedgerAccountKind]()
    for account, change in changes.items():
        by_kind[account.kind] += change
    for balance in book.balances.values():
        before[balance.ledger_account.kind] += balance.posted_minor
    return tuple(
        build_effect(kind, "", before[kind], change, book.currency) for kind, change in sorted(by_kind.items())
    )


def build_effect(kind: LedgerAccountKind, party_id: str, before_minor: int, change: int, currency: str) -> Effect:
    """What is posted on a ledger account before and after; `party_id`: empty where it is nobody's in particular."""
    return Effect(kind.value, party_id or None, Money(before_minor, currency), Money(before_minor + change, currency))
