"""Why this service refuses: one class an ErrorReason of `realco/transactions/v1/error_reason.proto`."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from services.chassis.values.errors import DomainError, Kind, NotFound
from services.chassis.values.refusals import BankAccountNotUsable


class TransactionNotFound(NotFound):
    reason = "TRANSACTION_NOT_FOUND"
    what = "transaction"


class WebhookNotFound(NotFound):
    reason = "WEBHOOK_NOT_FOUND"
    what = "webhook"


class PaymentExceptionNotFound(NotFound):
    reason = "PAYMENT_EXCEPTION_NOT_FOUND"
    what = "exception"


class SweepNotFound(NotFound):
    reason = "SWEEP_NOT_FOUND"
    what = "sweep"


class BankAccountBlocked(DomainError):
    """Payments to this account and from it are forbidden, under whatever id it is added.

    Args:
        bank_account_id: The one that is blocked, if the caller may know it.
        field: The request's field that says which account it is.
    """

    kind = Kind.FAILED_PRECONDITION
    reason = "BANK_ACCOUNT_BLOCKED"

    def __init__(self, bank_account_id: str | None, field: str = "account_number") -> None:
        super().__init__(
            "Payments to this account and from it are forbidden. Admins can have it unblocked.",
            fields={field: "is of an account that is blocked"},
            bank_account_id=bank_account_id,
        )


def build_altered() -> BankAccountNotUsable:
    """What says where the money goes is not what was sealed with its number: somebody changed it in the database."""
    return BankAccountNotUsable("The bank account is not what it was added as.")


class BankReferenceUsed(DomainError):
    """A bank has one wire, check or transfer under a reference."""

    kind = Kind.FAILED_PRECONDITION
    reason = "BANK_REFERENCE_USED"

    def __init__(self, transaction_id: str) -> None:
        super().__init__(
            f"The bank's reference has confirmed {transaction_id}, or said that it came back: one line of its statement"
            " is one fact.",
            fields={"bank_reference": "has confirmed a transaction of this escrow account, or said that one came back"},
            transaction_id=transaction_id,
        )


class VerificationNotOffered(DomainError):
    """Who draws from bank accounts here by ACH wants none verified before a payment."""

    kind = Kind.FAILED_PRECONDITION
    reason = "VERIFICATION_NOT_OFFERED"

    def __init__(self) -> None:
        super().__init__("No bank account has to be verified here before money is drawn from it.")


class TooManyVerifications(DomainError):
    kind = Kind.FAILED_PRECONDITION
    reason = "TOO_MANY_VERIFICATIONS"

    def __init__(self, verifications_max: int, days: int) -> None:
        message = (
            f"{verifications_max} verifications of it have failed within {days} days: its first payment asks again."
        )
        super().__init__(message, verifications_max=verifications_max)


class BankLinksNotSetUp(DomainError):
    """Nobody can sign in to a bank here.

    Args:
        setting: The one that is missing.
    """

    kind = Kind.FAILED_PRECONDITION
    reason = "BANK_LINKS_NOT_SET_UP"

    def __init__(self, setting: str) -> None:
        super().__init__(f"No bank account is linked here: an operator has to set {setting}.", setting=setting)


class PublicTokenNotUsable(DomainError):
    """What a page was given when somebody signed in is good once, and not for long."""

    kind = Kind.FAILED_PRECONDITION
    reason = "PUBLIC_TOKEN_NOT_USABLE"

    def __init__(self) -> None:
        super().__init__(
            "The public token has expired, was used before, or is none: sign in at the bank anew.",
            fields={"public_token": "cannot be used: sign in anew"},
        )


class LinkedAccountNotUsable(DomainError):
    """A bank tells of an account that no ACH goes to, or tells it so that nobody can pay there."""

    kind = Kind.FAILED_PRECONDITION
    reason = "LINKED_ACCOUNT_NOT_USABLE"

    def __init__(self) -> None:
        super().__init__(
            "The account that was chosen is no checking or savings account with a number for ACH: choose another one.",
            fields={"public_token": "is of an account that cannot be used"},
        )


class TooManyBankAccounts(DomainError):
    kind = Kind.FAILED_PRECONDITION
    reason = "TOO_MANY_BANK_ACCOUNTS"


class AlreadyReplaced(DomainError):
    """What came to nothing is paid once."""

    kind = Kind.FAILED_PRECONDITION
    reason = "ALREADY_REPLACED"

    def __init__(self, transaction_id: str) -> None:
        super().__init__(
            f"{transaction_id} is paid instead of it, or was: what came to nothing is paid once.",
            fields={"replaced_transaction_id": f"is replaced by {transaction_id}"},
            transaction_id=transaction_id,
        )


class TypeNotSupported(DomainError):
    kind = Kind.FAILED_PRECONDITION
    reason = "TYPE_NOT_SUPPORTED"


class PaymentMethodNotSupported(DomainError):
    """The rail does not do that."""

    kind = Kind.FAILED_PRECONDITION
    reason = "PAYMENT_METHOD_NOT_SUPPORTED"


class PaymentDisputed(DomainError):
    kind = Kind.FAILED_PRECONDITION
    reason = "PAYMENT_DISPUTED"


class ReversalTooLate(DomainError):
    """The debit would settle after the days in which the network allows it.

    Args:
        settles_on: When it would.
        last_day: On which it may; None of what has not settled.
    """

    kind = Kind.FAILED_PRECONDITION
    reason = "REVERSAL_TOO_LATE"

    def __init__(self, settles_on: date, last_day: date | None) -> None:
        super().__init__(
            f"It would settle on {settles_on}, and may until {last_day}: ask who was paid to give it back.",
            end_time=None if last_day is None else datetime.combine(last_day + timedelta(days=1), time(), UTC),
        )


class RefundInParts(DomainError):
    """To the next card goes less than is asked for."""

    kind = Kind.FAILED_PRECONDITION
    reason = "REFUND_IN_PARTS"


class NotRetryable(DomainError):
    kind = Kind.FAILED_PRECONDITION
    reason = "NOT_RETRYABLE"


class AttemptsExhausted(DomainError):
    kind = Kind.FAILED_PRECONDITION
    reason = "ATTEMPTS_EXHAUSTED"


class EscrowAccountMismatch(DomainError):
    """The investment's offering keeps its money in another escrow account."""

    kind = Kind.FAILED_PRECONDITION
    reason = "ESCROW_ACCOUNT_MISMATCH"


class InvestmentNotPending(DomainError):
    """Only a pending investment is paid for."""

    kind = Kind.FAILED_PRECONDITION
    reason = "INVESTMENT_NOT_PENDING"


class CommitmentExceeded(DomainError):
    """More than the investment commits to, with what is funded or on its way."""

    kind = Kind.FAILED_PRECONDITION
    reason = "COMMITMENT_EXCEEDED"


class ArrivalNotStated(DomainError):
    """Nobody has said yet by the bank's statement what came: its payer announced it."""

    kind = Kind.FAILED_PRECONDITION
    reason = "ARRIVAL_NOT_STATED"

    def __init__(self) -> None:
        super().__init__(
            "Who announced it is its payer, or acts for it. One admin says what the bank brings (correct-amount), also"
            " where it is what was announced, and then another one confirms it."
        )


class ArrivalStated(DomainError):
    """Somebody else has said already that just this came.

    Args:
        corrected_by: Who.
    """

    kind = Kind.FAILED_PRECONDITION
    reason = "ARRIVAL_STATED"

    def __init__(self, corrected_by: str) -> None:
        super().__init__(f"{corrected_by} has said that just this came: confirm it instead.", corrected_by=corrected_by)


class TooManyUnsettledPayments(DomainError):
    """Investors order and announce so many payments for one investment at a time."""

    kind = Kind.FAILED_PRECONDITION
    reason = "TOO_MANY_UNSETTLED_PAYMENTS"


class NoPayoutBankAccount(DomainError):
    kind = Kind.FAILED_PRECONDITION
    reason = "NO_PAYOUT_BANK_ACCOUNT"


class WebhookSignatureInvalid(DomainError):
    """Says no more than that, so that whoever sends forgeries learns nothing from the refusal."""

    kind = Kind.INVALID_ARGUMENT
    reason = "WEBHOOK_SIGNATURE_INVALID"

    def __init__(self) -> None:
        super().__init__("The signature is not acceptable.")


class PayoutNotOrdered(DomainError):
    """A call asked for it that the distributions service does not know of."""

    kind = Kind.FAILED_PRECONDITION
    reason = "PAYOUT_NOT_ORDERED"
