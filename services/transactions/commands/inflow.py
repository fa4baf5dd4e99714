"""Whether money that comes in could be received: escrow says of the account, distributions of the investment."""

from __future__ import annotations

from dataclasses import dataclass

from realco.distributions.v1.offerings_pb2 import Investment
from realco.escrow.v1.escrow_pb2 import EscrowAccount
from realco.transactions.v1 import transactions_pb2 as pb
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import current_principal
from services.chassis.values.errors import DomainError, NotFound
from services.chassis.values.money import Money
from services.transactions.clients import Distributions, Escrow
from services.transactions.domain.refusals import EscrowAccountNotUsable, InvestmentNotUsable
from services.transactions.domain.transaction import Transaction
from services.transactions.store import transactions as store


@dataclass(frozen=True, slots=True)
class Inflow:
    """Money that is to come in, and where to. `investment_id` is empty where it pays none."""

    amount: Money
    escrow_account_id: str
    party_id: str
    investment_id: str

    @classmethod
    def of_request(cls, request: pb.CreateTransactionRequest, party_id: str) -> Inflow:
        amount = Money.from_proto(request.amount)
        return cls(amount, request.escrow_account_id, party_id, request.investment_id)

    @classmethod
    def of_transaction(cls, row: Transaction) -> Inflow:
        return cls(row.amount, row.escrow_account_id, row.party_id, row.investment_id)


@dataclass(frozen=True, slots=True)
class InflowVerdict:
    """What escrow and distributions say of an inflow: why it could not be received, if so; the investment it pays."""

    refusal: DomainError | None = None
    investment: Investment | None = None

    def check(self) -> None:
        if self.refusal is not None:
            raise self.refusal


async def judge_inflow(inflow: Inflow, escrow: Escrow, distributions: Distributions) -> InflowVerdict:
    """Asks escrow and distributions, outside of any transaction.

    Raises:
        Unavailable: one of them cannot be reached; nothing was written.
        NotFound: there is no such investment of this party.
    """
    account = await escrow.get_account(inflow.escrow_account_id)
    if cause := _find_account_cause(account, inflow):
        return InflowVerdict(_refuse_account(inflow, cause))
    if not inflow.investment_id:
        return InflowVerdict()
    investment = await distributions.get_investment(inflow.investment_id)
    if investment is None or investment.party_id != inflow.party_id:
        raise NotFound("There is no such investment of this party.")
    cause = _find_investment_cause(investment, inflow.amount)
    if not cause:
        offering = await distributions.get_offering(investment.offering_id)
        if offering is None or offering.escrow_account_id != inflow.escrow_account_id:
            cause = "its offering uses another escrow account"
    return InflowVerdict(_refuse_investment(inflow, cause) if cause else None, investment)


def _find_account_cause(account: EscrowAccount | None, inflow: Inflow) -> str:
    if account is None:
        return "unknown"
    if account.status != EscrowAccount.ACTIVE:
        return EscrowAccount.Status.Name(account.status).lower()
    if account.currency_code != inflow.amount.currency:
        return f"its currency is {account.currency_code}"
    return ""


def _find_investment_cause(investment: Investment, amount: Money) -> str:
    if investment.status != Investment.PENDING:
        return f"it is {Investment.Status.Name(investment.status)}"
    if investment.amount.currency_code != amount.currency:
        return f"its currency is {investment.amount.currency_code}"
    remaining_minor = investment.amount.amount_minor - investment.funded_amount.amount_minor
    if amount.amount_minor > remaining_minor:
        return f"only {remaining_minor} of its commitment is not funded"
    return ""


def _refuse_account(inflow: Inflow, cause: str) -> EscrowAccountNotUsable:
    return EscrowAccountNotUsable(
        f"The escrow account cannot take this: {cause}.",
        fields={"escrow_account_id": "cannot take this"},
        escrow_account_id=inflow.escrow_account_id,
        cause=cause,
    )


def _refuse_investment(inflow: Inflow, cause: str) -> InvestmentNotUsable:
    message = f"The investment cannot take this: {cause}."
    return InvestmentNotUsable(message, investment_id=inflow.investment_id, cause=cause)


async def check_commitment(tx: AsyncConnection, inflow: Inflow, investment: Investment) -> None:
    """Refuses what would exceed the commitment together with the contributions that are on their way.

    Distributions has not heard of those yet, so only this service can count them. It does so under a lock: otherwise
    two requests at the same time could each take what remains.

    Raises:
        InvestmentNotUsable
    """
    org_id = current_principal().org_id
    total_minor, unsettled_minor = await store.lock_contributions(tx, org_id, inflow.party_id, inflow.investment_id)
    # What has settled may be counted as funded already, or not yet: the larger sum is right for both.
    taken_minor = max(total_minor, investment.funded_amount.amount_minor + unsettled_minor)
    remaining_minor = max(investment.amount.amount_minor - taken_minor, 0)
    if inflow.amount.amount_minor > remaining_minor:
        raise _refuse_investment(inflow, f"only {remaining_minor} of its commitment is neither funded nor on its way")
