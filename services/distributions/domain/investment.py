"""One investor's commitment to one offering, and the money in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Final

from services.chassis.values.etags import etag_of
from services.chassis.values.failure import Failure
from services.chassis.values.money import Money
from services.chassis.values.moves import check_move
from services.chassis.values.refusals import IllegalStatusChange
from services.distributions.domain.offering import Offering
from services.distributions.domain.refusals import CancellationWindowOver, NothingToResend, TooManyInvestments
from services.distributions.domain.sagas import Mandate
from services.distributions.domain.states import INVESTMENT_MOVES, InvestmentStatus

CANCELLATION_STOPS_BEFORE_DEADLINE: Final = timedelta(hours=48)
# Of one party in one offering. Whoever refunds or closes an offering does so with all of them, in one transaction. One
# that was cancelled is still read then, so who commits and withdraws does not do so without end.
INVESTMENTS_MAX = 100
CANCELLED_COUNTS: Final = timedelta(days=1)
# So many refunds that came to nothing are kept with it; each attempt is kept as well.
_FAILURES_MAX: Final = 10
LIVE: Final = frozenset({InvestmentStatus.PENDING, InvestmentStatus.RECONFIRM_REQUIRED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Investment:
    """Amounts are minor units. What the book says is kept as sums that do not depend on the order of events."""

    investment_id: str
    offering_id: str
    party_id: str
    currency: str
    amount_minor: int
    funded_minor: int = 0  # from journal entries
    at_risk_minor: int = 0  # of its contributions: in the book, and a bank may still take it back
    receivable_minor: int = (
        0  # of them: taken back when it was not there; below zero: settled for another of the party's
    )
    made_up_minor: int = 0  # of its contributions: went for another of the party's; below zero: others' went for it
    unapplied_minor: int = 0  # of its contributions: on UNAPPLIED, as the escrow account was frozen
    unapplied_made_up_minor: int = 0  # of those, as made_up_minor
    on_its_way_minor: int = 0  # of its contributions: a bank had them when the others were cancelled
    clears_at: datetime | None = None  # when those of them that had arrived are past their return risk
    refunded_minor: int = 0  # from the refunds among the entries
    released_minor: int = 0  # what the closing took: the capital contributed
    unreturned_minor: int = 0  # capital, less what declared distributions returned
    accrued_units: Decimal = Decimal(0)  # preferred return earned and not declared, in 1/365,000,000 of a minor unit
    accrued_through: date | None = None
    distributed_minor: int = 0  # what of declared distributions was paid
    accrual_start_date: date | None = None
    status: InvestmentStatus = InvestmentStatus.PENDING
    refund_mandate: Mandate | None = None  # of who cancels it: by that the money goes back once it is cleared
    has_entries_by_hand: bool = False  # persons posted some of it, once at least
    refund_approved_minor: int = 0  # what two persons saw in it when they decided that it goes back
    refund_failure: Failure | None = None
    earlier_refund_failures: Sequence[Failure] = ()  # the last first
    cancelling_saga_id: str | None = None  # asks transactions to cancel what waits; None once it is answered
    external_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    created_by: str
    created_at: datetime
    updated_at: datetime
    version: int = 1

    @property
    def etag(self) -> str:
        return etag_of(self.investment_id, self.version)

    def with_refund_failure(self, why: Failure | None) -> Investment:
        """With why its last refund came to nothing, or none of one that is under way or was paid. What came to nothing
        before stays: whoever decides about the next one has to find that a person said no, or that one came back. Of
        those of one code the last one stays, so that nobody has others forgotten by many that the party ended itself.
        """
        former, kept = self.refund_failure, tuple(self.earlier_refund_failures)
        if former is not None and former != why:
            kept = (former, *(each for each in kept if each.code != former.code))[:_FAILURES_MAX]
        # What is said again, since more came that it keeps, is not said twice.
        kept = tuple(each for each in kept if each != why)
        return replace(self, refund_failure=why, earlier_refund_failures=kept)

    @property
    def cleared_minor(self) -> int:
        """Past the return risk, and neither given back nor returned since.

        After a closing `funded_minor` follows the subscription, which a late return finds empty: what the investor owes
        is in it all the same.
        """
        return max(0, self.funded_minor - self.at_risk_minor - max(0, self.receivable_minor))

    @property
    def incoming_minor(self) -> int:
        """What of its contributions is on no subscription yet: a bank has it, or nobody has applied it.

        What has settled is there, and not cleared.
        """
        return max(0, self.on_its_way_minor - self.at_risk_minor) + self.unapplied_minor

    @property
    def refundable_minor(self) -> int:
        """What of its money is in escrow and goes back, whether a refund of it is ordered or not."""
        return 0 if self.is_live else max(0, self.funded_minor - self.released_minor)

    @property
    def is_live(self) -> bool:
        """Whether it waits for a closing to take its money: nothing of it goes back then."""
        return self.status in LIVE

    @property
    def is_withdrawn(self) -> bool:
        """Whether it is cancelled, or is once its money has come and gone back."""
        return self.status in {InvestmentStatus.CANCELLING, InvestmentStatus.CANCELLED}

    @property
    def was_ended_by_staff(self) -> bool:
        """Whether two persons ended it: an investor withdraws alone."""
        return self.is_withdrawn and self.refund_mandate is not None and bool(self.refund_mandate.makers_and_checkers)

    @property
    def is_cleared(self) -> bool:
        """Whether all that came in is past the return risk: before that nothing of it goes back."""
        return self.at_risk_minor == 0


def forget_booked(investment: Investment) -> Investment:
    """The investment as if the book had said nothing of it yet."""
    return replace(
        investment,
        funded_minor=0,
        at_risk_minor=0,
        receivable_minor=0,
        made_up_minor=0,
        unapplied_minor=0,
        unapplied_made_up_minor=0,
        refunded_minor=0,
        has_entries_by_hand=False,
    )


def share_shortfalls(investments: Sequence[Investment]) -> list[Investment]:
    """Where entries took more of an investment than it had, its party's others in the offering make up for it.

    The ledger accounts are a party's, and an entry names one investment. So a bank that takes back what was refunded
    long ago takes what the party brought for another. What the entries of each say stays known: a return that is
    reversed gives back what it took.
    """
    shared = {each.investment_id: each for each in investments}
    of_party: dict[str, list[Investment]] = {}
    for each in investments:
        of_party.setdefault(each.party_id, []).append(each)
    for own in of_party.values():
        funded = _share([(each.funded_minor + each.made_up_minor, each.released_minor) for each in own])
        unapplied = _share([(each.unapplied_minor + each.unapplied_made_up_minor, 0) for each in own])
        for before, funded_minor, unapplied_minor in zip(own, funded, unapplied, strict=True):
            made_up_minor = before.made_up_minor + before.funded_minor - funded_minor
            went_minor = max(0, made_up_minor - before.made_up_minor)
            shared[before.investment_id] = replace(
                before,
                funded_minor=funded_minor,
                made_up_minor=made_up_minor,
                unapplied_minor=unapplied_minor,
                unapplied_made_up_minor=before.unapplied_made_up_minor + before.unapplied_minor - unapplied_minor,
                refund_approved_minor=max(0, before.refund_approved_minor - went_minor),
            )
    return list(shared.values())


def _share(amounts: Sequence[tuple[int, int]]) -> list[int]:
    """Amounts with their least: what falls short of it is taken from the others, the first ones first."""
    short_minor = sum(max(0, least - minor) for minor, least in amounts)
    shared = []
    for minor, least in amounts:
        given_minor = min(short_minor, max(0, minor - least))
        short_minor -= given_minor
        shared.append(max(minor, least) - given_minor)
    return shared


def check_may_invest_again(count: int) -> None:
    """
    Args:
        count: How many of the party in the offering count that the same person made: nobody uses up what is another's.

    Raises: TooManyInvestments.
    """
    if count >= INVESTMENTS_MAX:
        message = f"You have made {INVESTMENTS_MAX} investments of the party in the offering, and make no more."
        raise TooManyInvestments(message, investments_max=INVESTMENTS_MAX)


def list_untaken(investments: Sequence[Investment]) -> list[Investment]:
    """Those whose money goes back if the raise ends now: neither withdrawn before, nor what a closing takes."""
    return [each for each in investments if each.is_live and each.released_minor == 0]


def list_committed_parties(investments: Iterable[Investment]) -> frozenset[str]:
    """Whoever has committed and not withdrawn: what the offering earns is theirs, whether they have paid or not."""
    return frozenset(each.party_id for each in investments if not each.is_withdrawn)


def check_may_cancel(offering: Offering, investment: Investment, now: datetime, *, alone: bool) -> None:
    """Whether the commitment may be ended.

    Args:
        alone: The investor withdraws it. Two persons of staff may turn it down until a closing takes its money: else
            one investor could keep the offering from closing.

    Raises: IllegalStatusChange, CancellationWindowOver.
    Source: 17 CFR 227.304(a). After a material change the investor may still decide.
    """
    check_move(INVESTMENT_MOVES, investment.status, InvestmentStatus.CANCELLING)
    if investment.is_withdrawn or investment.released_minor:
        message = "It is withdrawn." if investment.is_withdrawn else "A closing of the offering takes its money."
        raise IllegalStatusChange(investment.status.value, InvestmentStatus.CANCELLING.value, message)
    cancellation_end_at = offering.deadline_at - CANCELLATION_STOPS_BEFORE_DEADLINE
    if alone and now > cancellation_end_at and investment.status is InvestmentStatus.PENDING:
        raise CancellationWindowOver("Less than 48 hours are left.", cancellation_end_time=cancellation_end_at)


def hash_funded(investments: Iterable[Investment]) -> str:
    """SHA-256 of which have money in them, and how much each: a yes to all of them is one to exactly these.

    Whoever commits and pays nothing changes nothing of it: else anybody could end what others wait for.
    """
    return digest_amounts({each.investment_id: each.funded_minor for each in investments if each.funded_minor > 0})


def digest_amounts(minor_by_investment: Mapping[str, int]) -> str:
    """SHA-256 of how much it is of which investment."""
    lines = sorted(f"{investment_id} {minor}" for investment_id, minor in minor_by_investment.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def begin_cancellings(
    investments: Sequence[Investment], mandate: Mandate, saga_id: str, *, is_decided: bool
) -> list[Investment]:
    """They take no more money; what came in goes back.

    Args:
        mandate: By which it does.
        saga_id: Has transactions cancel what waits of their contributions.
        is_decided: Two persons decided that what is in them now goes back. Else no refund of theirs is approved.
    """
    return [
        replace(
            each,
            status=InvestmentStatus.CANCELLING,
            refund_mandate=mandate,
            cancelling_saga_id=saga_id,
            refund_approved_minor=max(0, each.funded_minor) if is_decided else 0,
        )
        for each in investments
    ]


def check_may_resend_refund(investment: Investment) -> None:
    """Raises: NothingToResend."""
    if investment.refund_failure is None:
        raise NothingToResend("No refund of the investment has failed.")
    if not investment.is_cleared:
        raise NothingToResend("Money came in since that is not cleared yet; what is owed is sent once it is.")


def sum_by_party(investments: Iterable[Investment]) -> dict[str, Money]:
    """What was paid in for these investments, by party."""
    found: dict[str, Money] = {}
    for each in investments:
        before = found.get(each.party_id, Money(0, each.currency))
        found[each.party_id] = Money(before.amount_minor + each.funded_minor, each.currency)
    return found
