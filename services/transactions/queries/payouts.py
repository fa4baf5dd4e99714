"""What other services ask of payouts, and what whoever decides that money leaves reads before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from realco.transactions.v1 import payouts_pb2

from services.chassis.calls.wire import from_timestamp, to_explanation
from services.chassis.data.transaction import Tx
from services.chassis.values.explanation import Explanation, explain_at_source
from services.transactions import messages
from services.transactions.domain.explanations import explain_cards, explain_hidden, explain_take_back
from services.transactions.domain.open_questions import explain_exceptions, explain_exceptions_of_nobody
from services.transactions.domain.received_money import (
    RECEIVED_WITHIN,
    explain_altered_sources,
    explain_came_back,
    explain_more_sources,
    explain_received,
    explain_taken_back,
)
from services.transactions.domain.refunds import (
    CardPayment,
    choose_refund_account,
    list_by_account,
    list_card_payments,
)
from services.transactions.domain.reversal_rules import explain_taken_back_payouts
from services.transactions.domain.transaction import Transaction
from services.transactions.store import bank_accounts as account_store
from services.transactions.store import transactions as store
from services.transactions.store.contributions import list_received, sum_given_back
from services.transactions.store.exceptions import list_exceptions_of, list_exceptions_of_nobody
from services.transactions.store.received_money import read_came_back, read_received_since, trace_sources
from services.transactions.store.taken_back import list_drawn_back, list_taken_back

# Of so many escrow accounts that money was transferred from it is told what it rested on there.
_SOURCES_MAX = 10


async def batch_get_payouts(
    tx: Tx, request: payouts_pb2.BatchGetPayoutsRequest, _: datetime
) -> payouts_pb2.BatchGetPayoutsResponse:
    going_out = await store.list_payouts_going_out(tx, request.transaction_ids)
    return payouts_pb2.BatchGetPayoutsResponse(payouts=map(messages.to_payout, going_out))


async def get_received_money(
    tx: Tx, request: payouts_pb2.GetReceivedMoneyRequest, now: datetime
) -> payouts_pb2.ReceivedMoney:
    deadline = from_timestamp(request.deadline_time) if request.HasField("deadline_time") else None
    found = await explain_received_money(tx, request.escrow_account_id, now, deadline)
    return payouts_pb2.ReceivedMoney(explanations=map(to_explanation, found))


async def explain_received_money(
    tx: Tx, escrow_account_id: str, now: datetime, deadline: datetime | None = None
) -> list[Explanation]:
    """What the money of an escrow account rests on, for whoever decides that some of it leaves."""
    since = now - RECEIVED_WITHIN
    found = await read_received_since(tx, escrow_account_id, min(since, deadline or since), since, deadline)
    found = replace(found, drawn_back=await list_drawn_back(tx, escrow_account_id, now))
    explanations = explain_received(found, now, deadline)
    explanations += explain_came_back(await read_came_back(tx, escrow_account_id, since))
    explanations += explain_exceptions(await list_exceptions_of(tx, escrow_account_id), now)
    explanations += explain_exceptions_of_nobody(await list_exceptions_of_nobody(tx), now)
    sources = await trace_sources(tx, escrow_account_id, since)
    explanations += [explain_altered_sources()] if sources.has_altered else []
    for source in sources.escrow_account_ids[:_SOURCES_MAX]:
        there = await read_received_since(tx, source, since, since, None)
        there = replace(there, drawn_back=await list_drawn_back(tx, source, now))
        told = [
            *explain_received(there, now),
            *explain_taken_back(there),
            *explain_came_back(await read_came_back(tx, source, since)),
            *explain_exceptions(await list_exceptions_of(tx, source), now),
        ]
        explanations += (explain_at_source(source, each) for each in told)
    is_all = sources.is_all and len(sources.escrow_account_ids) <= _SOURCES_MAX
    return explanations if is_all else [*explanations, explain_more_sources()]


async def get_refund_preview(
    tx: Tx, request: payouts_pb2.GetRefundPreviewRequest, now: datetime
) -> payouts_pb2.RefundPreview:
    investment_ids = {part.investment_id for part in request.parts}
    known, given_back = await list_received(tx, investment_ids), await sum_given_back(tx, investment_ids)
    received: list[Sequence[Transaction] | None] = []
    to_cards: list[CardPayment] = []
    chosen: list[tuple[str, str | None]] = []
    for part in request.parts:
        rows = None if part.investment_id in given_back.altered else known.get((part.party_id, part.investment_id), [])
        received.append(rows)
        by_card = list_card_payments(rows or [], given_back.of_payments, given_back.failed)
        by_account = list_by_account(rows or [])
        to_cards += by_card
        if by_account or not by_card:  # what came by card alone goes to no account
            chosen.append((part.party_id, choose_refund_account(None, by_account)))
    named = await account_store.list_bank_accounts(tx, {account_id for _, account_id in chosen if account_id})
    defaults, altered = await account_store.list_default_accounts(
        tx, {party_id for party_id, account_id in chosen if not account_id}
    )
    hidden = {party_id for party_id, account_id in chosen if account_id and account_id not in named} | {*altered}
    accounts = {each.bank_account_id: each for each in (*named.values(), *defaults.values())}
    taken_back = await list_taken_back(tx, {part.party_id for part in request.parts}, now - RECEIVED_WITHIN)
    told = [
        *explain_cards(to_cards),
        *explain_take_back(received),
        *explain_taken_back_payouts(taken_back, now),
        *explain_hidden(hidden),
    ]
    return payouts_pb2.RefundPreview(
        card_party_ids=sorted({each.row.party_id for each in to_cards}),
        bank_accounts=map(messages.to_bank_account, accounts.values()),
        explanations=map(to_explanation, told),
    )


async def batch_get_payout_accounts(
    tx: Tx, request: payouts_pb2.BatchGetPayoutAccountsRequest, now: datetime
) -> payouts_pb2.BatchGetPayoutAccountsResponse:
    """Without the parties that have none, or of which nobody can say which it is."""
    defaults, altered = await account_store.list_default_accounts(tx, request.party_ids)
    first = await store.list_first_payouts(tx, [(each.party_id, each.bank_account_id) for each in defaults.values()])
    taken_back = (await list_taken_back(tx, defaults, now - RECEIVED_WITHIN)).payouts
    by_time = sorted(
        (row.reversal.settled_at, row.party_id) for row in taken_back if row.reversal and row.reversal.settled_at
    )
    drawn = {party_id: settled_at for settled_at, party_id in by_time}
    accounts = (
        messages.to_payout_account(each, first.get(each.bank_account_id), drawn.get(each.party_id))
        for each in defaults.values()
    )
    return payouts_pb2.BatchGetPayoutAccountsResponse(payout_accounts=accounts, altered_party_ids=sorted(altered))
