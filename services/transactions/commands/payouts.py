"""Payouts that another service decided on: up to 1000 at once, each created or refused by itself, and only once.

The key of an item belongs to its organization. The first decision about it is kept for good, a refusal as well: a
repeated item gets it again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from realco.transactions.v1 import transactions_pb2 as pb
from realco.type.v1.failure_pb2 import Failure
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import Principal, current_principal
from services.chassis.values.ids import new_id
from services.transactions import messages
from services.transactions.domain.rails import PAYOUT_METHOD, RAILS
from services.transactions.domain.transaction import Transaction
from services.transactions.store import bank_accounts
from services.transactions.store import transactions as store
from services.transactions.tables import payout_requests, transactions

Item = pb.BatchCreatePayoutsRequest.Item
Result = pb.BatchCreatePayoutsResponse.Result
_r = payout_requests.c


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to become of a new item: a transaction, or a refusal."""

    item: Item
    transaction_id: str
    bank_account_id: str
    refusal: Failure | None


async def create_payouts(
    tx: AsyncConnection, request: pb.BatchCreatePayoutsRequest, now: datetime
) -> pb.BatchCreatePayoutsResponse:
    principal = current_principal()
    first = {item.idempotency_key: item for item in reversed(request.items)}  # the first of a repeated key
    known = await _known(tx, principal.org_id, first)
    plans = await _plan(tx, principal.org_id, [item for key, item in first.items() if key not in known])
    claimed = await _claim(tx, principal.org_id, plans, now)
    rows = [_row(plan, principal) for plan in claimed if plan.refusal is None]
    if rows:
        await store.insert(tx, rows, due_ms=0, actor=principal.person, now=now)
    # Those that another request took meanwhile are known by now as well.
    known = await _known(tx, principal.org_id, first)
    created = await _transactions(tx, principal.org_id, [row.transaction_id for row in known.values()])
    results = [_result(item, known[item.idempotency_key], created) for item in request.items]
    return pb.BatchCreatePayoutsResponse(results=results)


async def _known(tx: AsyncConnection, org_id: str, keys: Mapping[str, Item]) -> dict[str, sa.Row[Any]]:
    statement = sa.select(payout_requests).where(_r.org_id == org_id, _r.idempotency_key.in_(keys))
    return {row.idempotency_key: row for row in await tx.execute(statement)}


async def _plan(tx: AsyncConnection, org_id: str, items: Sequence[Item]) -> list[_Plan]:
    named = await bank_accounts.list_by_id(tx, org_id, {item.bank_account_id for item in items if item.bank_account_id})
    defaults = await bank_accounts.list_defaults(
        tx, org_id, {item.party_id for item in items if not item.bank_account_id}
    )
    plans = []
    for item in items:
        account = named.get(item.bank_account_id) if item.bank_account_id else defaults.get(item.party_id)
        refusal = _refusal(item, account)
        account_id = "" if account is None else account.bank_account_id
        plans.append(_Plan(item, new_id("txn"), account_id, refusal))
    return plans


def _refusal(item: Item, account: sa.Row[Any] | None) -> Failure | None:
    if account is None and not item.bank_account_id:
        message = "The party has no bank account for payouts."
        return Failure(code="NO_PAYOUT_BANK_ACCOUNT", message=message, metadata={"party_id": item.party_id})
    if account is None or account.party_id != item.party_id:
        message = "There is no such bank account of this party."
        return Failure(code="BANK_ACCOUNT_NOT_FOUND", message=message)
    if account.status != "ACTIVE":
        facts = {"bank_account_id": account.bank_account_id, "status": account.status}
        return Failure(code="BANK_ACCOUNT_NOT_USABLE", message=f"The account is {account.status}.", metadata=facts)
    return None


async def _claim(tx: AsyncConnection, org_id: str, plans: Sequence[_Plan], now: datetime) -> list[_Plan]:
    """Takes the keys, in their order so that no two batches wait for each other; returns the plans that got theirs."""
    if not plans:
        return []
    rows = [
        {
            "org_id": org_id,
            "idempotency_key": plan.item.idempotency_key,
            "fingerprint": _fingerprint(plan.item),
            "transaction_id": plan.transaction_id if plan.refusal is None else None,
            "refusal": None if plan.refusal is None else plan.refusal.SerializeToString(deterministic=True),
            "created_at": now,
        }
        for plan in sorted(plans, key=lambda plan: plan.item.idempotency_key)
    ]
    statement = pg.insert(payout_requests).values(rows).on_conflict_do_nothing().returning(_r.idempotency_key)
    taken = set(await tx.scalars(statement))
    return [plan for plan in plans if plan.item.idempotency_key in taken]


def _row(plan: _Plan, principal: Principal) -> dict[str, Any]:
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


async def _transactions(tx: AsyncConnection, org_id: str, ids: Sequence[str | None]) -> dict[str, Transaction]:
    t = transactions.c
    statement = store.selected().where(t.org_id == org_id, t.transaction_id.in_([each for each in ids if each]))
    return {row.transaction_id: store.read(row) for row in await tx.execute(statement)}


def _result(item: Item, known: sa.Row[Any], created: Mapping[str, Transaction]) -> pb.BatchCreatePayoutsResponse.Result:
    if known.fingerprint != _fingerprint(item):
        message = "The idempotency_key was used with another payout."
        reused = Failure(
            code="IDEMPOTENCY_KEY_REUSED", message=message, metadata={"idempotency_key": item.idempotency_key}
        )
        return Result(idempotency_key=item.idempotency_key, failure=reused)
    if known.refusal is not None:
        return Result(idempotency_key=item.idempotency_key, failure=Failure.FromString(known.refusal))
    transaction = messages.to_transaction(created[known.transaction_id])
    return Result(idempotency_key=item.idempotency_key, transaction=transaction)


def _fingerprint(item: Item) -> bytes:
    return hashlib.sha256(item.SerializeToString(deterministic=True)).digest()
