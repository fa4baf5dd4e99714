"""Contributions that go back: what is owed, and whether it may go yet.

What is owed is a sum of facts that does not depend on the order in which they arrive: all that was contributed, less
what a closing took, less the refunds that are under way or paid. So an event that is late cannot cause a second refund.
A refund that failed waits for a person: nothing is sent to the same account again by itself.

An approval covers what it showed and no more. So what two persons saw is kept as an amount, and every refund that is
not within it, less what went back on their word already, is one that nobody decided on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from services.chassis.values.failure import Failure
from services.distributions.domain.investment import Investment, digest_amounts
from services.distributions.domain.refusals import NothingToResend
from services.distributions.domain.states import InvestmentStatus


class AskedAgain(NamedTuple):
    """A person asks that a refund that failed is sent again.

    Args:
        shown_minor: What two persons saw when they decided that it is, if they did.
        bank_account_id: Where to pay, if the person names it; None: the account that the money came from.
        payment_method: The rail, if the person names it.
    """

    shown_minor: int
    bank_account_id: str | None = None
    payment_method: str | None = None


@dataclass(frozen=True, slots=True)
class RefundPosition:
    """An investment and the attempts to send money of it back."""

    investment: Investment
    paid_minor: int  # refunds paid or under way, and what was set off of any
    approved_minor: int  # those of them that two persons decided on
    is_under_way: bool
    last_attempt: int
    has_failed: bool  # one came to nothing, and no person has asked since that it is sent again
    last_saga_id: str | None = None  # that ordered it
    failures: Sequence[tuple[int, Failure]] = ()  # why which attempt came to nothing, the first one first

    @property
    def owed_minor(self) -> int:
        """What of the investment's money is to go back and is not on its way."""
        contributed = self.investment.funded_minor + self.investment.refunded_minor
        return contributed - self.investment.released_minor - self.paid_minor

    def is_covered(self, shown_minor: int = 0) -> bool:
        """Whether two persons decided on all that goes back now.

        Args:
            shown_minor: What they saw when they decided that it is sent again, if they did.
        """
        left_minor = self.investment.refund_approved_minor - self.approved_minor
        return self.owed_minor <= max(left_minor, shown_minor)

    def may_go(self, *, again: bool) -> bool:
        """Whether what is owed may be sent now; `again` where a person asks for a refund that failed."""
        investment = self.investment
        # Money that arrived after the closing, or after the investor withdrew, goes back without being asked for.
        wanted = not investment.is_live
        is_free = not self.is_under_way and (again or not self.has_failed)
        return self.owed_minor > 0 and wanted and investment.is_cleared and is_free

    def follow_failure(self) -> Investment:
        """The investment with why its refund failed, as long as some is owed that no other refund pays.

        Its bank may take the money back instead, and more may come later, which nothing sends by itself.
        """
        known = self.investment.refund_failure
        if self.is_under_way:
            return self.investment
        if self.owed_minor <= 0:
            return self.investment if known is None else self.investment.with_refund_failure(None)
        if known is None and self.has_failed and self.failures:
            _, why = self.failures[-1]
            return self.investment.with_refund_failure(why)
        return self.investment

    @property
    def status(self) -> InvestmentStatus:
        """What the investment is by what is here of its money, and on its way: in or back."""
        held = self.investment
        if not held.is_withdrawn:
            return held.status
        is_coming = max(held.on_its_way_minor, held.unapplied_minor) > 0 or held.cancelling_saga_id is not None
        is_here = held.funded_minor > 0 or self.owed_minor > 0 or self.is_under_way
        return InvestmentStatus.CANCELLING if is_coming or is_here else InvestmentStatus.CANCELLED


class GivenBack(NamedTuple):
    """An investment of which money is given back.

    Args:
        has_entries_by_hand: Persons posted some of what the party has in the offering, once at least.
    """

    investment: Investment
    has_entries_by_hand: bool


def list_failed(positions: Iterable[RefundPosition]) -> list[RefundPosition]:
    """Those whose refund failed, and may be sent again. Raises: NothingToResend: there is none."""
    failed = [each for each in positions if each.has_failed and each.may_go(again=True)]
    if not failed:
        raise NothingToResend("No refund of the offering has failed that could be sent again now.")
    return failed


def hash_owed(positions: Sequence[RefundPosition]) -> str:
    """SHA-256 of what is owed to which investment by which attempt: a yes to all of them is one to exactly these."""
    return digest_amounts(
        {f"{each.investment.investment_id} {each.last_attempt + 1}": each.owed_minor for each in positions}
    )
