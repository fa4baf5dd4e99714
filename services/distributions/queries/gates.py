"""The gates of a closing, from what this service knows and what it asked the others before any transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from realco.distributions.v1 import offerings_pb2 as pb
from realco.escrow.v1 import escrow_accounts_pb2
from realco.escrow.v1.journal_pb2 import LedgerAccount

from services.chassis.calls.wire import from_enum
from services.chassis.data.database import Database
from services.chassis.data.transaction import Tx
from services.distributions.clients import Escrow, Peers
from services.distributions.domain import closing
from services.distributions.domain.explanations import explain_left_out
from services.distributions.domain.investment import Investment
from services.distributions.domain.offering import Offering
from services.distributions.messages import to_closing_gates
from services.distributions.store.counted_journals import find_counted
from services.distributions.store.investments import list_investments_of
from services.distributions.store.offerings import require_offering


@dataclass(frozen=True, slots=True)
class PeerFacts:
    """What the other services say of a closing; None is not known."""

    escrow_status: str | None
    escrow_balanced: bool | None
    available: Mapping[str, int] | None  # of the subscriptions, by investor
    holds: Sequence[closing.SubscriptionHold]
    debts: Mapping[str, int] | None  # of what banks took back, by party
    provider_fees_minor: int | None
    cleared: Mapping[str, bool]  # by investor


async def read_peer_facts(database: Database, peers: Peers, offering_id: str) -> PeerFacts:
    """Asks escrow and compliance. What they definitely do not know stays unknown, which shuts a gate.

    Raises:
        OfferingNotFound: there is no such offering.
        Unavailable: one of them does not answer.
    """
    async with database.begin() as tx:
        offering = await require_offering(tx, offering_id)
        live = choose_live(await list_investments_of(tx, offering_id))
    investors = sorted({each.party_id for each in live})
    account = await peers.escrow.get_escrow_account(offering.escrow_account_id)
    status = balanced = None
    balances = _Balances(None, None, None)
    holds: list[closing.SubscriptionHold] = []
    if account is not None:
        status = from_enum(escrow_accounts_pb2.EscrowAccount.Status, account.status)
        balanced = (await peers.escrow.get_trial_balance(offering.escrow_account_id)).balanced
        balances = await _read_balances(peers.escrow, offering.escrow_account_id)
        short = sorted(closing.find_missing(closing.sum_releases(live), balances.available or {}))
        holds = await _list_holds(peers.escrow, offering.escrow_account_id, short) if short else []
    clearances = await peers.compliance.batch_get_clearances(investors) if investors else []
    cleared = {clearance.party_id: clearance.cleared for clearance in clearances}
    return PeerFacts(status, balanced, balances.available, holds, balances.debts, balances.provider_fees_minor, cleared)


class _Balances(NamedTuple):
    """By party, what is available of its subscription and what it owes of what a bank took back; and of nobody, what
    payment providers kept."""

    available: Mapping[str, int] | None
    debts: Mapping[str, int] | None
    provider_fees_minor: int | None


async def _read_balances(escrow: Escrow, escrow_account_id: str) -> _Balances:
    kinds = [LedgerAccount.SUBSCRIPTION, LedgerAccount.RETURNS_RECEIVABLE, LedgerAccount.PROVIDER_FEES]
    available, debts, fees_minor = dict[str, int](), dict[str, int](), 0
    for each in await escrow.list_balances(escrow_account_id, kinds):
        party_id, kind, posted = each.ledger_account.party_id, each.ledger_account.kind, each.posted.amount_minor
        if kind == LedgerAccount.SUBSCRIPTION:
            available[party_id] = each.available.amount_minor
        elif kind == LedgerAccount.PROVIDER_FEES:
            fees_minor = posted
        elif posted:
            debts[party_id] = posted
    return _Balances(available, debts, fees_minor)


async def _list_holds(
    escrow: Escrow, escrow_account_id: str, party_ids: Sequence[str]
) -> list[closing.SubscriptionHold]:
    # Enough to say why the gate is shut: whoever mends that looks at all of them in escrow.
    found = await escrow.list_subscription_holds(escrow_account_id, party_ids[:100])
    return [
        closing.SubscriptionHold(each.hold_id, each.ledger_account.party_id, each.amount.amount_minor) for each in found
    ]


async def get_closing_gates(
    tx: Tx, request: pb.GetClosingGatesRequest, peer_facts: PeerFacts, now: datetime
) -> pb.ClosingGates:
    """`peer_facts` were read before the transaction."""
    offering = await require_offering(tx, request.offering_id)
    held = await list_investments_of(tx, offering.offering_id)
    found = await list_gates(tx, offering, held, peer_facts, now)
    return to_closing_gates(offering.offering_id, found, explain_left_out(held))


async def list_gates(
    tx: Tx, offering: Offering, held: Iterable[Investment], peer_facts: PeerFacts, now: datetime
) -> tuple[closing.Gate, ...]:
    """
    Args:
        held: All investments of the offering.
    """
    early = offering.early_close_noticed_on
    live = choose_live(held)
    counted = await find_counted(tx, offering.escrow_account_id)
    facts = closing.ClosingFacts(
        exemption=offering.exemption,
        currency=offering.currency,
        target_minor=offering.target_minor,
        maximum_minor=offering.maximum_minor,
        disclosed_at=offering.open_at,
        entered_at=offering.created_at,
        deadline=offering.deadline_at,
        subscriptions=[_to_subscription(each, peer_facts) for each in live],
        released=closing.sum_releases(live),
        available=peer_facts.available,
        holds=peer_facts.holds,
        debts=peer_facts.debts,
        provider_fees_minor=peer_facts.provider_fees_minor,
        escrow_status=peer_facts.escrow_status,
        escrow_balanced=peer_facts.escrow_balanced,
        is_counted=counted is None or not counted.waits,
        early_close=closing.EarlyClose(offering.deadline_at, early) if early is not None else None,
    )
    return closing.build_gates(facts, now)


def choose_live(held: Iterable[Investment]) -> list[Investment]:
    """The investments a closing is about: with money in, and not on their way back."""
    return [investment for investment in held if investment.is_live and investment.funded_minor > 0]


def _to_subscription(investment: Investment, peer_facts: PeerFacts) -> closing.SubscriptionFacts:
    return closing.SubscriptionFacts(
        party_id=investment.party_id,
        funded_minor=investment.funded_minor,
        # Compliance says so only while its checks are fresh, and was asked a moment ago.
        cleared=peer_facts.cleared.get(investment.party_id, False),
        at_risk=not investment.is_cleared,
    )
