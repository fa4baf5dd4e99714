"""Payouts: one row an attempt to pay somebody, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from services.chassis.data.aggregates import Aggregate, list_columns, read_fields
from services.chassis.data.sql import Row
from services.chassis.data.transaction import Tx
from services.chassis.values.failure import Failure, read_failure, write_failure
from services.distributions.domain.investment import Investment
from services.distributions.domain.payout import Payout, PayoutType
from services.distributions.domain.refunds import RefundPosition
from services.distributions.domain.states import PAYOUT_MOVES, PayoutStatus
from services.distributions.store.investments import INVESTMENTS
from services.distributions.tables import investments, payouts

BATCH_MAX = 1000  # what one BatchCreatePayouts takes

_OPEN = (PayoutStatus.REQUESTED, PayoutStatus.CREATED)
_PAID_OR_OPEN = (*_OPEN, PayoutStatus.COMPLETED)


def _read_payout(row: Row) -> Payout:
    return read_fields(
        Payout,
        row,
        type=PayoutType(row.type),
        status=PayoutStatus(row.status),
        failure=read_failure(row.failure),
    )


def _list_columns(payout: Payout) -> dict[str, Any]:
    failure = write_failure(payout.failure)
    return list_columns(payouts, payout, type=payout.type.value, status=payout.status.value, failure=failure)


PAYOUTS = Aggregate(payouts, "request_key", _read_payout, _list_columns, PAYOUT_MOVES)


@dataclass(frozen=True, slots=True)
class ReportedPayout:
    """What a transaction says of whom it pays."""

    transaction_id: str
    type: PayoutType
    escrow_account_id: str
    party_id: str
    amount_minor: int
    allocation_id: str | None
    investment_id: str | None


async def list_requested(tx: Tx, saga_id: str) -> Sequence[Payout]:
    """The saga's next payouts that transactions has not been asked for, or has not answered, by key."""
    is_requested = (payouts.c.saga_id == saga_id, payouts.c.status == PayoutStatus.REQUESTED.value)
    return await PAYOUTS.list_first(tx, *is_requested, count_max=BATCH_MAX)


async def list_payouts(tx: Tx, request_keys: Sequence[str]) -> list[Payout]:
    """Those of them that this service wrote, in no order."""
    query = PAYOUTS.select().where(payouts.c.request_key.in_(request_keys))
    return await PAYOUTS.list_sealed(tx, query)


async def lock_payouts(tx: Tx, request_keys: Sequence[str]) -> list[Payout]:
    return await PAYOUTS.lock_these(tx, request_keys)


async def find_payout(tx: Tx, reported: ReportedPayout) -> Payout | None:
    """The payout a transaction carries out.

    Its event may arrive before the answer that told us its id. Then it belongs to the one attempt that waits for an
    answer: an earlier attempt ended by an event, so its id is known, or by a refusal, so it has no transaction.

    Raises:
        NotSealed: an attempt to pay the same is not as this service wrote it; it may be the one.
    """
    same = [
        payouts.c.escrow_account_id == reported.escrow_account_id,
        payouts.c.party_id == reported.party_id,
        payouts.c.type == reported.type.value,
    ]
    if reported.type is PayoutType.DISTRIBUTION:
        same.append(payouts.c.allocation_id == reported.allocation_id)
    elif reported.type is PayoutType.REFUND:
        same.append(payouts.c.investment_id == reported.investment_id)
    attempts = await PAYOUTS.list_all(tx, *same)
    named = (each for each in attempts if each.transaction_id == reported.transaction_id)
    waiting = (
        each
        for each in attempts
        if each.status is PayoutStatus.REQUESTED and each.amount_minor == reported.amount_minor
    )
    return next(chain(named, waiting), None)


async def is_newest(tx: Tx, payout: Payout) -> bool:
    """True unless a later attempt to pay the same proceeds or the same refund was begun. Raises: NotSealed."""
    later = await PAYOUTS.list_all(
        tx,
        payouts.c.offering_id == payout.offering_id,
        payouts.c.type == payout.type.value,
        payouts.c.investment_id.is_not_distinct_from(payout.investment_id),
        payouts.c.attempt > payout.attempt,
    )
    return not later


async def list_proceeds(tx: Tx, offering_id: str) -> list[Payout]:
    """All attempts to pay the proceeds of an offering, the first one first. Raises: NotSealed."""
    which = payouts.c.offering_id == offering_id, payouts.c.type == PayoutType.ESCROW_WITHDRAWAL.value
    return sorted(await PAYOUTS.list_all(tx, *which), key=lambda each: each.attempt)


async def lock_refund_positions(
    tx: Tx, offering_id: str, investment_ids: Sequence[str] | None = None
) -> list[RefundPosition]:
    """Each investment of the offering, locked by id, with the attempts to send money of it back.

    Args:
        investment_ids: Only these; None is all of the offering.
    """
    mine = [investments.c.offering_id == offering_id]
    if investment_ids is not None:
        mine.append(investments.c.investment_id.in_(investment_ids))
    return await _read_positions(tx, await INVESTMENTS.lock_all(tx, *mine))


async def list_refund_positions(tx: Tx, offering_id: str) -> list[RefundPosition]:
    """As `lock_refund_positions`, without the locks."""
    return await _read_positions(tx, await INVESTMENTS.list_all(tx, investments.c.offering_id == offering_id))


async def find_refund_position(tx: Tx, investment_id: str) -> RefundPosition | None:
    held = await INVESTMENTS.list_all(tx, investments.c.investment_id == investment_id)
    return next(iter(await _read_positions(tx, held)), None)


async def _read_positions(tx: Tx, held: Sequence[Investment]) -> list[RefundPosition]:
    """Raises: NotSealed: what was paid back is a sum, so a single row that this service did not write spoils it."""
    refunds: dict[str, list[Payout]] = {each.investment_id: [] for each in held}
    query = PAYOUTS.select().where(payouts.c.investment_id.in_(refunds)).order_by(payouts.c.attempt)
    for row in await tx.execute(query):
        refunds[row.investment_id].append(PAYOUTS.read_sealed(tx, row))
    return [_build_position(each, refunds[each.investment_id]) for each in held]


def _build_position(investment: Investment, refunds: Sequence[Payout]) -> RefundPosition:
    """Its refunds, the oldest first."""
    last = refunds[-1] if refunds else None
    going = [each for each in refunds if each.status in _PAID_OR_OPEN]
    return RefundPosition(
        investment=investment,
        paid_minor=sum(each.amount_minor for each in going) + sum(each.set_off_minor or 0 for each in refunds),
        approved_minor=sum(each.amount_minor for each in going if each.refund_approved)
        + sum(each.set_off_minor or 0 for each in refunds if each.refund_approved),
        is_under_way=any(each.status in _OPEN for each in refunds),
        last_attempt=0 if last is None else last.attempt,
        has_failed=_has_failed(refunds),
        last_saga_id=None if last is None else last.saga_id,
        failures=_list_failures(refunds),
    )


def _list_failures(attempts: Sequence[Payout]) -> list[tuple[int, Failure]]:
    return [(each.attempt, each.failure) for each in attempts if each.has_failed and each.failure is not None]


async def list_failed_attempts(tx: Tx, offering_id: str, allocation_id: str | None = None) -> list[tuple[int, Failure]]:
    """Why which attempt to pay an allocation, or else the proceeds, came to nothing, the first one first.

    Raises: NotSealed.
    """
    of = payouts.c.type == PayoutType.ESCROW_WITHDRAWAL.value
    if allocation_id is not None:
        of = payouts.c.allocation_id == allocation_id
    found = await PAYOUTS.list_all(tx, payouts.c.offering_id == offering_id, of)
    return _list_failures(sorted(found, key=lambda each: each.attempt))


def _has_failed(refunds: Sequence[Payout]) -> bool:
    """Whether one of them, the oldest first, came to nothing after a person last asked for it: one that went to a card,
    and then another part of it to the next one, may fail at last, and one that was paid before may come back.
    """
    failed = [each for each in refunds if each.has_failed]
    asked = next((each for each in reversed(refunds) if each.asked_again), None)
    if asked is None:
        return bool(failed)
    return any(each.attempt >= asked.attempt or each.updated_at > asked.created_at for each in failed)
