"""One transaction as the rules see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.chassis.calls.auth import INVESTOR
from services.chassis.values.etags import etag_of
from services.chassis.values.failure import Failure
from services.chassis.values.money import Money
from services.chassis.values.session import Asker, Session, join_askers
from services.transactions.domain.disputes import OPEN, DisputeStatus
from services.transactions.domain.rails import COMPANY_RAILS, RAILS, Rail
from services.transactions.domain.reversals import COUNTED, Reversal, ReversalStatus
from services.transactions.domain.states import Status
from services.transactions.domain.types import TYPES

ATTEMPTS_MAX = 3
_ON_ITS_WAY = frozenset({Status.PROCESSING, Status.PENDING_SETTLEMENT, Status.SETTLED})
PROVISIONAL, FINAL = "PROVISIONAL", "FINAL"


@dataclass(frozen=True, slots=True)
class Transaction:
    """A row of the table `transactions`."""

    org_id: str
    transaction_id: str
    type: str
    status: Status
    version: int
    payment_method: str
    announced_amount: Money  # what was asked for; of most, what is moved
    escrow_account_id: str
    to_escrow_account_id: str | None  # of a transfer
    party_id: str
    bank_account_id: str | None
    account_number_digest: str | None
    is_corporate: bool  # drawn from a company's account, as two persons say
    approval_reason: str | None
    investment_id: str | None
    refunded_transaction_id: str | None  # the contribution by card that a refund gives back
    replaced_transaction_id: str | None  # the first payout of staff that came to nothing, which it pays instead
    distribution_id: str | None
    allocation_id: str | None
    description: str | None
    failure: Failure | None
    attempts: int
    presentments: int
    next_attempt_at: datetime | None
    first_presented_at: datetime | None
    provider: str
    provider_reference: str | None
    payer_action_url: str | None
    bank_reference: str | None
    corrected_minor: int | None  # of a wire or check whose bank brings another amount
    correction_note: str | None  # why it does
    corrected_by: str | None  # who said so last, or that it does not
    corrected_signed_in_at: int | None  # in which session, as of `corrected_api_key_id`
    corrected_api_key_id: str | None
    card_brand: str | None
    card_last4: str | None
    dispute_status: DisputeStatus
    dispute_reference: str | None  # the provider's id of the last dispute
    dispute_reason: str | None
    dispute_due_at: datetime | None
    reversal: Reversal | None  # how a payout that was paid in error is taken back
    provider_fee_minor: int | None  # what the provider has kept for itself, where it says so
    earlier_fees_minor: int  # of that, by attempts before the current one
    former_correctors: Sequence[str]  # who said before that another amount comes
    reconciliation_status: str
    finality: str
    external_id: str | None
    metadata: Mapping[str, str]
    created_by: str
    approved_by: str | None
    makers_and_checkers: Sequence[
        str
    ]  # as who orders, approves and sends it adds (tables.py): none of them says that a payout was sent
    confirmed_by: str | None
    created_at: datetime
    updated_at: datetime
    settled_at: datetime | None
    return_risk_end_at: datetime | None
    final_at: datetime | None
    next_look_at: datetime | None  # whether it came back; of what is announced, whether it is waited for any more
    escrow_booked: bool  # whether escrow has taken the money of the current attempt off the book
    request_subject: str | None
    request_role: str | None
    idempotency_key: str | None
    session: Session  # in which it was asked for
    epoch: int
    tries: int

    @property
    def etag(self) -> str:
        return etag_of(self.transaction_id, self.version)

    @property
    def amount(self) -> Money:
        """What is moved: of a wire or check that was corrected, what its bank brings."""
        if self.corrected_minor is None:
            return self.announced_amount
        return Money(self.corrected_minor, self.announced_amount.currency)

    @property
    def corrector(self) -> Asker | None:
        """Who said last what the bank of a wire or check brings."""
        if self.corrected_by is None:
            return None
        return Asker(self.corrected_by, Session(self.corrected_signed_in_at, self.corrected_api_key_id))

    def list_askers(self) -> tuple[Asker, ...]:
        """Whose sessions a wire or check that arrives was announced and corrected in."""
        maker = Asker(self.created_by, self.session)
        return join_askers(maker, self.corrector) if self.corrector else join_askers(maker)

    @property
    def escrow_account_ids(self) -> tuple[str, ...]:
        """In whose books it is: of a transfer two."""
        return (self.escrow_account_id, *([self.to_escrow_account_id] if self.to_escrow_account_id else []))

    @property
    def is_of_investor(self) -> bool:
        """Whether an investor ordered or announced it, and not staff or a service."""
        return self.request_role == INVESTOR

    @property
    def is_inbound(self) -> bool:
        """Whether money comes in from the party; else it is a payout."""
        return TYPES[self.type].is_inbound

    @property
    def rail(self) -> Rail:
        return (COMPANY_RAILS if self.is_corporate else RAILS)[self.payment_method]

    @property
    def is_debit(self) -> bool:
        """Whether its money is drawn from a bank account of the party."""
        return self.is_inbound and self.rail.draws_from_account

    @property
    def provider_key(self) -> str:
        """The idempotency key of the current attempt at the provider: a new one only after a definite failure."""
        return f"txn:{self.transaction_id}:{self.attempts}"

    @property
    def escrow_key(self) -> str:
        """The key under which escrow takes the money of the current attempt."""
        return f"{self.provider_key}:submit"

    @property
    def is_on_its_way(self) -> bool:
        """Whether a bank has yet to tell its end. What is only announced may never come."""
        is_announced = self.rail.is_confirmed_by_a_person and self.status is not Status.SETTLED
        return self.status in _ON_ITS_WAY and not is_announced

    @property
    def is_at_provider(self) -> bool:
        """Whether a provider took it, and has to end what is cancelled of it."""
        return self.status is Status.PENDING_SETTLEMENT and not self.rail.is_confirmed_by_a_person

    @property
    def is_disputed(self) -> bool:
        """Whether a dispute of it is open: whose the money is in the end, nobody knows."""
        return self.dispute_status in OPEN

    @property
    def is_being_reversed(self) -> bool:
        """Whether a debit that takes it back may yet draw money that no book has."""
        return self.reversal is not None and self.reversal.is_under_way

    @property
    def came_back_by_reversal(self) -> bool:
        """Whether it came back by its reversal, and not by itself."""
        return self.reversal is not None and self.reversal.status in COUNTED

    @property
    def is_drawn_back(self) -> bool:
        """Whether a debit took it back, or is about to, whatever else became of it: who is paid again may have both."""
        return self.reversal is not None and self.reversal.status is not ReversalStatus.FAILED

    @property
    def is_final(self) -> bool:
        """Whether the bank can no longer send it back."""
        return self.finality == FINAL
