"""The contributions to investments: what there is of each, who else adds to it waits, and what of it arrived."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from services.chassis.data.locks import lock_name, lock_names
from services.chassis.data.reach import is_mine
from services.chassis.data.seals import NotSealed, check_row, check_rows, keep_sealed
from services.chassis.data.transaction import Tx
from services.chassis.values.failure import read_failure
from services.transactions.domain.decisions import REJECTED
from services.transactions.domain.refunds import explain_return
from services.transactions.domain.states import ARRIVED, ENDED, Status
from services.transactions.domain.transaction import Transaction
from services.transactions.domain.types import CONTRIBUTIONS, STAFFS_DEBIT, TYPES
from services.transactions.store.transactions import build_transaction, select_transactions
from services.transactions.tables import transactions

_c = transactions.c
# Whatever became of them: which of them count is asked of rows with a seal, and a status may be altered.
_CONTRIBUTIONS = select_transactions().where(
    is_mine(transactions),
    _c.investment_id == sa.any_(sa.bindparam("investment_ids", type_=pg.ARRAY(sa.Text))),
    _c.type.in_(CONTRIBUTIONS),
)
_CONTRIBUTIONS_OF_PARTY = _CONTRIBUTIONS.where(_c.party_id == sa.bindparam("party_id"))
_LOCKING_CONTRIBUTIONS = _CONTRIBUTIONS.order_by(_c.transaction_id).with_for_update(key_share=True)
_GIVEN_BACK = select_transactions().where(
    is_mine(transactions),
    _c.investment_id == sa.any_(sa.bindparam("investment_ids", type_=pg.ARRAY(sa.Text))),
    _c.type.in_(sorted(name for name, type_ in TYPES.items() if type_.gives_back)),
)
_RECEIVED = _CONTRIBUTIONS.order_by(_c.settled_at.desc(), _c.transaction_id.desc())


class Counted(NamedTuple):
    """The contributions to an investment that did not fail or come back, in minor units.

    Args:
        unsettled_minor: The part of them that has not settled.
        announced_minor: The part of that which staff announced, and no bank has told of.
        unapproved_minor: The part of that which staff has drawn, and no second person has approved.
        of_investors: How many of those that have not settled investors ordered or announced.
        pages_minor: What is on pages for a card that staff ordered, beside all of these.
    """

    total_minor: int
    unsettled_minor: int
    announced_minor: int
    unapproved_minor: int
    of_investors: int
    pages_minor: int

    def add(self, amount_minor: int, *, is_announced: bool, of_investor: bool) -> Counted:
        """With one more that has not settled.

        Args:
            is_announced: A person says when it came.
            of_investor: An investor orders or announces it, and not staff.
        """
        return Counted(
            self.total_minor + amount_minor,
            self.unsettled_minor + amount_minor,
            self.announced_minor + (amount_minor if is_announced and not of_investor else 0),
            self.unapproved_minor,
            self.of_investors + of_investor,
            self.pages_minor,
        )

    def remove(self, amount_minor: int, *, of_investor: bool) -> Counted:
        """Without one that was counted, which is neither announced nor unapproved."""
        return self._replace(
            total_minor=self.total_minor - amount_minor,
            unsettled_minor=self.unsettled_minor - amount_minor,
            of_investors=self.of_investors - of_investor,
        )


async def lock_contributions(tx: Tx, party_id: str, investment_id: str) -> Counted:
    """What there is of an investment.

    Whoever else adds to this investment waits for the end of this transaction.

    Raises:
        NotSealed: a contribution says what this service did not write, so nobody knows how much is left.
    """
    await lock_name(tx, "contributions", investment_id)
    theirs = {"investment_ids": [investment_id], "party_id": party_id}
    rows = check_rows(tx, transactions, await tx.execute(_CONTRIBUTIONS_OF_PARTY, theirs))
    return _count_contributions(map(build_transaction, rows))


def _count_contributions(rows: Iterable[Transaction]) -> Counted:
    counted = Counted(0, 0, 0, 0, 0, 0)
    for row in rows:
        if row.status in ARRIVED:
            counted = counted._replace(total_minor=counted.total_minor + row.amount.amount_minor)
        elif row.status in ENDED:
            continue
        elif row.rail.is_page_of_staff(of_investor=row.is_of_investor):
            counted = counted._replace(pages_minor=counted.pages_minor + row.amount.amount_minor)
        else:
            is_announced, of_investor = row.rail.is_confirmed_by_a_person, row.is_of_investor
            counted = counted.add(row.amount.amount_minor, is_announced=is_announced, of_investor=of_investor)
            if row.approval_reason == STAFFS_DEBIT and row.status in (Status.INITIATED, Status.PENDING_APPROVAL):
                counted = counted._replace(unapproved_minor=counted.unapproved_minor + row.amount.amount_minor)
    return counted


async def lock_contributions_to(tx: Tx, parties: Mapping[str, str]) -> None:
    """From here on whoever else adds to these investments waits for the end of this transaction.

    Args:
        parties: Whose each investment is, by its id.
    """
    await lock_names(tx, "contributions", parties)


async def count_contributions(tx: Tx, parties: Mapping[str, str]) -> dict[str, Counted | NotSealed]:
    """As `lock_contributions` counts them, of many investments, by id; or why nobody knows how much is left of one.

    Args:
        parties: Whose each investment is, by its id.
    """
    found: dict[str, list[Transaction]] = {each: [] for each in parties}
    altered: dict[str, NotSealed] = {}
    for row in await tx.execute(_CONTRIBUTIONS, {"investment_ids": list(parties)}):
        if row.party_id != parties[row.investment_id]:
            continue
        try:
            found[row.investment_id].append(build_transaction(check_row(tx, transactions, row)))
        except NotSealed as error:
            altered[row.investment_id] = error
    return {each: altered.get(each) or _count_contributions(rows) for each, rows in found.items()}


async def lock_contributions_of(tx: Tx, investment_ids: Collection[str]) -> dict[str, list[Transaction] | None]:
    """All contributions to each investment, by id; None where one of them says what this service did not write."""
    found: dict[str, list[Transaction] | None] = {each: [] for each in investment_ids}
    for row in await tx.execute(_LOCKING_CONTRIBUTIONS, {"investment_ids": list(investment_ids)}):
        known = found[row.investment_id]
        if not keep_sealed(tx, transactions, [row]):
            found[row.investment_id] = None
        elif known is not None:
            known.append(build_transaction(row))
    return found


async def list_received(tx: Tx, investment_ids: Collection[str]) -> dict[tuple[str, str], list[Transaction] | None]:
    """The contributions that arrived for each (party, investment), the last first.

    None where one of its contributions says what this service did not write: nobody knows then what arrived, nor
    from where.
    """
    found: dict[tuple[str, str], list[Transaction] | None] = {}
    for row in await tx.execute(_RECEIVED, {"investment_ids": list(investment_ids)}):
        key = (row.party_id, row.investment_id)
        received = found.setdefault(key, [])
        if not keep_sealed(tx, transactions, [row]):
            found[key] = None
        elif received is not None and row.status in ARRIVED:
            received.append(build_transaction(row))
    return found


class GivenBack(NamedTuple):
    """What went back, or is on its way, in minor units.

    Args:
        of_payments: Of which contribution by card to its card, by the contribution.
        of_investments: Of which investment, wherever it went.
        altered: The investments of which nobody knows, since a refund says what this service did not write.
        ended: The refunds that came to nothing, by investment.
        ended_since: When the first of them was ordered.
        rejected: The investments of which a second person said no to one of them.
        came_back: Why one of them that was sent is there again (domain/refunds.py), by investment.
        failed: How many to its card came to nothing, by the contribution.
    """

    of_payments: Counter[str]
    of_investments: Counter[str]
    altered: set[str]
    ended: dict[str, list[str]]
    ended_since: dict[str, datetime]
    rejected: set[str]
    came_back: dict[str, set[str]]
    failed: Counter[str]


async def sum_given_back(tx: Tx, investment_ids: Collection[str]) -> GivenBack:
    given_back = GivenBack(Counter(), Counter(), set(), {}, {}, set(), {}, Counter())
    if not investment_ids:
        return given_back
    for row in await tx.execute(_GIVEN_BACK, {"investment_ids": list(investment_ids)}):
        if not keep_sealed(tx, transactions, [row]):
            given_back.altered.add(row.investment_id)
        elif row.status in ENDED:
            given_back.ended.setdefault(row.investment_id, []).append(row.transaction_id)
            since = given_back.ended_since.setdefault(row.investment_id, row.created_at)
            given_back.ended_since[row.investment_id] = min(since, row.created_at)
            failure = read_failure(row.failure)
            if failure is not None and failure.code == REJECTED.code:
                given_back.rejected.add(row.investment_id)
            if (why := explain_return(build_transaction(row))) is not None:
                given_back.came_back.setdefault(row.investment_id, set()).add(why)
            if row.refunded_transaction_id is not None:
                given_back.failed[row.refunded_transaction_id] += 1
        else:
            given_back.of_investments[row.investment_id] += row.amount_minor
            if row.refunded_transaction_id is not None:
                given_back.of_payments[row.refunded_transaction_id] += row.amount_minor
    return given_back
