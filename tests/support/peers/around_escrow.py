"""Whom escrow asks, in memory, as its clients answer."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from realco.compliance.v1.notary_pb2 import Movement
from realco.distributions.v1.commitments_pb2 import Commitments, ListOpenOfferingsResponse
from realco.distributions.v1.payout_orders_pb2 import PayoutOrder
from realco.transactions.v1.payouts_pb2 import Payout

from services.chassis.values.errors import DomainError, Unavailable
from services.chassis.values.explanation import Explanation
from services.chassis.values.session import Standing
from services.escrow.clients import Clearance


class Compliance:
    """Knows every party and says that two persons decided, unless a test says otherwise.

    What it was asked about movements is in `asked`.
    """

    def __init__(self) -> None:
        self.refusal: DomainError | None = None
        self.asked: list[Movement] = []
        self.unknown: set[str] = set()
        self.away = False

    async def batch_get_clearances(self, party_ids: Sequence[str]) -> Sequence[Clearance]:
        if self.away:
            raise Unavailable("Compliance is away.")
        return [Clearance(party_id=each, known=each not in self.unknown) for each in party_ids]

    async def list_parties_of_person(
        self,
        person_id: str,
        *,
        include_former: bool = False,
        counts_yes: bool = False,
        api_key_id: str | None = None,
    ) -> Standing:
        return Standing()

    async def check_movement(self, movement: Movement) -> None:
        self.asked.append(movement)
        if self.refusal is not None:
            raise self.refusal


class Transactions:
    """Is about to pay whatever is submitted."""

    def __init__(self) -> None:
        self.payouts: dict[str, Payout] = {}
        self.unfinished: dict[str, list[str]] = {}
        self.provisional: list[Explanation] = []

    async def get_received_money(self, escrow_account_id: str) -> list[Explanation]:
        return self.provisional

    async def batch_get_payouts(self, transaction_ids: Sequence[str]) -> list[Payout]:
        return [self.payouts[each] for each in transaction_ids if each in self.payouts]

    async def list_unfinished_transactions(self, escrow_account_id: str) -> list[str]:
        return self.unfinished.get(escrow_account_id, [])


class Distributions:
    """Who has committed to the offering of each escrow account; nobody, unless a test says otherwise. It has ordered
    what it is asked about.
    """

    def __init__(self) -> None:
        self.committed: dict[str, set[str]] = {}
        self.investments: dict[str, dict[str, str]] = {}  # by escrow account: the party of each
        self.open: dict[str, list[str]] = {}
        self.paying: dict[str, list[str]] = {}
        self.away = False
        self.refusal: DomainError | None = None
        self.asked_about: list[Movement] = []
        self.orders: dict[str, PayoutOrder] = {}

    async def list_committed_parties(self, escrow_account_id: str) -> set[str]:
        if self.away:
            raise Unavailable("Distributions is away.")
        return self.committed.get(escrow_account_id, set())

    async def get_commitments(self, escrow_account_id: str, investment_ids: Collection[str]) -> Commitments:
        if self.away:
            raise Unavailable("Distributions is away.")
        if (parties := self.investments.get(escrow_account_id)) is None:
            return Commitments()
        found = [each for each in investment_ids if each in parties]
        named = [Commitments.Commitment(investment_id=each, party_id=parties[each]) for each in found]
        return Commitments(offering_id="off_1", commitments=named)

    async def list_open_offerings(self, escrow_account_id: str) -> ListOpenOfferingsResponse:
        if self.away:
            raise Unavailable("Distributions is away.")
        return ListOpenOfferingsResponse(
            offering_ids=self.open.get(escrow_account_id), paying_offering_ids=self.paying.get(escrow_account_id)
        )

    async def check_movement_order(self, movement: Movement) -> str:
        self.asked_about.append(movement)
        if self.refusal is not None:
            raise self.refusal
        return "admin-1"

    async def batch_get_payout_orders(self, keys: Sequence[str]) -> list[PayoutOrder]:
        return [self.orders[key] for key in keys if key in self.orders]
