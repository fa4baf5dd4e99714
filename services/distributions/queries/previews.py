"""What paying parties would do, and what is behind the money: asked of the other services, for whoever decides."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from realco.compliance.v1.notary_pb2 import Movement

from services.chassis.values.approval import Preview
from services.chassis.values.explanation import Explanation
from services.chassis.values.money import Money
from services.distributions.clients import Peers
from services.distributions.domain.destination import Destination
from services.distributions.domain.explanations import (
    explain_clearances,
    explain_destination,
    explain_nothing_paid,
    explain_payout_accounts,
    explain_refund_accounts,
)
from services.distributions.domain.investment import Investment
from services.distributions.domain.offering import Offering
from services.distributions.domain.payout import PayoutType


class Previews:
    """Asked whenever a person reads what waits; never inside a transaction."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def preview_payouts(self, offering: Offering, payout_type: PayoutType, owed: Mapping[str, Money]) -> Preview:
        """What paying the parties would do to the book, and what is asked before each of them is paid."""
        paid = {party_id: amount for party_id, amount in owed.items() if amount.amount_minor > 0}
        if not paid:
            return Preview((), (explain_nothing_paid(),))
        preview = await self._peers.escrow.get_transaction_preview(
            offering.escrow_account_id, payout_type, paid, sets_off=offering.sets_off
        )
        received = await self._explain_received(offering)
        return Preview(preview.effects, (*received, *preview.explanations, await self.explain_clearances(paid)))

    async def preview_refunds(
        self,
        offering: Offering,
        investments: Sequence[Investment],
        owed: Mapping[str, Money],
        now: datetime,
        destination: Destination | None = None,
    ) -> Preview:
        """With what the bank may take back of it, and where it goes.

        Args:
            investments: Of which money may go back.
            owed: How much each of their parties is to have.
            destination: The account or the rail that is named, if one is.
        """
        preview = await self.preview_payouts(offering, PayoutType.REFUND, owed)
        payees = {party_id for party_id, amount in owed.items() if amount.amount_minor > 0}
        paid = {each.investment_id: each.party_id for each in investments if each.party_id in payees}
        if not paid:
            return preview
        refunds = await self._peers.transactions.get_refund_preview(paid)
        if destination is not None and (destination.bank_account_id or destination.payment_method):
            refunds = replace(refunds, explanations=[e for e in refunds.explanations if e.rule != "REFUND_TO_CARD"])
        if destination is not None and (destination.bank_account_id or not destination.pays_to_account):
            where = explain_destination(destination, investments[0].party_id, now)
        else:
            rail = None if destination is None else destination.payment_method
            where = explain_refund_accounts(refunds.accounts, payees, now, rail, by_card=refunds.by_card)
        return Preview(preview.effects, (*refunds.explanations, where, *preview.explanations))

    async def explain_clearances(self, party_ids: Collection[str]) -> Explanation:
        found = await self._peers.compliance.batch_get_clearances(sorted(party_ids))
        return explain_clearances([each.party_id for each in found if not each.cleared])

    async def explain_payout_accounts(self, party_ids: Collection[str], now: datetime) -> Explanation:
        found = await self._peers.transactions.batch_get_payout_accounts(party_ids)
        return explain_payout_accounts(found, party_ids, now)

    async def preview_movement(
        self, offering: Offering, kind: Movement.Kind, parts: Mapping[str, int], deadline: datetime | None = None
    ) -> Preview:
        """What moving these amounts inside the book would do to it, and what is behind them.

        Nothing of a closing is set off: nobody owes anything then.

        Args:
            deadline: When what is moved had to be there, if it had to be.
        """
        if not parts:
            return Preview((), ())
        amounts = {party_id: Money(minor, offering.currency) for party_id, minor in parts.items()}
        sets_off = offering.sets_off and kind != Movement.CLOSE_OFFERING
        preview = await self._peers.escrow.get_movement_preview(
            offering.escrow_account_id, kind, amounts, deadline, sets_off=sets_off
        )
        return Preview(preview.effects, (*await self._explain_received(offering, deadline), *preview.explanations))

    async def _explain_received(self, offering: Offering, deadline: datetime | None = None) -> Sequence[Explanation]:
        return await self._peers.transactions.get_received_money(offering.escrow_account_id, deadline)
