"""What a caller may do with a resource now, by the access rule of each RPC and the rule that would refuse it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from realco.distributions.v1 import distributions_pb2, offerings_pb2

from services.chassis.calls.access import rules_of
from services.chassis.calls.auth import current_principal
from services.chassis.values.errors import DomainError
from services.distributions.domain import distribution as distribution_rules
from services.distributions.domain.distribution import Allocation, Distribution
from services.distributions.domain.investment import Investment, check_may_cancel
from services.distributions.domain.offering import (
    Offering,
    check_may_close,
    check_may_distribute,
    check_may_refund,
    check_takes_investments,
)

_RULES = rules_of(
    [
        *offerings_pb2.DESCRIPTOR.services_by_name.values(),
        *distributions_pb2.DESCRIPTOR.services_by_name.values(),
    ]
)
_PACKAGE = "/realco.distributions.v1."

# The name of the action, the RPC that does it, and the rule that would refuse it.
Action = tuple[str, str, Callable[[], None]]


def list_offering_actions(offering: Offering, now: datetime) -> list[str]:
    """The gates of a closing are another question: they are asked of other services."""
    return _list_allowed(
        ("update", "OfferingsService/UpdateOffering", lambda: None),
        ("close", "OfferingsService/CloseOffering", lambda: check_may_close(offering)),
        ("refund", "OfferingsService/RefundOffering", lambda: check_may_refund(offering)),
        (
            "invest",
            "InvestmentsService/CreateInvestment",
            lambda: check_takes_investments(offering, now),
        ),
        ("distribute", "DistributionsService/CreateDistribution", lambda: check_may_distribute(offering)),
    )


def list_investment_actions(offering: Offering, investment: Investment, now: datetime) -> list[str]:
    return _list_allowed(
        (
            "cancel",
            "InvestmentsService/CancelInvestment",
            lambda: check_may_cancel(offering, investment, now),
        ),
    )


def list_distribution_actions(offering: Offering, distribution: Distribution) -> list[str]:
    """The cash of an execution is another question: it is asked of escrow."""
    rules, person = distribution_rules, current_principal().person
    return _list_allowed(
        (
            "calculate",
            "DistributionsService/CalculateDistribution",
            lambda: rules.check_may_calculate(distribution),
        ),
        ("submit", "DistributionsService/SubmitDistribution", lambda: rules.check_may_submit(distribution)),
        (
            "approve",
            "DistributionsService/ApproveDistribution",
            lambda: rules.check_may_approve(offering, distribution, person),
        ),
        ("reject", "DistributionsService/RejectDistribution", lambda: rules.check_may_reject(distribution)),
        (
            "execute",
            "DistributionsService/ExecuteDistribution",
            lambda: rules.check_may_execute(offering, distribution),
        ),
        ("cancel", "DistributionsService/CancelDistribution", lambda: rules.check_may_cancel(distribution)),
    )


def list_allocation_actions(allocation: Allocation) -> list[str]:
    return _list_allowed(
        (
            "resend",
            "DistributionsService/ResendAllocation",
            lambda: distribution_rules.check_may_resend(allocation),
        ),
    )


def _list_allowed(*actions: Action) -> list[str]:
    return [name for name, rpc, check in actions if _is_allowed(rpc, check)]


def _is_allowed(rpc: str, check: Callable[[], None]) -> bool:
    try:
        _RULES[_PACKAGE + rpc].admit(current_principal())
        check()
    except DomainError:
        return False
    return True
