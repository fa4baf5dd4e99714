"""Payouts that another service decided on: up to 1000 at once, each created or refused by itself, and only once.

The key of an item belongs to its organization. The first decision about it is kept for good, a refusal as well: a
repeated item gets it again. A refund goes back to where the money came from; which one waits for a second person, and
why, say the reasons of domain/types.py, all that hold (commands/refund_reasons.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from realco.distributions.v1.payout_orders_pb2 import PayoutOrder
from realco.transactions.v1 import payouts_pb2
from realco.transactions.v1 import transactions_pb2 as pb

from services.chassis.calls.auth import Principal, current_principal
from services.chassis.calls.batch import Outcome, build_results
from services.chassis.calls.wire import copy_without
from services.chassis.data.once import fingerprint_of
from services.chassis.data.sql import Row
from services.chassis.data.transaction import Tx
from services.chassis.process.telemetry import log
from services.chassis.values.errors import DomainError, InvalidField
from services.chassis.values.failure import Failure, make_failure, read_failure, write_failure
from services.chassis.values.ids import new_id
from services.chassis.values.money import Money
from services.chassis.values.refusals import IdempotencyKeyReused
from services.chassis.values.session import Session
from services.transactions import messages
from services.transactions.clients import Distributions
from services.transactions.commands.bank_accounts import block_altered_accounts
from services.transactions.commands.refund_reasons import (
    RefundFacts,
    join_reasons,
    list_refund_reasons,
    read_refund_facts,
)
from services.transactions.domain.bank_accounts import BankAccount, check_usable, list_payee_makers
from services.transactions.domain.decisions import check_carries
from services.transactions.domain.exceptions import About
from services.transactions.domain.rails import RAILS, Rail, choose_payout_rail
from services.transactions.domain.refunds import (
    choose_refund_account,
    explain_refund,
    list_by_account,
    list_card_payments,
)
from services.transactions.domain.refusals import NoPayoutBankAccount, PayoutNotOrdered
from services.transactions.domain.returns import spell_failure
from services.transactions.domain.transaction import Transaction
from services.transactions.domain.types import TYPES, TransactionType
from services.transactions.domain.unpaid_payouts import build_owed, is_refused_for_good
from services.transactions.providers.choice import ProviderChoice
from services.transactions.store import bank_accounts, moves, payout_requests
from services.transactions.store import transactions as store
from services.transactions.store.unpaid_payouts import report_refused

Item = payouts_pb2.BatchCreatePayoutsRequest.Item
# Who decided on an order, and in which session it was asked for.
_SAID_BY_DISTRIBUTIONS_ALONE = (
    "refund_approved",
    "sign_in_time",
    "api_key_id",
    "makers_and_checkers",
    "released_amount",
    "has_entries_by_hand",
)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to become of a new item: a transaction to this account, or a refusal.

    Args:
        account: None where its rail pays to none.
        refunded: What a refund by card gives back.
        approval_reason: Why a second person approves it, if one does: all that holds.
        failure: The refusal.
    """

    item: Item
    transaction_id: str
    rail: Rail
    account: BankAccount | None
    refunded: Transaction | None
    approval_reason: str | None
    failure: Failure | None


class _Way(NamedTuple):
    """Where a payout goes.

    Args:
        account_id: None for the party's default, where the rail pays to an account.
        approval_reason: Why a second person approves it, if one does: all that holds.
        refunded: What a refund by card gives back.
        refusal: Why it cannot go there.
    """

    rail: Rail
    account_id: str | None
    approval_reason: str | None
    refunded: Transaction | None = None
    refusal: DomainError | None = None


async def check_ordered(
    distributions: Distributions, request: payouts_pb2.BatchCreatePayoutsRequest
) -> Mapping[str, PayoutOrder]:
    """Whether distributions, asked itself, ordered each of these payouts, with these words and for the caller's person.

    A call in its name shows only its key, so nothing of the payout is taken on the caller's word.

    Returns:
        What distributions says of each, by its key.

    Raises:
        PayoutNotOrdered, Unavailable
    """
    orders = await distributions.batch_get_payout_orders([item.idempotency_key for item in request.items])
    known, person = {order.idempotency_key: order for order in orders}, current_principal().person
    for item in request.items:
        order = known.get(item.idempotency_key)
        if order is None or copy_without(order, *_SAID_BY_DISTRIBUTIONS_ALONE) != _to_order(item, person):
            message = "The distributions service has not ordered this payout."
            log.error("payout_not_ordered", idempotency_key=item.idempotency_key, party_id=item.party_id)
            raise PayoutNotOrdered(message, idempotency_key=item.idempotency_key)
    return known


def _to_order(item: Item, person: str) -> PayoutOrder:
    """The order as the caller has it."""
    order = PayoutOrder(type=_type_of(item).name, amount=item.amount, ordered_by=person)
    for name in ("idempotency_key", "escrow_account_id", "party_id", "description"):
        setattr(order, name, getattr(item, name))
    for name in ("bank_account_id", "investment_id", "distribution_id", "allocation_id"):
        if item.HasField(name):
            setattr(order, name, getattr(item, name))
    if item.HasField("payment_method"):
        order.payment_method = _rail_of(item).payment_method
    return order


async def batch_create_payouts(
    tx: Tx,
    request: payouts_pb2.BatchCreatePayoutsRequest,
    orders: Mapping[str, PayoutOrder],
    now: datetime,
    *,
    choice: ProviderChoice,
) -> payouts_pb2.BatchCreatePayoutsResponse:
    """
    Args:
        orders: What distributions says of each, by its key.
        choice: Who carries them.
    """
    principal = current_principal()
    keys = [item.idempotency_key for item in request.items]
    known = await payout_requests.list_payout_requests(tx, keys)
    plans = await _plan_items(tx, [item for item in request.items if item.idempotency_key not in known], orders, now)
    claimed = await payout_requests.insert_payout_requests(
        tx, [_build_request_row(plan, principal.org_id, now) for plan in plans]
    )
    rows = [
        _build_row(plan, principal, orders[plan.item.idempotency_key], choice)
        for plan in plans
        if plan.failure is None and plan.item.idempotency_key in claimed
    ]
    if rows:
        await moves.insert_transactions(tx, rows, due_ms=0, actor=principal.person, now=now)
    _report_refused(tx, [plan for plan in plans if plan.item.idempotency_key in claimed], orders, now)
    # Those that another request took meanwhile are known by now as well.
    known = await payout_requests.list_payout_requests(tx, keys)
    ids = [row.transaction_id for row in known.values() if row.transaction_id is not None]
    created = await store.list_transactions(tx, ids)
    outcomes = [
        _read_outcome(item, known[item.idempotency_key], created, replayed=item.idempotency_key not in claimed)
        for item in request.items
    ]
    return payouts_pb2.BatchCreatePayoutsResponse(
        results=build_results(payouts_pb2.PayoutResult, request.items, outcomes)
    )


async def _plan_items(tx: Tx, items: Sequence[Item], orders: Mapping[str, PayoutOrder], now: datetime) -> list[_Plan]:
    chosen = await _choose_ways(tx, items, orders)
    named = await bank_accounts.list_bank_accounts(tx, {way.account_id for way in chosen if way.account_id})
    defaults, altered = await bank_accounts.list_default_accounts(
        tx, {item.party_id for item, way in zip(items, chosen, strict=True) if not way.account_id}
    )
    numbered = [(new_id("txn"), item, way) for item, way in zip(items, chosen, strict=True)]
    hidden = {
        transaction_id: altered[item.party_id]
        for transaction_id, item, way in numbered
        if way.rail.pays_to_account and not way.account_id and item.party_id in altered
    }
    blocked = await block_altered_accounts(tx, hidden, now)
    plans = []
    for transaction_id, item, (rail, account_id, reason, given_back, refused) in numbered:
        account = named.get(account_id) if account_id else defaults.get(item.party_id)
        failure = blocked.get(transaction_id)
        if failure is None and (refusal := refused or _find_refusal(item, rail, account_id, account)) is not None:
            failure = make_failure(refusal)
        account = account if rail.pays_to_account else None
        plans.append(_Plan(item, transaction_id, rail, account, given_back, reason, failure))
    return plans


async def _choose_ways(tx: Tx, items: Sequence[Item], orders: Mapping[str, PayoutOrder]) -> list[_Way]:
    facts = await read_refund_facts(tx, {item.investment_id for item in items if _type_of(item).gives_back})
    return [_choose_way(item, facts, orders[item.idempotency_key]) for item in items]


def _rail_of(item: Item) -> Rail:
    if not item.HasField("payment_method"):
        return choose_payout_rail(item.amount.currency_code)
    return RAILS[pb.Transaction.PaymentMethod.Name(item.payment_method)]


def _type_of(item: Item) -> TransactionType:
    return TYPES[pb.Transaction.Type.Name(item.type)]


def _choose_way(item: Item, facts: RefundFacts, order: PayoutOrder) -> _Way:
    named, wanted, rail = item.bank_account_id or None, _type_of(item), _rail_of(item)
    if not wanted.gives_back:
        return _Way(rail, named, wanted.approval_reason)
    minor, received = item.amount.amount_minor, facts.list_received(item.party_id, item.investment_id)
    reasons = list_refund_reasons(item.party_id, item.investment_id, minor, order, facts)
    if received is None or not order.HasField("released_amount"):
        return _Way(rail, named, join_reasons(reasons))
    is_approved, given_back = order.refund_approved, facts.given_back
    if not named and not item.HasField("payment_method"):
        cards = list_card_payments(received, given_back.of_payments, given_back.failed)
        if (card := next(iter(cards), None)) is not None:
            reason = join_reasons(card.explain(is_approved=is_approved) + reasons)
            return _Way(card.row.rail, None, reason, card.row, card.find_refusal(minor))
        received = list_by_account(received)
    by_account = list_by_account(received)
    # Whatever it came from, by a rail that pays to no account it does not go back there.
    chosen = choose_refund_account(named, by_account) if rail.pays_to_account else named
    return _Way(rail, chosen, join_reasons(explain_refund(chosen, received, is_approved=is_approved) + reasons))


def _find_refusal(item: Item, rail: Rail, account_id: str | None, account: BankAccount | None) -> DomainError | None:
    try:
        check_carries(rail, item.amount.currency_code)
    except DomainError as refusal:
        return refusal
    if not rail.pays_to_account:
        fields = {"bank_account_id": f"must not be set: {rail.payment_method} pays to none"}
        return InvalidField("The payout names a bank account.", fields=fields) if account_id else None
    if account is None and not account_id:
        message = "The party has no confirmed bank account for payouts."
        return NoPayoutBankAccount(message, party_id=item.party_id)
    try:
        check_usable(account, item.party_id, is_inbound=False)
    except DomainError as refusal:
        return refusal
    return None


def _report_refused(tx: Tx, plans: Sequence[_Plan], orders: Mapping[str, PayoutOrder], now: datetime) -> None:
    for plan in plans:
        if plan.failure is not None and is_refused_for_good(plan.failure):
            about = _describe_refused(plan, orders[plan.item.idempotency_key])
            report_refused(tx, _type_of(plan.item), about, spell_failure(plan.failure), now)


def _describe_refused(plan: _Plan, order: PayoutOrder) -> About:
    item = plan.item
    return build_owed(
        _type_of(item),
        Money.from_proto(item.amount),
        escrow_account_id=item.escrow_account_id,
        party_id=item.party_id,
        investment_id=item.investment_id or None,
        distribution_id=item.distribution_id or None,
        allocation_id=item.allocation_id or None,
        order_id=item.idempotency_key,
        bank_account_id=None if plan.account is None else plan.account.bank_account_id,
        makers={order.ordered_by, *order.makers_and_checkers},
    )


def _build_request_row(plan: _Plan, org_id: str, now: datetime) -> dict[str, Any]:
    return {
        "org_id": org_id,
        "idempotency_key": plan.item.idempotency_key,
        "fingerprint": _fingerprint_of(plan.item),
        "transaction_id": plan.transaction_id if plan.failure is None else None,
        "failure": None if plan.failure is None else write_failure(plan.failure),
        "created_at": now,
    }


def _fingerprint_of(item: Item) -> bytes:
    """Of what is paid, whatever the words are."""
    return fingerprint_of(copy_without(item, "description"))


def _build_row(plan: _Plan, principal: Principal, order: PayoutOrder, choice: ProviderChoice) -> dict[str, Any]:
    item, account = plan.item, plan.account
    return {
        "org_id": principal.org_id,
        "transaction_id": plan.transaction_id,
        "type": _type_of(item).name,
        "payment_method": plan.rail.payment_method,
        "amount_minor": item.amount.amount_minor,
        "currency": item.amount.currency_code,
        "escrow_account_id": item.escrow_account_id,
        "party_id": item.party_id,
        "bank_account_id": account and account.bank_account_id,
        "account_number_digest": account and account.account_number_digest,
        "approval_reason": plan.approval_reason,
        "investment_id": item.investment_id or None,
        "distribution_id": item.distribution_id or None,
        "allocation_id": item.allocation_id or None,
        "description": item.description or None,
        **_choose_carrier(plan, principal.org_id, choice),
        "created_by": principal.person,
        "makers_and_checkers": sorted(list_payee_makers(account, is_inbound=False).union(order.makers_and_checkers)),
        **_read_session(order)._asdict(),
    }


def _choose_carrier(plan: _Plan, org_id: str, choice: ProviderChoice) -> dict[str, Any]:
    """Who carries it; of a refund to a card who took that, and no number of it beside its last four digits."""
    if plan.refunded is None:
        return {"provider": choice.choose(org_id, plan.rail, is_inbound=False)}
    paid = plan.refunded
    card = {"card_brand": paid.card_brand, "card_last4": paid.card_last4}
    return {"provider": paid.provider, "refunded_transaction_id": paid.transaction_id, **card}


def _read_session(order: PayoutOrder) -> Session:
    """In which the person asked for it, as distributions says."""
    return Session(
        order.sign_in_time.seconds if order.HasField("sign_in_time") else None,
        order.api_key_id if order.HasField("api_key_id") else None,
    )


def _read_outcome(
    item: Item, known: Row, created: Mapping[str, Transaction], *, replayed: bool
) -> Outcome[pb.Transaction | Failure]:
    """What was decided about the item's key, by this request unless `replayed`."""
    if known.fingerprint != _fingerprint_of(item):
        message = "The idempotency_key was used with another payout."
        return Outcome(IdempotencyKeyReused(message, idempotency_key=item.idempotency_key))
    refusal = read_failure(known.failure)
    return Outcome(refusal or messages.to_transaction(created[known.transaction_id]), replayed)
