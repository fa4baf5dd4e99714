"""What a person has to look at: how one is found, found again, taken and resolved. Its kinds: exception_kinds.py.

The same thing found again is the same exception: it has one address, and whoever looks at it sees how often it was
found, who resolved it before and what that person wrote. So one that is found after it was resolved opens again; a new
one each time would hide that it was resolved in vain.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from services.chassis.values.etags import digest_of
from services.chassis.values.money import Money
from services.chassis.values.moves import Moves, check_move
from services.chassis.values.refusals import IllegalStatusChange
from services.chassis.values.second_person import BeneficiaryIsChecker, check_no_maker
from services.transactions.domain.exception_kinds import KINDS as KINDS
from services.transactions.domain.exception_kinds import About as About
from services.transactions.domain.exception_kinds import ExceptionKind as ExceptionKind
from services.transactions.domain.exception_kinds import Severity as Severity

_CAUSE_MAX = 500
# As much as an amount of the contracts can say.
_AMOUNT_MAX = 2**63 - 1


class ExceptionStatus(StrEnum):
    OPEN = "OPEN"
    RESOLVED = "RESOLVED"


S = ExceptionStatus
EXCEPTION_MOVES: Final[Moves[ExceptionStatus]] = {S.OPEN: frozenset({S.RESOLVED}), S.RESOLVED: frozenset({S.OPEN})}


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentException:
    """
    Args:
        subject: What tells it from others of its kind: the values of `one_for_each`.
        transaction_id: With which it was found first; what is found later stands in `cause`.
        makers: Who had a part in it each time that it was found.
        openings: How often it was opened.
    """

    payment_exception_id: str
    kind: ExceptionKind
    subject: str
    status: ExceptionStatus = S.OPEN
    cause: str
    transaction_id: str | None = None
    bank_account_id: str | None = None
    provider: str | None = None
    provider_payment_id: str | None = None
    file_name: str | None = None
    amount_minor: int | None = None
    currency: str | None = None
    escrow_account_id: str | None = None
    party_id: str | None = None
    investment_id: str | None = None
    distribution_id: str | None = None
    allocation_id: str | None = None
    makers: Collection[str] = ()
    occurrence_count: int = 1
    openings: int = 1
    assignee: str | None = None
    resolved_by: str | None = None
    resolved_at: datetime | None = None
    resolution_note: str | None = None
    created_at: datetime
    opened_at: datetime
    last_seen_at: datetime
    updated_at: datetime
    version: int = 1

    @property
    def is_open(self) -> bool:
        return self.status is S.OPEN

    @property
    def etag(self) -> str:
        """Of what a person decides on: that it is found once more is no other thing to decide."""
        said = (self.status, self.openings, self.assignee, self.cause, self.amount_minor)
        return digest_of(self.payment_exception_id, *said)

    @property
    def amount(self) -> Money | None:
        if self.amount_minor is None or self.currency is None:
            return None
        return Money(self.amount_minor, self.currency)


# What an exception keeps of what it is about as it is.
_SHARED: Final = {each.name for each in fields(About)} & {each.name for each in fields(PaymentException)} - {"makers"}


def spell_subject(kind: ExceptionKind, about: About) -> str:
    return "|".join(str(getattr(about, name) or "") for name in KINDS[kind].one_for_each)


def build_reported(
    found: PaymentException | None, exception_id: str, *, kind: ExceptionKind, about: About, cause: str, now: datetime
) -> PaymentException:
    """What was found, for the first time or once more.

    Args:
        exception_id: What it is called where it is found for the first time.
    """
    if found is None:
        return build_exception(exception_id, kind, about, cause, now)
    return build_found_again(found, about, cause, now)


def build_exception(
    exception_id: str, kind: ExceptionKind, about: About, cause: str, now: datetime
) -> PaymentException:
    """One that was found for the first time."""
    amount = _read_amount(about)
    return PaymentException(
        payment_exception_id=exception_id,
        kind=kind,
        subject=spell_subject(kind, about),
        cause=cause[:_CAUSE_MAX],
        amount_minor=None if amount is None else amount.amount_minor,
        currency=None if amount is None else amount.currency,
        makers=sorted(about.makers),
        created_at=now,
        opened_at=now,
        last_seen_at=now,
        updated_at=now,
        **{name: getattr(about, name) for name in _SHARED},
    )


def _read_amount(about: About) -> Money | None:
    """Whatever a provider says: what is no amount keeps nothing from being told."""
    amount = about.amount
    return None if amount is None or abs(amount.amount_minor) > _AMOUNT_MAX else amount


def build_found_again(found: PaymentException, about: About, cause: str, now: datetime) -> PaymentException:
    """Found once more, with the amount that it has by now. One that was resolved is open again, and nobody's."""
    again = replace(
        found,
        cause=cause[:_CAUSE_MAX],
        makers=sorted({*found.makers, *about.makers}),
        occurrence_count=found.occurrence_count + 1,
        last_seen_at=now,
    )
    amount = _read_amount(about)
    if amount is not None and amount.currency == found.currency:
        again = replace(again, amount_minor=amount.amount_minor)
    if found.status is S.OPEN:
        return again
    return replace(again, status=S.OPEN, openings=found.openings + 1, opened_at=now, assignee=None)


def build_with_cause(found: PaymentException, cause: str, *, amount_minor: int | None = None) -> PaymentException:
    """What it is about went on by itself: whoever looks into it reads how it stands. What is resolved stays so.

    Args:
        amount_minor: How much it is about by now; None: as much as before.
    """
    if not found.is_open:
        return found
    return replace(
        found, cause=cause[:_CAUSE_MAX], amount_minor=found.amount_minor if amount_minor is None else amount_minor
    )


def check_may_assign(found: PaymentException) -> None:
    """Raises: IllegalStatusChange: nobody looks into what is resolved."""
    if found.status is not S.OPEN:
        raise IllegalStatusChange(found.status, S.OPEN, "It is resolved: nobody looks into it any more.")


class Involved(NamedTuple):
    """Who does not say that an exception is resolved.

    Args:
        makers: The persons who had a part in what it is about: a payment, a bank account.
        party_ids: Whose money or account it is.
        acts_for_party: Whether the caller acts for the party whose money or account it is.
    """

    makers: frozenset[str] = frozenset()
    party_ids: frozenset[str] = frozenset()
    acts_for_party: bool = False


def check_may_resolve(found: PaymentException, involved: Involved, person: str) -> None:
    """Raises: IllegalStatusChange, MakerIsChecker, BeneficiaryIsChecker."""
    check_move(EXCEPTION_MOVES, found.status, S.RESOLVED)
    check_no_maker(involved.makers, person)
    if involved.acts_for_party:
        raise BeneficiaryIsChecker("You act for the party that it is about; another person resolves it.")


def assign(found: PaymentException, assignee: str | None) -> PaymentException:
    """Raises: IllegalStatusChange."""
    check_may_assign(found)
    return replace(found, assignee=assignee)


def resolve(found: PaymentException, person: str, note: str, now: datetime) -> PaymentException:
    """By somebody who may (`check_may_resolve`)."""
    return replace(found, status=S.RESOLVED, resolved_by=person, resolved_at=now, resolution_note=note)
