"""Creates transactions: checks what is asked for and by whom, and records it. Nothing has moved yet."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from realco.transactions.v1 import transactions_pb2 as pb

from services.chassis.calls.auth import Principal, current_principal
from services.chassis.data.transaction import Tx
from services.chassis.values.errors import InvalidField, Unavailable
from services.chassis.values.ids import new_id
from services.chassis.values.money import Money
from services.transactions.actions import answer_transaction
from services.transactions.commands.inflow import Inflow, InflowVerdict, ask_about_inflow, check_commitment
from services.transactions.dependencies import Dependencies
from services.transactions.domain.bank_accounts import BankAccount, check_usable, list_payee_makers
from services.transactions.domain.decisions import check_carries, check_carries_type
from services.transactions.domain.rails import RAILS
from services.transactions.domain.refusals import AlreadyReplaced, TypeNotSupported
from services.transactions.domain.replacements import check_may_replace
from services.transactions.domain.types import CONTRIBUTIONS, STAFFS_DEBIT, TYPES
from services.transactions.providers.choice import ProviderChoice
from services.transactions.store import bank_accounts, moves
from services.transactions.store import transactions as store

# The request that records a transaction has it evaluated at once. Should it die, a job does, after so long.
EVALUATE_GRACE_MS = 2_000

_T = pb.Transaction
_BETWEEN_ACCOUNTS = ", ".join(rail.payment_method for rail in RAILS.values() if rail.is_between_accounts)
_TRANSFERS = ", ".join(each.name for each in TYPES.values() if each.is_transfer)


def check_create_transaction(request: pb.CreateTransactionRequest, principal: Principal) -> None:
    """Refuses what can be refused without asking another service.

    Raises:
        TypeNotSupported, InvalidField, PartyNotFound
    """
    wanted, method = TYPES[_T.Type.Name(request.type)], _T.PaymentMethod.Name(request.payment_method)
    if principal.confined and not wanted.is_for_investors:
        offered = ", ".join(each.name for each in TYPES.values() if each.is_for_investors)
        fields = {"type": f"must be {offered}"}
        raise TypeNotSupported(f"An investor orders no other type than {offered}.", fields=fields, type=wanted.name)
    principal.choose_party(request.party_id)
    rail, faults = RAILS[method], {}
    if bool(request.bank_account_id) != (rail.draws_from_account if wanted.is_inbound else rail.pays_to_account):
        faults["bank_account_id"] = "must be set for ACH, and for a WIRE that goes out, and only then"
    if rail.is_between_accounts != wanted.is_transfer:
        faults["payment_method"] = f"must be {_BETWEEN_ACCOUNTS} for {_TRANSFERS}, and only then"
    if bool(request.to_escrow_account_id) != wanted.is_transfer:
        faults["to_escrow_account_id"] = f"must be set for {_TRANSFERS}, and only then"
    elif request.to_escrow_account_id == request.escrow_account_id:
        faults["to_escrow_account_id"] = "must be another escrow account"
    if request.replaced_transaction_id and not wanted.is_for_staff:
        faults["replaced_transaction_id"] = "must be set for payouts that staff orders alone"
    if bool(request.investment_id) != wanted.is_for_investment:
        faults["investment_id"] = f"must be set for {', '.join(CONTRIBUTIONS)}, and only then"
    if faults:
        raise InvalidField("The request is not valid.", fields=faults)


def choose_approval_reason(request: pb.CreateTransactionRequest, principal: Principal) -> str | None:
    """Why a second person approves it, whatever compliance says."""
    of_staff = bool(request.bank_account_id) and not (principal.confined or principal.service)
    return TYPES[_T.Type.Name(request.type)].approval_reason or (STAFFS_DEBIT if of_staff else None)


async def ask_about_new_transaction(dependencies: Dependencies, request: pb.CreateTransactionRequest) -> InflowVerdict:
    """Asks the other services who pays or is paid, and whether the escrow account, and the investment, take it.

    Where compliance is away an unknown party is let in: its transaction waits for compliance, which refuses it.

    Raises:
        Unavailable: escrow or distributions cannot be reached; nothing was written.
    """
    try:
        unknown = await dependencies.known_parties.find_refusal(request.party_id, "party_id")
    except Unavailable:
        unknown = None
    if unknown is not None:
        return InflowVerdict(unknown)
    inflow = Inflow.of_request(request, current_principal().choose_party(request.party_id))
    return await ask_about_inflow(inflow, dependencies.peers, dependencies.clock.now())


async def create_transaction(
    tx: Tx, request: pb.CreateTransactionRequest, verdict: InflowVerdict, now: datetime, *, choice: ProviderChoice
) -> pb.Transaction:
    """Records the transaction INITIATED.

    Args:
        choice: Who carries it.

    Raises:
        BankAccountNotFound, BankAccountNotUsable, CommitmentExceeded, TooManyUnsettledPayments,
        PaymentMethodNotSupported, or what the verdict or `find_replaced` refuses
    """
    verdict.check()
    account = None
    if request.bank_account_id:
        account = await bank_accounts.find_bank_account(tx, request.bank_account_id)
    check_way(request, account, choice)
    if verdict.investment is not None:
        party_id = current_principal().choose_party(request.party_id)
        await check_commitment(tx, Inflow.of_request(request, party_id), verdict.investment)
    values = build_row(request, account, choice, await find_replaced(tx, request))
    [row] = await moves.insert_transactions(
        tx, [values], due_ms=EVALUATE_GRACE_MS, actor=current_principal().person, now=now
    )
    return answer_transaction(row, now)


async def find_replaced(tx: Tx, request: pb.CreateTransactionRequest) -> str | None:
    """What came to nothing and is paid by this one instead; None where it names none.

    Raises: TransactionNotFound, IllegalStatusChange, InvalidField, AlreadyReplaced, NotSealed.
    """
    if not request.replaced_transaction_id:
        return None
    replaced = check_may_replace(
        await store.find_transaction(tx, request.replaced_transaction_id),
        Money(request.amount.amount_minor, request.amount.currency_code),
        type_=_T.Type.Name(request.type),
        party_id=current_principal().choose_party(request.party_id),
        escrow_account_id=request.escrow_account_id,
        to_escrow_account_id=request.to_escrow_account_id or None,
    )
    if (other := await store.find_replacement(tx, replaced)) is not None:
        raise AlreadyReplaced(other)
    return replaced


def check_way(request: pb.CreateTransactionRequest, account: BankAccount | None, choice: ProviderChoice) -> None:
    """Whether the money can move in this currency by this rail, and from this account of the party, or to it.

    Args:
        choice: Who carries it, if anybody does.

    Raises:
        BankAccountNotFound, BankAccountNotUsable, PaymentMethodNotSupported
    """
    principal, wanted = current_principal(), TYPES[_T.Type.Name(request.type)]
    rail = RAILS[_T.PaymentMethod.Name(request.payment_method)]
    check_carries(rail, request.amount.currency_code)
    check_carries_type(rail, wanted)
    choice.choose(principal.org_id, rail, is_inbound=wanted.is_inbound)
    if request.bank_account_id:
        party_id = principal.choose_party(request.party_id)
        check_usable(account, party_id, is_inbound=wanted.is_inbound, field="bank_account_id")


def build_row(
    request: pb.CreateTransactionRequest, account: BankAccount | None, choice: ProviderChoice, replaced: str | None
) -> dict[str, Any]:
    """What is recorded of a new transaction.

    Args:
        account: That it is drawn from or paid to, if any.
        choice: Who carries it.
        replaced: What it is paid instead of, if anything.
    """
    principal, wanted = current_principal(), TYPES[_T.Type.Name(request.type)]
    rail = RAILS[_T.PaymentMethod.Name(request.payment_method)]
    return {
        "org_id": principal.org_id,
        "transaction_id": new_id("txn"),
        "type": wanted.name,
        "payment_method": rail.payment_method,
        "amount_minor": request.amount.amount_minor,
        "currency": request.amount.currency_code,
        "escrow_account_id": request.escrow_account_id,
        "to_escrow_account_id": request.to_escrow_account_id or None,
        "party_id": principal.choose_party(request.party_id),
        "bank_account_id": request.bank_account_id or None,
        "account_number_digest": account and account.account_number_digest,
        "is_corporate": account is not None and wanted.is_inbound and account.is_corporate,
        "approval_reason": choose_approval_reason(request, principal),
        "investment_id": request.investment_id or None,
        "replaced_transaction_id": replaced,
        "description": request.description or None,
        "external_id": request.external_id or None,
        "metadata": dict(request.metadata),
        "provider": choice.choose(principal.org_id, rail, is_inbound=wanted.is_inbound),
        "created_by": principal.person,
        "makers_and_checkers": sorted(list_payee_makers(account, is_inbound=wanted.is_inbound)),
        "request_subject": principal.subject,
        "request_role": principal.role,
        "idempotency_key": request.idempotency_key or None,
        **principal.session._asdict(),
    }
