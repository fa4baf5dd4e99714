"""Rows as the contract's messages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from google.protobuf.timestamp_pb2 import Timestamp
from realco.distributions.v1 import distributions_pb2, offerings_pb2
from realco.type.v1 import money_pb2

from services.chassis.calls import wire
from services.chassis.calls.wire import to_date

Row = sa.Row[Any]


@lru_cache(maxsize=64)
def to_timestamp(moment: datetime) -> Timestamp:
    """Rows written together share their times. Whoever gets it copies it into a message and changes nothing."""
    return wire.to_timestamp(moment)


def offering(row: Row) -> offerings_pb2.Offering:
    message = offerings_pb2.Offering(
        offering_id=row.offering_id,
        display_name=row.display_name,
        sponsor_party_id=row.sponsor_party_id,
        escrow_account_id=row.escrow_account_id,
        exemption=row.exemption,
        target_amount=_money(row.target_minor, row),
        maximum_amount=_money(row.maximum_minor, row),
        open_time=to_timestamp(row.open_at),
        deadline_time=to_timestamp(row.deadline_at),
        terms=offerings_pb2.WaterfallTerms(
            tiers=row.tiers,
            preferred_rate_bps=row.preferred_rate_bps,
            catch_up_sponsor_share_bps=row.catch_up_sponsor_share_bps,
            sponsor_carry_bps=row.sponsor_carry_bps,
        ),
        status=row.status,
        committed_amount=_money(row.committed_minor, row),
        funded_amount=_money(row.funded_minor, row),
        proceeds_transaction_id=row.proceeds_transaction_id,
        proceeds_failure=row.proceeds_failure,
        created_by=row.created_by,
        create_time=to_timestamp(row.created_at),
        update_time=to_timestamp(row.updated_at),
    )
    if row.closing_date is not None:
        message.closing_date.CopyFrom(to_date(row.closing_date))
    return message


def investment(row: Row) -> offerings_pb2.Investment:
    # Cleared: past the return risk, and neither given back nor returned since. After a closing funded_minor follows the
    # subscription, which a late return finds empty; so this alone says that the investor owes it.
    cleared_minor = min(row.funded_minor, max(0, row.completed_minor - row.refunded_minor))
    message = offerings_pb2.Investment(
        investment_id=row.investment_id,
        offering_id=row.offering_id,
        party_id=row.party_id,
        amount=_money(row.amount_minor, row),
        funded_amount=_money(row.funded_minor, row),
        cleared_amount=_money(cleared_minor, row),
        unreturned_capital=_money(row.unreturned_minor, row),
        distributed_amount=_money(row.distributed_minor, row),
        refund_failure=row.refund_failure,
        status=row.status,
        create_time=to_timestamp(row.created_at),
        update_time=to_timestamp(row.updated_at),
    )
    if row.accrual_start_date is not None:
        message.accrual_start_date.CopyFrom(to_date(row.accrual_start_date))
    return message


def distribution(row: Row, tiers: Sequence[Row], paid_minor: int) -> distributions_pb2.Distribution:
    return distributions_pb2.Distribution(
        distribution_id=row.distribution_id,
        offering_id=row.offering_id,
        type=row.type,
        amount=_money(row.amount_minor, row),
        distribution_date=to_date(row.distribution_date),
        description=row.description,
        status=row.status,
        tier_totals=[
            distributions_pb2.Distribution.TierTotal(
                tier=tier.tier,
                investors_amount=_money(tier.investors_minor, row),
                sponsor_amount=_money(tier.sponsor_minor, row),
                working=tier.working,
            )
            for tier in tiers
        ],
        content_hash=row.content_hash,
        allocation_count=row.allocation_count,
        paid_amount=_money(paid_minor, row),
        failure=row.failure,
        created_by=row.created_by,
        submitted_by=row.submitted_by or "",
        approved_by=row.approved_by or "",
        create_time=to_timestamp(row.created_at),
        update_time=to_timestamp(row.updated_at),
    )


def allocation(row: Row) -> distributions_pb2.Allocation:
    return distributions_pb2.Allocation(
        allocation_id=row.allocation_id,
        distribution_id=row.distribution_id,
        party_id=row.party_id,
        payee_type=row.payee_type,
        return_of_capital=_money(row.return_of_capital_minor, row),
        preferred_return=_money(row.preferred_return_minor, row),
        catch_up=_money(row.catch_up_minor, row),
        split=_money(row.split_minor, row),
        total=_money(row.total_minor, row),
        status=row.status,
        transaction_id=row.transaction_id,
        attempts=row.attempts,
        failure=row.failure,
        update_time=to_timestamp(row.updated_at),
    )


def _money(amount_minor: int, row: Row) -> money_pb2.Money:
    return money_pb2.Money(currency_code=row.currency, amount_minor=amount_minor)
