"""What would be done to the book, by a transaction's stages (stages.py) or by what is decided (movements.py): the legs
added up, and posted nowhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from services.chassis.values.approval import Effect, Preview
from services.chassis.values.explanation import Explanation
from services.chassis.values.money import Money
from services.escrow.domain.account import Balance, Status, may_post
from services.escrow.domain.chart import (
    CASH,
    IN_TRANSIT,
    LedgerAccount,
    LedgerAccountKind,
    account_of_party,
)
from services.escrow.domain.explanations import (
    explain_available,
    explain_cash,
    explain_debts,
    explain_missing,
    explain_set_offs,
    explain_status,
)
from services.escrow.domain.journal import Leg, sum_changes
from services.escrow.domain.set_offs import Part, build_set_off
from services.escrow.domain.stages import BookedPosition, Moving, Stage, build_legs, build_payout_legs, unapplied_of


@dataclass(frozen=True, slots=True)
class Book:
    """What the book has of an escrow account.

    Args:
        balances: Of the ledger accounts that `list_touched` names, or of all.
        booked: What is posted of the transaction already, where it is about one.
        held_minor: What is held in it, on whatever ledger accounts.
        owed_minor: What its parties owe of what the bank took back.
        kept_minor: What payment providers kept of what came in.
        unbound: What of the held money the bank takes all the same, by ledger account.
    """

    status: Status
    currency: str
    balances: Mapping[LedgerAccount, Balance]
    held_minor: int
    owed_minor: int
    kept_minor: int
    booked: Sequence[Leg] = ()
    unbound: Mapping[LedgerAccount, int] = field(default_factory=dict)

    def balance_of(self, account: LedgerAccount) -> Balance:
        return self.balances.get(account) or Balance(account, 0, 0, 0)


def list_touched(moving: Moving, booked: Sequence[Leg]) -> list[LedgerAccount]:
    """The ledger accounts that a transaction may touch, whatever becomes of it."""
    owed = account_of_party(LedgerAccountKind.RETURNS_RECEIVABLE, moving.party_id)
    named = (CASH, IN_TRANSIT, unapplied_of(moving), moving.target, owed, *(leg.ledger_account for leg in booked))
    return list(dict.fromkeys(named))


def preview_transactions(book: Book, stage: Stage, wanted: Sequence[Moving], *, sets_off: bool = False) -> Preview:
    """What would be posted until each of them has come to the stage, one after the other, and what is asked then.

    Args:
        sets_off: What a payee owes is set off before it is paid.
    """
    ordered, followed, changes = list[Leg](), list[Leg](), Counter[LedgerAccount]()
    debts = Counter(_list_debts(book, {moving.party_id for moving in wanted})) if sets_off else Counter[str]()

    def count_takeable(account: LedgerAccount) -> int:
        return book.balance_of(account).available_minor + book.unbound.get(account, 0) + changes[account]

    for moving in wanted:
        is_ordered = moving.type.is_inbound or BookedPosition(book.booked).at_the_bank() != 0
        rest, out = (moving, ()) if is_ordered or stage is not Stage.SETTLED else _order(moving, debts)
        changes.update(sum_changes(out))
        position, frozen = BookedPosition((*book.booked, *out)), book.status is Status.FROZEN
        then = build_legs(stage, rest, position, frozen=frozen, count_takeable=count_takeable)
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
        explanations += _explain_money(book, [(each.party_id, each.amount_minor) for each in wanted], sets_off=sets_off)
    changed = {account: change for account, change in changes.items() if change}
    is_one = len(wanted) == 1
    effects = _list_effects(book, changed) if is_one else _list_effects_by_kind(book, changed)
    return Preview(effects, tuple(explanations))


def _order(moving: Moving, debts: Counter[str]) -> tuple[Moving, tuple[Leg, ...]]:
    """The payout, less what is set off of these debts, and what both post before any bank is asked."""
    minor = min(debts[moving.party_id], moving.amount_minor)
    rest = replace(moving, amount_minor=moving.amount_minor - minor)
    debts[moving.party_id] -= minor
    settled = build_set_off(moving.target, moving.party_id, None, [Part(None, minor)]) if minor else ()
    legs = (leg for entry in settled for leg in entry.legs)
    return rest, (*legs, *(build_payout_legs(rest) if rest.amount_minor else ()))


def preview_movement(book: Book, legs: Sequence[Leg], *, sets_off: bool = False) -> Preview:
    """What a closing or a declaration would post, and what is behind it: soon all of it is paid, or set off."""
    parts = [(leg.ledger_account.party_id, leg.amount_minor) for leg in legs if leg.ledger_account.party_id]
    return Preview(_list_effects_by_kind(book, sum_changes(legs)), (*_explain_money(book, parts, sets_off=sets_off),))


def _list_debts(book: Book, party_ids: Collection[str]) -> dict[str, int]:
    """What each of the parties owes; nobody who owes nothing."""
    owing = {
        account.party_id: balance.posted_minor
        for account, balance in book.balances.items()
        if account.kind is LedgerAccountKind.RETURNS_RECEIVABLE and account.party_id in party_ids
    }
    return {party_id: minor for party_id, minor in sorted(owing.items()) if minor > 0}


def _explain_money(book: Book, parts: Iterable[tuple[str, int]], *, sets_off: bool) -> list[Explanation]:
    """Whether there is the cash to pay the parties so much, and who of them owes some."""
    owed = Counter[str]()
    for party_id, minor in parts:
        owed[party_id] += minor
    debts = _list_debts(book, owed)
    settled = Counter({party_id: min(minor, owed[party_id]) for party_id, minor in debts.items()} if sets_off else {})
    told = explain_debts(debts, book.currency)
    if sets_off:
        figures = {each: (debts[each], settled[each], owed[each] - settled[each]) for each in debts}
        told = explain_set_offs(figures, book.currency)
    # What was ordered before and is not settled takes of it, too; what rails owe us is no cash.
    on_its_way_out_minor = max(0, -book.balance_of(IN_TRANSIT).posted_minor)
    left_minor = book.balance_of(CASH).posted_minor - on_its_way_out_minor - book.held_minor
    return [
        explain_cash(left_minor, owed.total() - settled.total(), book.currency),
        *told,
        *explain_missing(book.owed_minor, book.kept_minor, book.currency),
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
