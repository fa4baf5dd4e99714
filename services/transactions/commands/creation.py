"""A transaction is asked for: what may be asked, by whom, of what; then it is recorded, and nothing has moved yet."""

from __future__ import annotations

from datetime import datetime

from realco.distributions.v1.offerings_pb2 import Investment
from realco.escrow.v1.escrow_pb2 import EscrowAccount
from realco.transactions.v1 import transactions_pb2 as pb
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.access import INVESTOR
from services.chassis.auth import Principal, current_principal
from services.chassis.errors import DomainError, InvalidField, NotFound
from services.chassis.ids import new_id
from services.transactions import messages
from services.transactions.clients import Distributions, Escrow
from services.transactions.domain.errors import (
    BankAccountNotFound,
    BankAccountNotUsable,
    EscrowAccountNotUsable,
    InvestmentNotUsable,
    PaymentMethodNotSupported,
    TypeNotSupported,
)
from services.transactions.domain.transaction import DEBIT_TYPES
from services.transactions.store import bank_accounts
from services.transactions.store import transactions as store

# The rail decides who carries it.
PROVIDERS = {"ACH": "sandbox", "WIRE": "manual", "CHECK": "manual"}

# The request that recorded a transaction has it evaluated at once; should it die, a job does, after this while.
EVALUATE_GRACE_MS = 2_000

_T = pb.Transaction


def check_request(request: pb.CreateTransactionRequest, principal: Principal) -> str:
    """Refuses what no peer need be asked about; returns whose money moves.

    Raises:
        TypeNotSupported, PaymentMethodNotSupported, InvalidField
    """
    type_name, method = _T.Type.Name(request.type), _T.PaymentMethod.Name(request.payment_method)
    if type_name not in DEBIT_TYPES or (principal.role == INVESTOR and type_name != "ESCROW_DEPOSIT"):
        raise TypeNotSupported("This type is not offered to this caller.", type=type_name)
    if method not in PROVIDERS:
        raise PaymentMethodNotSupported("This rail is not offered.", payment_method=method)
    party_id = request.party_id or (principal.subject if principal.role == INVESTOR else "")
    faults = {}
    if not party_id:
        faults["party_id"] = "must be set"
    if bool(request.bank_account_id) != (method == "ACH"):
        faults["bank_account_id"] = "must be set for ACH, and only then"
    if bool(request.investment_id) != (type_name == "ESCROW_DEPOSIT"):
        faults["investment_id"] = "must be set for ESCROW_DEPOSIT, and only then"
    if faults:
        raise InvalidField("The request is not valid.", fields=faults)
    return party_id


async def refusal_of_peers(
    request: pb.CreateTransactionRequest, party_id: str, escrow: Escrow, distributions: Distributions
) -> DomainError | None:
    """Asks escrow and distributions whether the money could be received. Outside of any transaction.

    Raises:
        Unavailable: one of them cannot be reached; nothing was written.
        NotFound: there is no such investment of this party.
    """
    account = await escrow.get_account(request.escrow_account_id)
    cause = _account_cause(account, request)
    if cause:
        return EscrowAccountNotUsable(
            f"The escrow account cannot take this: {cause}.", escrow_account_id=request.escrow_account_id, cause=cause
        )
    if not request.investment_id:
        return None
    investment = await distributions.get_investment(request.investment_id)
    if investment is None or investment.investor_id != party_id:
        raise NotFound("There is no such investment of this party.")
    cause = _investment_cause(investment, request)
    if not cause:
        offering = await distributions.get_offering(investment.offering_id)
        if offering is None or offering.escrow_account_id != request.escrow_account_id:
            cause = "its offering uses another escrow account"
    if cause:
        return InvestmentNotUsable(
            f"The investment cannot take this: {cause}.", investment_id=request.investment_id, cause=cause
        )
    return None


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
    tx: AsyncConnection, request: pb.CreateTransactionRequest, party_id: str, refusal: DomainError | None, now: datetime
) -> pb.Transaction:
    """Records the transaction INITIATED, or raises the peers' refusal, so that a replay hears it again.

    Raises:
        BankAccountNotFound, BankAccountNotUsable
    """
    principal = current_principal()
    if request.bank_account_id:
        await _check_bank_account(tx, principal.org_id, request.bank_account_id, party_id)
    if refusal is not None:
        raise refusal
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
        "request_id": request.request_id,
    }
    [row] = await store.insert(tx, [values], due_ms=EVALUATE_GRACE_MS, actor=principal.person, now=now)
    return messages.to_transaction(row, now)


async def _check_bank_account(tx: AsyncConnection, org_id: str, bank_account_id: str, party_id: str) -> None:
    account = await bank_accounts.get(tx, org_id, bank_account_id)
    if account is None or account.party_id != party_id:
        raise BankAccountNotFound("There is no such bank account of this party.")
    if account.status != "ACTIVE":
        raise BankAccountNotUsable(
            f"The bank account is {account.status}.", bank_account_id=bank_account_id, status=account.status
        )
