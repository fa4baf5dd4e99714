"""Compliance decides before anything moves. What it does not decide stays INITIATED: nothing moves by default."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import NamedTuple

from realco.compliance.v1.compliance_pb2 import ComplianceCheck
from realco.transactions.v1 import transactions_pb2 as pb

from services.chassis.calls.auth import Principal, current_principal
from services.chassis.calls.wire import from_failure, to_money
from services.chassis.data.once import decided_meanwhile, replace_answers, retry_contention
from services.chassis.data.transaction import Tx
from services.chassis.process.telemetry import log
from services.chassis.values.errors import DomainError, Kind, Refused
from services.chassis.values.failure import Failure
from services.chassis.values.refusals import PartyNotFound
from services.transactions.actions import answer_transaction
from services.transactions.clients import EvaluateItem, EvaluationResult, Peers
from services.transactions.commands.approvals import ask_for_approval
from services.transactions.commands.bank_accounts import block_altered_accounts
from services.transactions.commands.beneficiaries import choose_approval_beneficiaries, list_others
from services.transactions.commands.creation import choose_approval_reason
from services.transactions.dependencies import ACTOR, NAME, Dependencies
from services.transactions.domain.states import Status
from services.transactions.domain.transaction import Transaction
from services.transactions.messages import build_decided_on
from services.transactions.store import moves
from services.transactions.store import transactions as store
from services.transactions.store.bank_accounts import list_bank_accounts
from services.transactions.store.moves import Step

_C = ComplianceCheck


class Evaluation(NamedTuple):
    """What others say of one transaction: what compliance decides, and who gains from it if somebody approves it."""

    result: EvaluationResult
    beneficiaries: Collection[str] = ()

    @classmethod
    def undecided(cls, row: Transaction) -> Evaluation:
        return cls(EvaluationResult(transaction_id=row.transaction_id))


async def evaluate_transactions(dependencies: Dependencies, rows: Sequence[Transaction]) -> list[Evaluation]:
    """One a transaction, in their order; undecided, where it waits for an approval and escrow cannot say who gains.

    Asks compliance, and escrow. Raises Unavailable: compliance is away.
    """
    peers = dependencies.peers
    results = await peers.compliance.batch_evaluate_transactions([_build_item(row) for row in rows])
    evaluated = list(zip(rows, results, strict=True))
    waiting = [row for row, result in evaluated if _find_approval_reason(row.approval_reason, result) is not None]
    gaining = await _ask_who_gains(waiting, peers)
    unknown = {row.transaction_id for row in waiting} - gaining.keys()
    return [
        Evaluation.undecided(row)
        if row.transaction_id in unknown
        else Evaluation(result, gaining.get(row.transaction_id, ()))
        for row, result in evaluated
    ]


def _find_approval_reason(own: str | None, result: EvaluationResult) -> str | None:
    """Why somebody approves it; None where nobody does.

    Args:
        own: Why, whatever compliance says.
    """
    check = result.compliance_check
    if result.HasField("failure"):
        return None
    if check.status == _C.MANUAL_REVIEW:
        return "; ".join(filter(None, (check.explanation.statement, own)))
    return own or None if check.status == _C.PASSED else None


async def _ask_who_gains(rows: Sequence[Transaction], peers: Peers) -> dict[str, Collection[str]]:
    """By transaction_id, as far as escrow says. It is asked once about an account."""
    alike, found = defaultdict(list), dict[str, Collection[str]]()
    for row in rows:
        alike[row.escrow_account_id, row.to_escrow_account_id, row.type].append(row)
    for (escrow_account_id, *_), group in alike.items():
        try:
            others = await list_others(group[0], peers)
        except DomainError as error:
            log.warning("escrow_names_no_beneficiaries", escrow_account_id=escrow_account_id, reason=error.reason)
            continue
        found |= {row.transaction_id: choose_approval_beneficiaries(row, others) for row in group}
    return found


def _build_item(row: Transaction) -> EvaluateItem:
    return EvaluateItem(**build_decided_on(row.transaction_id, row.party_id, row.type, to_money(row.amount)))


async def evaluate_and_keep_answer(
    dependencies: Dependencies, request: pb.CreateTransactionRequest, answer: pb.Transaction
) -> pb.Transaction:
    """Has a transaction just recorded evaluated, for the request that recorded it. Asks compliance.

    Returns the transaction after the decision, or `answer` as it is where compliance cannot decide now, or nothing was
    recorded.

    Raises:
        Refused: compliance forbids it; the transaction is FAILED, and a replay gets the same answer. Or it would be,
            where the request only asks.
    """
    if request.validate_only:
        [rehearsed] = await rehearse_decisions(dependencies, [(request, answer)])
        if isinstance(rehearsed, DomainError):
            raise rehearsed
        return rehearsed
    if answer.status != pb.Transaction.INITIATED:
        return answer
    decided = await decide_initiated(dependencies, [answer.transaction_id]) or {}
    dependencies.work_due.set()
    outcome = decided.get(answer.transaction_id)
    if outcome is None:
        # A job may have decided meanwhile: the caller gets the answer that a replay would.
        return await decided_meanwhile(dependencies.database, request, pb.Transaction) or answer
    if isinstance(outcome, DomainError):
        raise outcome
    return outcome


async def rehearse_decisions(
    dependencies: Dependencies, made: Sequence[tuple[pb.CreateTransactionRequest, pb.Transaction]]
) -> list[pb.Transaction | DomainError]:
    """Each with the status that it would have once it was evaluated, INITIATED where compliance is away; or why it is
    refused once those before it are counted.
    """
    items = [
        EvaluateItem(
            **build_decided_on(
                answer.transaction_id, answer.party_id, pb.Transaction.Type.Name(answer.type), answer.amount
            )
        )
        for _, answer in made
    ]
    try:
        results = await dependencies.peers.compliance.batch_evaluate_transactions(items, validate_only=True)
    except DomainError as error:
        log.warning("compliance_away", reason=error.reason)
        return [answer for _, answer in made]
    return [_rehearse(*each, result) for each, result in zip(made, results, strict=True)]


def _rehearse(
    request: pb.CreateTransactionRequest, answer: pb.Transaction, result: EvaluationResult
) -> pb.Transaction | DomainError:
    if result.HasField("failure"):
        return _to_refusal(from_failure(result.failure))
    if _find_approval_reason(choose_approval_reason(request, current_principal()), result) is not None:
        answer.status = pb.Transaction.PENDING_APPROVAL
    elif result.compliance_check.status == _C.PASSED:
        answer.status = pb.Transaction.QUEUED
    return answer


async def decide_initiated(
    dependencies: Dependencies, transaction_ids: Sequence[str]
) -> dict[str, pb.Transaction | DomainError] | None:
    """What became of those that somebody decided on, by transaction_id; None where nobody decides now."""
    rows = _keep_initiated((await store.list_each(dependencies.database.reader, transaction_ids)).values())
    if not rows:
        return {}
    try:
        evaluations = await evaluate_transactions(dependencies, rows)
    except DomainError as error:
        log.warning("compliance_away", transactions=len(rows), reason=error.reason)
        return None
    by_id = {each.result.transaction_id: each for each in evaluations}

    async def apply() -> dict[str, pb.Transaction | DomainError]:
        async with dependencies.database.begin() as tx:
            locked = _keep_initiated((await store.lock_each(tx, list(by_id))).values())
            return await apply_decisions(tx, locked, by_id, dependencies.clock.now())

    return await retry_contention(apply)


def _keep_initiated(rows: Iterable[object]) -> list[Transaction]:
    return [row for row in rows if isinstance(row, Transaction) and row.status is Status.INITIATED]


async def apply_decisions(
    tx: Tx, rows: Sequence[Transaction], evaluations: Mapping[str, Evaluation], now: datetime
) -> dict[str, pb.Transaction | DomainError]:
    """Moves locked INITIATED transactions of one organization as compliance decided, by transaction_id.

    What it returns of each is what a replay of the request that made it answers from now on; of those compliance did
    not decide it returns nothing.
    """
    answers: dict[str, Callable[[], pb.Transaction | DomainError]] = {}
    passed, reviewed = [], defaultdict(list)
    for row in rows:
        result = evaluations[row.transaction_id].result
        if result.HasField("failure"):
            refusal = await _refuse(tx, row, from_failure(result.failure), now)
            answers[row.transaction_id] = partial(_answer_refusal, refusal)
        elif (reason := _find_approval_reason(row.approval_reason, result)) is not None:
            reviewed[reason].append(row)
        elif result.compliance_check.status == _C.PASSED:
            passed.append(row)
    beneficiaries = {transaction_id: each.beneficiaries for transaction_id, each in evaluations.items()}
    to_review = [row for found in reviewed.values() for row in found]
    named = {row.bank_account_id for row in to_review if row.bank_account_id}
    accounts = await list_bank_accounts(tx, named)
    hidden = named - accounts.keys()
    used = {row.transaction_id: row.bank_account_id for row in to_review if row.bank_account_id in hidden}
    # Who made the account is no second person for what is paid to it, and an altered one does not say who.
    altered = await block_altered_accounts(tx, used, now)
    for reason, found in reviewed.items():
        waiting = []
        for row in found:
            if (why := altered.get(row.transaction_id)) is not None:
                answers[row.transaction_id] = partial(_answer_refusal, await _refuse(tx, row, why, now))
            else:
                waiting.append(row)
        asks = Step(Status.PENDING_APPROVAL, reason)
        moved = await moves.save_steps(tx, waiting, asks, actor=ACTOR, now=now)
        asked = await ask_for_approval(tx, moved, accounts, reason, beneficiaries, now)
        answers |= {
            row.transaction_id: partial(answer_transaction, row, now, approval)
            for row, approval in zip(moved, asked, strict=True)
        }
    steps = Step(Status.APPROVED, "compliance passed it"), Step(Status.QUEUED, due_ms=0)
    passed = await moves.save_steps(tx, passed, *steps, actor=ACTOR, now=now)
    answers |= {row.transaction_id: partial(answer_transaction, row, now) for row in passed}
    return await _keep_answers(
        tx, [(row, answers[row.transaction_id]) for row in rows if row.transaction_id in answers]
    )


async def _keep_answers(
    tx: Tx, decided: Sequence[tuple[Transaction, Callable[[], pb.Transaction | DomainError]]]
) -> dict[str, pb.Transaction | DomainError]:
    """The answers to the requests that made them, which their replays get from now on: as each sender sees them."""
    kept: dict[str, pb.Transaction | DomainError] = {}
    by_sender: dict[Principal, list[tuple[Transaction, Callable[[], pb.Transaction | DomainError]]]] = defaultdict(list)
    for row, build in decided:
        if row.request_subject is None or row.request_role is None or row.idempotency_key is None:
            kept[row.transaction_id] = build()
        else:
            sender = Principal(row.request_subject, row.request_role, row.org_id, known_as=row.created_by)
            by_sender[sender].append((row, build))
    for sender, sent in by_sender.items():
        requests = [(pb.CreateTransactionRequest(idempotency_key=row.idempotency_key), build) for row, build in sent]
        answers = await replace_answers(tx, requests, sender=sender)
        kept |= {row.transaction_id: answer for (row, _), answer in zip(sent, answers, strict=True)}
    return kept


def _answer_refusal(refusal: DomainError) -> DomainError:
    return refusal


async def _refuse(tx: Tx, row: Transaction, why: Failure, now: datetime) -> DomainError:
    failure = replace(why, metadata={**why.metadata, "transaction_id": row.transaction_id})
    await moves.save_move(tx, row, Status.FAILED, actor=ACTOR, now=now, note=why.message, failure=failure)
    return _to_refusal(failure)


def _to_refusal(why: Failure) -> DomainError:
    unknown = PartyNotFound("party_id")
    kind, fields = (unknown.kind, unknown.fields) if why.code == unknown.reason else (Kind.FAILED_PRECONDITION, {})
    return Refused(kind, why.code, why.message, fields, dict(why.metadata), domain=f"{NAME}.realco")
