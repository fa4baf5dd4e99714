"""What people decide about a transaction: approve, reject, confirm, try again. To cancel it is in cancellation.py."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime

from realco.transactions.v1 import transactions_pb2 as pb

from services.chassis.calls.auth import current_principal
from services.chassis.calls.parties import Parties
from services.chassis.data.restores import check_restore_seen
from services.chassis.data.stops import note_stop
from services.chassis.data.transaction import Tx
from services.chassis.values.approval import Approval, ApprovalFacts, MakerSessionEnded
from services.chassis.values.approval import Status as ApprovalStatus
from services.chassis.values.errors import DomainError
from services.chassis.values.etags import check_etag
from services.chassis.values.failure import Failure
from services.chassis.values.invariant import require_present
from services.chassis.values.money import Money
from services.chassis.values.second_person import check_beneficiary
from services.chassis.values.session import Asker, Identity, list_ended
from services.chassis.values.text import quote
from services.transactions.actions import answer_transaction
from services.transactions.commands.approvals import TRANSACTION_APPROVALS, find_approval
from services.transactions.commands.attempts import ask_about_parties
from services.transactions.commands.beneficiaries import list_approval_beneficiaries, list_beneficiaries
from services.transactions.commands.inflow import (
    Inflow,
    InflowVerdict,
    ask_about_inflow,
    check_book_goes_on,
    check_commitment,
)
from services.transactions.commands.settlement import record_settlement
from services.transactions.dependencies import Dependencies
from services.transactions.domain.bank_accounts import check_usable
from services.transactions.domain.decisions import (
    REJECTED,
    check_amount,
    check_may_approve,
    check_may_confirm,
    check_may_correct,
    check_may_reject,
    check_may_retry,
    check_not_stated,
    check_reference,
    find_corrected,
    is_announced_by_payer,
)
from services.transactions.domain.refusals import BankReferenceUsed, TransactionNotFound
from services.transactions.domain.schedule import compute_announcement_end
from services.transactions.domain.states import Status
from services.transactions.domain.transaction import Transaction
from services.transactions.store import bank_accounts, moves
from services.transactions.store import transactions as store
from services.transactions.store.moves import Step


async def list_gaining(dependencies: Dependencies, transaction_id: str) -> frozenset[str]:
    """Who gains by now if it is approved: others may have come in since it began to wait. Raises Unavailable."""
    async with dependencies.database.begin() as tx:
        row = await store.find_transaction(tx, transaction_id)
    if row is None or row.status is not Status.PENDING_APPROVAL:
        return frozenset()
    return await list_approval_beneficiaries(row, dependencies.peers)


async def ask_approval_facts(
    dependencies: Dependencies, parties: Parties, request: pb.ApproveTransactionRequest
) -> ApprovalFacts:
    """About the caller, who approved it before, and who gains. Raises Unavailable, SessionEnded."""
    gaining = await list_gaining(dependencies, request.transaction_id)
    return await TRANSACTION_APPROVALS.ask_facts(dependencies, parties, request.transaction_id, gaining)


async def approve_transaction(
    tx: Tx, request: pb.ApproveTransactionRequest, facts: ApprovalFacts, now: datetime
) -> pb.Transaction:
    """PENDING_APPROVAL -> APPROVED -> QUEUED, by the last yes it needs. Raises EtagMismatch, and as approve_waiting."""
    row, _ = await lock_as_read(tx, request.transaction_id, request.etag)
    row = await _approve(tx, row, facts, now)
    return answer_transaction(row, now, await find_approval(tx, row, now))


async def approve_waiting(tx: Tx, approval: Approval, facts: ApprovalFacts, now: datetime) -> Transaction:
    """The same, decided in the inbox.

    Args:
        facts: About the caller and who approved it before.

    Raises:
        MakerIsChecker, AlreadyApproved, BeneficiaryIsChecker, IllegalStatusChange, ApprovalExpired,
        InsufficientUserAuthentication
    """
    row, _ = await lock(tx, approval.resource_id)
    return await _approve(tx, row, facts, now, approval.note)


async def _approve(
    tx: Tx, row: Transaction, facts: ApprovalFacts, now: datetime, note: str | None = None
) -> Transaction:
    person = current_principal().person
    check_may_approve(row)
    makers = await bank_accounts.list_makers_of_payee(tx, row)
    facts = replace(facts, makers=facts.makers | makers)
    if not await TRANSACTION_APPROVALS.count_yes(tx, row.transaction_id, facts, now, note):
        return row
    approval = await TRANSACTION_APPROVALS.find_last(tx, row.transaction_id)
    granted = require_present(approval, "what is approved was asked for").makers_and_checkers
    makers_and_checkers = sorted(granted.union(makers, row.makers_and_checkers))
    changes = {"approved_by": person, "makers_and_checkers": makers_and_checkers}
    approved = Step(Status.APPROVED, "approved", changes=changes)
    return (await moves.save_steps(tx, [row], approved, Step(Status.QUEUED, due_ms=0), actor=person, now=now))[0]


async def reject_transaction(tx: Tx, request: pb.RejectTransactionRequest, now: datetime) -> pb.Transaction:
    """PENDING_APPROVAL -> CANCELLED. Raises EtagMismatch, IllegalStatusChange, ApprovalExpired, MakerIsChecker."""
    row, person = await lock_as_read(tx, request.transaction_id, request.etag)
    check_may_reject(row)
    await TRANSACTION_APPROVALS.reject(tx, row.transaction_id, request.note, now)
    note, failure = f"rejected: {quote(request.note)}", REJECTED
    row = await moves.save_move(tx, row, Status.CANCELLED, actor=person, now=now, note=note, failure=failure)
    return answer_transaction(row, now)


# Why nobody's money moved, by how the approval ended; one that was taken back is cancelled, and nothing failed.
_NOT_APPROVED = {
    ApprovalStatus.REJECTED: REJECTED,
    ApprovalStatus.EXPIRED: Failure("APPROVAL_EXPIRED", "Nobody approved it in time."),
}


async def end_waiting(tx: Tx, approval: Approval, note: str, now: datetime) -> None:
    """PENDING_APPROVAL -> CANCELLED: nobody approves it any more."""
    row, person = await lock(tx, approval.resource_id)
    if row.status is Status.PENDING_APPROVAL:
        failure = _NOT_APPROVED.get(approval.status)
        await moves.save_move(tx, row, Status.CANCELLED, actor=person, now=now, note=note, failure=failure)


@dataclass(frozen=True, slots=True)
class ConfirmationFacts:
    """What somebody's word about the bank is counted on, asked before the transaction."""

    parties: Collection[str]  # for whom the caller acts, or did not long ago
    announcer_parties: Collection[str]  # the same of who announced what arrives
    beneficiary_party_ids: Collection[str]
    ended: Collection[Asker]  # who announced it, or said what came, in a session that was ended since


async def ask_confirmation_facts(
    dependencies: Dependencies, parties: Parties, request: pb.ConfirmTransactionRequest
) -> ConfirmationFacts:
    """Raises: Unavailable, SessionEnded, TransactionNotFound, EtagMismatch, EscrowAccountClosed."""
    async with dependencies.database.begin() as tx:
        row = await require_as_read(tx, request.transaction_id, request.etag)
    await check_book_goes_on(dependencies.peers, row)
    return await _ask_facts(dependencies, parties, row)


async def ask_correction_facts(
    dependencies: Dependencies, parties: Parties, request: pb.CorrectTransactionAmountRequest
) -> ConfirmationFacts:
    """Raises: Unavailable, SessionEnded, TransactionNotFound, EtagMismatch."""
    async with dependencies.database.begin() as tx:
        row = await require_as_read(tx, request.transaction_id, request.etag)
    return await _ask_facts(dependencies, parties, row)


async def _ask_facts(dependencies: Dependencies, parties: Parties, row: Transaction) -> ConfirmationFacts:
    """Raises: Unavailable, SessionEnded."""
    # That a payout was sent is the bank's fact, whoever is locked out since.
    askers = row.list_askers() if row.is_inbound else ()
    me, announcer = Identity(current_principal().person), Identity(row.created_by)
    announcers = {announcer} if row.is_inbound else set()
    standings = await parties.list_standings({me, *announcers, *(each.identity for each in askers)})
    return ConfirmationFacts(
        standings[me].parties,
        standings[announcer].parties if announcers else (),
        await list_beneficiaries(row, dependencies.peers),
        list_ended(askers, standings),
    )


async def confirm_transaction(
    tx: Tx, request: pb.ConfirmTransactionRequest, facts: ConfirmationFacts, now: datetime
) -> pb.Transaction:
    """A wire or check arrived, or was sent: SETTLED; where nobody can take it back, COMPLETED.

    Raises:
        EtagMismatch, MakerIsChecker, BeneficiaryIsChecker, PaymentMethodNotSupported, IllegalStatusChange,
        CurrencyMismatch, InvalidField, BankReferenceUsed
        MakerSessionEnded: a thief announced it, perhaps, or said how much comes.
        RestoreNotSeen
    """
    await check_restore_seen(tx)
    row, person = await lock_as_read(tx, request.transaction_id, request.etag)
    check_may_confirm(row, person, facts.announcer_parties)
    check_beneficiary(facts.beneficiary_party_ids, facts.parties)
    if facts.ended:
        raise MakerSessionEnded()
    amount = Money.from_proto(request.amount)
    check_amount(row, amount)
    check_reference(request.bank_reference)
    if other := await store.find_user_of_reference(tx, row, request.bank_reference):
        raise BankReferenceUsed(other)
    row = await record_settlement(
        tx,
        row,
        now,
        now,
        actor=person,
        note=f"the bank confirms {amount}: {quote(request.bank_reference)}",
        bank_reference=request.bank_reference,
        confirmed_by=person,
    )
    return answer_transaction(row, now)


async def correct_transaction_amount(
    tx: Tx, request: pb.CorrectTransactionAmountRequest, facts: ConfirmationFacts, now: datetime
) -> pb.Transaction:
    """Somebody says what the bank of a wire or check brings: another amount than was announced, or just that.

    Raises:
        EtagMismatch, MakerIsChecker, BeneficiaryIsChecker, PaymentMethodNotSupported, IllegalStatusChange,
        CurrencyMismatch, ArrivalStated, TooManyStops
    """
    row, person = await lock_as_read(tx, request.transaction_id, request.etag)
    check_may_correct(row, person, facts.announcer_parties)
    if is_announced_by_payer(row, facts.announcer_parties):
        check_beneficiary(facts.beneficiary_party_ids, facts.parties)
    amount = Money.from_proto(request.amount)
    corrected_minor = find_corrected(row, amount)
    former = set(row.former_correctors)
    if row.corrected_by not in {each.person for each in facts.ended}:  # else a thief said it, perhaps: it is said anew
        check_not_stated(row, amount, person)
        if row.corrected_by and row.corrected_by != person:
            former.add(row.corrected_by)
    corrector = Asker(person, current_principal().session)
    # What was announced may be said, too; and the same said once more counts by who says it last, and in which session.
    if amount != row.amount or row.corrector != corrector:
        # Whoever was about to confirm it reads it again.
        await note_stop(tx, "CORRECT_TRANSACTION_AMOUNT", row.transaction_id, now)
        note = None if corrected_minor is None else request.note
        # Somebody has seen it come, so another one has time to say so, too.
        until = compute_announcement_end(row.created_at, row.rail, is_inbound=row.is_inbound, corrected_at=now)
        row = await moves.save_correction(
            tx, row, corrected_minor, note, corrector, former=former, waits_until=until, now=now
        )
    return answer_transaction(row, now)


async def ask_about_inflow_again(dependencies: Dependencies, request: pb.RetryTransactionRequest) -> InflowVerdict:
    """Whether the money could still be received. Where a rule refuses the attempt, nobody is asked.

    Raises:
        Unavailable, TransactionNotFound
    """
    now = dependencies.clock.now()
    async with dependencies.database.begin() as tx:
        row = await require_as_read(tx, request.transaction_id, request.etag)
    try:
        check_may_retry(row, now)
    except DomainError:
        return InflowVerdict()
    verdict = await ask_about_inflow(Inflow.of_transaction(row), dependencies.peers, now)
    if verdict.refusal is not None:
        return verdict
    refusals = await ask_about_parties(dependencies.peers, [row])
    return InflowVerdict(refusals.get(row.transaction_id), verdict.investment)


async def retry_transaction(
    tx: Tx, request: pb.RetryTransactionRequest, verdict: InflowVerdict, now: datetime
) -> pb.Transaction:
    """Another attempt, now, if its money could be received.

    Raises:
        EtagMismatch, NotRetryable, AttemptsExhausted, IllegalStatusChange, BankAccountNotUsable,
        CommitmentExceeded, or what the verdict refuses
    """
    row, person = await lock_as_read(tx, request.transaction_id, request.etag)
    check_may_retry(row, now)
    verdict.check()
    if verdict.investment is not None:
        is_counted = row.status is Status.PENDING_RETRY
        await check_commitment(tx, Inflow.of_transaction(row), verdict.investment, is_counted=is_counted)
    if row.bank_account_id:
        account = await bank_accounts.find_bank_account(tx, row.bank_account_id)
        check_usable(account, row.party_id, is_inbound=row.is_inbound)
    if row.status is not Status.PENDING_RETRY:
        row = await moves.save_move(
            tx,
            row,
            Status.PENDING_RETRY,
            actor=person,
            now=now,
            note="another attempt is requested",
            next_attempt_at=now,
        )
    return answer_transaction(await queue_again(tx, row, actor=person, now=now), now)


async def queue_again(tx: Tx, row: Transaction, *, actor: str, now: datetime) -> Transaction:
    """PENDING_RETRY -> QUEUED: what the last attempt left behind is in the history, not in the row."""
    return await moves.save_move(
        tx,
        row,
        Status.QUEUED,
        actor=actor,
        now=now,
        note="the next attempt is due",
        due_ms=0,
        failure=None,
        next_attempt_at=None,
        settled_at=None,
        return_risk_end_at=None,
        final_at=None,
    )


async def require_as_read(tx: Tx, transaction_id: str, etag: str) -> Transaction:
    """As `lock_as_read`, to ask others about it before the transaction that decides, which reads it again."""
    return check_as_read(await store.find_transaction(tx, transaction_id), etag)


def check_as_read(row: Transaction | None, etag: str) -> Transaction:
    """The transaction, in the version that was read. Raises TransactionNotFound, EtagMismatch."""
    row = _require(row)
    check_etag(etag, row.etag)
    return row


async def lock_as_read(tx: Tx, transaction_id: str, etag: str) -> tuple[Transaction, str]:
    """The transaction, locked, in the version that was read, and who decides. Raises EtagMismatch, and as `lock`."""
    row, person = await lock(tx, transaction_id)
    check_etag(etag, row.etag)
    return row, person


async def lock(tx: Tx, transaction_id: str) -> tuple[Transaction, str]:
    """Raises TransactionNotFound."""
    return _require(await store.lock_transaction(tx, transaction_id)), current_principal().person


def _require(row: Transaction | None) -> Transaction:
    """Raises TransactionNotFound: also for the transaction of a party the caller does not act for."""
    if row is None or not current_principal().may_reach(row.party_id):
        raise TransactionNotFound()
    return row
