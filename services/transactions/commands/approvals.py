"""What waits for a second person, as the inbox keeps it: transactions, and bank accounts that money is to go to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from realco.transactions.v1.bank_accounts_pb2 import BankAccountContent

from services.chassis.approvals.resources import ResourceApprovals
from services.chassis.calls.auth import current_principal
from services.chassis.data.reads import Source
from services.chassis.data.seals import seals_of
from services.chassis.data.transaction import Tx
from services.chassis.values.approval import Approval, ApprovalDetails, Change, Precondition
from services.chassis.values.explanation import Explanation
from services.transactions.domain.bank_accounts import BankAccount, BankAccountStatus, list_payee_makers, unblock
from services.transactions.domain.explanations import spell_card
from services.transactions.domain.states import Status
from services.transactions.domain.transaction import Transaction
from services.transactions.domain.types import TYPES
from services.transactions.messages import to_bank_account_content, to_transaction_content
from services.transactions.store.approvals import APPROVAL_WRITER

TRANSACTION_APPROVALS = ResourceApprovals(
    "APPROVE_TRANSACTION",
    APPROVAL_WRITER,
    rpc="realco.transactions.v1.TransactionsService/ApproveTransaction",
)
BANK_ACCOUNT_APPROVALS = ResourceApprovals("CONFIRM_BANK_ACCOUNT", APPROVAL_WRITER)


async def ask_for_approval(
    tx: Tx,
    rows: Sequence[Transaction],
    accounts: Mapping[str, BankAccount],
    reason: str,
    beneficiaries: Mapping[str, Collection[str]],
    now: datetime,
) -> list[Approval]:
    """Transactions of one organization begin to wait, for this reason. In their order.

    Whoever goes on with one, be it a job, each waits in the session in which it was asked for.

    Args:
        accounts: Every one that they name.
        beneficiaries: Who gains from each, by transaction_id.
    """
    asked = []
    for row in rows:
        account = accounts[row.bank_account_id] if row.bank_account_id else None
        details = build_transaction_details(row, account, beneficiaries[row.transaction_id])
        code = _code_number(tx, row.account_number_digest) if row.account_number_digest else None
        asked.append((details, to_transaction_content(row, reason, code), row.session))
    return await TRANSACTION_APPROVALS.open_each(tx, asked, now)


def build_transaction_details(
    row: Transaction, account: BankAccount | None, beneficiary_party_ids: Collection[str]
) -> ApprovalDetails:
    return ApprovalDetails(
        spell_payment(row, account),
        row.transaction_id,
        row.escrow_account_id,
        amount=row.amount,
        makers=list_payee_makers(account, is_inbound=row.is_inbound) | {row.created_by},
        beneficiary_party_ids=frozenset(beneficiary_party_ids),
        changes=(Change("status", Status.PENDING_APPROVAL.value, Status.APPROVED.value),),
        # Neither its amount nor its type nor the bank account: another one of these is the same payee.
        matter=(
            "payment in" if row.is_inbound else "payment out",
            row.escrow_account_id,
            row.to_escrow_account_id or "",
            row.party_id,
        ),
    )


def spell_payment(row: Transaction, account: BankAccount | None = None) -> str:
    """What is paid, by whom or to whom, and how."""
    rail = row.rail
    words = "drawn from" if rail.draws_from_account else "from"
    way = f"{words if row.is_inbound else 'paid to'} {row.party_id}"
    if row.to_escrow_account_id is not None:
        way = f"to {row.to_escrow_account_id}"
    if account is not None:
        way += f", account …{account.account_number_last4}"
    if row.refunded_transaction_id is not None:
        way += f", card {spell_card(row)}"
    if rail.is_confirmed_by_a_person:
        way += f", by {row.payment_method.lower().replace('_', ' ')}"
    return f"{TYPES[row.type].label}: {row.amount}, {way}"


async def find_approval(source: Source, row: Transaction, now: datetime) -> Approval | None:
    """What waits about it, while it is PENDING_APPROVAL."""
    if row.status is not Status.PENDING_APPROVAL:
        return None
    return await TRANSACTION_APPROVALS.find(source, row.transaction_id, now)


async def ask_for_confirmation(tx: Tx, account: BankAccount, now: datetime) -> None:
    """A bank account begins to wait, waits with another content, or is asked for again."""
    details, resource = build_bank_account_details(account), _build_content(tx, account)
    await BANK_ACCOUNT_APPROVALS.reopen(tx, details, resource, now)


async def ask_for_confirmation_anew(tx: Tx, account: BankAccount, now: datetime) -> None:
    """A second person is asked about a bank account of which another thing is known since: no yes of before counts.

    Raises: NotSealed: somebody altered what was asked before.
    """
    details, resource = build_bank_account_details(account), _build_content(tx, account)
    await BANK_ACCOUNT_APPROVALS.open_anew(tx, details, resource, now)


def _build_content(tx: Tx, account: BankAccount) -> BankAccountContent:
    return to_bank_account_content(account, _code_number(tx, account.account_number_digest))


def _code_number(tx: Tx, digest: str) -> str:
    """What stands for a number where people read it. Whoever has the key of the digests from an old backup could try
    numbers until a digest fits.
    """
    return seals_of(tx).list_codes("account numbers", digest)[0].hex()


def build_reversal_preconditions(tx: Tx, row: Transaction) -> tuple[Precondition, ...]:
    """What a yes to a reversal rests on, beside the amount: which payment it was, and to which account."""
    paid = Precondition("provider_reference", row.provider_reference or "")
    digest = row.account_number_digest
    return (paid, Precondition("account_number_code", _code_number(tx, digest))) if digest else (paid,)


def build_bank_account_details(account: BankAccount) -> ApprovalDetails:
    """Who acts for the account's party does not confirm it."""
    return ApprovalDetails(
        f"Money may go to account …{account.account_number_last4} of {account.party_id}",
        account.bank_account_id,
        makers=frozenset(account.makers),
        beneficiary_party_ids=frozenset({account.party_id}),
        changes=(Change("status", account.status, BankAccountStatus.ACTIVE),),
        matter=_name_number(account),
    )


def _name_number(account: BankAccount) -> tuple[str, str]:
    """Whoever added it, and for which party."""
    return "bank account", account.account_number_digest


def build_unblocking_details(account: BankAccount, explanations: tuple[Explanation, ...]) -> ApprovalDetails:
    """Who acts for the account's party does not say that its bank was wrong, nor does who added it."""
    after = unblock(account, current_principal().person)
    again = "added anew" if after.status is BankAccountStatus.DELETED else "used again"
    return ApprovalDetails(
        f"Account …{account.account_number_last4} may be {again}",
        account.bank_account_id,
        makers=frozenset(account.makers),
        beneficiary_party_ids=frozenset({account.party_id}),
        changes=(
            Change("status", account.status, after.status),
            Change("block_reason", account.block_reason, after.block_reason),
            Change("block_network_code", account.block_network_code, after.block_network_code),
        ),
        # Each return is written: a yes to one is none to the next, though all else reads the same.
        preconditions=(Precondition("etag", account.etag),),
        explanations=explanations,
        matter=_name_number(account),
    )
