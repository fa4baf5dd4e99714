"""What a transaction posts when it reaches a stage: (transaction, what the book has of it) -> legs.

The book's own entries of a transaction add up to its position; each stage is judged against that, so one that comes
twice, late or without its predecessor posts what is true and nothing twice.

| stage | money in | money out |
|---|---|---|
| SUBMITTED | pending: Dr IN_TRANSIT / Cr target | nothing: BatchBookPayouts has booked it |
| SETTLED | pending undone; Dr IN_TRANSIT / Cr target, Dr CASH / Cr IN_TRANSIT | Dr IN_TRANSIT / Cr CASH |
| ENDED | what is pending is undone | what is posted is mirrored |
| RETURNED | settled: Dr target / Cr CASH; else as ENDED | what is posted is mirrored |

A payout that the book does not have, as after a restore, is taken when it settles. After RETURNED
nothing more is posted of that attempt, which commands/stages.py tells by the key of its entry. So money in that came
back before anything else was heard of it has an entry, too: it was pending, and is not.

Which type is which, and what its target is, says types.py; the target is UNAPPLIED while the account is frozen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from services.escrow.domain.chart import (
    CASH,
    IN_TRANSIT,
    Direction,
    LedgerAccount,
    LedgerAccountKind,
    account_of_party,
)
from services.escrow.domain.journal import EntryType, Layer, Leg, credit, debit, mirror
from services.escrow.domain.types import TransactionType


class Stage(Enum):
    """How far a transaction has come, as far as the book is concerned."""

    SUBMITTED = "submitted"  # the rail accepted it
    SETTLED = "settled"  # the money arrived, or left
    ENDED = "ended"  # it failed or was cancelled
    RETURNED = "returned"  # the bank sent it back, or we undid it


@dataclass(frozen=True, slots=True)
class Moving:
    """The transaction that reached a stage."""

    type: TransactionType
    party_id: str
    amount_minor: int

    @property
    def target(self) -> LedgerAccount:
        """The ledger account that money in belongs to, and money out is taken from."""
        return self.type.ledger_account_of(self.party_id)


class BookedPosition:
    """What the book has of one transaction: debits less credits of each ledger account, in each layer."""

    def __init__(self, legs: Iterable[Leg] = ()) -> None:
        self._net: Counter[tuple[LedgerAccount, Layer]] = Counter()
        for leg in legs:
            sign = 1 if leg.direction is Direction.DEBIT else -1
            self._net[leg.ledger_account, leg.layer] += sign * leg.amount_minor

    def at_the_bank(self) -> int:
        """What is settled or between the rails and us: positive came in, negative went out."""
        return self._net[CASH, Layer.POSTED] + self._net[IN_TRANSIT, Layer.POSTED]

    def in_transit(self) -> int:
        return self.debited(IN_TRANSIT)

    def debited(self, account: LedgerAccount) -> int:
        """What is posted there: debits less credits."""
        return self._net[account, Layer.POSTED]

    def credited(self) -> tuple[tuple[LedgerAccount, int], ...]:
        """The ledger accounts this transaction's posted money was put on, and how much is there of it."""
        return tuple(
            (account, -net)
            for (account, layer), net in sorted(self._net.items(), key=lambda item: item[0][0])
            if layer is Layer.POSTED and net < 0 and account not in (CASH, IN_TRANSIT)
        )

    def undone(self, layer: Layer) -> tuple[Leg, ...]:
        """The legs that bring everything in a layer back to zero, debits first."""
        legs = [
            credit(account, net, layer) if net > 0 else debit(account, -net, layer)
            for (account, found), net in self._net.items()
            if found is layer and net != 0
        ]
        return tuple(sorted(legs, key=lambda leg: (leg.direction.value != "DEBIT", leg.ledger_account)))


# How much of a ledger account the bank can take now: what is available, and what persons hold of the rest.
CountTakeable = Callable[[LedgerAccount], int]


def build_legs(
    stage: Stage,
    moving: Moving,
    booked: BookedPosition,
    *,
    frozen: bool = False,
    count_takeable: CountTakeable = lambda _: 0,
) -> tuple[Leg, ...]:
    """The legs the stage posts; none where the book has it already."""
    if moving.type.is_inbound:
        return _money_in(stage, moving, booked, frozen=frozen, count_takeable=count_takeable)
    return _money_out(stage, moving, booked, count_takeable)


def build_payout_legs(moving: Moving) -> tuple[Leg, ...]:
    """What is about to be paid leaves the ledger account that owes it, before any provider is asked."""
    return (debit(moving.target, moving.amount_minor), credit(IN_TRANSIT, moving.amount_minor))


def asks_what_is_left(stage: Stage, moving: Moving) -> bool:
    """Whether the legs of the stage follow from balances, too."""
    return stage is (Stage.RETURNED if moving.type.is_inbound else Stage.SETTLED)


def _money_in(
    stage: Stage, moving: Moving, booked: BookedPosition, *, frozen: bool, count_takeable: CountTakeable
) -> tuple[Leg, ...]:
    amount = moving.amount_minor
    pending = booked.undone(Layer.PENDING)
    settled = booked.at_the_bank() > 0
    if stage is Stage.SUBMITTED:
        return () if pending or settled else _on_its_way(moving)
    if stage is Stage.SETTLED:
        if settled:
            return ()
        target = target_of(moving, frozen=frozen)
        came = (debit(IN_TRANSIT, amount), credit(target, amount), debit(CASH, amount), credit(IN_TRANSIT, amount))
        return (*pending, *came)
    if stage is Stage.RETURNED and settled:
        return _return(moving, booked, frozen=frozen, count_takeable=count_takeable)
    return pending


def target_of(moving: Moving, *, frozen: bool) -> LedgerAccount:
    """Where money that came in stands: while the escrow account is frozen it is applied to nothing."""
    return unapplied_of(moving) if frozen else moving.target


def unapplied_of(moving: Moving) -> LedgerAccount:
    return account_of_party(LedgerAccountKind.UNAPPLIED, moving.party_id)


def _on_its_way(moving: Moving) -> tuple[Leg, ...]:
    amount = moving.amount_minor
    return (debit(IN_TRANSIT, amount, Layer.PENDING), credit(moving.target, amount, Layer.PENDING))


def build_coming_and_going(moving: Moving) -> tuple[Leg, ...]:
    """The legs of money in that came back before anything else was heard of it."""
    return (*_on_its_way(moving), *mirror(_on_its_way(moving)))


def _return(moving: Moving, booked: BookedPosition, *, frozen: bool, count_takeable: CountTakeable) -> tuple[Leg, ...]:
    """The bank has taken settled money back, so it is booked whatever is left: never refused, never silent.

    What the party's money no longer covers is owed by the party. CASH is what the bank has, so it bears all of it,
    below zero where that is more than was there.
    """
    left = amount = booked.at_the_bank()
    legs: list[Leg] = []
    # What arrived while the account was frozen may have been applied since. In a frozen account that is not likely. And
    # where it would belong to several, what stands there came with other payments as long as it was not.
    put = [account for account, _ in booked.credited()]
    is_shared = not moving.target.party_id
    for account in dict.fromkeys([*put, moving.target] if frozen or is_shared else [moving.target, *put]):
        taken = max(0, min(left, count_takeable(account)))
        if taken:
            legs.append(debit(account, taken))
            left -= taken
    if left:
        legs.append(debit(account_of_party(LedgerAccountKind.RETURNS_RECEIVABLE, moving.party_id), left))
    return (*legs, credit(CASH, amount))


def _money_out(stage: Stage, moving: Moving, booked: BookedPosition, count_takeable: CountTakeable) -> tuple[Leg, ...]:
    if stage is Stage.SETTLED:
        taken_again = _take_again(moving, booked, count_takeable)
        # A bank may have taken a return out of the same cash meanwhile. The provider has paid all the same.
        on_its_way = sum(leg.amount_minor for leg in taken_again if leg.direction is Direction.DEBIT)
        paid = max(0, on_its_way - booked.in_transit())
        return (*taken_again, *((debit(IN_TRANSIT, paid), credit(CASH, paid)) if paid else ()))
    if stage in (Stage.ENDED, Stage.RETURNED):
        return booked.undone(Layer.POSTED)
    return ()


def _take_again(moving: Moving, booked: BookedPosition, count_takeable: CountTakeable) -> tuple[Leg, ...]:
    """What the book does not have of a payout that the bank has paid: it was restored from before that was taken.

    What is not there any more is owed by who was paid: the money may have been ordered to be paid once more.
    """
    missing = moving.amount_minor + booked.at_the_bank()
    if missing <= 0:
        return ()
    taken = max(0, min(missing, count_takeable(moving.target)))
    owed = missing - taken
    legs = [debit(moving.target, taken)] if taken else []
    legs += [debit(account_of_party(LedgerAccountKind.RETURNS_RECEIVABLE, moving.party_id), owed)] if owed else []
    return (*legs, credit(IN_TRANSIT, missing))


def type_of(stage: Stage, moving: Moving) -> EntryType:
    """The type of the entry the stage makes."""
    if stage is Stage.RETURNED:
        return EntryType.RETURN
    if stage is Stage.ENDED:
        return EntryType.REVERSAL
    return moving.type.entry_type


def reversed_entry(stage: Stage, entries: Sequence[tuple[str, Sequence[Leg]]]) -> str | None:
    """The id of the entry that this stage undoes: the last that put money in, or took it out, of (id, legs) by age."""
    if stage not in (Stage.ENDED, Stage.RETURNED):
        return None
    for entry_id, legs in reversed(entries):
        if any(leg.ledger_account not in (CASH, IN_TRANSIT) for leg in legs):
            return entry_id
    return None
