"""Why a time of a transaction is what it is, and what speaks for and against paying: rules, and what went into them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import reduce
from itertools import chain
from operator import add
from typing import Final

from services.chassis.values.explanation import HOUSE_RULE, Explanation, explain_check, spell_gate
from services.chassis.values.text import quote
from services.transactions.domain.bank_accounts import (
    LIVE,
    BankAccount,
    BankAccountStatus,
    BlockReason,
    HolderType,
    check_usable,
)
from services.transactions.domain.disputes import DisputeStatus
from services.transactions.domain.payments import Payment, list_moves
from services.transactions.domain.rails import COMPANY_RETURN, CONSUMER_RETURN, Period
from services.transactions.domain.refunds import CardPayment
from services.transactions.domain.returns import network_code_of
from services.transactions.domain.schedule import REPRESENT_AFTER
from services.transactions.domain.states import Status
from services.transactions.domain.transaction import Transaction

_NOT_FINAL: Final = "REFUNDED_MONEY_NOT_FINAL"
_TO_CARD: Final = "REFUND_TO_CARD"
# So many payments are named one by one, the largest.
_NAMED_MAX: Final = 10
_ALTERED: Final = Explanation("What a party paid in was altered in the database.", _NOT_FINAL)


def explain_next_attempt(row: Transaction) -> Explanation | None:
    """Why the next attempt is due when it is."""
    if row.next_attempt_at is None:
        return None
    code = network_code_of(row.failure)
    statement = (
        f"Returned with {code}; presented again {_spell(REPRESENT_AFTER)} later, on {_date(row.next_attempt_at)}."
    )
    operands = (
        ("return code", code),
        ("days", _spell(REPRESENT_AFTER)),
        ("presentments so far", str(row.presentments)),
    )
    return Explanation(statement, REPRESENT_AFTER.rule, operands, REPRESENT_AFTER.source)


def explain_start(account: BankAccount, now: datetime) -> Explanation | None:
    """Why a payout to this account that is QUEUED has not begun."""
    start = account.payout_start
    if start is None or not account.is_cooling_down(now):
        return None
    statement = f"It waits until its bank account is old enough: money may go to it from {start:%Y-%m-%d %H:%M} UTC."
    return Explanation(statement, "BANK_ACCOUNT_AGE", (("bank account", account.bank_account_id),), HOUSE_RULE)


def explain_announcement_end(row: Transaction) -> Explanation | None:
    """Why what is announced is not waited for any longer."""
    period, end = row.rail.announced_for, row.next_look_at
    if period is None or end is None or row.status is not Status.PENDING_SETTLEMENT:
        return None
    since = "its amount was corrected" if row.corrected_by else "it was announced"
    statement = f"It is CANCELLED unless it is confirmed by {_date(end)}: {_spell(period)} after {since}."
    return Explanation(statement, period.rule, (("days", _spell(period)),), period.source)


def explain_return_risk(row: Transaction) -> Explanation | None:
    """Why the money stays held until then."""
    if row.return_risk_end_at is None or row.settled_at is None or row.rail.return_risk is None:
        return None
    end = row.return_risk_end_at
    return _explain(row.rail.return_risk, row.settled_at, f"The money stays held until {_date(end)}")


def explain_finality(row: Transaction) -> Explanation | None:
    """From when the bank can no longer send it back."""
    if row.final_at is None or row.settled_at is None:
        return None
    period = row.rail.period_of_return(is_inbound=row.is_inbound)
    if period is None:
        operands = (("settled", _date(row.settled_at)),)
        return Explanation("Nobody can take it back once it has settled.", "FINAL_AT_ONCE", operands, "UCC 4A-405")
    return _explain(period, row.settled_at, f"The bank may send it back until {_date(row.final_at)}")


def _explain(period: Period, settled_at: datetime, result: str) -> Explanation:
    days = _spell(period)
    statement = f"{result}: {days} after it settled on {_date(settled_at)}."
    return Explanation(statement, period.rule, (("settled", _date(settled_at)), ("days", days)), period.source)


def _spell(period: Period) -> str:
    if period.is_banking_days:
        return f"{period.days} banking days"
    return f"{period.days} days{' and a banking day' if period.ends_by_file else ''}"


def _date(moment: datetime) -> str:
    return moment.date().isoformat()


def explain_account(account: BankAccount, now: datetime) -> Explanation:
    """How old a bank account is, and since when money may go to it."""
    age_days = (now - account.created_at).days
    start = account.payout_start if account.status is BankAccountStatus.ACTIVE else None
    if start is not None:
        payable = f"money may go to it from {start:%Y-%m-%d %H:%M} UTC"
    elif account.confirmed_at is not None:
        payable = f"it was confirmed on {_date(account.confirmed_at)}, and is {account.status} now"
    else:
        payable = "nobody has confirmed it"
    operands = (("status", account.status), ("added", _date(account.created_at)), ("days", str(age_days)))
    age = f"{age_days} {'day' if age_days == 1 else 'days'}"
    return Explanation(f"Added {age} ago; {payable}.", "BANK_ACCOUNT_AGE", operands, HOUSE_RULE)


def explain_makers(account: BankAccount, acting: Mapping[str, bool]) -> Explanation:
    """Who added the account, or changed where its money goes, and whether they act for its party.

    Args:
        acting: By person.
    """
    said = [
        f"{person}, who {'acts' if acts else 'does NOT act'} for {account.party_id}" for person, acts in acting.items()
    ]
    holder = f"Its holder is named {quote(account.account_holder_name)}"
    statement = f"{holder}; it was added or changed by {'; '.join(said)}."
    return Explanation(statement, "ADDED_BY", tuple(("person", person) for person in acting), HOUSE_RULE)


def explain_holder_type(account: BankAccount, party_kind: str | None) -> Explanation:
    """What it means that the account is called a person's or a company's.

    Args:
        party_kind: What its party is by law, as compliance says; None: nobody can tell now.
    """
    is_company = account.holder_type is HolderType.COMPANY
    period = COMPANY_RETURN if is_company else CONSUMER_RETURN
    party = f"its party is {party_kind} by law" if party_kind else "what its party is by law nobody can tell now"
    statement = (
        f"It is called the account of a {account.holder_type}, and {party}: debits from it count as final after"
        f" {_spell(period)}, and are refunded without a second person from then on."
    )
    if is_company:
        statement += f" Were it a person's, its bank would take them back for {_spell(CONSUMER_RETURN)}."
    operands = (("holder type", account.holder_type), ("days", _spell(period)))
    return Explanation(statement, "HOLDER_TYPE", operands, period.source)


def explain_first_use(first_at: datetime | None, taken_back: Sequence[Transaction]) -> Explanation:
    """Whether a payout has ever arrived there.

    Args:
        first_at: When the first one did that was not taken back.
        taken_back: Those that arrived there and were taken back by a debit, the newest first.
    """
    statement = "No payout has arrived there." if first_at is None else f"First paid to on {_date(first_at)}."
    if first_at is None and (settled := [row.settled_at for row in taken_back if row.settled_at is not None]):
        statement = f"Paid to on {_date(settled[0])}, which was taken back; no payout that arrived there has stayed."
    return Explanation(statement, "BANK_ACCOUNT_FIRST_USE")


def explain_confirmation(row: Transaction) -> Explanation:
    """Who said that a wire or check arrived, when, and how much."""
    assert row.settled_at is not None  # it arrived
    statement = f"{row.confirmed_by} confirmed {row.amount} on {_date(row.settled_at)}"
    if row.corrected_minor is not None:
        statement += f", of {row.announced_amount} announced"
    operands = (("bank reference", row.bank_reference or ""), ("finality", row.finality))
    return Explanation(f"{statement}.", "CONFIRMED_BY_A_PERSON", operands)


def explain_take_back(received: Iterable[Sequence[Transaction] | None]) -> list[Explanation]:
    """How much of what is given back the bank may still take back, and until when.

    Args:
        received: What each party paid in, of one currency; None: nobody knows.
    """
    found, by_day = list(received), dict[str, list[Transaction]]()
    for row in chain.from_iterable(filter(None, found)):
        if not row.is_final and row.final_at is not None:
            by_day.setdefault(_date(row.final_at), []).append(row)
    explanations = [_ALTERED] if None in found else []
    for day, rows in sorted(by_day.items()):
        amount = reduce(add, (row.amount for row in rows))
        statement = f"The bank may take {amount} of what was paid in back until {day}."
        largest = sorted(rows, key=lambda row: (-row.amount.amount_minor, row.transaction_id))[:_NAMED_MAX]
        if len(rows) > _NAMED_MAX:
            statement += f" The {_NAMED_MAX} largest of {len(rows)} payments are named: {len(rows) - _NAMED_MAX} more."
        operands = tuple((row.transaction_id, row.amount) for row in largest)
        explanations.append(Explanation(statement, _NOT_FINAL, operands))
    return explanations


def explain_cards(payments: Sequence[CardPayment]) -> list[Explanation]:
    """Which cards it goes back to: of each party a card after the other, as named.

    Args:
        payments: Of one currency, that are not given back yet.
    """
    if not payments:
        return []
    amount = reduce(add, (each.left for each in payments))
    where = f"the {len(payments)} cards that it came from"
    if len(payments) == 1:
        [only] = payments
        where = f"the card {spell_card(only.row)} that paid {only.row.transaction_id}"
    statement = f"{amount} came by card and was not given back yet: it goes back to {where}."
    if len(payments) > _NAMED_MAX:
        statement += f" The first {_NAMED_MAX} of them are named."
    statement += _warn_of_disputes([each.row for each in payments])
    cards = tuple((each.row.transaction_id, f"{spell_card(each.row)}, {each.left}") for each in payments[:_NAMED_MAX])
    return [Explanation(statement, _TO_CARD, cards, HOUSE_RULE)]


def explain_card(row: Transaction, received: Iterable[Transaction]) -> list[Explanation]:
    """Which card a refund goes back to, if it goes to one.

    Args:
        received: The contributions of its investment that arrived.
    """
    if row.refunded_transaction_id is None:
        return []
    statement = f"It goes back to the card {spell_card(row)} that paid {row.refunded_transaction_id}."
    statement += _warn_of_disputes([each for each in received if each.transaction_id == row.refunded_transaction_id])
    cards = ((row.refunded_transaction_id, f"{spell_card(row)}, {row.amount}"),)
    return [Explanation(statement, _TO_CARD, cards, HOUSE_RULE)]


def _warn_of_disputes(paid: Sequence[Transaction]) -> str:
    """That the card may not take it back, where its payment was disputed: so Stripe says of any charge that was."""
    won = [row.transaction_id for row in paid if row.dispute_status is DisputeStatus.WON]
    if not won:
        return ""
    named = ", ".join(won[:3]) + (f" and {len(won) - 3} more" if len(won) > 3 else "")
    return f" A dispute of {named} was won: the provider may refuse to give that back there. Name a bank account then."


def spell_card(row: Transaction) -> str:
    """All that is known of a card."""
    return "of unknown number" if row.card_last4 is None else f"{row.card_brand} …{row.card_last4}"


def explain_more_same_payments(count: int, *, has_altered: bool) -> list[Explanation]:
    """That so many more of the same amount were ordered for the same party, which are not told one by one.

    Args:
        has_altered: One like it was altered in the database.
    """
    told = []
    if count > 0:
        statement = f"{count} more of the same amount were ordered for the same party lately."
        told.append(Explanation(statement, "SAME_PAYMENT", (("transactions", str(count)),), HOUSE_RULE))
    if has_altered:
        statement = "One of the same amount for the same party was altered in the database: it may have been paid."
        told.append(Explanation(statement, "MONEY_ALTERED", (), HOUSE_RULE))
    return told


def explain_look_alike(account: BankAccount, other: BankAccount, *, is_same: bool | None) -> Explanation:
    """That another account of the party reads the same, as far as it can be read.

    Args:
        account: What is decided on.
        is_same: It has the same number. None: the sealed number does not open, so nobody can tell.
    """
    has = "has" if other.status in LIVE else "had"
    number = {True: "the same number", False: "ANOTHER number", None: "a number that could not be compared"}[is_same]
    digits = "the same" if other.account_number_last4 == account.account_number_last4 else "similar"
    bank = "the same bank" if other.routing_number == account.routing_number else "ANOTHER bank"
    statement = f"The party {has} {other.bank_account_id} with {digits} last digits at {bank}, and {number}."
    if other.is_forbidden:
        statement += f" It is blocked{f' ({other.block_network_code})' if other.block_network_code else ''}."
    if not is_same:
        statement += " Compare the whole number with what the party named."
    operands = (("bank account", other.bank_account_id), ("status", other.status))
    return Explanation(statement, "BANK_ACCOUNT_LOOK_ALIKE", operands, HOUSE_RULE)


def explain_more_look_alikes(count: int) -> Explanation:
    """That so many more read the same than are told of one by one."""
    statement = f"{count} more accounts of the party, added later or retired, read alike."
    return Explanation(statement, "BANK_ACCOUNT_LOOK_ALIKE", (("bank accounts", str(count)),), HOUSE_RULE)


def explain_forbidden(other: BankAccount) -> Explanation:
    """That the same account at the same bank is blocked where it stands as another party's, or under another id."""
    code = f" ({other.block_network_code})" if other.block_network_code else ""
    why = "a bank's return forbids it" if other.block_reason is BlockReason.RETURNED_BY_BANK else "its row was altered"
    statement = f"The same account is blocked as {other.bank_account_id} of {other.party_id}: {why}{code}."
    operands = (("bank account", other.bank_account_id), ("network code", other.block_network_code or ""))
    return Explanation(statement, "BANK_ACCOUNT_FORBIDDEN", operands, HOUSE_RULE)


def explain_owners(count: int) -> Explanation:
    """How many parties of the organization have the same account at the same bank."""
    operands = (("parties", str(count)),)
    statement = "No other party has this account." if count <= 1 else f"{count} parties have this account."
    return Explanation(statement, "BANK_ACCOUNT_OWNERS", operands)


def explain_clearance(missing: Sequence[str] | None) -> Explanation:
    """Whether compliance lets the party's money move now; None: it cannot be asked."""
    if missing is None:
        return explain_away("Compliance", "PARTY_CLEARED")
    statement = "; ".join(missing) or "Compliance clears the party."
    return Explanation(statement, "PARTY_CLEARED", (spell_gate(not missing),))


def explain_use(account: BankAccount | None, row: Transaction, now: datetime) -> Explanation:
    """Whether money may come from the bank account of a transaction, or go to it."""
    statement = f"Money may {'come from' if row.is_inbound else 'go to'} the bank account."
    if not row.is_inbound and account is not None and account.is_cooling_down(now):
        statement = "Money may go to the bank account once it is old enough, and waits until then."
    return explain_check(
        "BANK_ACCOUNT_USABLE", statement, lambda: check_usable(account, row.party_id, is_inbound=row.is_inbound)
    )


def explain_commitment(check: Callable[[], object]) -> Explanation:
    """
    Args:
        check: Raises why the investment takes no contributions.
    """
    return explain_check("INVESTMENT_PENDING", "The investment takes contributions.", check)


def explain_whose_word(rule: str, said: str, party_id: str, person: str, *, acts_for_party: bool) -> Explanation:
    """By whose word the party is what a payment rests on: staff may say so alone, without the party.

    Args:
        said: What that person did.
    """
    acts = "acts" if acts_for_party else "does NOT act"
    operands = (("person", person), ("party", party_id))
    return Explanation(f"{person} {said}, and {acts} for {party_id}.", rule, operands, HOUSE_RULE)


def explain_same_payment(other: Transaction) -> Explanation:
    """That just as much was ordered for the same party, which may be the same thing once more."""
    stands = f"{other.status}, and a debit is to take it back" if other.is_being_reversed else other.status
    statement = (
        f"{other.created_by} ordered the same amount for the same party on {_date(other.created_at)}, and"
        f" {other.transaction_id} is {stands}: what is meant once would be done twice."
    )
    operands = (("transaction", other.transaction_id), ("status", other.status), ("ordered by", other.created_by))
    return Explanation(statement, "SAME_PAYMENT", operands, HOUSE_RULE)


def explain_hidden(party_ids: Collection[str]) -> list[Explanation]:
    """That of parties nobody can say where they are paid: somebody altered the account in the database."""
    if not party_ids:
        return []
    named = sorted(party_ids)[:_NAMED_MAX]
    statement = f"The bank accounts of {len(party_ids)} who are paid were altered in the database: {', '.join(named)}."
    return [Explanation(statement, "MONEY_ALTERED", tuple(("party", each) for each in named), HOUSE_RULE)]


def explain_away(who: str, rule: str) -> Explanation:
    """That somebody cannot be asked about a gate."""
    return Explanation(f"{who} cannot be asked now.", rule)


def explain_payment(row: Transaction, payment: Payment | None, objection: str) -> Explanation:
    """What a provider says of a payment now, and what becomes of the transaction by that.

    Args:
        objection: Why it is not believed; empty where it is.
    """
    if payment is None or objection:
        statement = f"Nothing moves: {objection or 'the provider has no such payment'}."
        return Explanation(statement, PROVIDER_SAYS, (spell_gate(False),), HOUSE_RULE)
    operands = (spell_gate(True), ("payment", payment.status.value), ("transaction", row.status.value))
    moves = list_moves(payment.status, row.status)
    then = f"the transaction would become {moves[-1].value}" if moves else "that is known, and nothing would change"
    return Explanation(f"The provider says {payment.status.value}: {then}.", PROVIDER_SAYS, operands, HOUSE_RULE)


PROVIDER_SAYS: Final = "PROVIDER_SAYS"
