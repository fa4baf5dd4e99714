"""Every move between states, allowed or refused."""

from __future__ import annotations

import pytest

from services.chassis.values.errors import Kind
from services.chassis.values.moves import check_move
from services.chassis.values.refusals import IllegalStatusChange
from services.distributions.domain.states import (
    ALLOCATION_MOVES,
    DISTRIBUTION_MOVES,
    INVESTMENT_MOVES,
    OFFERING_MOVES,
    PAYOUT_MOVES,
    AllocationStatus,
    DistributionStatus,
    InvestmentStatus,
    OfferingStatus,
    PayoutStatus,
)

# Said a second time, as the list of what people and machines do; the tables are what the code obeys.
ALLOWED = {
    OfferingStatus: """
        OPEN>CLOSING CLOSING>CLOSED CLOSING>OPEN
        OPEN>REFUNDING REFUNDING>REFUNDED REFUNDED>REFUNDING
    """,
    InvestmentStatus: """
        PENDING>ACTIVE ACTIVE>COMPLETED PENDING>CANCELLING CANCELLING>CANCELLED CANCELLED>CANCELLING
        PENDING>RECONFIRM_REQUIRED RECONFIRM_REQUIRED>PENDING RECONFIRM_REQUIRED>CANCELLING
    """,
    DistributionStatus: """
        DRAFT>PENDING_APPROVAL PENDING_APPROVAL>APPROVED APPROVED>QUEUED QUEUED>PROCESSING PROCESSING>COMPLETED
        PENDING_APPROVAL>DRAFT APPROVED>DRAFT
        DRAFT>CANCELLED PENDING_APPROVAL>CANCELLED APPROVED>CANCELLED
        QUEUED>FAILED PROCESSING>FAILED PROCESSING>PARTIALLY_FAILED COMPLETED>PARTIALLY_FAILED
        FAILED>PROCESSING PARTIALLY_FAILED>PROCESSING
    """,
    AllocationStatus: """
        PENDING>PROCESSING PROCESSING>COMPLETED
        PENDING>ON_HOLD ON_HOLD>PENDING PENDING>CANCELLED ON_HOLD>CANCELLED
        PROCESSING>FAILED PROCESSING>RETURNED COMPLETED>RETURNED
        FAILED>PROCESSING RETURNED>PROCESSING
    """,
    PayoutStatus: """
        REQUESTED>CREATED REQUESTED>COMPLETED REQUESTED>FAILED REQUESTED>RETURNED
        CREATED>COMPLETED CREATED>FAILED CREATED>RETURNED
        COMPLETED>FAILED COMPLETED>RETURNED
        FAILED>COMPLETED FAILED>RETURNED RETURNED>COMPLETED RETURNED>FAILED
    """,
}
TABLES = {
    OfferingStatus: OFFERING_MOVES,
    InvestmentStatus: INVESTMENT_MOVES,
    DistributionStatus: DISTRIBUTION_MOVES,
    AllocationStatus: ALLOCATION_MOVES,
    PayoutStatus: PAYOUT_MOVES,
}

EVERY_MOVE = [
    (TABLES[status], current, to, f"{current.name}>{to.name}" in allowed.split())
    for status, allowed in ALLOWED.items()
    for current in status
    for to in status
    if to is not current
]


@pytest.mark.parametrize(("table", "current", "to", "allowed"), EVERY_MOVE)
def test_a_move_is_allowed_only_if_its_table_has_it(table, current, to, allowed):
    if allowed:
        check_move(table, current, to)
        return
    with pytest.raises(IllegalStatusChange) as refused:
        check_move(table, current, to)
    assert (refused.value.kind, refused.value.reason) == (Kind.FAILED_PRECONDITION, "ILLEGAL_STATUS_CHANGE")
    assert refused.value.metadata == {"status": current.name, "wanted_status": to.name}


@pytest.mark.parametrize(("status", "table"), TABLES.items())
def test_a_status_does_not_move_to_itself(status, table):
    assert all(state not in table[state] for state in status)


@pytest.mark.parametrize(("status", "table"), TABLES.items())
def test_every_state_has_its_row_in_the_table(status, table):
    assert set(table) == set(status)
