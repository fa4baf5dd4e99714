"""What other services order of the book: nobody is believed that it was decided, whoever knows it is asked.

compliance heard the persons who decided, and transactions knows what it is about to pay. They are asked before anything
is handed to the poster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from realco.compliance.v1.notary_pb2 import Movement
from realco.escrow.v1 import journal_pb2 as journal_pb
from realco.escrow.v1 import postings_pb2 as postings_pb
from realco.transactions.v1.payouts_pb2 import Payout

from services.chassis.calls.auth import current_principal
from services.chassis.calls.batch import build_results
from services.chassis.calls.peers import find_refusal
from services.chassis.data.once import fingerprint_of
from services.chassis.process.telemetry import log
from services.chassis.values.ids import new_id
from services.escrow.clients import Transactions
from services.escrow.dependencies import Dependencies
from services.escrow.domain.chart import LedgerAccountKind
from services.escrow.domain.journal import (
    EntryType,
    NewEntry,
    PostingKey,
    digest_scope,
)
from services.escrow.domain.movements import build_declaration_legs, build_release_legs
from services.escrow.domain.refusals import PayoutNotKnown
from services.escrow.domain.stages import Moving, build_payout_legs
from services.escrow.domain.types import PAYOUTS_BY_SOURCE
from services.escrow.messages import read_parts

Item = postings_pb.BatchBookPayoutsRequest.Item


async def release_subscriptions(
    dependencies: Dependencies, request: postings_pb.ReleaseSubscriptionsRequest
) -> journal_pb.JournalEntry:
    """Raises MovementNotDecided, or as the poster does."""
    entry = _build_release(request)
    decided = _build_movement(request, Movement.CLOSE_OFFERING, request.offering_id, request.subscriptions)
    return await _post_decided(dependencies, entry, decided)


async def declare_distribution(
    dependencies: Dependencies, request: postings_pb.DeclareDistributionRequest
) -> journal_pb.JournalEntry:
    """Raises MovementNotDecided, or as the poster does."""
    entry = _build_declaration(request)
    decided = _build_movement(request, Movement.APPROVE_DISTRIBUTION, request.distribution_id, request.payables)
    return await _post_decided(dependencies, entry, decided)


async def _post_decided(dependencies: Dependencies, entry: NewEntry, decided: Movement) -> journal_pb.JournalEntry:
    """A decision is good for a while, and what was booked by it for ever: asked again, it is answered again."""
    refusal = await find_refusal(dependencies.peers.compliance.check_movement(decided))
    if refusal is not None:
        [known] = await dependencies.poster.post([entry], validate_only=True)
        if not known.replayed:
            raise refusal
    return await dependencies.poster.post_one(entry)


async def batch_book_payouts(
    dependencies: Dependencies, request: postings_pb.BatchBookPayoutsRequest
) -> postings_pb.BatchBookPayoutsResponse:
    """Raises PayoutNotKnown, or as the poster does."""
    await check_payouts(dependencies.peers.transactions, request.items)
    outcomes = await dependencies.poster.post([_build_payout_entry(item) for item in request.items])
    return postings_pb.BatchBookPayoutsResponse(
        results=build_results(journal_pb.PostingResult, request.items, outcomes)
    )


async def check_payouts(peer: Transactions, items: Sequence[Item]) -> None:
    """Returns if transactions is about to pay exactly these. Raises PayoutNotKnown, Unavailable."""
    found = await peer.batch_get_payouts([item.transaction_id for item in items])
    known = {payout.transaction_id: payout for payout in found}
    for item in items:
        if known.get(item.transaction_id) != build_payout(item):
            message = "The transactions service is not about to pay this."
            log.error("payout_not_known", transaction_id=item.transaction_id, party_id=item.party_id)
            raise PayoutNotKnown(message, transaction_id=item.transaction_id)


def build_payout(item: Item) -> Payout:
    """What transactions says of a payout that it is about to have booked so."""
    return Payout(
        transaction_id=item.transaction_id,
        idempotency_key=item.idempotency_key,
        escrow_account_id=item.escrow_account_id,
        ledger_account_kind=journal_pb.LedgerAccount.Kind.Name(item.source),
        party_id=item.party_id,
        amount=item.amount,
        investment_id=item.investment_id if item.HasField("investment_id") else None,
        distribution_id=item.distribution_id if item.HasField("distribution_id") else None,
    )


def _build_movement(
    request: Any, kind: Movement.Kind, resource_id: str, parts: Sequence[postings_pb.PartyAmount]
) -> Movement:
    """What persons must have decided: its kind says which ledger accounts exactly these amounts leave."""
    return Movement(
        kind=kind,
        resource_id=resource_id,
        content_hash=request.idempotency_key,
        escrow_account_id=request.escrow_account_id,
        lines=[Movement.Line(party_id=part.party_id, amount=part.amount) for part in parts],
    )


def _build_release(request: postings_pb.ReleaseSubscriptionsRequest) -> NewEntry:
    return _build_for_service(
        request,
        type=EntryType.RELEASE,
        description=f"Closing of {request.offering_id}",
        legs=build_release_legs(read_parts(request.subscriptions, "subscriptions")),
        currency=request.subscriptions[0].amount.currency_code,
    )


def _build_declaration(request: postings_pb.DeclareDistributionRequest) -> NewEntry:
    return _build_for_service(
        request,
        type=EntryType.DISTRIBUTION,
        description=f"Declaration of {request.distribution_id}",
        legs=build_declaration_legs(read_parts(request.payables, "payables")),
        currency=request.payables[0].amount.currency_code,
        distribution_id=request.distribution_id,
    )


def _build_payout_entry(item: Item) -> NewEntry:
    payout = PAYOUTS_BY_SOURCE[LedgerAccountKind(journal_pb.LedgerAccount.Kind.Name(item.source))]
    return _build_for_service(
        item,
        type=payout.entry_type,
        description=f"{payout.label} put in transit",
        legs=build_payout_legs(Moving(payout, item.party_id, item.amount.amount_minor)),
        currency=item.amount.currency_code,
        transaction_id=item.transaction_id,
        investment_id=item.investment_id or None,
        distribution_id=item.distribution_id or None,
    )


def _build_for_service(request: Any, **values: Any) -> NewEntry:
    """The entry that another service asks for, under the request's own key."""
    principal = current_principal()
    return NewEntry(
        org_id=principal.org_id,
        escrow_account_id=request.escrow_account_id,
        journal_entry_id=new_id("je"),
        key=PostingKey(digest_scope("rpc", principal.key_owner, request.idempotency_key), fingerprint_of(request)),
        idempotency_key=request.idempotency_key,
        created_by=principal.person,
        asks_for_seals=True,
        **values,
    )
