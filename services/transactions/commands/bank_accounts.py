"""Bank accounts: added once, their number sealed before it is stored; confirmed, changed, retired, never erased."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from prometheus_client import Counter
from realco.transactions.v1 import bank_accounts_pb2 as pb
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import Principal, current_principal
from services.chassis.process.telemetry import log
from services.chassis.values.errors import InvalidField
from services.chassis.values.etags import check_etag
from services.chassis.values.ids import new_id
from services.chassis.values.refusals import PartyNotFound
from services.chassis.values.text import has_aba_digit
from services.transactions.actions import answer_bank_account
from services.transactions.commands.approvals import BANK_ACCOUNT_APPROVALS, ask_for_confirmation
from services.transactions.domain.bank_accounts import ACTIVE, BLOCKED, DELETED, LIVE, PENDING, is_usable
from services.transactions.domain.refusals import BankAccountNotFound, BankAccountNotUsable
from services.transactions.messages import build_bank_account_etag
from services.transactions.store import bank_accounts as store
from services.transactions.vault import SealedFor, Vault

ACCOUNTS_ALTERED = Counter("realco_bank_accounts_altered_total", "Bank accounts that were not what was sealed.")


def check_create_bank_account(request: pb.CreateBankAccountRequest, principal: Principal) -> None:
    """Raises InvalidField, PartyNotFound."""
    principal.choose_party(request.party_id)
    if not has_aba_digit(request.routing_number):
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
    """Adds an account, which waits for a second person before money goes to it.

    Args:
        unknown: The refusal of a party that is not there, asked for before the transaction.
    """
    if unknown is not None:
        raise unknown
    principal = current_principal()
    party_id = principal.choose_party(request.party_id)
    await store.lock_default(tx, party_id)
    is_first = not await store.has_default(tx, party_id)
    seal = SealedFor(
        org_id=principal.org_id,
        bank_account_id=new_id("ba"),
        party_id=party_id,
        routing_number=request.routing_number,
        account_type=pb.BankAccount.AccountType.Name(request.account_type or pb.BankAccount.CHECKING),
        account_holder_name=request.account_holder_name,
    )
    row = await store.insert_bank_account(
        tx,
        now,
        **asdict(seal),
        account_number_encrypted=vault.seal(request.account_number, seal),
        account_number_digest=vault.digest(request.routing_number, request.account_number),
        account_number_last4=request.account_number[-4:],
        default_for_payouts=request.default_for_payouts or is_first,
        status=PENDING,
        external_id=request.external_id or None,
        metadata=dict(request.metadata),
        created_by=principal.person,
        makers=[principal.person],
    )
    await ask_for_confirmation(tx, row, now)
    return answer_bank_account(row)


async def update_bank_account(
    tx: AsyncConnection, request: pb.UpdateBankAccountRequest, now: datetime
) -> pb.BankAccount:
    """Takes over the fields that the mask names. An account that is to be the default waits for a second person again.

    Raises:
        BankAccountNotFound, EtagMismatch, BankAccountNotUsable
    """
    row = await _lock_as_read(tx, request.bank_account_id, request.etag)
    check_usable(row, row.party_id, is_debit=True)
    changes: dict[str, Any] = {name: getattr(request, name) for name in request.update_mask.paths}
    if "metadata" in changes:
        changes["metadata"] = dict(request.metadata)
    if "external_id" in changes:
        changes["external_id"] = request.external_id or None
    is_redirected = changes.get("default_for_payouts", False) and not row.default_for_payouts
    if is_redirected:
        makers = sorted({*row.makers, current_principal().person})
        changes |= {"status": PENDING, "confirmed_at": None, "makers": makers}
    if any(getattr(row, name) != value for name, value in changes.items()):
        row = await store.save_bank_account(tx, row, now, **changes)
    # What is decided on has changed; or nobody confirmed it in time, or somebody said no, and it is asked for again.
    if "default_for_payouts" in changes and row.status == PENDING:
        await ask_for_confirmation(tx, row, now)
    return answer_bank_account(row)


async def confirm_bank_account(
    tx: AsyncConnection, bank_account_id: str, parties: Collection[str], now: datetime, note: str | None
) -> None:
    """A second person says that money may go there: from the end of the cool-down on, if no other has to say so, too.

    Raises:
        BankAccountNotFound, IllegalStatusChange, ApprovalExpired, MakerIsChecker, AlreadyApproved,
        BeneficiaryIsChecker, InsufficientUserAuthentication
    """
    row = await store.lock_bank_account(tx, bank_account_id)
    if row is None:
        raise BankAccountNotFound()
    if not await BANK_ACCOUNT_APPROVALS.approve(tx, bank_account_id, parties, now, note):
        return
    if row.default_for_payouts:
        await store.lock_default(tx, row.party_id)
        for former in (await store.list_default_accounts(tx, [row.party_id])).values():
            await store.save_bank_account(tx, former, now, default_for_payouts=False)
    await store.save_bank_account(tx, row, now, status=ACTIVE, confirmed_at=now)


async def delete_bank_account(
    tx: AsyncConnection, request: pb.DeleteBankAccountRequest, now: datetime
) -> pb.BankAccount:
    """Retires the account; a retired one stays as it is. Raises BankAccountNotFound, EtagMismatch."""
    row = await _lock_as_read(tx, request.bank_account_id, request.etag)
    if row.status != DELETED:
        await BANK_ACCOUNT_APPROVALS.cancel(tx, row.bank_account_id, now)
        row = await store.save_bank_account(tx, row, now, status=DELETED, default_for_payouts=False)
    return answer_bank_account(row)


async def block_bank_account(
    tx: AsyncConnection, bank_account_id: str, reason: str, now: datetime, *, network_code: str | None = None
) -> None:
    """The account must not be used again, for what is under way either.

    A retired account stays retired, but bears the reason: retiring it must not let an attempt through.
    """
    row = await store.lock_bank_account(tx, bank_account_id, to_block=True)
    if row is not None and not row.block_reason:
        status = BLOCKED if row.status in LIVE else row.status
        await BANK_ACCOUNT_APPROVALS.cancel(tx, bank_account_id, now)
        why = {"block_reason": reason, "block_network_code": network_code}
        await store.save_bank_account(tx, row, now, status=status, **why, default_for_payouts=False)


async def block_altered_account(tx: AsyncConnection, bank_account_id: str, transaction_id: str, now: datetime) -> None:
    """What the account says is not what this service wrote: nobody uses it any more, and somebody is told."""
    ACCOUNTS_ALTERED.inc()
    log.error("bank_account_altered", bank_account_id=bank_account_id, transaction_id=transaction_id)
    await block_bank_account(tx, bank_account_id, "ALTERED", now)


def check_usable(
    account: sa.Row[Any] | None, party_id: str, *, is_debit: bool, field: str | None = None
) -> sa.Row[Any]:
    """The account, if money of the party may come from it, or go to it.

    Args:
        field: The request's field that names the account, where it has one.

    Raises:
        BankAccountNotFound: there is none, or it is another party's.
        BankAccountNotUsable: it is blocked or retired, or money is to go to it and nobody has confirmed it.
    """
    if account is None or account.party_id != party_id:
        raise BankAccountNotFound(field)
    if not is_usable(account.status, is_debit=is_debit):
        raise BankAccountNotUsable(
            f"The bank account is {account.status}.",
            fields={field: f"is {account.status}"} if field else None,
            bank_account_id=account.bank_account_id,
            status=account.status,
        )
    return account


async def _lock_as_read(tx: AsyncConnection, bank_account_id: str, etag: str) -> sa.Row[Any]:
    principal = current_principal()
    row = await store.lock_bank_account(tx, bank_account_id)
    if row is None or not principal.may_reach(row.party_id):
        raise BankAccountNotFound()
    check_etag(etag, build_bank_account_etag(row))
    return row
