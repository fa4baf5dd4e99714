"""A transaction is asked for: what may be asked, by whom, of what; then it is recorded, and nothing has moved yet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from realco.distributions.v1.offerings_pb2 import Investment
from realco.escrow.v1.escrow_pb2 import EscrowAccount
from realco.transactions.v1 import transactions_pb2 as pb
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import Principal, current_principal
from services.chassis.calls.wire import to_money
from services.chassis.values.errors import DomainError, InvalidField, NotFound
from services.chassis.values.ids import new_id
from services.transactions import messages
from services.transactions.clients import Distributions, Escrow
from services.transactions.domain.errors import (
    BankAccountNotFound,
    BankAccountNotUsable,
    EscrowAccountNotUsable,
    InvestmentNotUsable,
    TypeNotSupported,
)
from services.transactions.domain.transaction import Transaction
from services.transactions.store import bank_accounts
from services.transactions.store import transactions as store

# The rail decides who carries it.
PROVIDERS = {"ACH": "sandbox", "WIRE": "manual", "CHECK": "manual"}

# The request that recorded a transaction has it evaluated at once; should it die, a job does, after this while.
EVALUATE_GRACE_MS = 2_000

_T = pb.Transaction


@dataclass(frozen=True, slots=True)
class PeersSay:
    """Whether escrow and distributions would receive the money; the investment, where it pays one."""

    refusal: DomainError | None
    investment: Investment | None = None


def check_request(request: pb.CreateTransactionRequest, principal: Principal) -> str:
    """Refuses what no peer need be asked about; returns whose money moves.

    Raises:
        TypeNotSupported, InvalidField
    """
    type_name, method = _T.Type.Name(request.type), _T.PaymentMethod.Name(request.payment_method)
    if principal.confined and type_name != "ESCROW_DEPOSIT":
        fields = {"type": "is not offered to this caller"}
        raise TypeNotSupported("This type is not offered to this caller.", fields=fields, type=type_name)
    party_id = principal.choose_party(request.party_id)
    faults = {}
    if bool(request.bank_account_id) != (method == "ACH"):
        faults["bank_account_id"] = "must be set for ACH, and only then"
    if bool(request.investment_id) != (type_name == "ESCROW_DEPOSIT"):
        faults["investment_id"] = "must be set for ESCROW_DEPOSIT, and only then"
    if faults:
        raise InvalidField("The request is not valid.", fields=faults)
    return party_id


async def ask_peers(
    request: pb.CreateTransactionRequest, party_id: str, escrow: Escrow, distributions: Distributions
) -> PeersSay:
    """Asks escrow and distributions whether the money could be received. Outside of any transaction.

    Raises:
        Unavailable: one of them cannot be reached; nothing was written.
        NotFound: there is no such investment of this party.
    """
    account = await escrow.get_account(request.escrow_account_id)
    cause = _account_cause(account, request)
    if cause:
        refusal = EscrowAccountNotUsable(
            f"The escrow account cannot take this: {cause}.",
            fields={"escrow_account_id": "cannot take this"},
            escrow_account_id=request.escrow_account_id,
            cause=cause,
        )
        return PeersSay(refusal)
    if not request.investment_id:
        return PeersSay(None)
    investment = await distributions.get_investment(request.investment_id)
    if investment is None or investment.party_id != party_id:
        raise NotFound("There is no such investment of this party.")
    cause = _investment_cause(investment, request)
    if not cause:
        offering = await distributions.get_offering(investment.offering_id)
        if offering is None or offering.escrow_account_id != request.escrow_account_id:
            cause = "its offering uses another escrow account"
    return PeersSay(_investment_refusal(request, cause) if cause else None, investment)


def _investment_refusal(request: pb.CreateTransactionRequest, cause: str) -> InvestmentNotUsable:
    message = f"The investment cannot take this: {cause}."
    return InvestmentNotUsable(message, investment_id=request.investment_id, cause=cause)


def _account_cause(account: EscrowAccount | None, request: pb.CreateTransactionRequest) -> str:
    if account is None:
        return "unknown"
    if account.status != EscrowAccount.ACTIVE:
        return EscrowAccount.Status.Name(account.status).lower()
    if account.currency_code != request.amount.currency_code:
        return f"its currency is {account.currency_code}"
    return ""


def _investment_cause(investment: Investment, request: pb.CreateTransactionRequest) -> str:
    if investment.status != Investment.PENDING:
        return f"it is {Investment.Status.Name(investment.status)}"
    if investment.amount.currency_code != request.amount.currency_code:
        return f"its currency is {investment.amount.currency_code}"
    remaining = investment.amount.amount_minor - investment.funded_amount.amount_minor
    if request.amount.amount_minor > remaining:
        return f"only {remaining} of its commitment is not funded"
    return ""


async def create(
    tx: AsyncConnection, request: pb.CreateTransactionRequest, party_id: str, said: PeersSay, now: datetime
) -> pb.Transaction:
    """Records the transaction INITIATED, or raises the peers' refusal, so that a replay hears it again.

    Raises:
        BankAccountNotFound, BankAccountNotUsable, InvestmentNotUsable
    """
    principal = current_principal()
    if request.bank_account_id:
        await _check_bank_account(tx, principal.org_id, request.bank_account_id, party_id)
    if said.refusal is not None:
        raise said.refusal
    if said.investment is not None:
        await check_room(tx, principal.org_id, request, said.investment)
    values = {
        "org_id": principal.org_id,
        "transaction_id": new_id("txn"),
        "type": _T.Type.Name(request.type),
        "payment_method": (method := _T.PaymentMethod.Name(request.payment_method)),
        "amount_minor": request.amount.amount_minor,
        "currency": request.amount.currency_code,
        "escrow_account_id": request.escrow_account_id,
        "party_id": party_id,
        "bank_account_id": request.bank_account_id or None,
        "investment_id": request.investment_id,
        "description": request.description,
        "provider": PROVIDERS[method],
        "created_by": principal.person,
        "request_subject": principal.subject,
        "idempotency_key": request.idempotency_key,
    }
    [row] = await store.insert(tx, [values], due_ms=EVALUATE_GRACE_MS, actor=principal.person, now=now)
    return messages.to_transaction(row, now)


def asked_again(row: Transaction) -> pb.CreateTransactionRequest:
    """What was asked for, as far as peers have to say to it."""
    return pb.CreateTransactionRequest(
        amount=to_money(row.amount),
        escrow_account_id=row.escrow_account_id,
        party_id=row.party_id,
        investment_id=row.investment_id,
    )


async def check_room(
    tx: AsyncConnection, org_id: str, request: pb.CreateTransactionRequest, investment: Investment
) -> None:
    """Refuses what would exceed the commitment together with contributions that distributions has not heard of yet.

    Only this service knows what is on its way; so that two requests do not both find room, they go one after the other.

    Raises:
        InvestmentNotUsable
    """
    investment_id, party_id = investment.investment_id, investment.party_id
    alive_minor, unsettled_minor = await store.lock_contributions(tx, org_id, party_id, investment_id)
    # What has settled may be counted as funded already, or not yet: the larger sum is right for both.
    taken_minor = max(alive_minor, investment.funded_amount.amount_minor + unsettled_minor)
    remaining = max(investment.amount.amount_minor - taken_minor, 0)
    if request.amount.amount_minor > remaining:
        raise _investment_refusal(request, f"only {remaining} of its commitment is neither funded nor on its way")


async def _check_bank_account(tx: AsyncConnection, org_id: str, bank_account_id: str, party_id: str) -> None:
    account = await bank_accounts.get(tx, org_id, bank_account_id)
    if account is None or account.party_id != party_id:
        raise BankAccountNotFound("There is no such bank account of this party.")
    if account.status != "ACTIVE":
        raise BankAccountNotUsable(
            f"The bank account is {account.status}.",
            fields={"bank_account_id": f"is {account.status}"},
            bank_account_id=bank_account_id,
            status=account.status,
        )
