"""What providers and banks say of the money that is about to leave, and what persons made of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from services.chassis.values.explanation import HOUSE_RULE, Explanation
from services.chassis.values.text import quote
from services.transactions.domain.exceptions import PaymentException
from services.transactions.domain.received_money import RECEIVED_WITHIN

_NAMED_MAX: Final = 10


class Exceptions(NamedTuple):
    """Exceptions that are more than LOW, open and resolved: the open ones first, and of each those of no known amount
    and the largest, so that cents by the dozen hide none of them.

    Args:
        is_all: There are no others.
        has_altered: Some of them were altered in the database, and are left out.
    """

    found: Sequence[PaymentException]
    is_all: bool
    has_altered: bool

    def may_be_open(self, *, since: datetime) -> bool:
        """Whether one is open, or one person alone has said since then that it is not, as far as anybody can tell."""
        is_sure = self.is_all and not self.has_altered
        return not is_sure or any(each.is_open or _resolved_at(each) > since for each in self.found)


def explain_exceptions(of_account: Exceptions, now: datetime) -> list[Explanation]:
    """What may be missing of an escrow account's money, as nobody has looked into it or as somebody alone decided."""
    told, most = [], "" if of_account.is_all else "at least "
    if is_open := [each for each in of_account.found if each.is_open]:
        statement = (
            f"Open exceptions about payments of the escrow account: {most}{len(is_open)}, first {_spell(is_open[0])}."
            " What they say may be missing in it: look into them first."
        )
        operands = tuple((each.transaction_id or "", _spell(each)) for each in is_open[:_NAMED_MAX])
        told.append(Explanation(statement, "EXCEPTIONS_OPEN", operands, HOUSE_RULE))
    if resolved := _list_resolved(of_account, now):
        statement = (
            f"Exceptions about its payments that were resolved within {RECEIVED_WITHIN.days} days:"
            f" {most}{len(resolved)}, {_spell_chosen(resolved)}."
        )
        operands = tuple((each.transaction_id or "", _spell_resolved(each)) for each in resolved[:_NAMED_MAX])
        told.append(Explanation(statement, "EXCEPTIONS_RESOLVED", operands, HOUSE_RULE))
    if of_account.has_altered:
        statement = "Exceptions about payments of the escrow account were altered in the database."
        told.append(Explanation(statement, "MONEY_ALTERED", (), HOUSE_RULE))
    return told + _explain_others(of_account)


def explain_exceptions_of_nobody(of_nobody: Exceptions, now: datetime) -> list[Explanation]:
    """That a provider or a bank said something of the organization's money which nobody knows where to put, or which
    somebody alone says is settled.
    """
    told, most = _explain_open_of_nobody(of_nobody), "" if of_nobody.is_all else "at least "
    if resolved := _list_resolved(of_nobody, now):
        statement = (
            "Exceptions of the organization about no payment of ours that is known, that were resolved within"
            f" {RECEIVED_WITHIN.days} days: {most}{len(resolved)}, {_spell_chosen(resolved)}."
        )
        operands = tuple((_spell_file(each), _spell_resolved(each)) for each in resolved[:_NAMED_MAX])
        told.append(Explanation(statement, "EXCEPTIONS_RESOLVED", operands, HOUSE_RULE))
    return told + _explain_others(of_nobody)


def _explain_others(of: Exceptions) -> list[Explanation]:
    """A login of the database could have those that are open seem resolved, and so stand behind these."""
    if of.is_all:
        return []
    statement = f"There are more exceptions than these {len(of.found)}, of which nobody has proven how they stand."
    return [Explanation(statement, "EXCEPTIONS_NOT_PROVEN", (), HOUSE_RULE)]


def _list_resolved(of: Exceptions, now: datetime) -> list[PaymentException]:
    since = now - RECEIVED_WITHIN
    return [each for each in of.found if each.resolved_at is not None and each.resolved_at > since]


def _explain_open_of_nobody(of_nobody: Exceptions) -> list[Explanation]:
    is_open = [each for each in of_nobody.found if each.is_open]
    if not is_open and not of_nobody.has_altered:
        return []
    most = "" if of_nobody.is_all and not of_nobody.has_altered else "at least "
    statement = (
        "Open exceptions of the organization that are about no payment of ours that is known:"
        f" {most}{len(is_open)}. Any escrow account may have less than its book says."
    )
    operands = tuple((_spell_file(each) or each.provider or "", each.kind.value) for each in is_open[:_NAMED_MAX])
    return [Explanation(statement, "EXCEPTIONS_OPEN", operands, HOUSE_RULE)]


def _spell(found: PaymentException) -> str:
    amount = "" if found.amount is None else f", {found.amount}"
    return f"{found.kind} of {found.transaction_id or _spell_file(found) or found.provider}{amount}"


def _spell_file(found: PaymentException) -> str:
    """Whoever writes where the bank puts its files chooses their names."""
    return quote(found.file_name) if found.file_name else ""


def _spell_chosen(resolved: Sequence[PaymentException]) -> str:
    """The first of them, which has the largest amount or none that is known, and the one that was resolved last."""
    first, last = resolved[0], max(resolved, key=_resolved_at)
    which = "of no known amount" if first.amount is None else "the largest"
    chosen = "" if first == last else f"{which} {_spell_resolved(first)}, "
    return f"{chosen}last {_spell_resolved(last)}"


def _spell_resolved(found: PaymentException) -> str:
    day = "" if found.resolved_at is None else f" on {found.resolved_at:%Y-%m-%d}"
    again = ", and open again" if found.is_open else ""
    return f"{_spell(found)}: by {found.resolved_by}{day}{again}, {quote(found.resolution_note or '')}"


def _resolved_at(found: PaymentException) -> datetime:
    return found.resolved_at or found.opened_at
