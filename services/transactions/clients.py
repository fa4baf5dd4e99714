"""The services this one asks: a small Protocol each, and its real form over gRPC.

A peer's definite refusal is raised as it came; a peer that cannot be reached, or whose answer is lost, is Unavailable,
and the same question may be asked again. Nobody is asked while a transaction is open.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from grpc import aio
from realco.compliance.v1 import (
    clearances_pb2,
    clearances_pb2_grpc,
    persons_pb2,
    persons_pb2_grpc,
)
from realco.distributions.v1 import offerings_pb2, offerings_pb2_grpc, payout_orders_pb2, payout_orders_pb2_grpc
from realco.escrow.v1 import escrow_accounts_pb2, escrow_accounts_pb2_grpc, journal_pb2, postings_pb2, postings_pb2_grpc

from services.chassis.approvals.messages import read_preview
from services.chassis.calls.parties import Ask, AskAboutParties, AskByRpc
from services.chassis.calls.peers import ask, ask_in_parts, check_answers, find
from services.chassis.calls.wire import to_money
from services.chassis.values.approval import Preview
from services.transactions.domain.transaction import Transaction

EvaluateItem = clearances_pb2.BatchEvaluateTransactionsRequest.Item
EvaluationResult = clearances_pb2.EvaluationResult
PartyName = clearances_pb2.PartyName
Clearance = clearances_pb2.BatchGetClearancesResponse.Clearance
PayoutItem = postings_pb2.BatchBookPayoutsRequest.Item
PostingResult = journal_pb2.PostingResult
# That a list takes of a resource: it has a route, and its URL is to stay short.
_IDS_OF_A_LIST = 100


class Escrow(Protocol):
    """The book."""

    async def get_escrow_account(self, escrow_account_id: str) -> escrow_accounts_pb2.EscrowAccount | None:
        """None if the organization has no such account."""
        ...

    async def list_beneficiaries(self, escrow_account_id: str, kind: str) -> Collection[str]:
        """The parties that gain when money is put on a ledger account that belongs to no party, as DISTRIBUTABLE.

        Args:
            kind: The kind of the ledger account.
        """
        ...

    async def batch_book_payouts(self, items: Sequence[PayoutItem]) -> Sequence[PostingResult]:
        """Takes the money of payouts before any provider is asked: one result an item, in order."""
        ...

    async def get_transaction_preview(self, row: Transaction, outcome: str, *, arrives: bool = False) -> Preview:
        """What a transaction would do to the book, and what is asked when it is booked, as it stands now.

        Args:
            outcome: What becomes of it: SETTLED, ENDED or RETURNED.
            arrives: In the escrow account that it goes to, a transfer; else in the one that it leaves or comes to.
        """
        ...


class Compliance(Protocol):
    """What is forbidden."""

    async def batch_evaluate_transactions(
        self, items: Sequence[EvaluateItem], *, validate_only: bool = False
    ) -> Sequence[EvaluationResult]:
        """One result an item, in order; asking again gives the first decision. Or what it would be."""
        ...

    async def batch_get_clearances(self, party_ids: Collection[str]) -> Sequence[Clearance]:
        """Whether money of each party may move just now, and what is missing."""
        ...

    async def get_party_name(self, party_id: str) -> PartyName | None:
        """Its name and what it is by law, and whether money of it may move; None where there is no such party."""
        ...

    list_parties_of_person: Ask


class Distributions(Protocol):
    """Offerings and investments."""

    async def get_investment(self, investment_id: str) -> offerings_pb2.Investment | None: ...

    async def list_investments(self, investment_ids: Collection[str]) -> Sequence[offerings_pb2.Investment]:
        """Those of them that are there, in no order."""
        ...

    async def get_offering(self, offering_id: str) -> offerings_pb2.Offering | None: ...

    async def batch_get_payout_orders(self, keys: Sequence[str]) -> Sequence[payout_orders_pb2.PayoutOrder]:
        """The payouts it ordered under these keys, in no order."""
        ...


@dataclass(frozen=True, slots=True)
class Peers:
    """Whom this service asks."""

    escrow: Escrow
    compliance: Compliance
    distributions: Distributions


class EscrowClient:
    def __init__(self, channel: aio.Channel) -> None:
        self._accounts: Any = escrow_accounts_pb2_grpc.EscrowAccountsServiceStub(channel)
        self._postings: Any = postings_pb2_grpc.PostingsServiceStub(channel)

    async def get_escrow_account(self, escrow_account_id: str) -> escrow_accounts_pb2.EscrowAccount | None:
        request = escrow_accounts_pb2.GetEscrowAccountRequest(escrow_account_id=escrow_account_id)
        return await find(self._accounts.GetEscrowAccount, request)

    async def list_beneficiaries(self, escrow_account_id: str, kind: str) -> Collection[str]:
        ledger_account = journal_pb2.LedgerAccount(kind=kind)
        request = postings_pb2.ListBeneficiariesRequest(
            escrow_account_id=escrow_account_id, ledger_account=ledger_account
        )
        found: Collection[str] = (await ask(self._postings.ListBeneficiaries, request)).party_ids
        return found

    async def batch_book_payouts(self, items: Sequence[PayoutItem]) -> Sequence[PostingResult]:
        answer = await ask(self._postings.BatchBookPayouts, postings_pb2.BatchBookPayoutsRequest(items=items))
        results: Sequence[PostingResult] = answer.results
        keys = (item.idempotency_key for item in items)
        check_answers(keys, (result.idempotency_key for result in results), "escrow")
        return results

    async def get_transaction_preview(self, row: Transaction, outcome: str, *, arrives: bool = False) -> Preview:
        request = postings_pb2.GetTransactionPreviewRequest(
            escrow_account_id=row.to_escrow_account_id if arrives else row.escrow_account_id,
            type=row.type,
            parts=[postings_pb2.PartyAmount(party_id=row.party_id, amount=to_money(row.amount))],
            outcome=outcome,
            transaction_id=row.transaction_id,
            arrives=arrives or None,
        )
        answer = await ask(self._postings.GetTransactionPreview, request)
        return read_preview(answer.effects, answer.explanations)


class ComplianceClient:
    def __init__(self, channel: aio.Channel) -> None:
        self._clearances: Any = clearances_pb2_grpc.ClearancesServiceStub(channel)
        self.batch_get_clearances = AskAboutParties(
            self._clearances.BatchGetClearances, clearances_pb2.BatchGetClearancesRequest
        )
        persons: Any = persons_pb2_grpc.PersonsServiceStub(channel)
        self.list_parties_of_person: Ask = AskByRpc(persons.ListPartiesOfPerson, persons_pb2.ListPartiesOfPersonRequest)

    async def get_party_name(self, party_id: str) -> PartyName | None:
        return await find(self._clearances.GetPartyName, clearances_pb2.GetPartyNameRequest(party_id=party_id))

    async def batch_evaluate_transactions(
        self, items: Sequence[EvaluateItem], *, validate_only: bool = False
    ) -> Sequence[EvaluationResult]:
        request = clearances_pb2.BatchEvaluateTransactionsRequest(items=items, validate_only=validate_only)
        answer = await ask(self._clearances.BatchEvaluateTransactions, request)
        results: Sequence[EvaluationResult] = answer.results
        ids = (item.transaction_id for item in items)
        check_answers(ids, (result.transaction_id for result in results), "compliance")
        return results


class DistributionsClient:
    def __init__(self, channel: aio.Channel) -> None:
        self._investments: Any = offerings_pb2_grpc.InvestmentsServiceStub(channel)
        self._offerings: Any = offerings_pb2_grpc.OfferingsServiceStub(channel)
        self._orders: Any = payout_orders_pb2_grpc.PayoutOrdersServiceStub(channel)

    async def get_investment(self, investment_id: str) -> offerings_pb2.Investment | None:
        request = offerings_pb2.GetInvestmentRequest(investment_id=investment_id)
        return await find(self._investments.GetInvestment, request)

    async def list_investments(self, investment_ids: Collection[str]) -> Sequence[offerings_pb2.Investment]:
        async def ask_some(asked: Sequence[str]) -> Sequence[offerings_pb2.Investment]:
            request = offerings_pb2.ListInvestmentsRequest(ids=asked, page_size=len(asked))
            found: Sequence[offerings_pb2.Investment] = (
                await ask(self._investments.ListInvestments, request)
            ).investments
            return found

        return await ask_in_parts(sorted(investment_ids), ask_some, at_once=_IDS_OF_A_LIST)

    async def get_offering(self, offering_id: str) -> offerings_pb2.Offering | None:
        return await find(self._offerings.GetOffering, offerings_pb2.GetOfferingRequest(offering_id=offering_id))

    async def batch_get_payout_orders(self, keys: Sequence[str]) -> Sequence[payout_orders_pb2.PayoutOrder]:
        request = payout_orders_pb2.BatchGetPayoutOrdersRequest(idempotency_keys=keys)
        found: Sequence[payout_orders_pb2.PayoutOrder] = (
            await ask(self._orders.BatchGetPayoutOrders, request)
        ).payout_orders
        return found
