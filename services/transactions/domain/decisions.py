"""What people may decide about a transaction. The same rules refuse a decision and say which ones are offered."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from datetime import datetime

from services.chassis.calls.auth import INVESTOR, SPONSOR
from services.chassis.values.errors import InvalidField
from services.chassis.values.failure import Failure
from services.chassis.values.money import Money
from services.chassis.values.refusals import IllegalStatusChange, check_currency
from services.chassis.values.second_person import check_no_maker
from services.transactions.domain.rails import BY_HAND, Rail
from services.transactions.domain.refusals import (
    ArrivalNotStated,
    ArrivalStated,
    AttemptsExhausted,
    NotRetryable,
    PaymentMethodNotSupported,
)
from services.transactions.domain.returns import (
    PRESENTMENTS_MAX,
    Action,
    find_return_code,
    is_too_late,
    network_code_of,
)
from services.transactions.domain.schedule import RETRY_WITHIN, add_period
from services.transactions.domain.states import Status, may_cancel
from services.transactions.domain.transaction import ATTEMPTS_MAX, Transaction
from services.transactions.domain.types import TransactionType

# How a transaction ends to which a second person said no.
REJECTED = Failure("APPROVAL_REJECTED", "A second person said no.")


def check_may_approve(transaction: Transaction) -> None:
    """Whether it waits; who may approve it is the approval's to say (`check_yes`). Raises IllegalStatusChange."""
    if transaction.status is not Status.PENDING_APPROVAL:
        raise IllegalStatusChange(transaction.status, Status.APPROVED)


def check_may_reject(transaction: Transaction) -> None:
    """Whether it waits; who may reject it is the approval's to say (`check_no`). Raises IllegalStatusChange."""
    if transaction.status is not Status.PENDING_APPROVAL:
        raise IllegalStatusChange(transaction.status, Status.CANCELLED)


def check_may_cancel(transaction: Transaction, person: str) -> None:
    """What somebody says has come, nobody else cancels: its money may be at the bank. Raises IllegalStatusChange.

    Where two say that it came, however much, none of them does: it is confirmed, or ends when nobody has in time.
    """
    said = {transaction.corrected_by, *transaction.former_correctors} - {None}
    if transaction.status is Status.PENDING_SETTLEMENT and said - {person}:
        message = f"{', '.join(sorted(map(str, said)))} said that it came: it is confirmed, or ends by itself."
        if said == {transaction.corrected_by}:
            message = f"{transaction.corrected_by} has said that it came: it is confirmed, or that person cancels it."
        raise IllegalStatusChange(transaction.status, Status.CANCELLED, message)
    if not may_cancel(transaction.status, transaction.rail, is_inbound=transaction.is_inbound):
        raise IllegalStatusChange(transaction.status, Status.CANCELLED)


def check_carries(rail: Rail, currency: str) -> None:
    """Raises PaymentMethodNotSupported."""
    if not rail.carries(currency):
        message = f"{rail.payment_method} carries no {currency}."
        raise PaymentMethodNotSupported(message, payment_method=rail.payment_method)


def check_carries_type(rail: Rail, wanted: TransactionType) -> None:
    """Raises PaymentMethodNotSupported."""
    if rail.is_for_contributions and not wanted.is_for_investment:
        message = f"{rail.payment_method} carries contributions, and no {wanted.label.lower()}."
        raise PaymentMethodNotSupported(message, payment_method=rail.payment_method)


def check_reference(bank_reference: str) -> None:
    """Letters of other scripts look like ours, and would make another reference of the same line.

    Raises: InvalidField.
    """
    plain = unicodedata.normalize("NFKC", bank_reference)
    if any(each.isalnum() and not each.isascii() for each in plain):  # signs are not compared
        fields = {"bank_reference": "must have no letters but A to Z, and no digits but 0 to 9, as banks write them"}
        raise InvalidField("The bank's reference has other letters than banks write.", fields=fields)


def is_same_reference(one: str | None, other: str | None) -> bool:
    """Whether two spellings are of one reference: capitals, blanks and dashes say nothing."""
    if not one or not other:
        return False
    return _spell_plain(one) == _spell_plain(other)


def _spell_plain(bank_reference: str) -> str:
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", bank_reference)).upper()


def check_confirmed_by_a_person(transaction: Transaction) -> None:
    """Raises PaymentMethodNotSupported."""
    if not transaction.rail.is_confirmed_by_a_person:
        message = f"Only of what goes by {', '.join(BY_HAND)} a person says what the bank did."
        raise PaymentMethodNotSupported(message, payment_method=transaction.payment_method)


def check_may_confirm(transaction: Transaction, person: str, announcer_parties: Collection[str] = ()) -> None:
    """Whoever had a payout made or approved it does not say that it was sent, nor who corrected an amount that it came.

    What its payer announced only says what somebody means to send: one admin says what the bank brings, and another one
    confirms it.

    Args:
        announcer_parties: For whom who announced it acts, as its owner says; none where an action is only offered.

    Raises PaymentMethodNotSupported, MakerIsChecker, IllegalStatusChange, ArrivalNotStated.
    """
    check_confirmed_by_a_person(transaction)
    correctors = [transaction.corrected_by] if transaction.corrected_by else []
    others = correctors if transaction.is_inbound else transaction.makers_and_checkers
    check_no_maker({transaction.created_by, *others}, person)
    if transaction.status is not Status.PENDING_SETTLEMENT:
        raise IllegalStatusChange(transaction.status, Status.SETTLED)
    if is_announced_by_payer(transaction, announcer_parties) and transaction.corrected_by is None:
        raise ArrivalNotStated()


def is_announced_by_payer(transaction: Transaction, announcer_parties: Collection[str]) -> bool:
    """Whether it is announced by the investor or the issuer, or by who acts for the payer, in whatever role: their word
    is none about the bank."""
    is_payers = transaction.request_role in (INVESTOR, SPONSOR) or transaction.party_id in announcer_parties
    return transaction.is_inbound and is_payers


def check_amount(transaction: Transaction, amount: Money) -> None:
    """Whether the bank did just what is expected: who reads another amount corrects it, and another person confirms it.

    Raises: CurrencyMismatch, InvalidField.
    """
    check_currency(amount.currency, transaction.amount.currency, "amount.currency_code")
    if amount != transaction.amount:
        otherwise = "If the bank brings another amount, correct it first."
        if not transaction.is_inbound:
            otherwise = "It is sent in its whole amount; if it was not, two persons say so (NOT_SENT)."
        message = f"{transaction.amount} is expected. {otherwise}"
        raise InvalidField(message, fields={"amount": f"must be {transaction.amount}"})


def check_may_correct(transaction: Transaction, person: str, announcer_parties: Collection[str] = ()) -> None:
    """Whether this person may say what came.

    Args:
        announcer_parties: As for check_may_confirm.

    Raises PaymentMethodNotSupported, MakerIsChecker, IllegalStatusChange.
    """
    check_confirmed_by_a_person(transaction)
    if is_announced_by_payer(transaction, announcer_parties):
        check_no_maker({transaction.created_by}, person)
    if not transaction.is_inbound:
        message = "A payout is sent in its whole amount; if it was not, two persons say so (NOT_SENT)."
        raise IllegalStatusChange(transaction.status, Status.PENDING_SETTLEMENT, message)
    if transaction.status is not Status.PENDING_SETTLEMENT:
        raise IllegalStatusChange(transaction.status, Status.PENDING_SETTLEMENT)


def check_not_stated(transaction: Transaction, amount: Money, person: str) -> None:
    """What somebody says has come, another person confirms, and does not say once more: who said it alone cancels it,
    and whoever says the same after that person would be the one.

    Raises: ArrivalStated.
    """
    said_by = transaction.corrected_by
    if said_by not in (None, person) and amount == transaction.amount:
        raise ArrivalStated(said_by or "")


def find_corrected(transaction: Transaction, amount: Money) -> int | None:
    """What the bank brings, in minor units; None where that is what was announced. Raises: CurrencyMismatch."""
    check_currency(amount.currency, transaction.amount.currency, "amount.currency_code")
    return None if amount == transaction.announced_amount else amount.amount_minor


def check_may_retry(transaction: Transaction, now: datetime) -> None:
    """Whether a person may ask for another attempt now.

    Raises:
        IllegalStatusChange: it neither failed nor came back, nor waits for another attempt.
        NotRetryable: the failure is final, or long ago; payouts are sent again as new transactions, never as a second
            attempt.
        AttemptsExhausted: every allowed attempt was made.
    """
    if transaction.status is Status.PENDING_RETRY:
        check_window(transaction, now)
        return
    if transaction.status not in (Status.FAILED, Status.RETURNED):
        raise IllegalStatusChange(transaction.status, Status.QUEUED)
    failure, network_code = transaction.failure, network_code_of(transaction.failure)
    if transaction.is_inbound:
        check_attempts(transaction)  # first: the last attempt's failure is not marked retryable, for want of attempts
    may_again = transaction.is_inbound and (
        find_return_code(network_code).action is Action.REPRESENT
        if transaction.status is Status.RETURNED
        else failure is not None and failure.retryable
    )
    if not may_again:
        code = failure.code if failure else transaction.status
        message = f"{network_code or code} is final: make a new transaction."
        raise NotRetryable(message, code=code, network_code=network_code)
    if now > add_period(RETRY_WITHIN, transaction.updated_at):
        message = f"It ended more than {RETRY_WITHIN.days} banking days ago: make a new transaction."
        code = failure.code if failure else transaction.status
        raise NotRetryable(message, code=code, network_code=network_code)
    check_window(transaction, now)


def check_attempts(transaction: Transaction) -> None:
    """Raises AttemptsExhausted if no attempt is left."""
    if transaction.attempts >= ATTEMPTS_MAX or transaction.presentments >= PRESENTMENTS_MAX:
        raise AttemptsExhausted("Every allowed attempt was made.", attempts=transaction.attempts)


def check_window(transaction: Transaction, now: datetime) -> None:
    """Raises NotRetryable for a debit that was presented, and may not be again for being too old."""
    first = transaction.first_presented_at
    if transaction.is_inbound and transaction.presentments and first is not None and is_too_late(first, now):
        message = "Its 180 days from the first presentment are over: make a new transaction."
        raise NotRetryable(message, first_presentment_time=first)
