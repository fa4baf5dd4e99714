"""Payouts that another service decided on: up to 1000 at once, each created or refused by itself, and only once.

The key of an item belongs to its organization. The first decision about it is kept for good, a refusal as well: a
repeated item gets it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from realco.transactions.v1 import transactions_pb2 as pb
from realco.type.v1.failure_pb2 import Failure
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import Principal, current_principal
from services.chassis.calls.wire import to_failure
from services.chassis.data.once import IdempotencyKeyReused, fingerprint_of
from services.chassis.values.errors import DomainError
from services.chassis.values.failure import make_failure
from services.chassis.values.ids import new_id
from services.transactions import messages
from services.transactions.commands.bank_accounts import check_usable
from services.transactions.domain.rails import PAYOUT_METHOD, RAILS
from services.transactions.domain.refusals import NoPayoutBankAccount
from services.transactions.domain.transaction import Transaction
from services.transactions.store import bank_accounts, payout_requests
from services.transactions.store import transactions as store

Item = pb.BatchCreatePayoutsRequest.Item
Result = pb.BatchCreatePayoutsResponse.Result


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to become of a new item: a transaction, or a refusal."""

    item: Item
    transaction_id: str
    bank_account_id: str
    refusal: DomainError | None


async def batch_create_payouts(
    tx: AsyncConnection, request: pb.BatchCreatePayoutsRequest, now: datetime
) -> pb.BatchCreatePayoutsResponse:
    principal = current_principal()
    first = {item.idempotency_key: item for item in reversed(request.items)}  # the first of a repeated key
    known = await payout_requests.list_payout_requests(tx, principal.org_id, first)
    plans = await _plan_items(tx, principal.org_id, [item for key, item in first.items() if key not in known])
    claimed = await payout_requests.insert_payout_requests(
        tx, [_build_request_row(plan, principal.org_id, now) for plan in plans]
    )
    rows = [
        _build_row(plan, principal) for plan in plans if plan.refusal is None and plan.item.idempotency_key in claimed
    ]
    if rows:
        await store.insert_transactions(tx, rows, due_ms=0, actor=principal.person, now=now)
    # Those that another request took meanwhile are known by now as well.
    known = await payout_requests.list_payout_requests(tx, principal.org_id, first)
    ids = [row.transaction_id for row in known.values() if row.transaction_id is not None]
    created = await store.list_transactions(tx, principal.org_id, ids)
    results = [_build_result(item, known[item.idempotency_key], created) for item in request.items]
    return pb.BatchCreatePayoutsResponse(results=results)


async def _plan_items(tx: AsyncConnection, org_id: str, items: Sequence[Item]) -> list[_Plan]:
    named = await bank_accounts.list_bank_accounts(
        tx, org_id, {item.bank_account_id for item in items if item.bank_account_id}
    )
    defaults = await bank_accounts.list_default_accounts(
        tx, org_id, {item.party_id for item in items if not item.bank_account_id}
    )
    plans = []
    for item in items:
        account = named.get(item.bank_account_id) if item.bank_account_id else defaults.get(item.party_id)
        refusal = _find_refusal(item, account)
        account_id = "" if account is None else account.bank_account_id
        plans.append(_Plan(item, new_id("txn"), account_id, refusal))
    return plans


def _find_refusal(item: Item, account: sa.Row[Any] | None) -> DomainError | None:
    if account is None and not item.bank_account_id:
        return NoPayoutBankAccount("The party has no bank account for payouts.", party_id=item.party_id)
    try:
        check_usable(account, item.party_id)
    except DomainError as refusal:
        return refusal
    return None


def _build_request_row(plan: _Plan, org_id: str, now: datetime) -> dict[str, Any]:
    refusal = None if plan.refusal is None else to_failure(make_failure(plan.refusal))
    return {
        "org_id": org_id,
        "idempotency_key": plan.item.idempotency_key,
        "fingerprint": fingerprint_of(plan.item),
        "transaction_id": plan.transaction_id if refusal is None else None,
        "refusal": None if refusal is None else refusal.SerializeToString(deterministic=True),
        "created_at": now,
    }


def _build_row(plan: _Plan, principal: Principal) -> dict[str, Any]:
    item = plan.item
    return {
        "org_id": principal.org_id,
        "transaction_id": plan.transaction_id,
        "type": pb.Transaction.Type.Name(item.type),
        "payment_method": PAYOUT_METHOD,
        "amount_minor": item.amount.amount_minor,
        "currency": item.amount.currency_code,
        "escrow_account_id": item.escrow_account_id,
        "party_id": item.party_id,
        "bank_account_id": plan.bank_account_id,
        "investment_id": item.investment_id,
        "distribution_id": item.distribution_id,
        "allocation_id": item.allocation_id,
        "description": item.description,
        "provider": RAILS[PAYOUT_METHOD].provider,
        "created_by": principal.person,
    }


def _build_result(item: Item, known: sa.Row[Any], created: Mapping[str, Transaction]) -> Result:
    if known.fingerprint != fingerprint_of(item):
        message = "The idempotency_key was used with another payout."
        reused = IdempotencyKeyReused(message, idempotency_key=item.idempotency_key)
        return Result(idempotency_key=item.idempotency_key, failure=to_failure(make_failure(reused)))
    if known.refusal is not None:
        return Result(idempotency_key=item.idempotency_key, failure=Failure.FromString(known.refusal))
    transaction = messages.to_transaction(created[known.transaction_id])
    return Result(idempotency_key=item.idempotency_key, transaction=transaction)
