"""Bank accounts: added once, their number sealed before it is stored; retired, never erased."""

from __future__ import annotations

from datetime import datetime

from google.protobuf.empty_pb2 import Empty
from realco.transactions.v1 import bank_accounts_pb2 as pb
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import Principal, current_principal
from services.chassis.values.errors import InvalidField
from services.chassis.values.ids import new_id
from services.transactions import messages
from services.transactions.domain.refusals import BankAccountNotFound
from services.transactions.domain.routing import has_check_digit
from services.transactions.store import bank_accounts as store
from services.transactions.vault import Vault


def check_request(request: pb.CreateBankAccountRequest, principal: Principal) -> None:
    """Raises InvalidField, NotFound."""
    principal.choose_party(request.party_id)
    faults = {}
    if not has_check_digit(request.routing_number):
        faults["routing_number"] = "must be nine digits with a right ABA check digit"
    if not request.account_holder_name.isprintable():
        faults["account_holder_name"] = "must not contain control characters"
    if faults:
        raise InvalidField("The request is not valid.", fields=faults)


def blind(request: pb.CreateBankAccountRequest, vault: Vault) -> pb.CreateBankAccountRequest:
    """The request with a stand-in for the account number, as idempotency remembers it: equal for equal numbers."""
    copy = pb.CreateBankAccountRequest()
    copy.CopyFrom(request)
    copy.account_number = vault.blind(request.account_number)
    return copy


async def create(
    tx: AsyncConnection, request: pb.CreateBankAccountRequest, vault: Vault, now: datetime
) -> pb.BankAccount:
    principal = current_principal()
    party_id = principal.choose_party(request.party_id)
    former = await store.lock_default(tx, principal.org_id, party_id)
    is_default = request.default_for_payouts or former is None
    if is_default and former is not None:
        await store.update(tx, former, now, default_for_payouts=False)
    bank_account_id = new_id("ba")
    account_type = request.account_type or pb.BankAccount.CHECKING
    row = await store.insert(
        tx,
        org_id=principal.org_id,
        bank_account_id=bank_account_id,
        party_id=party_id,
        account_holder_name=request.account_holder_name,
        routing_number=request.routing_number,
        account_number_encrypted=vault.seal(
            request.account_number, org_id=principal.org_id, bank_account_id=bank_account_id
        ),
        account_number_last4=request.account_number[-4:],
        account_type=pb.BankAccount.AccountType.Name(account_type),
        default_for_payouts=is_default,
        status="ACTIVE",
        created_by=principal.person,
        created_at=now,
        updated_at=now,
    )
    return messages.to_bank_account(row)


async def delete(tx: AsyncConnection, request: pb.DeleteBankAccountRequest, now: datetime) -> Empty:
    """Retires the account; again changes nothing. Raises BankAccountNotFound."""
    principal = current_principal()
    row = await store.lock(tx, principal.org_id, request.bank_account_id)
    if row is None or not principal.may_reach(row.party_id):
        raise BankAccountNotFound("There is no such bank account.")
    if row.status != "DELETED":
        await store.update(tx, row, now, status="DELETED", default_for_payouts=False)
    return Empty()
