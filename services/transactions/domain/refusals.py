"""Why this service refuses: one class an ErrorReason of `realco/transactions/v1/error_reason.proto`."""

from __future__ import annotations

from services.chassis.values.errors import DomainError, Kind


class TransactionNotFound(DomainError):
    kind = Kind.NOT_FOUND
    reason = "TRANSACTION_NOT_FOUND"


class BankAccountNotFound(DomainError):
    kind = Kind.NOT_FOUND
    reason = "BANK_ACCOUNT_NOT_FOUND"


class WebhookNotFound(DomainError):
    kind = Kind.NOT_FOUND
    reason = "WEBHOOK_NOT_FOUND"


class TypeNotSupported(DomainError):
    kind = Kind.FAILED_PRECONDITION
    reason = "TYPE_NOT_SUPPORTED"


class PaymentMethodNotSupported(DomainError):
    kind = Kind.FAILED_PRECONDITION
    reason = "PAYMENT_METHOD_NOT_SUPPORTED"


class IllegalStatusChange(DomainError):
    kind = Kind.FAILED_PRECONDITION
    reason = "ILLEGAL_STATUS_CHANGE"

    def __init__(self, before: str, after: str) -> None:
        super().__init__(f"A transaction cannot go from {before} to {after}.")
        self.metadata = {"from": before, "to": after}


class NotRetryable(DomainError):
    kind = Kind.FAILED_PRECONDITION
    reason = "NOT_RETRYABLE"


class AttemptsExhausted(DomainError):
    kind = Kind.FAILED_PRECONDITION
    reason = "ATTEMPTS_EXHAUSTED"


class MakerIsChecker(DomainError):
    kind = Kind.PERMISSION_DENIED
    reason = "MAKER_IS_CHECKER"


class BankAccountNotUsable(DomainError):
    kind = Kind.FAILED_PRECONDITION
    reason = "BANK_ACCOUNT_NOT_USABLE"


class EscrowAccountNotUsable(DomainError):
    kind = Kind.FAILED_PRECONDITION
    reason = "ESCROW_ACCOUNT_NOT_USABLE"


class InvestmentNotUsable(DomainError):
    kind = Kind.FAILED_PRECONDITION
    reason = "INVESTMENT_NOT_USABLE"


class NoPayoutBankAccount(DomainError):
    kind = Kind.FAILED_PRECONDITION
    reason = "NO_PAYOUT_BANK_ACCOUNT"


class WebhookSignatureInvalid(DomainError):
    """Says no more than that, so that whoever sends forgeries learns nothing from the refusal."""

    kind = Kind.INVALID_ARGUMENT
    reason = "WEBHOOK_SIGNATURE_INVALID"

    def __init__(self) -> None:
        super().__init__("The signature is not acceptable.")
