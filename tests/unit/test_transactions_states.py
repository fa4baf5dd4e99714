"""The thirteen states and every pair of them; the same table in the migration."""

from __future__ import annotations

from itertools import product

import pytest

from services.chassis.values.moves import check_move
from services.chassis.values.refusals import IllegalStatusChange
from services.transactions.domain.rails import RAILS
from services.transactions.domain.states import MOVES, Status, may_cancel

# Row: the status before; column: the status after, in the same order. x = a move, = the same, . = no move.
NAMES = """
INITIATED PENDING_APPROVAL APPROVED QUEUED PROCESSING PENDING_SETTLEMENT SETTLED COMPLETED FAILED RETURNED
PENDING_RETRY CANCELLED REVERSED
"""
TABLE = """
= x x . . . . . x . . x .
. = x . . . . . . . . x .
. . = x . . . . . . . x .
. . . = x . . . x . . x .
. . . . = x x . x . x . .
. . . . . = x . x x . x x
. . . . . . = x . x . . x
. . . . . . . = . x . . x
. . . . . . . . = . x . .
. . . . . . . . . = x . .
. . . x . . . . x . = x .
. . . . . . . . . . . = .
. . . . . . . . . . . . =
"""
VERDICTS = dict(zip(product(NAMES.split(), NAMES.split()), TABLE.split(), strict=True))


@pytest.mark.parametrize(("before", "after"), VERDICTS)
def test_each_of_the_169_pairs_is_a_move_or_refused(before: str, after: str) -> None:
    verdict = VERDICTS[before, after]
    if verdict == "x":
        check_move(MOVES, Status(before), Status(after))
        return
    with pytest.raises(IllegalStatusChange) as refusal:
        check_move(MOVES, Status(before), Status(after))
    assert refusal.value.metadata == {"status": before, "wanted_status": after}


@pytest.mark.parametrize(("status", "by_ach", "by_wire", "by_card"), [
    ("INITIATED", True, True, True),
    ("PENDING_APPROVAL", True, True, True),
    ("APPROVED", True, True, True),
    ("QUEUED", True, True, True),
    ("PROCESSING", False, False, False),  # the provider may have taken it
    ("PENDING_SETTLEMENT", False, True, True),  # a wire that has not come may be given up, and a page be closed
    ("SETTLED", False, False, False),
    ("COMPLETED", False, False, False),
    ("FAILED", False, False, False),
    ("RETURNED", False, False, False),
    ("PENDING_RETRY", True, True, True),
    ("REVERSED", False, False, False),
])  # fmt: skip
def test_what_a_provider_may_have_is_cancelled_only_where_its_rail_can_end_it(
    status: str, by_ach: bool, by_wire: bool, by_card: bool
) -> None:
    assert may_cancel(Status(status), RAILS["ACH"], is_inbound=True) is by_ach
    assert may_cancel(Status(status), RAILS["CARD"], is_inbound=True) is by_card
    assert may_cancel(Status(status), RAILS["CARD"], is_inbound=False) is by_ach  # it may have been given back
    assert may_cancel(Status(status), RAILS["WIRE"], is_inbound=True) is by_wire
    assert may_cancel(Status(status), RAILS["WIRE"], is_inbound=False) is by_ach  # it may have been sent
