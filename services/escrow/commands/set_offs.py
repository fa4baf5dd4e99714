"""Set-offs: what a payee owes in the escrow account is taken from what it is about to be paid, if its offering says so.

The policy is the offering's, which distributions keeps: it is asked whether it ordered just this payout, and whether
it sets off what is owed. How much that is, the book says, under the lock of the escrow account.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from realco.distributions.v1.payout_orders_pb2 import PayoutOrder
from realco.escrow.v1 import postings_pb2 as pb
from realco.transactions.v1.transactions_pb2 import Transaction

from services.chassis.calls.auth import current_principal
from services.chassis.calls.wire import from_enum, to_money
from services.chassis.data.database import Database
from services.chassis.data.transaction import Tx
from services.chassis.process.telemetry import log
from services.chassis.values.ids import new_id
from services.chassis.values.money import Money
from services.chassis.values.refusals import check_currency
from services.escrow.clients import Distributions
from services.escrow.dependencies import Dependencies
from services.escrow.domain.account import may_post
from services.escrow.domain.chart import LedgerAccount, LedgerAccountKind, account_of_party
from services.escrow.domain.journal import EntryType, Leg, NewEntry, PostingKey, build_key
from services.escrow.domain.refusals import MovementGivenUp, SetOffNotOrdered
from services.escrow.domain.set_offs import build_set_off, list_debts, share_set_off, sum_owed
from services.escrow.domain.types import require_type
from services.escrow.posting.booking import book_in, give_up
from services.escrow.posting.checks import check_whole_book
from services.escrow.store import escrow_accounts, journal
from services.escrow.store.holds import check_holds_on

Payout = pb.SetOffReceivablesRequest.Payout


async def set_off_receivables(
    dependencies: Dependencies, request: pb.SetOffReceivablesRequest
) -> pb.SetOffReceivablesResponse:
    """Raises: SetOffNotOrdered, EscrowAccountNotFound, CurrencyMismatch, Unavailable, NotSealed."""
    find = _give_up if request.gives_up else _book
    set_off = await find(dependencies, request.payouts)
    return pb.SetOffReceivablesResponse(
        set_offs=[
            pb.SetOffReceivablesResponse.SetOff(
                idempotency_key=payout.idempotency_key,
                set_off_amount=to_money(Money(set_off.get(payout.idempotency_key, 0), payout.amount.currency_code)),
            )
            for payout in request.payouts
        ]
    )


async def _book(dependencies: Dependencies, payouts: Sequence[Payout]) -> dict[str, int]:
    """How much is set off of each, by its key, in minor units; what is in none owes nothing."""
    database, set_off = dependencies.database, dict[str, int]()
    owing = await _list_owing(database, payouts)
    ordered_by = await _check_ordered(dependencies.peers.distributions, owing) if owing else {}
    for payout in owing:
        key = payout.idempotency_key
        try:
            async with database.begin() as tx:
                set_off[key] = await _set_off(tx, payout, ordered_by[key], dependencies.clock.now())
        except MovementGivenUp:
            set_off[key] = 0
    return set_off


async def _give_up(dependencies: Dependencies, payouts: Sequence[Payout]) -> dict[str, int]:
    """How much was set off of each before, by its key. Under another amount the key would be taken from the payout."""
    database, set_off = dependencies.database, dict[str, int]()
    await _check_ordered(dependencies.peers.distributions, payouts)
    for payout in payouts:
        await give_up(database, _build_entry(payout, 0, created_by="", legs=()))
        async with database.begin() as tx:
            await check_whole_book(tx, payout.escrow_account_id)
            set_off[payout.idempotency_key] = _sum_done(payout, await _list_entries(tx, payout))
    return set_off


async def _list_entries(tx: Tx, payout: Payout) -> list[journal.BookedEntry]:
    """Those by which what the payee owes there became more or less, oldest first."""
    return await journal.list_journal_entries_on(tx, payout.escrow_account_id, _owed_by(payout))


def _sum_done(payout: Payout, entries: Sequence[journal.BookedEntry]) -> int:
    """How much of the payout is set off already, in minor units."""
    keys = {_key_of(payout, number).key for number in range(len(entries) + 1)}
    owed = _owed_by(payout)
    return -sum(sum_owed(owed, each.legs) for each in entries if each.rows[0]["request_key"] in keys)


async def _list_owing(database: Database, payouts: Sequence[Payout]) -> list[Payout]:
    """Those whose payee owes something in the escrow account, or did: this very one may have settled it."""
    by_account: dict[str, set[LedgerAccount]] = defaultdict(set)
    for payout in payouts:
        by_account[payout.escrow_account_id].add(_owed_by(payout))
    async with database.begin() as tx:
        found = {
            (escrow_account_id, each.ledger_account)
            for escrow_account_id, accounts in by_account.items()
            for each in await escrow_accounts.list_balances(tx, escrow_account_id, sorted(accounts))
        }
    return [payout for payout in payouts if (payout.escrow_account_id, _owed_by(payout)) in found]


def _owed_by(payout: Payout) -> LedgerAccount:
    return account_of_party(LedgerAccountKind.RETURNS_RECEIVABLE, payout.party_id)


async def _check_ordered(peer: Distributions, payouts: Sequence[Payout]) -> dict[str, str]:
    """Who ordered each payout, by key, if distributions ordered these, and what the payees owe is to be set off.

    Raises: SetOffNotOrdered, Unavailable.
    """
    found = await peer.batch_get_payout_orders([payout.idempotency_key for payout in payouts])
    known = {order.idempotency_key: order for order in found}
    for payout in payouts:
        order = known.get(payout.idempotency_key)
        if order is None or not order.sets_off_receivables or not _is_order_of(order, payout):
            log.error("set_off_not_ordered", idempotency_key=payout.idempotency_key, party_id=payout.party_id)
            message = "The distributions service has not ordered that this is set off."
            raise SetOffNotOrdered(message, idempotency_key=payout.idempotency_key)
    return {key: order.ordered_by for key, order in known.items()}


def _is_order_of(order: PayoutOrder, payout: Payout) -> bool:
    ordered = order.escrow_account_id, order.type, order.party_id, order.amount
    same = ordered == (payout.escrow_account_id, _name_type(payout), payout.party_id, payout.amount)
    return same and (order.investment_id, order.distribution_id) == (payout.investment_id, payout.distribution_id)


def _name_type(payout: Payout) -> str:
    return from_enum(Transaction.Type, payout.type)


async def _set_off(tx: Tx, payout: Payout, ordered_by: str, now: datetime) -> int:
    """How much of the payout is set off, in minor units: now, or by an earlier request with its key."""
    escrow_account_id, owed = payout.escrow_account_id, _owed_by(payout)
    account = await escrow_accounts.require_locked(tx, escrow_account_id, "payouts.escrow_account_id")
    check_currency(payout.amount.currency_code, account.currency)
    await check_whole_book(tx, escrow_account_id)
    entries = await _list_entries(tx, payout)
    done_minor = _sum_done(payout, entries)
    if done_minor or not may_post(account.status):
        return done_minor
    source = require_type(_name_type(payout)).ledger_account_of(payout.party_id)
    parts = share_set_off(
        await _count_most(tx, payout, source, owed),
        list_debts(payout.party_id, [(e.investment_id, e.legs) for e in entries]),
    )
    made = build_set_off(source, payout.party_id, payout.investment_id or None, parts) if parts else []
    entries_to_book = [
        _build_entry(
            payout,
            number,
            created_by=ordered_by,
            legs=each.legs,
            description=each.description,
            currency=account.currency,
            investment_id=each.investment_id,
        )
        for number, each in enumerate(made)
    ]
    await book_in(tx, entries_to_book, now)
    return sum(part.minor for part in parts)


async def _count_most(tx: Tx, payout: Payout, source: LedgerAccount, owed: LedgerAccount) -> int:
    """The least of the payout, what is there for it and nobody holds, and what the party owes. Raises: NotSealed."""
    balances = await escrow_accounts.list_balances(tx, payout.escrow_account_id, [source, owed])
    by_account = {each.ledger_account: each for each in balances}
    if source not in by_account or owed not in by_account:
        return 0
    if by_account[source].held_minor:
        await check_holds_on(tx, payout.escrow_account_id, [source])
    return max(0, min(payout.amount.amount_minor, by_account[source].available_minor, by_account[owed].posted_minor))


def _build_entry(payout: Payout, number: int, *, created_by: str, legs: Sequence[Leg], **values: Any) -> NewEntry:
    return NewEntry(
        org_id=current_principal().org_id,
        escrow_account_id=payout.escrow_account_id,
        journal_entry_id=new_id("je"),
        key=_key_of(payout, number),
        type=EntryType.SET_OFF,
        description=values.pop("description", ""),
        legs=legs,
        created_by=created_by,
        distribution_id=payout.distribution_id or None,
        **values,
    )


def _key_of(payout: Payout, number: int) -> PostingKey:
    """Of one of the entries of the set-off, counted from 0."""
    body = f"{_name_type(payout)} {payout.party_id} {payout.amount.amount_minor}".encode()
    return build_key("set off", payout.idempotency_key, str(number), body=body)
