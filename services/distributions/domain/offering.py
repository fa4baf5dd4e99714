"""An offering: a raise of money for one property or fund, and the waterfall its distributions follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from enum import Enum

from services.chassis.values.etags import digest_of, etag_of
from services.chassis.values.failure import Failure
from services.chassis.values.moves import check_move
from services.chassis.values.refusals import IllegalStatusChange, OfferingNotOpen
from services.distributions.domain.refusals import NothingToResend, OfferingNotClosed, OutOfDateOrder
from services.distributions.domain.states import OFFERING_MOVES, OfferingStatus
from services.distributions.domain.terms import Terms, list_tiers


class Exemption(Enum):
    """The exemption from registration under which it is sold."""

    REG_CF = "REG_CF"
    REG_D_506B = "REG_D_506B"
    REG_D_506C = "REG_D_506C"


class ReceivablesPolicy(Enum):
    """What becomes of what is to be paid to a party that owes what a bank took back after it had left escrow."""

    BLOCK = "BLOCK"  # it is paid nothing before it has paid
    SET_OFF = "SET_OFF"  # it is paid less by what it owes


@dataclass(frozen=True, slots=True, kw_only=True)
class Offering:
    """Amounts are minor units of its currency."""

    offering_id: str
    display_name: str
    sponsor_party_id: str
    escrow_account_id: str
    exemption: Exemption
    currency: str
    target_minor: int
    maximum_minor: int
    open_at: datetime
    deadline_at: datetime
    early_close_noticed_on: date | None = None  # when the deadline was last brought forward
    terms: Terms
    receivables_policy: ReceivablesPolicy = ReceivablesPolicy.BLOCK
    status: OfferingStatus = OfferingStatus.OPEN
    committed_minor: int = 0
    funded_minor: int = 0
    incoming_minor: int = 0  # the sum of its investments'
    closing_date: date | None = None
    closing_attempt: int = 0
    closing_saga_id: str | None = None  # of the closing that was asked for last: no other closes it
    closing_failure: Failure | None = None
    proceeds_bank_account_id: str | None = None
    proceeds_transaction_id: str | None = None
    proceeds_failure: Failure | None = None
    refund_note: str | None = None
    declarations: int = 0  # how many distributions were declared
    declared_through: date | None = None
    external_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    created_by: str
    # Whoever opened it, changed its terms or dates, or named the account of its proceeds: none of them has it closed.
    makers: frozenset[str]
    created_at: datetime
    updated_at: datetime
    version: int = 1
    edition: int = 1  # counts the changes of what people decide on

    @property
    def etag(self) -> str:
        """Stays the same while money and promises of it come in: who edits a raise need not wait for a quiet moment."""
        return etag_of(self.offering_id, self.edition)

    @property
    def terms_etag(self) -> str:
        """Of all that an investor agrees to: what staff note beside it changes nothing of that."""
        return digest_of(
            self.offering_id,
            self.display_name,
            self.sponsor_party_id,
            self.exemption.value,
            self.currency,
            self.target_minor,
            self.maximum_minor,
            self.open_at.isoformat(),
            self.deadline_at.isoformat(),
            list_tiers(self.terms),
            self.receivables_policy.value,
        )

    @property
    def sets_off(self) -> bool:
        """Whether what a payee owes is set off against what it is paid."""
        return self.receivables_policy is ReceivablesPolicy.SET_OFF

    def is_edition_of(self, other: Offering) -> bool:
        """Whether the two differ at most in what is counted, not decided."""
        counted = replace(
            self,
            committed_minor=other.committed_minor,
            funded_minor=other.funded_minor,
            incoming_minor=other.incoming_minor,
            updated_at=other.updated_at,
            version=other.version,
        )
        return counted == other


def check_open(offering: Offering, message: str) -> None:
    """Raises: OfferingNotOpen."""
    if offering.status is not OfferingStatus.OPEN:
        raise _build_refusal(offering, message)


def check_deadline_to_come(offering: Offering, now: datetime) -> None:
    """Whether the deadline may be moved still: nobody alone takes up a raise again that it has ended.

    Raises: OfferingNotOpen.
    """
    if now >= offering.deadline_at:
        raise _build_refusal(offering, "The deadline has passed, and is not moved any more.")


def check_takes_investments(offering: Offering, now: datetime) -> None:
    """Raises: OfferingNotOpen."""
    if offering.status is not OfferingStatus.OPEN or not offering.open_at <= now < offering.deadline_at:
        raise _build_refusal(offering, "The offering takes no investments now.")


def _build_refusal(offering: Offering, message: str) -> OfferingNotOpen:
    return OfferingNotOpen(message, offering.status.value, offering.deadline_at)


def check_may_close(offering: Offering) -> None:
    """Its gates are another question. Raises: IllegalStatusChange."""
    check_move(OFFERING_MOVES, offering.status, OfferingStatus.CLOSING)


def name_proceeds_account(offering: Offering, bank_account_id: str | None, person: str) -> Offering:
    """The offering with its proceeds to go to an account, or to the sponsor's default where none is named.

    Who names one makes the closing what it is.
    """
    makers = offering.makers if bank_account_id is None else offering.makers | {person}
    return replace(offering, proceeds_bank_account_id=bank_account_id, makers=makers)


def check_may_refund(offering: Offering) -> None:
    """Whether it may be refunded, or what failed of its refunds be sent again. Raises: IllegalStatusChange."""
    if offering.status not in (OfferingStatus.OPEN, OfferingStatus.REFUNDING):
        raise IllegalStatusChange(offering.status.value, OfferingStatus.REFUNDING.value)


def find_owed_proceeds(unpaid_minor: int, left_minor: int) -> int:
    """How much of the proceeds is to be paid again: what entries have taken of them is the issuer's no more, unless
    they gave it back.

    Args:
        unpaid_minor: Of the closing's proceeds.
        left_minor: On ISSUER_PROCEEDS of the escrow account.

    Raises: NothingToResend: nothing is left.
    """
    owed_minor = min(unpaid_minor, left_minor)
    if owed_minor <= 0:
        raise NothingToResend("Nothing of the proceeds is left on ISSUER_PROCEEDS.")
    return owed_minor


def check_may_resend_proceeds(offering: Offering, unpaid_minor: int = 0) -> None:
    """
    Args:
        unpaid_minor: Of the closing's proceeds, where that was counted: less than all may have been paid.

    Raises: NothingToResend.
    """
    if offering.proceeds_failure is None and unpaid_minor <= 0:
        raise NothingToResend("No payment of the proceeds has failed.")


def check_may_distribute(offering: Offering) -> None:
    """Raises: OfferingNotClosed."""
    if offering.status is not OfferingStatus.CLOSED:
        raise OfferingNotClosed("Only a closed offering distributes.", status=offering.status.value)


def check_date_order(offering: Offering, on: date) -> None:
    """Whether a distribution may be dated so. Raises: OutOfDateOrder."""
    earliest, why = offering.declared_through, "A distribution of the offering that was declared bears a later date."
    if earliest is None and offering.closing_date is not None:
        # On the day of the closing it would precede the contributions it pays on.
        earliest, why = offering.closing_date + timedelta(days=1), "The offering had not closed before that date."
    if earliest is not None and on < earliest:
        fault = {"distribution_date": f"must not be before {earliest}"}
        raise OutOfDateOrder(why, fields=fault, earliest_distribution_date=earliest)
