"""Bank accounts: added once, their number sealed before it is stored; confirmed, changed, retired, never erased."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime

from realco.compliance.v1.parties_pb2 import Party
from realco.transactions.v1 import bank_accounts_pb2 as pb

from services.chassis.calls.auth import Principal, current_principal
from services.chassis.calls.wire import from_enum
from services.chassis.data.heard_persons import acts_for
from services.chassis.data.seals import NotSealed
from services.chassis.data.stops import note_stop
from services.chassis.data.transaction import Tx
from services.chassis.spelling.visibility import is_told_to
from services.chassis.values.approval import Approval, ApprovalFacts
from services.chassis.values.errors import AnswerWithheld, DomainError, InvalidField
from services.chassis.values.etags import check_etag
from services.chassis.values.failure import Failure, make_failure
from services.chassis.values.ids import new_id
from services.chassis.values.payment_numbers import has_aba_digit
from services.chassis.values.refusals import BankAccountNotFound, PartyNotFound
from services.transactions.actions import answer_bank_account
from services.transactions.commands.added_accounts import add_bank_account, build_bank_account
from services.transactions.commands.approvals import (
    BANK_ACCOUNT_APPROVALS,
    ask_for_confirmation,
    ask_for_confirmation_anew,
)
from services.transactions.commands.changed_accounts import check_is_wanted, forget_replacement, retire_replaced
from services.transactions.dependencies import Dependencies
from services.transactions.domain.bank_accounts import (
    LIVE,
    PAYOUT_STOPS_WITHIN,
    BankAccount,
    BankAccountStatus,
    BlockReason,
    Confirmation,
    HolderType,
    block,
    change_default,
    check_holder_type,
    check_may_unblock,
    check_may_update,
    stops_payouts,
    suspend,
    unblock,
)
from services.transactions.domain.exceptions import About, ExceptionKind
from services.transactions.domain.refusals import build_altered
from services.transactions.domain.returns import is_known
from services.transactions.store import bank_accounts as store
from services.transactions.store.approvals import APPROVAL_WRITER, UNBLOCK_BANK_ACCOUNT
from services.transactions.store.exception_reports import report
from services.transactions.store.verifications import end_all as end_verifications
from services.transactions.vault import SealedFor, Vault

_DEFAULT, _NOTES = "default_for_payouts", frozenset({"external_id", "metadata"})
_NOT_AS_SEALED = "What it says is not what was sealed when it was added."


def check_create_bank_account(request: pb.CreateBankAccountRequest, principal: Principal) -> None:
    """Raises InvalidField, PartyNotFound."""
    principal.choose_party(request.party_id)
    if not has_aba_digit(request.routing_number):
        fault = "must be nine digits with a right ABA check digit"
        raise InvalidField("The request is not valid.", fields={"routing_number": fault})


async def ask_about_owner(dependencies: Dependencies, request: pb.CreateBankAccountRequest) -> DomainError | None:
    """Why the party has no such account, as compliance says: there is no such party, or it is no company.

    Not to be called inside a transaction.

    Raises: Unavailable: nobody can tell.
    """
    if request.holder_type != pb.BankAccount.COMPANY:
        return await dependencies.known_parties.find_refusal(request.party_id, "party_id")
    party_id = current_principal().choose_party(request.party_id)
    [found] = await dependencies.peers.compliance.batch_get_clearances([party_id])
    if not found.known:
        return PartyNotFound("party_id")
    if found.kind == Party.KIND_UNSPECIFIED:
        raise AnswerWithheld("Compliance does not say what the party is by law.")
    try:
        check_holder_type(HolderType.COMPANY, from_enum(Party.Kind, found.kind))
    except InvalidField as refusal:
        return refusal
    return None


async def create_bank_account(
    tx: Tx,
    request: pb.CreateBankAccountRequest,
    refusal: DomainError | None,
    vault: Vault,
    now: datetime,
) -> pb.BankAccount:
    """Adds an account, which waits for a second person before money goes to it.

    Args:
        refusal: What `ask_about_owner` said before the transaction.

    Raises: PartyNotFound, InvalidField, BankAccountBlocked, TooManyBankAccounts.
    """
    if refusal is not None:
        raise refusal
    principal = current_principal()
    party_id = principal.choose_party(request.party_id)
    account_type = pb.BankAccount.AccountType.Name(request.account_type or pb.BankAccount.CHECKING)
    where = request.account_holder_name, request.routing_number, account_type
    account = build_bank_account(
        vault,
        SealedFor(principal.org_id, new_id("ba"), party_id, *where),
        request.account_number,
        holder_type=HolderType(pb.BankAccount.HolderType.Name(request.holder_type or pb.BankAccount.PERSON)),
        default_for_payouts=request.default_for_payouts,
        external_id=request.external_id or None,
        metadata=dict(request.metadata),
        created_by=principal.person,
        makers=(principal.person,),
        created_at=now,
        updated_at=now,
    )
    added = await add_bank_account(tx, account)
    await ask_for_confirmation(tx, added.account, now)
    return answer_bank_account(added.account)


async def update_bank_account(tx: Tx, request: pb.UpdateBankAccountRequest, now: datetime) -> pb.BankAccount:
    """Takes over the fields that the mask names. An account that is to be the default waits for a second person again.

    Who wants an account that was added in a session that was ended adds it anew: nobody says its number here.

    Raises:
        BankAccountNotFound, EtagMismatch, BankAccountNotUsable, TooManyStops
    """
    before = await _lock_as_read(tx, request.bank_account_id, request.etag)
    check_may_update(before)
    after, named = before, request.update_mask.paths
    if noted := _NOTES.intersection(named):
        after = _annotate(before, request, noted, current_principal())
    if _DEFAULT in named:
        after = change_default(after, is_default=request.default_for_payouts, person=current_principal().person)
    if after != before:
        await _note_stop(tx, before, after, now)
        await APPROVAL_WRITER.note_edit(tx, before.bank_account_id, before.etag, now)
        after = await store.save_bank_account(tx, before, after, now)
    # What is decided on has changed; or nobody confirmed it in time, or somebody said no, and it is asked for again.
    if _DEFAULT in named and after.status is not BankAccountStatus.ACTIVE:
        await ask_for_confirmation(tx, after, now)
    return answer_bank_account(after)


def _annotate(
    account: BankAccount, request: pb.UpdateBankAccountRequest, named: Collection[str], principal: Principal
) -> BankAccount:
    """The account with what the request notes. An investor, who is not told what others wrote, does not write over it.

    Raises: InvalidField.
    """
    if principal.confined and not is_told_to(principal.person, account.annotator):
        raise InvalidField(
            "Somebody else wrote what is noted about this account.",
            fields=dict.fromkeys(named, "was written by somebody else, who alone, or staff, changes it"),
        )
    metadata = dict(request.metadata) if "metadata" in named else account.metadata
    external_id = request.external_id or None if "external_id" in named else account.external_id
    annotated_by = account.annotated_by if principal.person == account.annotator else principal.person
    return replace(account, metadata=metadata, external_id=external_id, annotated_by=annotated_by)


async def confirm_bank_account(tx: Tx, approval: Approval, facts: ApprovalFacts, now: datetime) -> None:
    """A second person says that money may go there: from the end of the cool-down on, if no other has to say so, too.

    Raises:
        BankAccountNotFound, IllegalStatusChange, ApprovalExpired, MakerIsChecker, AlreadyApproved,
        BeneficiaryIsChecker, InsufficientUserAuthentication, BankAccountNotUsable
    """
    account = await store.lock_bank_account(tx, approval.resource_id)
    if account is None:
        raise BankAccountNotFound()
    check_is_wanted(account)
    if not await BANK_ACCOUNT_APPROVALS.count_yes(tx, account.bank_account_id, facts, now, approval.note):
        return
    if account.default_for_payouts:
        await store.lock_default(tx, account.party_id)
        former = await store.lock_default_account(tx, account.party_id)
        if former is not None:
            await store.save_bank_account(tx, former, replace(former, default_for_payouts=False), now)
    persons = Confirmation.PERSONS
    confirmed = replace(account, status=BankAccountStatus.ACTIVE, confirmed_at=now, confirmation=persons)
    await store.save_bank_account(tx, account, confirmed, now)
    await retire_replaced(tx, confirmed, now)


async def leave_unconfirmed(tx: Tx, approval: Approval, why: str, now: datetime) -> None:
    """Nobody confirmed it: it stays PENDING or SUSPENDED, so no money goes to it."""


async def delete_bank_account(tx: Tx, request: pb.DeleteBankAccountRequest, now: datetime) -> pb.BankAccount:
    """Retires the account; a retired one stays as it is. Raises BankAccountNotFound, EtagMismatch, TooManyStops."""
    account = await _lock_as_read(tx, request.bank_account_id, request.etag)
    if account.status is not BankAccountStatus.DELETED:
        retired = replace(account, status=BankAccountStatus.DELETED, default_for_payouts=False)
        await _note_stop(tx, account, retired, now)
        await BANK_ACCOUNT_APPROVALS.cancel(tx, account.bank_account_id, now)
        account = await store.save_bank_account(tx, account, retired, now)
        await forget_replacement(tx, account, now)
    return answer_bank_account(account)


async def _note_stop(tx: Tx, before: BankAccount, after: BankAccount, now: datetime) -> None:
    """Whoever acts for the party stops what is its own as often as it pleases. Raises: TooManyStops."""
    if stops_payouts(before, after, current_principal().person) and not await acts_for(tx, before.party_id):
        await note_stop(tx, "STOP_PAYOUTS", before.party_id, now, PAYOUT_STOPS_WITHIN)


async def unblock_bank_account(tx: Tx, request: pb.UnblockBankAccountRequest, now: datetime) -> pb.BankAccount:
    """Two persons say that it may be used again, whatever a bank's return said. It waits to be confirmed anew.

    Raises: BankAccountNotFound, EtagMismatch, IllegalStatusChange.
    """
    account = await _lock_as_read(tx, request.bank_account_id, request.etag)
    check_may_unblock(account)
    after = await store.save_bank_account(tx, account, unblock(account, current_principal().person), now)
    if after.status is BankAccountStatus.PENDING:
        await ask_for_confirmation(tx, after, now)
    return answer_bank_account(after)


async def forbid_bank_account(
    tx: Tx, party_id: str, bank_account_id: str, digest: str, network_code: str, now: datetime
) -> None:
    """A bank's return says that the account must not be used again, for what is under way either.

    Nobody adds it anew. As another party's it waits for a second person again, and is not blocked: else whoever names
    the account of somebody else could have it blocked, by a debit that its owner sends back. Nor suspended day by day:
    what is known of the number, whoever confirmed the other one since knew.
    """
    await store.lock_number(tx, digest)
    same = await store.lock_same(tx, bank_account_id, digest)
    if not same.is_all:
        cause = "So many rows with its number are not what was sealed that some of them are not blocked."
        _report_altered(tx, About(bank_account_id=bank_account_id), now, cause)
    heard = {each.block_network_code for each, is_ours in same.found if is_ours and each.block_network_code}
    was_known = is_known(network_code, heard)
    for account, is_ours in same.found:
        if not is_ours:  # whatever it says, blocked or not: once it is saved, nobody puts back what it was
            await _block_altered(tx, account, network_code, now)
        elif account.party_id == party_id:
            await _block(tx, account, BlockReason.RETURNED_BY_BANK, now, network_code)
        elif account.status is BankAccountStatus.SUSPENDED or (account.status in LIVE and not was_known):
            try:
                await _suspend(tx, account, now)
            except NotSealed:  # no yes to what was asked before counts, and nobody knows what that was
                await _block_altered(tx, account, network_code, now)


async def _suspend(tx: Tx, account: BankAccount, now: datetime) -> None:
    """Raises: NotSealed: somebody altered what was asked about it before."""
    suspended = suspend(account)
    await ask_for_confirmation_anew(tx, suspended, now)
    if suspended != account:
        await store.save_bank_account(tx, account, suspended, now)


async def _block_altered(tx: Tx, account: BankAccount, network_code: str, now: datetime) -> None:
    _report_altered(tx, About(bank_account_id=account.bank_account_id), now)
    await _save_blocked(tx, account, BlockReason.ALTERED, now, network_code)


async def block_altered_accounts(tx: Tx, used: Mapping[str, str], now: datetime) -> dict[str, Failure]:
    """As `block_altered_account` for each transaction, in the order of the accounts: others lock several of them, too.

    Args:
        used: The account that each transaction was to use, by the transaction's id.

    Returns: Why each transaction fails.
    """
    in_order = sorted(used, key=lambda transaction_id: (used[transaction_id], transaction_id))
    return {each: await block_altered_account(tx, used[each], each, now) for each in in_order}


async def block_altered_account(tx: Tx, bank_account_id: str, transaction_id: str, now: datetime) -> Failure:
    """What the account says is not what this service wrote: nobody uses it any more, and somebody is told.

    Args:
        transaction_id: That was to use it; empty for none.

    Returns: Why the transaction fails.
    """
    _report_altered(tx, About(bank_account_id=bank_account_id, transaction_id=transaction_id or None), now)
    account = await store.lock_to_block(tx, bank_account_id)
    if account is not None:
        await _block(tx, account, BlockReason.ALTERED, now)
    return make_failure(build_altered())


def _report_altered(tx: Tx, about: About, now: datetime, cause: str = _NOT_AS_SEALED) -> None:
    report(tx, ExceptionKind.BANK_ACCOUNT_ALTERED, about, cause, now)


async def _block(
    tx: Tx, account: BankAccount, reason: BlockReason, now: datetime, network_code: str | None = None
) -> None:
    # Another return of one that is forbidden already is written, too: what was asked about the first is outdated then.
    is_return = reason is BlockReason.RETURNED_BY_BANK
    if is_return or account.status in LIVE or not account.block_reason:
        await _save_blocked(tx, account, reason, now, network_code)


async def _save_blocked(
    tx: Tx, account: BankAccount, reason: BlockReason, now: datetime, network_code: str | None = None
) -> None:
    await BANK_ACCOUNT_APPROVALS.cancel(tx, account.bank_account_id, now)
    # What was asked about an earlier return did not know of this one.
    await APPROVAL_WRITER.cancel_undoing(tx, UNBLOCK_BANK_ACCOUNT, account.bank_account_id, now)
    await end_verifications(tx, account.bank_account_id, now)
    await store.save_bank_account(tx, account, block(account, reason, network_code), now)


async def _lock_as_read(tx: Tx, bank_account_id: str, etag: str) -> BankAccount:
    principal = current_principal()
    account = await store.lock_bank_account(tx, bank_account_id)
    if account is None or not principal.may_reach(account.party_id):
        raise BankAccountNotFound()
    check_etag(etag, account.etag)
    return account
