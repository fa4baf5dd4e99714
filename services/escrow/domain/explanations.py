"""What a second person has to know of the book: each gate that is asked when it is booked, as it stands now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from services.chassis.values.explanation import HOUSE_RULE, Explanation, explain_check, spell_gate
from services.chassis.values.money import Money
from services.chassis.values.text import quote
from services.escrow.domain.account import AccountUse, Balance, Status, check_empty, check_unused
from services.escrow.domain.chart import IN_TRANSIT, LedgerAccount
from services.escrow.domain.holds import Hold
from services.escrow.domain.journal import NewEntry
from services.escrow.domain.refusals import PartyOwes

# Whoever reads so many knows enough.
_SHORT_MAX: Final = 100
# What happened longer ago than that is told of: it is not what a bank did today or yesterday.
_EFFECTIVE_BEFORE: Final = timedelta(days=1)


def explain_status(status: Status, *, is_open: bool) -> Explanation:
    """
    Args:
        is_open: Whether what is asked for may be done in an escrow account of that status.
    """
    operands = (spell_gate(is_open), ("status", status.value))
    return Explanation(f"The escrow account is {status.value}.", "ESCROW_ACTIVE", operands, HOUSE_RULE)


def explain_reversals(entries: Iterable[NewEntry]) -> list[Explanation]:
    """Which of them undo what a transaction booked: whatever becomes of it at its bank is booked all the same."""
    undone = [
        (each.reverses_journal_entry_id, each.transaction_id)
        for each in entries
        if each.reverses_journal_entry_id and each.transaction_id
    ]
    return [
        Explanation(
            f"It reverses what {transaction_id} booked. Whatever the bank does with that is booked all the same.",
            "REVERSES_TRANSACTION",
            (("journal_entry_id", entry_id), ("transaction_id", transaction_id)),
        )
        for entry_id, transaction_id in undone[:_SHORT_MAX]
    ]


def explain_effective(entries: Sequence[NewEntry], now: datetime) -> list[Explanation]:
    """That they count as of a time that is over, if it is more than a day ago: balances of then become others."""
    before = [
        each.effective_at
        for each in entries
        if each.effective_at is not None and now - each.effective_at > _EFFECTIVE_BEFORE
    ]
    if not before:
        return []
    oldest = min(before)
    days = (now - oldest).days
    some = f"{len(before)} of {len(entries)} entries count as of an earlier time, the oldest"
    who = "It counts" if len(entries) == 1 else some
    statement = (
        f"{who} as of {oldest:%Y-%m-%d %H:%M} UTC, {days} day{'s' if days > 1 else ''} ago: balances as of any time"
        " since then become others."
    )
    operands = (("effective time", f"{oldest:%Y-%m-%dT%H:%M:%SZ}"), ("days", str(days)), ("entries", str(len(before))))
    return [Explanation(statement, "EFFECTIVE_BEFORE", operands, HOUSE_RULE)]


def explain_available(
    balances: Mapping[LedgerAccount, Balance], changes: Iterable[tuple[LedgerAccount, int]], currency: str
) -> list[Explanation]:
    """Whether each ledger account has what is taken from it: what stands on it and is not held.

    Args:
        changes: By how much each grows; what shrinks is taken from.
    """
    # What is put on its way out takes from the other side of the entry, and from no money that is on its way.
    taken = [(balances[account], -change) for account, change in changes if change < 0 and account != IN_TRANSIT]
    short = [(balance, minor) for balance, minor in taken if balance.available_minor < minor]
    if not short and len(taken) > 1:
        statement = f"Each of {len(taken)} ledger accounts has what would be taken from it."
        return [Explanation(statement, _AVAILABLE, (spell_gate(True),), HOUSE_RULE)]
    said = [_explain_one(balance, minor, currency) for balance, minor in (short or taken)[:_SHORT_MAX]]
    if len(short) > _SHORT_MAX:
        statement = f"{len(short) - _SHORT_MAX} more ledger accounts have too little available."
        said.append(Explanation(statement, _AVAILABLE, (spell_gate(False),), HOUSE_RULE))
    return said


_AVAILABLE: Final = "AVAILABLE_BALANCE"


def _explain_one(balance: Balance, minor: int, currency: str) -> Explanation:
    available, held = Money(balance.available_minor, currency), Money(balance.held_minor, currency)
    taken = Money(minor, currency)
    operands = (spell_gate(taken <= available), ("available", available), ("held", held), ("taken", taken))
    statement = f"{balance.ledger_account} has {available} available, and {taken} would be taken from it."
    return Explanation(statement, _AVAILABLE, operands, HOUSE_RULE)


def explain_release(balance: Balance, amount: Money) -> Explanation:
    """What may be taken from a ledger account once a hold on it is released. Nothing is posted by that."""
    before = Money(balance.available_minor, amount.currency)
    after = Money(balance.available_minor + amount.amount_minor, amount.currency)
    operands = (("available", before), ("released", amount), ("available then", after))
    statement = f"{balance.ledger_account} has {before} available, and {after} once {amount} is released."
    return Explanation(statement, _AVAILABLE, operands, HOUSE_RULE)


def explain_hold(hold: Hold) -> Explanation:
    """Why something is held, by whom and since when: whoever lets it go has read it."""
    words = f": {quote(hold.description)}" if hold.description else ""
    of = f", for {hold.transaction_id}" if hold.transaction_id else ""
    statement = f"{hold.created_by} held it on {hold.created_at:%Y-%m-%d}, {hold.reason}{of}{words}."
    operands = (("reason", hold.reason), ("held by", hold.created_by), ("transaction", hold.transaction_id or ""))
    return Explanation(statement, "HELD_BY", operands)


def explain_cash(cash_minor: int, paid_minor: int, currency: str) -> Explanation:
    """Whether cash covers what is paid: each payout that it does not cover is refused when it is about to be sent.

    Args:
        cash_minor: What of CASH nobody holds and no payout before takes; negative where more is missing.
    """
    cash, paid = Money(max(0, cash_minor), currency), Money(paid_minor, currency)
    operands = (spell_gate(paid <= cash), ("cash", cash), ("paid", paid))
    enough = "enough" if paid <= cash else "too little"
    statement = f"There is {cash} of cash that nobody holds and no payout takes, {enough} to pay {paid}."
    return Explanation(statement, "CASH_COVERS", operands, HOUSE_RULE)


def explain_debts(debts: Mapping[str, int], currency: str) -> list[Explanation]:
    """Who of those that are paid owes what the bank took back of their money, and is not paid before that is settled.

    Args:
        debts: How much each of them owes; nobody who owes nothing.

    Returns: Those who owe most are named, as in what follows.
    """
    if not debts:
        return []
    most = sorted(debts.items(), key=lambda debt: -debt[1])[:_SHORT_MAX]
    owed = tuple((party_id, Money(minor, currency)) for party_id, minor in most)
    total = Money(sum(debts.values()), currency)
    who = f"{owed[0][0]} owes" if len(debts) == 1 else f"{len(debts)} of the parties owe"
    statement = f"{who} {total} that was paid in and taken back by the bank: no payout goes there before."
    return [Explanation(statement, PartyOwes.reason, (spell_gate(False), *owed), HOUSE_RULE)]


def explain_debts_at_sources(debts: Mapping[str, tuple[str, int]], currency: str) -> list[Explanation]:
    """Who of those that are paid owes it where money was transferred from, and is not paid before that is settled.

    Args:
        debts: By party: the escrow account in which it owes, and how much.
    """
    if not debts:
        return []
    most = sorted(debts.items(), key=lambda debt: -debt[1][1])[:_SHORT_MAX]
    owed = tuple((party_id, f"{Money(minor, currency)} in {where}") for party_id, (where, minor) in most)
    who = f"{owed[0][0]} owes {owed[0][1]}" if len(debts) == 1 else f"{len(debts)} of the parties owe money"
    came = "from where some was transferred, since the bank took it back"
    statement = f"{who}, {came}: no payout goes there before, and no transfer settles it, but entries by hand do."
    return [Explanation(statement, PartyOwes.reason, (spell_gate(False), *owed), HOUSE_RULE)]


def explain_set_offs(set_offs: Mapping[str, tuple[int, int, int]], currency: str) -> list[Explanation]:
    """What of those that are paid is set off, as the offering's policy says: they are paid the rest.

    Args:
        set_offs: Of each that owes: what it owes, what of that is set off now, and what it is paid.
    """
    if not set_offs:
        return []

    def spell(owed_minor: int, set_off_minor: int, paid_minor: int) -> str:
        owed, taken, paid = (Money(minor, currency) for minor in (owed_minor, set_off_minor, paid_minor))
        return f"owes {owed}, {taken} set off, {paid} paid"

    most = sorted(set_offs.items(), key=lambda one: -one[1][0])[:_SHORT_MAX]
    spelled = tuple((party_id, spell(*figures)) for party_id, figures in most)
    owed, taken, paid = (Money(sum(each), currency) for each in zip(*set_offs.values(), strict=True))
    who = f"{spelled[0][0]} owes" if len(set_offs) == 1 else f"{len(set_offs)} of the parties owe"
    statement = f"{who} {owed} that the bank took back: {taken} is set off against what they are owed, and {paid} paid."
    return [Explanation(statement, "RECEIVABLES_SET_OFF", (spell_gate(True), *spelled), HOUSE_RULE)]


def explain_altered_books(escrow_account_ids: Sequence[str]) -> list[Explanation]:
    """That balances may be made up."""
    if not escrow_account_ids:
        return []
    statement = "In the book of {} entries stand that this service did not write: what it says is there may not be."
    named = ", ".join(escrow_account_ids[:_SHORT_MAX])
    return [Explanation(statement.format(named), "MONEY_ALTERED", (), HOUSE_RULE)]


def explain_missing(owed_minor: int, kept_minor: int, currency: str) -> list[Explanation]:
    """That the account has less than it keeps for others.

    Args:
        owed_minor: What all its parties owe of what the bank took back after it had been paid on.
        kept_minor: What payment providers kept of what came in, and nobody has paid in since.
    """
    told = []
    if owed_minor > 0:
        owed = Money(owed_minor, currency)
        statement = f"{owed} is missing in the escrow account: its parties owe it, since the bank took it back."
        told.append(Explanation(statement, "MONEY_MISSING", (("owed", owed),), HOUSE_RULE))
    if kept_minor > 0:
        kept = Money(kept_minor, currency)
        statement = (
            f"{kept} is missing in the escrow account: payment providers kept it of what came in, and nobody has paid"
            " it in since. What is paid now, others have less of."
        )
        told.append(Explanation(statement, "MONEY_MISSING", (("provider_fees", kept),), HOUSE_RULE))
    return told


def explain_missing_at_sources(missing: Sequence[tuple[str, int]], currency: str) -> list[Explanation]:
    """The same of the escrow accounts that money was transferred from.

    Args:
        missing: Each of them with what its parties owe and payment providers kept, most first.
    """
    if not missing:
        return []
    total = Money(sum(minor for _, minor in missing), currency)
    statement = (
        f"Some of it was transferred from escrow accounts in which {total} is missing: their parties owe it, since the"
        " bank took it back, or payment providers kept it, and nobody has paid it in since."
    )
    operands = tuple((where, Money(minor, currency)) for where, minor in missing[:_SHORT_MAX])
    return [Explanation(statement, "MONEY_MISSING", operands, HOUSE_RULE)]


def explain_unfinished(transaction_ids: Sequence[str]) -> tuple[Explanation, ...]:
    """Which payments are not finished: those that wait for the escrow account move as soon as it is ACTIVE.

    Args:
        transaction_ids: Some of them, if there are many.
    """
    if not transaction_ids:
        return ()
    statement = (
        f"Payments of the escrow account that are not finished, or some of them: {', '.join(transaction_ids)}. What is"
        " QUEUED for it moves at once, by the yes that it has."
    )
    return (Explanation(statement, "PAYMENTS_WAITING", tuple(("transaction", each) for each in transaction_ids)),)


def explain_use(use: AccountUse) -> list[Explanation]:
    """Whether nothing is to come of the escrow account any more, as of one that is closed; and who is paid no more."""
    statement = "No raise goes on in it, and no money is still to come in, go out or come back."
    gate = explain_check("ESCROW_ACCOUNT_NOT_NEEDED", statement, partial(check_unused, use))
    paying = use.paying_offering_ids
    statement = f"Investments of {', '.join(paying)} are ACTIVE: once it is closed, nothing is distributed to them."
    operands = tuple(("offering", each) for each in paying)
    return [gate, Explanation(statement, "INVESTMENTS_ACTIVE", operands, HOUSE_RULE)] if paying else [gate]


def explain_emptiness(balances: Iterable[Balance], currency: str) -> Explanation:
    """Whether the escrow account is empty, as one that is closed has to be."""
    return explain_check("BALANCES_ZERO", "Every balance and hold is zero.", partial(check_empty, balances, currency))
