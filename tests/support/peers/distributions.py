"""One offering in memory, with its investments, as the transactions service asks for them.

test_peers_distributions.py holds it against the real service, in all that other services read of the answers.
"""

from __future__ import annotations

from collections.abc import Iterable

from realco.distributions.v1 import offerings_pb2 as pb
from realco.distributions.v1 import payout_orders_pb2
from realco.distributions.v1.payout_orders_pb2 import PayoutOrder
from realco.transactions.v1.payouts_pb2 import BatchCreatePayoutsRequest
from realco.transactions.v1.transactions_pb2 import Transaction

from services.chassis.values.ids import new_id
from services.chassis.values.refusals import InvestmentNotFound
from services.chassis.values.session import Session
from services.distributions.domain.refusals import OfferingNotFound
from tests.support.money import usd


class MemoryDistributions:
    def __init__(self, escrow_account_id: str) -> None:
        self.offering = pb.Offering(
            offering_id=new_id("off"), escrow_account_id=escrow_account_id, status=pb.Offering.OPEN
        )
        self.offering.deadline_time.FromJsonString("2100-01-01T00:00:00Z")
        self.investments: dict[str, pb.Investment] = {}
        self.session = Session()  # in which it says that the next payouts were asked for
        self.orders: dict[str, PayoutOrder] = {}  # what it says that it ordered of transactions

    def invest(self, party_id: str, amount_minor: int) -> str:
        """The id of a new investment that nothing was paid for."""
        investment = pb.Investment(
            investment_id=new_id("inv"),
            offering_id=self.offering.offering_id,
            party_id=party_id,
            amount=usd(amount_minor),
            funded_amount=usd(0),
            status=pb.Investment.PENDING,
        )
        self.investments[investment.investment_id] = investment
        return investment.investment_id

    async def GetInvestment(self, request: pb.GetInvestmentRequest, _: None) -> pb.Investment:
        if request.investment_id not in self.investments:
            raise InvestmentNotFound
        return self.investments[request.investment_id]

    async def ListInvestments(self, request: pb.ListInvestmentsRequest, _: None) -> pb.ListInvestmentsResponse:
        found = [each for each in request.ids if each in self.investments]
        return pb.ListInvestmentsResponse(investments=[self.investments[each] for each in found])

    async def GetOffering(self, request: pb.GetOfferingRequest, _: None) -> pb.Offering:
        if request.offering_id != self.offering.offering_id:
            raise OfferingNotFound
        return self.offering

    def order(
        self,
        items: Iterable[BatchCreatePayoutsRequest.Item],
        ordered_by: str = "admin-1",
        *,
        approved: bool = False,
        released_minor: int = 0,
        has_entries_by_hand: bool = False,
        makers_and_checkers: Iterable[str] = (),
    ) -> None:
        """It orders these payouts, and knows of no others under their keys."""
        for item in items:
            order = PayoutOrder(type=Transaction.Type.Name(item.type), amount=item.amount, ordered_by=ordered_by)
            order.refund_approved = approved
            if order.type == "REFUND":
                order.released_amount.CopyFrom(usd(released_minor))
                order.has_entries_by_hand = has_entries_by_hand
            order.makers_and_checkers.extend(makers_and_checkers)
            if self.session.signed_in_at is not None:
                order.sign_in_time.FromSeconds(self.session.signed_in_at)
            if self.session.api_key_id is not None:
                order.api_key_id = self.session.api_key_id
            for field, value in item.ListFields():
                if field.name == "payment_method":
                    order.payment_method = Transaction.PaymentMethod.Name(value)
                elif field.name not in ("type", "amount"):
                    setattr(order, field.name, value)
            self.orders[item.idempotency_key] = order

    async def BatchGetPayoutOrders(
        self, request: payout_orders_pb2.BatchGetPayoutOrdersRequest, _: None
    ) -> payout_orders_pb2.BatchGetPayoutOrdersResponse:
        found = [self.orders[key] for key in request.idempotency_keys if key in self.orders]
        return payout_orders_pb2.BatchGetPayoutOrdersResponse(payout_orders=found)
