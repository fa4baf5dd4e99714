"""Reads of bank accounts: SQL to proto."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from realco.transactions.v1 import (
    bank_accounts_pb2,
)

from services.chassis.calls.auth import current_principal
from services.chassis.data.paging import one_of, read_list
from services.chassis.data.reach import within_reach
from services.chassis.data.reads import Read, Reader, Source, fetch_row
from services.chassis.data.transaction import Tx
from services.chassis.data.versions import with_version
from services.chassis.values.refusals import BankAccountNotFound
from services.transactions import messages
from services.transactions.actions import (
    answer_bank_account,
)
from services.transactions.domain.bank_accounts import BankAccount
from services.transactions.domain.verifications import VerificationNeed, find_need
from services.transactions.providers.choice import ProviderChoice
from services.transactions.store.bank_accounts import BANK_ACCOUNTS
from services.transactions.store.transactions import find_arrived
from services.transactions.store.verifications import list_verifications
from services.transactions.tables import bank_accounts

_b = bank_accounts.c


async def get_bank_account(
    reader: Reader, request: bank_accounts_pb2.GetBankAccountRequest, now: datetime, *, choice: ProviderChoice
) -> bank_accounts_pb2.BankAccount:
    """Raises BankAccountNotFound: unknown, of another organization, or of a party the caller does not act for."""
    row = await fetch_row(reader, _BANK_ACCOUNT, bank_account_id=request.bank_account_id)
    if row is None or not current_principal().may_reach(row.party_id):
        raise BankAccountNotFound()
    account, need = BANK_ACCOUNTS.read_sealed(reader, row), None
    if account.party_id in current_principal().parties:
        need = await read_need(reader, account, choice)
    answer = answer_bank_account(account, need)
    answer.aggregate_version = row.aggregate_version
    return answer


async def read_need(source: Source, account: BankAccount, choice: ProviderChoice) -> VerificationNeed | None:
    """Whether its holder has verified the account with whoever draws from it now; None where that wants none verified.

    Raises: NotSealed.
    """
    provider = choice.find_verifying(current_principal().org_id)
    if provider is None:
        return None
    verifications = await list_verifications(source, account.bank_account_id, provider)
    return find_need(account, verifications, await find_arrived(source, provider, account.bank_account_id))


_BANK_ACCOUNT = Read(
    with_version(BANK_ACCOUNTS.select(), _b.bank_account_id).where(
        _b.bank_account_id == sa.bindparam("bank_account_id")
    )
)


async def list_bank_accounts(
    tx: Tx, request: bank_accounts_pb2.ListBankAccountsRequest, now: datetime
) -> bank_accounts_pb2.ListBankAccountsResponse:
    statement = BANK_ACCOUNTS.select().where(
        within_reach(_b.party_id),
        *one_of(_b.bank_account_id, request.ids),
        *one_of(_b.status, [bank_accounts_pb2.BankAccount.Status.Name(each) for each in request.status]),
        *one_of(_b.party_id, request.party_id),
        *one_of(_b.external_id, request.external_id),
    )
    page = await read_list(tx, request, statement, _b.created_at, _b.bank_account_id)
    return bank_accounts_pb2.ListBankAccountsResponse(
        bank_accounts=BANK_ACCOUNTS.show_all(tx, page.rows, messages.to_bank_account),
        next_page_token=page.next_page_token,
        previous_page_token=page.previous_page_token,
    )
