"""Bank accounts: added once, their number sealed before it is stored; changed, retired, never erased."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from google.protobuf.empty_pb2 import Empty
from realco.transactions.v1 import bank_accounts_pb2 as pb
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import Principal, current_principal
from services.chassis.values.errors import InvalidField
from services.chassis.values.etags import check_etag
from services.chassis.values.ids import new_id
from services.chassis.values.refusals import PartyNotFound
from services.transactions.actions import answer_bank_account
from services.transactions.domain.refusals import BankAccountNotFound, BankAccountNotUsable
from services.transactions.domain.routing import has_check_digit
from services.transactions.messages import build_bank_account_etag
from services.transactions.store import bank_accounts as store
from services.transactions.vault import SealedFor, Vault


def check_create_bank_account(request: pb.CreateBankAccountRequest, principal: Principal) -> None:
    """Raises InvalidField, PartyNotFound."""
    principal.choose_party(request.party_id)
    if not has_check_digit(request.routing_number):
        fault = "must be nine digits with a right ABA check digit"
        raise InvalidField("The request is not valid.", fields={"routing_number": fault})


def blind_request(request: pb.CreateBankAccountRequest, vault: Vault) -> pb.CreateBankAccountRequest:
    """The request with a stand-in for the account number, as idempotency remembers it: equal for equal numbers."""
    copy = pb.CreateBankAccountRequest()
    copy.CopyFrom(request)
    copy.account_number = vault.blind(request.account_number)
    return copy


async def create_bank_account(
    tx: AsyncConnection,
    request: pb.CreateBankAccountRequest,
    unknown: PartyNotFound | None,
    vault: Vault,
    now: datetime,
) -> pb.BankAccount:
    """Adds an account; `unknown` is the refusal of a party that is not there, asked for before the transaction."""
    if unknown is not None:
        raise unknown
    principal = current_principal()
    party_id = principal.choose_party(request.party_id)
    former = await store.lock_default_account(tx, principal.org_id, party_id)
    is_default = request.default_for_payouts or former is None
    if is_default and former is not None:
        await store.save_bank_account(tx, former, now, default_for_payouts=False)
    account = SealedFor(
        org_id=principal.org_id,
        bank_account_id=new_id("ba"),
        party_id=party_id,
        account_holder_name=request.account_holder_name,
        routing_number=request.routing_number,
        account_type=pb.BankAccount.AccountType.Name(request.account_type or pb.BankAccount.CHECKING),
    )
    row = await store.insert_bank_account(
        tx,
        now,
        **asdict(account),
        account_number_encrypted=vault.seal(request.account_number, account),
        account_number_last4=request.account_number[-4:],
        default_for_payouts=is_default,
        status="ACTIVE",
        external_id=request.external_id,
        metadata=dict(request.metadata),
        created_by=principal.person,
    )
    return answer_bank_account(row)


async def update_bank_account(
    tx: AsyncConnection, request: pb.UpdateBankAccountRequest, now: datetime
) -> pb.BankAccount:
    """Takes over the fields that the mask names. Raises BankAccountNotFound, EtagMismatch, BankAccountNotUsable."""
    row = await _lock_as_read(tx, request.bank_account_id, request.etag)
    check_usable(row, row.party_id)
    changes: dict[str, Any] = {name: getattr(request, name) for name in request.update_mask.paths}
    if "metadata" in changes:
        changes["metadata"] = dict(request.metadata)
    if changes.get("default_for_payouts"):
        former = await store.lock_default_account(tx, row.org_id, row.party_id)
        if former is not None and former.bank_account_id != row.bank_account_id:
            await store.save_bank_account(tx, former, now, default_for_payouts=False)
    if any(getattr(row, name) != value for name, value in changes.items()):
        row = await store.save_bank_account(tx, row, now, **changes)
    return answer_bank_account(row)


async def delete_bank_account(tx: AsyncConnection, request: pb.DeleteBankAccountRequest, now: datetime) -> Empty:
    """Retires the account; a retired one stays as it is. Raises BankAccountNotFound, EtagMismatch."""
    row = await _lock_as_read(tx, request.bank_account_id, request.etag)
    if row.status != "DELETED":
        await store.save_bank_account(tx, row, now, status="DELETED", default_for_payouts=False)
    return Empty()


async def block_bank_account(tx: AsyncConnection, org_id: str, bank_account_id: str, code: str, now: datetime) -> None:
    """A bank's return says the account must not be used again, for what is under way either.

    A retired account stays retired, but bears the reason: retiring it must not let an attempt through.
    """
    row = await store.lock_bank_account(tx, org_id, bank_account_id)
    if row is not None and not row.block_reason:
        status = "BLOCKED" if row.status == "ACTIVE" else row.status
        await store.save_bank_account(tx, row, now, status=status, block_reason=code, default_for_payouts=False)


def check_usable(account: sa.Row[Any] | None, party_id: str, *, field: str | None = None) -> None:
    """Whether money of the party may go over this account.

    Args:
        field: The request's field that names the account, where it has one.

    Raises:
        BankAccountNotFound: there is none, or it is another party's.
        BankAccountNotUsable: it is blocked or retired.
    """
    if account is None or account.party_id != party_id:
        raise BankAccountNotFound(field)
    if account.status != "ACTIVE":
        raise BankAccountNotUsable(
            f"The bank account is {account.status}.",
            fields={field: f"is {account.status}"} if field else None,
            bank_account_id=account.bank_account_id,
            status=account.status,
        )


async def _lock_as_read(tx: AsyncConnection, bank_account_id: str, etag: str) -> sa.Row[Any]:
    principal = current_principal()
    row = await store.lock_bank_account(tx, principal.org_id, bank_account_id)
    if row is None or not principal.may_reach(row.party_id):
        raise BankAccountNotFound()
    check_etag(etag, build_bank_account_etag(row))
    return row
