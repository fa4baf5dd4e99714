"""Single resources as one caller gets them, from a read or a write alike: with what that caller may do with them now.

An action is offered where the contract lets the caller call it, and the rule that would refuse it does not.
"""

from __future__ import annotations

from datetime import datetime

from realco.distributions.v1 import distributions_pb2, offerings_pb2

from services.chassis.approvals.resources import check_offered
from services.chassis.calls.access import list_allowed_actions
from services.chassis.calls.auth import current_principal
from services.chassis.data.transaction import Tx
from services.chassis.values.approval import Approval
from services.distributions.domain import distribution as distribution_rules
from services.distributions.domain.distribution import Allocation, Distribution
from services.distributions.domain.investment import Investment, check_may_cancel, check_may_resend_refund
from services.distributions.domain.offering import (
    Offering,
    check_may_close,
    check_may_distribute,
    check_may_refund,
    check_may_resend_proceeds,
    check_takes_investments,
)
from services.distributions.messages import (
    to_allocation,
    to_distribution,
    to_investment,
    to_offering,
)
from services.distributions.store.approvals import DISTRIBUTION_APPROVALS


def answer_offering(offering: Offering, now: datetime) -> offerings_pb2.Offering:
    """The gates of a closing are another question: they are asked of other services."""
    answer = to_offering(offering)
    answer.allowed_actions[:] = list_allowed_actions(
        offerings_pb2.Offering,
        ("OfferingsService/UpdateOffering", True),
        ("OfferingsService/ChangeReceivablesPolicy", True),
        ("OfferingsService/CloseOffering", lambda: check_may_close(offering)),
        ("OfferingsService/RefundOffering", lambda: check_may_refund(offering)),
        ("OfferingsService/ResendProceeds", lambda: check_may_resend_proceeds(offering)),
        ("InvestmentsService/CreateInvestment", lambda: check_takes_investments(offering, now)),
        ("DistributionsService/CreateDistribution", lambda: check_may_distribute(offering)),
    )
    return answer


def answer_investment(offering: Offering, investment: Investment, now: datetime) -> offerings_pb2.Investment:
    answer, alone = to_investment(investment), current_principal().confined
    answer.allowed_actions[:] = list_allowed_actions(
        offerings_pb2.Investment,
        ("InvestmentsService/CancelInvestment", lambda: check_may_cancel(offering, investment, now, alone=alone)),
        ("InvestmentsService/ResendRefund", lambda: check_may_resend_refund(investment)),
    )
    return answer


async def answer_waiting(
    tx: Tx, offering: Offering, distribution: Distribution, now: datetime
) -> distributions_pb2.Distribution:
    """One that may wait for persons to approve it: who has approved it is not asked again."""
    approval = await DISTRIBUTION_APPROVALS.find(tx, distribution.distribution_id, now)
    return answer_distribution(offering, distribution, now, approval)


def answer_distribution(
    offering: Offering, distribution: Distribution, now: datetime, approval: Approval | None = None
) -> distributions_pb2.Distribution:
    """The cash of an execution is another question: it is asked of escrow.

    Args:
        approval: What waits about it, while it is PENDING_APPROVAL.
    """
    rules, person = distribution_rules, current_principal().person

    def check_may_approve() -> None:
        rules.check_may_approve(offering, distribution, person, now)
        check_offered(approval, now)

    answer = to_distribution(distribution)
    answer.allowed_actions[:] = list_allowed_actions(
        distributions_pb2.Distribution,
        ("DistributionsService/CalculateDistribution", lambda: rules.check_may_calculate(distribution)),
        ("DistributionsService/SubmitDistribution", lambda: rules.check_may_submit(offering, distribution)),
        ("DistributionsService/ApproveDistribution", check_may_approve),
        ("DistributionsService/RejectDistribution", lambda: rules.check_may_reject(distribution, person, now)),
        ("DistributionsService/ExecuteDistribution", lambda: rules.check_may_execute(offering, distribution, now)),
        ("DistributionsService/CancelDistribution", lambda: rules.check_may_cancel(distribution)),
    )
    return answer


def answer_allocation(allocation: Allocation) -> distributions_pb2.Allocation:
    answer = to_allocation(allocation)
    answer.allowed_actions[:] = list_allowed_actions(
        distributions_pb2.Allocation,
        ("DistributionsService/ResendAllocation", lambda: distribution_rules.check_may_resend(allocation)),
    )
    return answer
