"""What the book refuses, with the facts realco/escrow/v1/error_reason.proto promises."""

from __future__ import annotations

from services.chassis.values.errors import DomainError, Kind, NotFound


class HoldNotFound(NotFound):
    reason = "HOLD_NOT_FOUND"
    what = "hold"


class JournalEntryNotFound(NotFound):
    reason = "JOURNAL_ENTRY_NOT_FOUND"
    what = "journal entry"


class _Refused(DomainError):
    kind = Kind.FAILED_PRECONDITION


class TooManyFreezes(_Refused):
    """The account is frozen for as many reasons as one person may give, or all together."""

    reason = "TOO_MANY_FREEZES"


class TooManyHolds(_Refused):
    """The person has as many open holds in the escrow account as one may."""

    reason = "TOO_MANY_HOLDS"


class InsufficientAvailableBalance(_Refused):
    reason = "INSUFFICIENT_AVAILABLE_BALANCE"


class PartyOwes(_Refused):
    """Whoever is to be paid owes what the bank took back after it had left the escrow account."""

    reason = "PARTY_OWES"


class SetOffNotOrdered(_Refused):
    """What a payee owes is to be set off, and distributions has not ordered that."""

    reason = "SET_OFF_NOT_ORDERED"


class InTransitNotByHand(_Refused):
    """What rails have taken or are to pay out would be said by somebody else than the rails."""

    reason = "IN_TRANSIT_NOT_BY_HAND"

    def __init__(self) -> None:
        super().__init__(
            "IN_TRANSIT follows what banks say of payments: it is posted to against CASH alone. Of a payment, say what"
            " became of it (confirm, cancel, or record its return)."
        )


class JournalEntryUnbalanced(_Refused):
    """In a layer of the entry the debits are not the credits."""

    reason = "JOURNAL_ENTRY_UNBALANCED"

    def __init__(self, debit_minor: int, credit_minor: int, currency_code: str) -> None:
        super().__init__(
            "Debits and credits differ.",
            debit_minor=debit_minor,
            credit_minor=credit_minor,
            currency_code=currency_code,
        )


class BalancesNotZero(_Refused):
    reason = "BALANCES_NOT_ZERO"


class EscrowAccountStillNeeded(_Refused):
    reason = "ESCROW_ACCOUNT_STILL_NEEDED"


class AlreadyReversed(_Refused):
    """Another entry reverses it, of the book or before in the same batch."""

    reason = "ALREADY_REVERSED"

    def __init__(self, journal_entry_id: str) -> None:
        super().__init__("Another entry reverses the journal entry.", journal_entry_id=journal_entry_id)


class CaptureExceedsHold(_Refused):
    reason = "CAPTURE_EXCEEDS_HOLD"


class MovementGivenUp(_Refused):
    """It was refused, so nobody has it booked later who was let pass before."""

    reason = "MOVEMENT_GIVEN_UP"


class PayoutUndone(_Refused):
    """What was booked of it has been taken back, so it covers nothing any more."""

    reason = "PAYOUT_UNDONE"


class PayoutNotKnown(_Refused):
    """A call asked for its money, and the transactions service is not about to pay it so."""

    reason = "PAYOUT_NOT_KNOWN"
