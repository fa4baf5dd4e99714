"""The holder of a bank account verifies it with the provider that draws from it, before the first payment.

What is asked of the provider is written first, and asked outside of any transaction: whatever is lost on the way, the
same verification is asked for again. How it stands is what the provider says when it is asked, and never a webhook.
"""

from __future__ import annotations

from datetime import datetime

from realco.transactions.v1 import bank_accounts_pb2 as pb

from services.chassis.calls.auth import acting_as, current_principal, service_principal
from services.chassis.data.reads import Source
from services.chassis.data.seals import NotSealed
from services.chassis.data.transaction import Tx
from services.chassis.data.versions import add_versions
from services.chassis.process.telemetry import log
from services.chassis.values.errors import PermissionDenied, Unavailable
from services.chassis.values.etags import check_etag
from services.chassis.values.failure import Failure
from services.chassis.values.ids import new_id
from services.chassis.values.refusals import BankAccountNotFound, BankAccountNotUsable
from services.transactions.actions import answer_bank_account
from services.transactions.commands.exceptions import report_apart
from services.transactions.dependencies import NAME, Dependencies
from services.transactions.domain.bank_accounts import BankAccount
from services.transactions.domain.exceptions import About, ExceptionKind
from services.transactions.domain.rails import PROVIDERS
from services.transactions.domain.refusals import VerificationNotOffered, build_altered
from services.transactions.domain.verifications import (
    DebitBasis,
    ProviderVerification,
    Verification,
    VerificationNeed,
    VerificationStatus,
    check_may_begin,
    choose_debit_basis,
    fail,
    find_difference,
    find_need,
    follow,
    may_be_verified,
)
from services.transactions.providers.protocols import (
    AccountVerifications,
    Declined,
    OutcomeUnknown,
    VerificationOrder,
)
from services.transactions.store import verifications as store
from services.transactions.store.bank_accounts import find_bank_account, lock_bank_account
from services.transactions.store.exception_reports import report
from services.transactions.store.transactions import find_arrived
from services.transactions.vault import KeyMissing, SealedFor, Vault, VaultError

S = VerificationStatus

_FORGOTTEN = Failure(
    "NOT_FOUND_AT_PROVIDER",
    "Its provider has not answered, and would take the same request for another one by now.",
    retryable=False,
)


async def verify_bank_account(dependencies: Dependencies, request: pb.VerifyBankAccountRequest) -> pb.BankAccount:
    """Not to be called inside a transaction.

    Raises:
        BankAccountNotFound, PermissionDenied, EtagMismatch, BankAccountNotUsable, VerificationNotOffered,
        TooManyVerifications
        Unavailable: nobody knows whether the provider took it.
    """
    account = await _require_own_account(dependencies, request.bank_account_id)
    check_etag(request.etag, account.etag)
    _check_may_be_verified(account)
    provider, asked = _choose_provider(dependencies)
    need = await _open(dependencies, account, provider)
    known = need.verification
    if known is not None and known.provider_reference is not None:
        theirs = await _ask_again(asked, known)
        if theirs is not None:
            known = await _save_answer(dependencies, known.verification_id, theirs)
        if not known.is_open:  # it has failed just now
            need = await _open(dependencies, account, provider)
            known = need.verification
    if known is not None and known.provider_reference is None and known.is_open:
        known = await _begin(dependencies, asked, account, known)
    return await _answer(dependencies, account.bank_account_id, VerificationNeed(need.is_needed, known))


async def _answer(dependencies: Dependencies, bank_account_id: str, need: VerificationNeed) -> pb.BankAccount:
    """The account as it is by now."""
    async with dependencies.database.begin_snapshot() as tx:
        found = await find_bank_account(tx, bank_account_id)
        if found is None:
            raise BankAccountNotFound()
        answer = answer_bank_account(found, need if may_be_verified(found) else None)
        await add_versions(tx, answer)
        return answer


async def _require_own_account(dependencies: Dependencies, bank_account_id: str) -> BankAccount:
    """An account of a party that the caller acts for just now. Raises: BankAccountNotFound, PermissionDenied."""
    principal = current_principal()
    account = await find_bank_account(dependencies.database.reader, bank_account_id)
    if account is None or not principal.may_reach(account.party_id):
        raise BankAccountNotFound()
    if principal.confined:  # an investor reaches its own parties alone
        return account
    acting = await dependencies.peers.compliance.list_parties_of_person(principal.person)
    if account.party_id not in acting.parties:
        raise PermissionDenied("Only who acts for the party verifies its bank account.")
    return account


def _check_may_be_verified(account: BankAccount) -> None:
    """Raises: BankAccountNotUsable."""
    if not may_be_verified(account):
        message = f"The bank account is {account.status}, or replaced: only one that is ACTIVE may be verified."
        raise BankAccountNotUsable(message, bank_account_id=account.bank_account_id, status=account.status)


def _choose_provider(dependencies: Dependencies) -> tuple[str, AccountVerifications]:
    """Who draws from its bank accounts, if that has them verified before. Raises: VerificationNotOffered."""
    provider = dependencies.providers.choice.find_verifying(current_principal().org_id)
    if provider is None:
        raise VerificationNotOffered()
    return provider, dependencies.providers.verifications[provider]


async def _open(dependencies: Dependencies, account: BankAccount, provider: str) -> VerificationNeed:
    """Writes what is to be asked of the provider, if nothing is open there and anything is left to verify.

    Raises: BankAccountNotFound, BankAccountNotUsable, TooManyVerifications.
    """
    account_id, now = account.bank_account_id, dependencies.clock.now()
    async with dependencies.database.begin() as tx:
        locked = await lock_bank_account(tx, account_id)
        if locked is None:
            raise BankAccountNotFound()
        _check_may_be_verified(locked)
        earlier = await store.list_verifications(tx, account_id, provider)
        if earlier and _is_forgotten(earlier[0], now):
            earlier = [await _give_up(tx, earlier[0].verification_id, _FORGOTTEN, now), *earlier[1:]]
        arrived = await find_arrived(tx, provider, account_id)
        need = find_need(locked, earlier, arrived) or VerificationNeed(is_needed=True)
        found = need.verification
        if not need.is_needed or (found is not None and found.is_open):
            return need
        check_may_begin(earlier, now)
        verification = Verification(
            verification_id=new_id("bav"),
            bank_account_id=account_id,
            account_number_digest=locked.account_number_digest,
            provider=provider,
            created_by=current_principal().person,
            created_at=now,
            updated_at=now,
        )
        await store.VERIFICATIONS.insert(tx, verification)
        return VerificationNeed(is_needed=True, verification=verification)


def _is_forgotten(verification: Verification, now: datetime) -> bool:
    """Whether the provider may not know its key any more, so that the same key would be another request."""
    forgets = PROVIDERS[verification.provider].forgets_orders_after
    is_unanswered = verification.status is S.REQUESTED
    return is_unanswered and forgets is not None and now - verification.created_at > forgets


async def _give_up(tx: Tx, verification_id: str, failure: Failure, now: datetime) -> Verification:
    """It has failed, unless a webhook was faster, and said that the provider took it."""
    before = await store.VERIFICATIONS.lock_known(tx, verification_id)
    if before.status is not S.REQUESTED:
        return before
    return await store.VERIFICATIONS.save(tx, before, fail(before, failure), now)


async def _begin(
    dependencies: Dependencies, asked: AccountVerifications, account: BankAccount, verification: Verification
) -> Verification:
    """Asks the provider for it; it has failed where the provider refuses. Raises: Unavailable."""
    order = _build_order(dependencies.vault, account, verification)
    try:
        theirs = await asked.begin(order)
    except Declined as declined:
        refused = Failure(declined.code, declined.message, declined.retryable, declined.metadata)
        async with dependencies.database.begin() as tx:
            return await _give_up(tx, verification.verification_id, refused, dependencies.clock.now())
    except OutcomeUnknown as error:
        log.warning("verification_unknown", verification_id=verification.verification_id, cause=str(error))
        raise Unavailable("The payment provider does not answer. Ask again: it is the same verification.") from None
    return await _save_answer(dependencies, verification.verification_id, theirs)


async def _ask_again(asked: AccountVerifications, known: Verification) -> ProviderVerification | None:
    """How it stands at the provider; None where that does not say, which is in the log."""
    try:
        theirs = await asked.get_verification(known.provider_reference or "")
        cause = "the provider has no such verification"
    except (OutcomeUnknown, KeyMissing) as error:
        theirs, cause = None, str(error)
    if theirs is None:
        log.warning("verification_unknown", verification_id=known.verification_id, cause=cause)
    return theirs


def _build_order(vault: Vault, account: BankAccount, verification: Verification) -> VerificationOrder:
    """Raises: Unavailable; or as what somebody altered in the database is refused."""
    try:
        number = vault.open(account.account_number_encrypted, SealedFor.of(current_principal().org_id, account))
        is_same = vault.is_digest(verification.account_number_digest, account.routing_number, number)
    except KeyMissing:
        raise Unavailable("No account number opens now: an operator has to bring a key back.") from None
    except VaultError:
        raise build_altered() from None
    if not is_same:
        raise build_altered()
    return VerificationOrder(
        key=verification.provider_key,
        reference=verification.verification_id,
        party_id=account.party_id,
        routing_number=account.routing_number,
        account_number=number,
        account_type=account.account_type,
        holder_type=account.holder_type,
        account_holder_name=account.account_holder_name,
    )


async def _save_answer(dependencies: Dependencies, verification_id: str, theirs: ProviderVerification) -> Verification:
    """Brings a verification to where its provider has it; what is not ours is told, and changes nothing.

    Raises: NotSealed.
    """
    async with dependencies.database.begin() as tx:
        now = dependencies.clock.now()
        before = await store.VERIFICATIONS.lock_known(tx, verification_id)
        account = await find_bank_account(tx, before.bank_account_id)
        if account is None:
            raise BankAccountNotFound()
        if wrong := find_difference(before, account, theirs):
            about = _describe(before.provider, theirs, before.bank_account_id)
            cause = f"What the provider has as verification {verification_id} differs in {wrong}."
            report(tx, ExceptionKind.PAYMENT_NOT_OURS, about, cause, now)
            return before
        after = follow(before, theirs, now)
        return before if after == before else await store.VERIFICATIONS.save(tx, before, after, now)


async def apply_verification(
    dependencies: Dependencies, provider: str, theirs: ProviderVerification | None
) -> str | None:
    """Applies what a provider said of a verification that an event names.

    Returns: Why the event is about nothing here; None where it was about one of ours. Raises: NotSealed.
    """
    if theirs is None:
        return "the provider has no such verification"
    owner = await store.find_owner(dependencies.database, theirs.reference) if theirs.reference else None
    if owner is None:
        if theirs.reference or theirs.is_misused:
            cause = (
                f"It bears words of a verification of ours ({theirs.reference or 'not proved'}): none is known here."
            )
            about = _describe(provider, theirs)
            await report_apart(dependencies, None, ExceptionKind.PAYMENT_NOT_OURS, about, cause)
        return "not a verification of ours"
    with acting_as(service_principal(NAME, owner)):
        await _save_answer(dependencies, theirs.reference, theirs)
    return None


def _describe(provider: str, theirs: ProviderVerification, bank_account_id: str | None = None) -> About:
    return About(bank_account_id=bank_account_id, provider=provider, provider_payment_id=theirs.provider_reference)


async def read_debit_basis(source: Source, provider: str, bank_account_id: str, digest: str) -> DebitBasis:
    """By what the provider of a debit knows its account. Nothing counts where somebody altered what we know of it: then
    its holder confirms the account with the payment."""
    try:
        verifications = await store.list_verifications(source, bank_account_id, provider)
    except NotSealed:  # in the log by now
        return DebitBasis()
    return choose_debit_basis(verifications, await find_arrived(source, provider, bank_account_id), digest)
