"""What an approval is bound to beside its amount and its request: what the deed changes, and what must be as it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from services.chassis.values.approval import Change, Precondition
from services.distributions.domain.destination import Destination
from services.distributions.domain.investment import Investment, hash_funded
from services.distributions.domain.offering import Offering
from services.distributions.domain.refunds import RefundPosition, hash_owed


def build_funded_precondition(investments: Iterable[Investment]) -> Precondition:
    """What is in each of them."""
    return Precondition("funded_sha256", hash_funded(investments))


def build_owed_precondition(positions: Sequence[RefundPosition]) -> Precondition:
    """The same of refunds that are sent again: what is owed to each."""
    return Precondition("owed_sha256", hash_owed(positions))


def build_policy_precondition(offering: Offering) -> Precondition:
    """What becomes of it where a payee owes."""
    return Precondition("receivables_policy", offering.receivables_policy.value)


def build_proceeds_preconditions(offering: Offering, to: str | None) -> tuple[Precondition, ...]:
    """The same account as before, if it is."""
    return (Precondition("proceeds_bank_account_id", to),) if to and to == offering.proceeds_bank_account_id else ()


def build_default_preconditions(destination: Destination) -> tuple[Precondition, ...]:
    """The same default as was shown, where no account is named."""
    if not destination.is_left_to_default or destination.account is None:
        return ()
    return (Precondition("default_bank_account_id", destination.account.bank_account_id),)


def build_proceeds_changes(offering: Offering, to: str | None) -> tuple[Change, ...]:
    """Where the proceeds go, if elsewhere than before."""
    before = offering.proceeds_bank_account_id
    return () if to == before else (Change("proceeds_bank_account_id", before, to),)


def build_attempt_change(last: int) -> Change:
    """Which attempt it is: a yes to one that failed meanwhile is none to the next."""
    return Change("attempt", str(last), str(last + 1))
