"""What other services order of the book: nobody is believed that it was decided, whoever knows it is asked.

compliance heard the persons who decided, and transactions knows what it is about to pay. They are asked before anything
is handed to the poster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, Final

from google.protobuf.message import Message
from realco.compliance.v1.notary_pb2 import Movement
from realco.escrow.v1 import journal_pb2 as journal_pb
from realco.escrow.v1 import postings_pb2 as postings_pb
from realco.transactions.v1.payouts_pb2 import Payout
from realco.transactions.v1.transactions_pb2 import Transaction

from services.chassis.calls.auth import current_principal
from services.chassis.calls.batch import build_results
from services.chassis.calls.peers import find_refusal
from services.chassis.calls.wire import from_enum
from services.chassis.data.database import Database
from services.chassis.data.once import fingerprint_of
from services.chassis.process.telemetry import log
from services.chassis.values.errors import DomainError
from services.chassis.values.ids import new_id
from services.escrow.clients import Transactions
from services.escrow.dependencies import Dependencies
from services.escrow.domain.journal import NewEntry, PostingKey, digest_scope
from services.escrow.domain.movements import CLOSING, DECLARATION, MovementKind
from services.escrow.domain.refusals import MovementGivenUp, PayoutNotKnown, PayoutUndone
from services.escrow.domain.stages import Moving, build_payout_legs
from services.escrow.domain.types import require_type
from services.escrow.messages import read_parts
from services.escrow.posting.booking import Outcome, give_up
from services.escrow.store import journal

Item = postings_pb.BatchBookPayoutsRequest.Item
_PARTY: Final = attrgetter("party_id")


async def release_subscriptions(
    dependencies: Dependencies, request: postings_pb.ReleaseSubscriptionsRequest
) -> journal_pb.JournalEntry:
    """Raises MovementNotDecided, MovementNotOrdered, or as the poster does."""
    shares = read_parts(request.subscriptions, "subscriptions")
    movement = _build_movement(request, CLOSING, request.offering_id, request.subscriptions)
    # What the bank took back and nobody has paid again is missing in the cash of everybody.
    return await _post_decided(dependencies, request, CLOSING, movement, shares, forbids_debts=True)


async def declare_distribution(
    dependencies: Dependencies, request: postings_pb.DeclareDistributionRequest
) -> journal_pb.JournalEntry:
    """Raises MovementNotDecided, MovementNotOrdered, or as the poster does."""
    shares, distribution_id = read_parts(request.payables, "payables"), request.distribution_id
    movement = _build_movement(request, DECLARATION, distribution_id, request.payables)
    return await _post_decided(dependencies, request, DECLARATION, movement, shares, distribution_id=distribution_id)


async def _post_decided(
    dependencies: Dependencies,
    request: Any,
    kind: MovementKind,
    movement: Movement,
    shares: Mapping[str, int],
    **values: Any,
) -> journal_pb.JournalEntry:
    """What was decided, compliance heard from the persons; that it is to be done now, distributions has written: before
    that it may yet come to nothing. What was booked by it is answered for ever.
    """
    build = partial(
        _build_for_service,
        request,
        movement,
        type=kind.entry_type,
        description=f"{kind.label} of {movement.resource_id}",
        legs=kind.build_legs(shares),
        currency=movement.lines[0].amount.currency_code,
        **values,
    )
    peers, poster = dependencies.peers, dependencies.poster
    refusal = await find_refusal(peers.compliance.check_movement(movement))
    try:
        ordered_by = await peers.distributions.check_movement_order(movement)
    except DomainError as not_ordered:
        if not_ordered.kind.transient:
            raise
        [known] = await poster.post([build(created_by="")], validate_only=True)
        if not known.replayed:
            raise not_ordered from None  # no verdict, whatever compliance says: the refusal would have no row
        return await poster.post_one(build(created_by=""))
    entry = build(created_by=ordered_by)
    if refusal is None:
        return await poster.post_one(entry)
    # Another call may have been let pass before, and be booking it just now: in the book one of them comes first.
    await give_up(dependencies.database, entry)
    try:
        return await poster.post_one(entry)
    except MovementGivenUp:
        raise refusal from None


async def batch_book_payouts(
    dependencies: Dependencies, request: postings_pb.BatchBookPayoutsRequest
) -> postings_pb.BatchBookPayoutsResponse:
    """Raises PayoutNotKnown, or as the poster does."""
    ordered_by = await check_payouts(dependencies.peers.transactions, request.items)
    entries = [_build_payout_entry(item, ordered_by[item.transaction_id]) for item in request.items]
    outcomes = await _refuse_undone(dependencies.database, await dependencies.poster.post(entries))
    return postings_pb.BatchBookPayoutsResponse(
        results=build_results(journal_pb.PostingResult, request.items, outcomes)
    )


async def _refuse_undone(database: Database, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """What was booked before under the same key, and taken back since, is no cover for a payment."""
    kept = [each.answer for each in outcomes if each.replayed and not isinstance(each.answer, DomainError)]
    if not kept:
        return list(outcomes)
    async with database.begin_snapshot() as tx:
        undone = await journal.list_reversed(tx, {entry.journal_entry_id for entry in kept})
    message = "The payout ended without being paid, and its entry was taken back. Order the payment anew if it is owed."
    return [
        Outcome(PayoutUndone(message, transaction_id=each.answer.transaction_id))
        if not isinstance(each.answer, DomainError) and each.answer.journal_entry_id in undone
        else each
        for each in outcomes
    ]


async def check_payouts(peer: Transactions, items: Sequence[Item]) -> dict[str, str]:
    """Who had each paid, by transaction, if transactions is about to pay exactly these.

    Raises: PayoutNotKnown, Unavailable.
    """
    found = await peer.batch_get_payouts([item.transaction_id for item in items])
    known = {payout.transaction_id: payout for payout in found}
    ordered_by = {payout.transaction_id: payout.ordered_by for payout in found}
    for item in items:
        if known.get(item.transaction_id) != build_payout(item, ordered_by.get(item.transaction_id, "")):
            message = "The transactions service is not about to pay this."
            log.error("payout_not_known", transaction_id=item.transaction_id, party_id=item.party_id)
            raise PayoutNotKnown(message, transaction_id=item.transaction_id)
    return ordered_by


def build_payout(item: Item, ordered_by: str) -> Payout:
    """What transactions says of a payout that it is about to have booked so."""
    return Payout(
        transaction_id=item.transaction_id,
        idempotency_key=item.idempotency_key,
        escrow_account_id=item.escrow_account_id,
        type=item.type,
        party_id=item.party_id,
        amount=item.amount,
        investment_id=item.investment_id if item.HasField("investment_id") else None,
        distribution_id=item.distribution_id if item.HasField("distribution_id") else None,
        ordered_by=ordered_by,
    )


def _build_movement(
    request: Any, kind: MovementKind, resource_id: str, parts: Sequence[postings_pb.PartyAmount]
) -> Movement:
    """What persons must have decided: its kind says which ledger accounts exactly these amounts leave.

    In whatever order its parts come, it is the same.
    """
    return Movement(
        kind=kind.name,
        resource_id=resource_id,
        content_hash=request.idempotency_key,
        escrow_account_id=request.escrow_account_id,
        lines=[Movement.Line(party_id=part.party_id, amount=part.amount) for part in sorted(parts, key=_PARTY)],
    )


def _build_payout_entry(item: Item, ordered_by: str) -> NewEntry:
    payout = require_type(from_enum(Transaction.Type, item.type))
    return _build_for_service(
        item,
        item,
        created_by=ordered_by,
        type=payout.entry_type,
        description=f"{payout.label} put in transit",
        legs=build_payout_legs(Moving(payout, item.party_id, item.amount.amount_minor)),
        currency=item.amount.currency_code,
        payee_party_id=item.party_id,
        transaction_id=item.transaction_id,
        investment_id=item.investment_id or None,
        distribution_id=item.distribution_id or None,
    )


def _build_for_service(request: Any, decided: Message, **values: Any) -> NewEntry:
    """The entry that another service asks for, under the request's own key.

    Args:
        decided: What makes another request under the key the same.
        created_by: Whom its owner names, asked at its own address. What a caller says of it is for the log alone.
    """
    principal = current_principal()
    return NewEntry(
        org_id=principal.org_id,
        escrow_account_id=request.escrow_account_id,
        journal_entry_id=new_id("je"),
        key=PostingKey(digest_scope("rpc", principal.key_owner, request.idempotency_key), fingerprint_of(decided)),
        idempotency_key=request.idempotency_key,
        asks_for_seals=True,
        **values,
    )
