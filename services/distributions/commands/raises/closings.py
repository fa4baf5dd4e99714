"""The closing of an offering begins: every gate is open, and what it releases is fixed. sagas.py has what follows."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from realco.distributions.v1 import events_pb2 as events
from realco.distributions.v1 import offerings_pb2 as pb

from services.chassis.calls.auth import current_principal
from services.chassis.data.transaction import Tx
from services.chassis.values.etags import check_etag
from services.distributions.actions import answer_offering
from services.distributions.commands.mandates import mandate_of_caller
from services.distributions.domain.closing import check_gates, is_released
from services.distributions.domain.destination import Destination
from services.distributions.domain.offering import check_may_close, name_proceeds_account
from services.distributions.domain.sagas import SagaKind
from services.distributions.domain.states import OfferingStatus
from services.distributions.queries.gates import PeerFacts, list_gates
from services.distributions.store.approvals import cancel_closings
from services.distributions.store.counted_journals import check_counted
from services.distributions.store.investments import list_investments_of, lock_investments_of, save_investments
from services.distributions.store.offerings import lock_offering, save_offering
from services.distributions.store.sagas import insert_saga


async def close_offering(
    tx: Tx, request: pb.CloseOfferingRequest, asked: tuple[PeerFacts, Destination], now: datetime
) -> pb.Offering:
    """Begins the closing; the saga does the rest. What the others say was asked before the transaction."""
    peer_facts, destination = asked
    offering = await lock_offering(tx, request.offering_id)
    check_etag(request.etag, offering.etag)
    check_may_close(offering)
    await check_counted(tx, offering.escrow_account_id)
    to = request.proceeds_bank_account_id or None
    destination.check(to, offering.sponsor_party_id, field="proceeds_bank_account_id")
    await cancel_closings(tx, offering.offering_id, now)
    held = await list_investments_of(tx, offering.offering_id)
    check_gates(await list_gates(tx, offering, held, peer_facts, now))
    await _fix_releases(tx, offering.offering_id, now)
    named = name_proceeds_account(offering, to, current_principal().person)
    mandate = mandate_of_caller().join(named.makers)
    closing = replace(
        named,
        status=OfferingStatus.CLOSING,
        closing_attempt=offering.closing_attempt + 1,
        closing_failure=None,  # why the last one failed says nothing any more
        closing_saga_id=await insert_saga(tx, SagaKind.CLOSING, offering.offering_id, mandate),
    )
    return answer_offering(await save_offering(tx, offering, closing, events.OfferingClosing(), now), now)


async def _fix_releases(tx: Tx, offering_id: str, now: datetime) -> None:
    """Fixes what the closing releases of each investment: all that is funded, unless it is on its way back."""
    changes = [
        (each, replace(each, released_minor=each.funded_minor, unreturned_minor=each.funded_minor))
        for each in await lock_investments_of(tx, offering_id)
        if is_released(each)
    ]
    await save_investments(tx, changes, events.InvestmentUpdated, now)
