"""What a second person has to know: each rule that will be asked, as it stands now, in one sentence."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Final

from services.chassis.values.accounts import takes_money
from services.chassis.values.explanation import HOUSE_RULE, Explanation, spell_gate
from services.chassis.values.failure import Failure
from services.chassis.values.money import Money
from services.chassis.values.text import quote
from services.distributions.domain.closing import Gate, name_some
from services.distributions.domain.destination import BankAccount, Destination, PayoutAccount, PayoutAccounts
from services.distributions.domain.distribution import UNDER_WAY, Allocation, Distribution
from services.distributions.domain.investment import Investment
from services.distributions.domain.offering import Offering
from services.distributions.domain.refunds import RefundPosition

_ACCOUNT: Final = "BANK_ACCOUNT"
# An account is new to whoever approves for so long, and so many of them are named.
_NEW_FOR: Final = timedelta(days=30)
_NAMED_MAX: Final = 50


def explain_gate(gate: Gate) -> Explanation:
    return replace(gate.explanation, operands=(spell_gate(gate.passed), *gate.explanation.operands))


def explain_cash(
    distribution: Distribution, distributable_minor: int, available_minor: int, set_off_minor: int
) -> Explanation:
    """
    Args:
        distributable_minor: What stands on DISTRIBUTABLE, and is not held.
        available_minor: What the whole escrow account has available: less, where banks took back what was paid on.
        set_off_minor: What of it is not paid, but set off against what payees owe.
    """
    currency = distribution.currency
    distributable, available = Money(distributable_minor, currency), Money(available_minor, currency)
    amount, set_off = Money(distribution.amount_minor, currency), Money(set_off_minor, currency)
    is_open = amount <= distributable and Money(amount.amount_minor - set_off_minor, currency) <= available
    verdict = f"{'enough' if is_open else 'too little'} for {amount}"
    statement = f"{distributable} can be distributed, {verdict}."
    if available < distributable:
        statement = f"{distributable} is distributable, and the escrow account has {available} available: {verdict}."
    operands = [("distributable", distributable), ("available", available), ("amount", amount)]
    if set_off_minor:
        statement = f"{statement.removesuffix('.')}, of which {set_off} is set off, and not paid."
        operands.append(("set off", set_off))
    return Explanation(statement, "DISTRIBUTABLE_CASH", (spell_gate(is_open), *operands), HOUSE_RULE)


def explain_escrow_status(status: str) -> Explanation:
    operands = (spell_gate(takes_money(status)), ("status", status))
    return Explanation(f"The escrow account is {status}.", "ESCROW_ACTIVE", operands, HOUSE_RULE)


def explain_date(distribution: Distribution, today: date) -> Explanation:
    """As of which day it was worked out: what is earned by then, and so who has how much, goes by that."""
    day, days = distribution.distribution_date, (distribution.distribution_date - today).days
    when = "today" if not days else f"{abs(days)} days {'from now' if days > 0 else 'ago'}"
    statement = (
        f"It counts as of {day}, {when}: what is earned goes by that day, and no later one may be dated before it."
    )
    return Explanation(statement, "DISTRIBUTION_DATE", (("date", str(day)), ("days from now", str(days))))


def explain_basis(offering: Offering, distribution: Distribution, declaring: str | None) -> Explanation:
    """
    Args:
        declaring: The distribution of the offering that is being declared, if one is.
    """
    if distribution.basis_version != offering.declarations:
        statement = "Another distribution of the offering was declared since it was calculated: it must go back."
    elif declaring is not None:
        statement = f"Another one of the offering is being declared, {declaring}: this one will have to go back."
    else:
        statement = "No other distribution of the offering was declared since it was calculated."
    is_open = distribution.basis_version == offering.declarations and declaring is None
    return Explanation(statement, "BASIS_CURRENT", (spell_gate(is_open),), HOUSE_RULE)


def explain_owed(owed: Mapping[str, Money]) -> Explanation:
    """
    Args:
        owed: What each party is to have, of which some is.
    """
    who = "1 party is owed its part." if len(owed) == 1 else f"{len(owed)} parties are owed their parts."
    return Explanation(who, "AMOUNTS_OWED", tuple(owed.items()), HOUSE_RULE)


def explain_clearances(uncleared: Collection[str]) -> Explanation:
    """
    Args:
        uncleared: The payees that compliance does not let be paid now.
    """
    statement = f"Not cleared, and so not paid: {name_some(uncleared)}." if uncleared else "Every payee is cleared."
    operands = (spell_gate(not uncleared), ("not cleared", str(len(uncleared))))
    return Explanation(statement, "PAYEES_CLEARED", operands, HOUSE_RULE)


def explain_nothing_paid() -> Explanation:
    return Explanation("Nothing of it was paid in, so nothing goes back.", "AMOUNTS_OWED")


def explain_less_left(asked: Money, left: Money, where: str) -> tuple[Explanation, ...]:
    """Told where less is paid than is unpaid: who took the rest stands in the journal.

    Args:
        where: The kind of ledger account that it is paid from.
    """
    if asked == left:
        return ()
    statement = f"{asked} is not paid, and {left} is left on {where}: entries have taken the rest since."
    return (Explanation(statement, "AMOUNTS_OWED", (("asked for", asked), ("left", left)), HOUSE_RULE),)


def explain_failure(failure: Failure | None) -> tuple[Explanation, ...]:
    """Why the last attempt to pay it came to nothing; nothing where it did not."""
    if failure is None:
        return ()
    return (Explanation(f"The last attempt came to nothing: {failure.code}, {failure.message}", "LAST_ATTEMPT"),)


def explain_earlier_attempts(failures: Sequence[tuple[int, Failure]]) -> tuple[Explanation, ...]:
    """Why attempts before the last one came to nothing: a person may have said no, or one may have been paid.

    Args:
        failures: With the number of each attempt, the first one first; that of the last one is told by itself.
    """
    earlier = failures[:-1]
    if not earlier:
        return ()
    count = "1 attempt" if len(earlier) == 1 else f"{len(earlier)} attempts"
    some = f" The last {_NAMED_MAX} are told, and the last of each kind." if len(earlier) > _NAMED_MAX else ""
    statement = f"Before the last one that came to nothing, {count} did.{some}"
    # Many that a party ended itself keep nobody from reading that a person said no.
    told = dict({why.code: (number, why) for number, why in earlier}.values())
    told |= dict(earlier[-_NAMED_MAX:])
    operands = ((f"attempt {number}", f"{why.code}, {why.message}") for number, why in sorted(told.items()))
    return (Explanation(statement, "EARLIER_ATTEMPTS", tuple(operands)),)


def explain_left_out(investments: Iterable[Investment]) -> tuple[Explanation, ...]:
    """Whom a closing now would leave out, wholly or in part: nobody is shut out of a raise without a word.

    Args:
        investments: All of the offering.
    """
    live = [each for each in investments if each.is_live]
    unapplied = [(each, each.unapplied_minor) for each in live if each.unapplied_minor]
    not_come = [(each, each.amount_minor - each.funded_minor - each.unapplied_minor) for each in live]
    return (
        *_explain_left_out(
            "{amount} of {whom} arrived while the escrow account was frozen, and is not applied: the closing leaves it"
            " out. Apply it by hand before, or end the investments.",
            "MONEY_NOT_APPLIED",
            unapplied,
        ),
        *_explain_left_out(
            "{amount} that {whom} committed has not come: the closing takes what is there, and ends an investment of"
            " which nothing is. What comes later goes back.",
            "MONEY_NOT_COME",
            [(each, minor) for each, minor in not_come if minor > 0],
        ),
    )


def _explain_left_out(statement: str, rule: str, left_out: Sequence[tuple[Investment, int]]) -> tuple[Explanation, ...]:
    if not left_out:
        return ()
    currency = left_out[0][0].currency
    total = Money(sum(minor for _, minor in left_out), currency)
    said = statement.format(amount=total, whom=name_some({each.party_id for each, _ in left_out}))
    largest = sorted(left_out, key=lambda one: (-one[1], one[0].investment_id))[:_NAMED_MAX]
    operands = tuple((each.investment_id, Money(minor, currency)) for each, minor in largest)
    return (Explanation(said, rule, operands, HOUSE_RULE),)


def explain_receivables(investments: Iterable[Investment]) -> tuple[Explanation, ...]:
    """Who owes what a bank took back of a contribution: theirs is what a policy is about."""
    owing = [each for each in investments if each.receivable_minor > 0]
    if not owing:
        return ()
    operands = tuple((each.investment_id, Money(each.receivable_minor, each.currency)) for each in owing)
    total = Money(sum(each.receivable_minor for each in owing), owing[0].currency)
    statement = f"{total} that banks took back of contributions is owed by their parties."
    return (Explanation(statement, "RECEIVABLES", operands),)


def explain_failed_refunds(failed: Sequence[RefundPosition]) -> tuple[Explanation, ...]:
    """What each investment is owed, and why its last refund came to nothing."""
    statement = "1 refund failed." if len(failed) == 1 else f"{len(failed)} refunds failed."
    owed = Explanation(statement, "AMOUNTS_OWED", tuple(_spell_failed(each) for each in failed), HOUSE_RULE)
    investments = [each.investment for each in failed]
    why = [(each.investment_id, f"{end.code}, {end.message}") for each in investments if (end := each.refund_failure)]
    last = _name_failures("Why the last attempt came to nothing, by investment.", "LAST_ATTEMPT", why)
    before = [
        (each.investment.investment_id, f"attempt {number}: {end.code}, {end.message}")
        for each in failed
        for number, end in each.failures[:-1]
    ]
    return (
        owed,
        *last,
        *_name_failures("Why attempts before that came to nothing, by investment.", "EARLIER_ATTEMPTS", before),
    )


def _name_failures(statement: str, rule: str, why: Sequence[tuple[str, str]]) -> tuple[Explanation, ...]:
    if not why:
        return ()
    some = f" {_NAMED_MAX} of {len(why)} are told." if len(why) > _NAMED_MAX else ""
    return (Explanation(f"{statement}{some}", rule, tuple(why[:_NAMED_MAX])),)


def _spell_failed(position: RefundPosition) -> tuple[str, str]:
    held = position.investment
    why = f", {held.refund_failure.code}" if held.refund_failure is not None else ""
    return held.investment_id, f"{Money(position.owed_minor, held.currency)}{why}"


def explain_attempt(allocation: Allocation) -> Explanation:
    failure = allocation.failure
    why = f": {failure.code}, {failure.message}" if failure is not None else "."
    ended = f"ended {allocation.status.value}{why}"
    became = "is under way: another request was faster." if allocation.status in UNDER_WAY else ended
    return Explanation(
        f"Attempt {allocation.attempts} {became}", "LAST_ATTEMPT", (("attempts", str(allocation.attempts)),)
    )


def explain_destination(destination: Destination, party_id: str, now: datetime) -> Explanation:
    """
    Args:
        party_id: Who is to be paid.
    """
    rule, bank_account_id, account = _ACCOUNT, destination.bank_account_id, destination.account
    by = f" by {destination.payment_method.lower()}" if destination.payment_method else ""
    if not destination.pays_to_account:
        return Explanation(f"It goes{by}, to no bank account.", rule)
    if destination.is_left_to_default and account is None:
        statement = "No bank account is named, and the party has no default for payouts: it will not be paid."
        return Explanation(statement, rule, (spell_gate(False),), HOUSE_RULE)
    gate = spell_gate(destination.takes_payouts(party_id))
    if account is None or account.party_id != party_id:
        statement = f"The party has no bank account {bank_account_id}: it will not be paid there."
        return Explanation(statement, rule, (gate, ("bank account", bank_account_id or "")), HOUSE_RULE)
    days = (now - account.added_at).days
    default = "the party's default for payouts, " if destination.is_left_to_default else ""
    statement = (
        f"It goes{by} to {default}the account of {quote(account.holder)} that ends in {account.last4}, which is"
        f" {account.status} and was added {days} {'day' if days == 1 else 'days'} ago by {account.added_by}."
    )
    operands = (
        gate,
        ("bank account", account.bank_account_id),
        ("status", account.status),
        ("added", f"{account.added_at:%Y-%m-%d}"),
        ("days", str(days)),
    )
    return Explanation(statement, rule, operands, HOUSE_RULE)


def explain_payout_accounts(accounts: PayoutAccounts, party_ids: Collection[str], now: datetime) -> Explanation:
    """Which of the payees' accounts are new, the newest first, and who has none: who added one may mean to be paid.

    Args:
        party_ids: Who is to be paid.
    """
    found, altered = accounts
    new = [each for each in found if each.first_paid_at is None or now - each.account.added_at < _NEW_FOR]
    new.sort(key=lambda each: each.account.added_at, reverse=True)
    statement = f"Of {len(party_ids)} payees, {len(found)} have a bank account for payouts."
    if altered:
        statement += f" ALTERED in the database, so that nobody can tell where they are paid: {name_some(altered)}."
    if missing := set(party_ids) - {each.account.party_id for each in found} - altered:
        statement += f" Without one, and so not paid: {name_some(missing)}."
    if taken_back := {each.account.party_id: each.taken_back_at for each in found if each.taken_back_at is not None}:
        statement += (
            f" TAKEN BACK by debits within a year were payouts to {name_some(taken_back)}, the last on"
            f" {max(taken_back.values()):%Y-%m-%d}: such a debit may come back in its turn."
        )
    if new:
        statement += (
            f" NEW accounts, added within {_NEW_FOR.days} days or never paid to: {len(new)}"
            f"{f', of which {_NAMED_MAX} are named' if len(new) > _NAMED_MAX else ''}."
        )
    operands = tuple((each.account.party_id, _spell_new(each)) for each in new[:_NAMED_MAX])
    return Explanation(statement, "PAYEE_ACCOUNTS", operands, HOUSE_RULE)


def _spell_new(each: PayoutAccount) -> str:
    account = each.account
    never = "never paid to" if each.taken_back_at is None else "never paid to, or only what a debit took back"
    used = never if each.first_paid_at is None else f"first paid to on {each.first_paid_at:%Y-%m-%d}"
    return (
        f"{quote(account.holder)}, ends in {account.last4}, {account.status}, added on {account.added_at:%Y-%m-%d} by"
        f" {account.added_by}, {used}"
    )


def explain_refund_accounts(
    accounts: Sequence[BankAccount],
    party_ids: Collection[str],
    now: datetime,
    payment_method: str | None = None,
    *,
    by_card: frozenset[str] = frozenset(),
) -> Explanation:
    """Where refunds go that name no account.

    Args:
        party_ids: Who is to be paid; an account is of one of them.
        payment_method: The rail, if one is named.
        by_card: Whose money goes back to cards where none is, all of it or some.
    """
    by_card = by_card if payment_method is None else frozenset()
    if len(accounts) == 1 and len(party_ids) == 1:
        [account] = accounts
        return explain_destination(Destination(account.bank_account_id, account, payment_method), account.party_id, now)
    missing = set(party_ids) - {each.party_id for each in accounts} - by_card
    where = f"Bank accounts it goes to: {len(accounts)}."
    if by_card:
        where += f" To cards that it came from: {name_some(by_card)}."
    nowhere = f"Without an account, and so not paid: {name_some(missing)}." if missing else ""
    operands = ((each.party_id, f"{quote(each.holder)}, ends in {each.last4}, {each.status}") for each in accounts)
    return Explanation(f"{where} {nowhere}".rstrip(), _ACCOUNT, tuple(operands), HOUSE_RULE)
