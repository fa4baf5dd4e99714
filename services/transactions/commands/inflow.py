"""Whether money that a person orders could move: escrow says of the account, distributions of the investment.

Most of it comes in; what staff has paid out (fees, draws) is asked about in the same way, and pays no investment.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from realco.distributions.v1.offerings_pb2 import Investment, Offering
from realco.escrow.v1.escrow_accounts_pb2 import EscrowAccount
from realco.transactions.v1 import transactions_pb2 as pb

from services.chassis.calls.auth import current_principal
from services.chassis.calls.wire import from_enum, from_timestamp
from services.chassis.data.transaction import Tx
from services.chassis.values.accounts import check_takes_money
from services.chassis.values.errors import AnswerWithheld, DomainError, InvalidField
from services.chassis.values.money import Money
from services.chassis.values.refusals import (
    EscrowAccountFrozen,
    EscrowAccountNotFound,
    InvestmentNotFound,
    OfferingNotOpen,
    check_currency,
)
from services.transactions.clients import Peers
from services.transactions.domain.rails import RAILS, Rail
from services.transactions.domain.refusals import (
    CommitmentExceeded,
    EscrowAccountMismatch,
    InvestmentNotPending,
    TooManyUnsettledPayments,
)
from services.transactions.domain.transaction import Transaction
from services.transactions.domain.types import TYPES, TransactionType
from services.transactions.store import contributions as store

# Investors order and announce so many for one investment at a time: each takes its turn in the queues of everybody's
# payments, or waits for a person of staff.
UNSETTLED_PAYMENTS_MAX = 20


@dataclass(frozen=True, slots=True)
class Inflow:
    """Money that a person orders, and its escrow account. It pays an investment, or none."""

    amount: Money
    escrow_account_id: str
    to_escrow_account_id: str | None  # of a transfer
    party_id: str
    investment_id: str | None
    rail: Rail
    is_for_sponsor: bool  # its party is the sponsor of the escrow account, and nobody else
    is_of_investor: bool  # whoever asks for it now, an investor ordered or announced it
    is_requested: bool  # by a request whose fields say all this

    @classmethod
    def of_request(cls, request: pb.CreateTransactionRequest, party_id: str) -> Inflow:
        rail = RAILS[pb.Transaction.PaymentMethod.Name(request.payment_method)]
        return cls(
            Money.from_proto(request.amount),
            request.escrow_account_id,
            request.to_escrow_account_id or None,
            party_id,
            request.investment_id or None,
            rail=rail,
            is_for_sponsor=_is_for_sponsor(TYPES[pb.Transaction.Type.Name(request.type)], rail),
            is_of_investor=current_principal().confined,
            is_requested=True,
        )

    @classmethod
    def of_transaction(cls, row: Transaction) -> Inflow:
        return cls(
            row.amount,
            row.escrow_account_id,
            row.to_escrow_account_id,
            row.party_id,
            row.investment_id,
            rail=row.rail,
            is_for_sponsor=_is_for_sponsor(TYPES[row.type], row.rail),
            is_of_investor=row.is_of_investor,
            is_requested=False,
        )

    @property
    def is_announced(self) -> bool:
        """Whether a person says when it came."""
        return self.rail.is_confirmed_by_a_person

    @property
    def is_page_of_staff(self) -> bool:
        return self.rail.is_page_of_staff(of_investor=self.is_of_investor)

    def add_to(self, counted: store.Counted) -> store.Counted:
        """What is there of its investment once it is ordered, too."""
        amount_minor = self.amount.amount_minor
        if self.is_page_of_staff:
            return counted._replace(pages_minor=counted.pages_minor + amount_minor)
        return counted.add(amount_minor, is_announced=self.is_announced, of_investor=self.is_of_investor)

    def field(self, name: str) -> str | None:
        """The request's field of that name, for a refusal to name; None where no field says it."""
        return name if self.is_requested else None


def _is_for_sponsor(wanted: TransactionType, rail: Rail) -> bool:
    return wanted.is_for_sponsor and (rail.draws_from_account or not wanted.is_inbound)


@dataclass(frozen=True, slots=True)
class InflowVerdict:
    """What escrow and distributions say of an inflow: why it could not be received, if so; the investment it pays."""

    refusal: DomainError | None = None
    investment: Investment | None = None

    def check(self) -> None:
        if self.refusal is not None:
            raise self.refusal


async def ask_about_inflow(inflow: Inflow, peers: Peers, now: datetime) -> InflowVerdict:
    """Asks escrow and distributions, outside of any transaction, whether an attempt of now could be received.

    Raises:
        Unavailable: one of them cannot be reached; nothing was written.
    """
    account = await peers.escrow.get_escrow_account(inflow.escrow_account_id)
    to = inflow.to_escrow_account_id
    destination = await peers.escrow.get_escrow_account(to) if to else None
    investment = offering = None
    if inflow.investment_id:
        investment = await peers.distributions.get_investment(inflow.investment_id)
    if investment is not None:
        offering = await peers.distributions.get_offering(investment.offering_id)
    return judge_inflow(inflow, account, destination, investment, offering, now)


def judge_inflow(
    inflow: Inflow,
    account: EscrowAccount | None,
    destination: EscrowAccount | None,
    investment: Investment | None,
    offering: Offering | None,
    now: datetime,
) -> InflowVerdict:
    """
    Args:
        destination: That a transfer goes to.
        offering: Of the investment. None where that is not there, either.
    """
    try:
        if inflow.investment_id:
            _check_investment(inflow, investment)
        # Whose raise it is comes first: an investor learns nothing of another's escrow account.
        if offering is not None:
            _check_offering(inflow, offering, now)
        source = _check_account(inflow, account)
        if inflow.to_escrow_account_id:
            _check_destination(inflow, inflow.to_escrow_account_id, source, destination)
    except DomainError as refusal:
        return InflowVerdict(refusal)
    return InflowVerdict(None, investment)


async def ask_about_investments(peers: Peers, investment_ids: Collection[str], now: datetime) -> dict[str, DomainError]:
    """Why investments take no contributions by now, by id: themselves, or their raise. What was drawn would go back.

    Raises: Unavailable.
    """
    found = await peers.distributions.list_investments(investment_ids)
    offerings: dict[str, Offering | AnswerWithheld | None] = {}
    for offering_id in sorted({each.offering_id for each in found}):
        try:
            offerings[offering_id] = await peers.distributions.get_offering(offering_id)
        except AnswerWithheld as withheld:  # its row was altered: what is paid for the others goes on
            offerings[offering_id] = withheld
    by_id = {each.investment_id: each for each in found}
    refusals: dict[str, DomainError] = {}
    for investment_id in investment_ids:
        try:
            investment = check_takes_contributions(by_id.get(investment_id))
            offering = offerings[investment.offering_id]
            if isinstance(offering, AnswerWithheld):
                raise offering
            if offering is not None:
                check_raise_goes_on(offering, now)
        except DomainError as refusal:
            refusals[investment_id] = refusal
    return refusals


def check_escrow_account(
    escrow_account_id: str, account: EscrowAccount | None, field: str | None = None
) -> EscrowAccount:
    """The account, if money may move in it now.

    Args:
        field: The request's field that names it, if one does.

    Raises: EscrowAccountNotFound, EscrowAccountFrozen, EscrowAccountClosed, Unavailable.
    """
    if account is None:
        raise EscrowAccountNotFound(field)
    check_takes_money(escrow_account_id, from_enum(EscrowAccount.Status, account.status), field)
    return account


async def check_book_goes_on(peers: Peers, row: Transaction) -> None:
    """Whether each of its books takes what a bank has done: in a frozen account, too.

    Raises: EscrowAccountNotFound, EscrowAccountClosed, Unavailable.
    """
    for escrow_account_id in row.escrow_account_ids:
        account = await peers.escrow.get_escrow_account(escrow_account_id)
        with suppress(EscrowAccountFrozen):
            check_escrow_account(escrow_account_id, account)


def _check_destination(inflow: Inflow, to: str, source: EscrowAccount, found: EscrowAccount | None) -> None:
    """Cash of one issuer stays with that issuer."""
    destination = check_escrow_account(to, found, inflow.field("to_escrow_account_id"))
    check_currency(inflow.amount.currency, destination.currency_code, inflow.field("to_escrow_account_id"))
    if destination.sponsor_party_id != source.sponsor_party_id:
        fields = {"to_escrow_account_id": "must be of the same sponsor"}
        raise InvalidField("The issuer's cash goes to no other issuer.", fields=fields)


def _check_account(inflow: Inflow, account: EscrowAccount | None) -> EscrowAccount:
    account = check_escrow_account(inflow.escrow_account_id, account, inflow.field("escrow_account_id"))
    check_currency(inflow.amount.currency, account.currency_code, inflow.field("amount.currency_code"))
    if inflow.is_for_sponsor and inflow.party_id != account.sponsor_party_id:
        fields = {"party_id": "must be the sponsor of the escrow account"}
        raise InvalidField("The issuer's cash is drawn from the issuer, and goes back to it.", fields=fields)
    return account


def _check_investment(inflow: Inflow, investment: Investment | None) -> None:
    if investment is None or investment.party_id != inflow.party_id:
        raise InvestmentNotFound(inflow.field("investment_id"))
    check_takes_contributions(investment)
    check_currency(inflow.amount.currency, investment.amount.currency_code, inflow.field("amount.currency_code"))


def check_takes_contributions(investment: Investment | None) -> Investment:
    """The investment, if it takes any. Raises: InvestmentNotFound, InvestmentNotPending."""
    if investment is None:
        raise InvestmentNotFound
    if investment.status != Investment.PENDING:
        status = from_enum(Investment.Status, investment.status)
        message = f"The investment is {status}: only a PENDING one is paid for."
        raise InvestmentNotPending(message, investment_id=investment.investment_id, status=status)
    return investment


def check_raise_goes_on(offering: Offering, now: datetime) -> None:
    """What was committed in time may be paid until the deadline, and not after it. Raises: OfferingNotOpen."""
    deadline_at = from_timestamp(offering.deadline_time)
    if offering.status != Offering.OPEN or now > deadline_at:
        status = from_enum(Offering.Status, offering.status)
        raise OfferingNotOpen("The offering takes no contributions now.", status, deadline_at)


def _check_offering(inflow: Inflow, offering: Offering, now: datetime) -> None:
    if offering.escrow_account_id != inflow.escrow_account_id:
        named = inflow.field("escrow_account_id")
        raise EscrowAccountMismatch(
            "The investment's offering has another escrow account.",
            fields={named: "is not that of the investment's offering"} if named else None,
            escrow_account_id=offering.escrow_account_id,
        )
    check_raise_goes_on(offering, now)


async def check_commitment(tx: Tx, inflow: Inflow, investment: Investment, *, is_counted: bool = False) -> None:
    """Refuses what would exceed the commitment together with the contributions that are on their way.

    Distributions has not heard of those yet, so only this service can count them. It does so under a lock: otherwise
    two requests at the same time could each take what remains.

    Args:
        is_counted: Whether it is on its way itself.

    Raises:
        CommitmentExceeded, TooManyUnsettledPayments
    """
    counted = await store.lock_contributions(tx, inflow.party_id, investment.investment_id)
    if is_counted:
        counted = counted.remove(inflow.amount.amount_minor, of_investor=inflow.is_of_investor)
    check_remaining(inflow, investment, counted)


def _count_ignored(inflow: Inflow, counted: store.Counted) -> int:
    """What staff announced and may never come, or ordered and nobody has approved, keeps no party from paying.

    So it takes no room of what the party itself orders, nor the former of what is drawn. What is approved afterwards is
    asked about the room once more when it begins.
    """
    who = current_principal()
    is_announced_by_staff = inflow.is_announced and not who.confined
    announced_minor = 0 if is_announced_by_staff else counted.announced_minor
    return announced_minor + (counted.unapproved_minor if who.confined or who.service else 0)


def check_remaining(inflow: Inflow, investment: Investment, counted: store.Counted) -> None:
    """
    Args:
        counted: What is there beside it.

    Raises:
        CommitmentExceeded, TooManyUnsettledPayments
    """
    if current_principal().confined and counted.of_investors >= UNSETTLED_PAYMENTS_MAX:
        raise TooManyUnsettledPayments(
            f"{counted.of_investors} payments for it have not settled: wait for them, or cancel what does not come.",
            investment_id=inflow.investment_id,
            unsettled_payments_max=UNSETTLED_PAYMENTS_MAX,
        )
    # What has settled may be counted as funded already, or not yet: the larger sum is right for both.
    on_their_way_minor = investment.funded_amount.amount_minor + counted.unsettled_minor
    taken_minor = max(counted.total_minor, on_their_way_minor) - _count_ignored(inflow, counted)
    # They take room of one another alone: their payer pays on them, or in another way.
    taken_minor += counted.pages_minor if inflow.is_page_of_staff else 0
    remaining = Money(max(investment.amount.amount_minor - taken_minor, 0), inflow.amount.currency)
    if inflow.amount.amount_minor > remaining.amount_minor:
        named = inflow.field("amount.amount_minor")
        raise CommitmentExceeded(
            f"Only {remaining} of the commitment is neither funded nor on its way.",
            fields={named: f"must be at most {remaining}"} if named else None,
            investment_id=inflow.investment_id,
            remaining_minor=remaining.amount_minor,
            requested_minor=inflow.amount.amount_minor,
            currency_code=inflow.amount.currency,
        )
