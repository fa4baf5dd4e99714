"""Decides on transactions and counts what it lets pass, in one transaction under the parties' locks.

What transactions does not have waiting it neither decides on nor counts: a call in its name is no proof of it.

Fail closed: a party that is not known, or has a check that is not PASSED, moves no money either way.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from realco.compliance.v1 import clearances_pb2
from realco.compliance.v1 import compliance_pb2 as pb
from realco.transactions.v1.evaluations_pb2 import EvaluationFacts
from realco.type.v1.money_pb2 import Money

from services.chassis.calls.auth import current_principal
from services.chassis.calls.batch import Outcome, build_results
from services.chassis.data.transaction import Tx
from services.chassis.process.telemetry import log
from services.chassis.values.explanation import Explanation
from services.chassis.values.failure import Failure, make_failure
from services.chassis.values.ids import derived_id
from services.chassis.values.money import Money as Amount
from services.chassis.values.refusals import IdempotencyKeyReused, PartyNotCleared, PartyNotFound
from services.compliance import messages
from services.compliance.clients import Transactions
from services.compliance.domain import clearance
from services.compliance.domain.checks import CheckStatus, ComplianceCheck
from services.compliance.domain.clearance import Check
from services.compliance.domain.limits import WITH_A_WINDOW, Limit, Used, first_breach
from services.compliance.domain.parties import Party
from services.compliance.store.checks import insert_decisions, list_decisions, list_latest_checks
from services.compliance.store.limits import insert_usage, list_limits, list_used, refuse_doubted
from services.compliance.store.parties import lock_parties

Item = clearances_pb2.BatchEvaluateTransactionsRequest.Item


@dataclass(slots=True)
class _Facts:
    """What the decisions of one currency rest on; what is used grows with each transaction that passes.

    Args:
        used: By the rows of this service alone.
        used_at_most: With those that somebody else wrote.
    """

    limits: Sequence[Limit]
    used: Used
    used_at_most: Used


async def ask_what_waits(
    peer: Transactions, request: clearances_pb2.BatchEvaluateTransactionsRequest
) -> Collection[str]:
    """The transactions that are to be decided on, by transaction_id. Raises Unavailable: transactions is away."""
    ids = sorted({item.transaction_id for item in request.items})
    if request.validate_only:  # there is none yet, and nothing stays
        return ids
    facts = {each.transaction_id: each for each in await peer.batch_get_evaluation_facts(ids)}
    waiting = set()
    for item in request.items:
        known = facts.get(item.transaction_id)
        if known is None or _list_facts(known) != _list_facts(item):
            log.error("transaction_not_known", transaction_id=item.transaction_id, party_id=item.party_id)
        elif known.is_waiting:
            waiting.add(item.transaction_id)
    return waiting


def _list_facts(each: Item | EvaluationFacts) -> tuple[object, ...]:
    return each.party_id, each.direction, _read_amount(each), each.is_contribution


async def batch_evaluate_transactions(
    tx: Tx,
    request: clearances_pb2.BatchEvaluateTransactionsRequest,
    waiting: Collection[str],
    now: datetime,
) -> clearances_pb2.BatchEvaluateTransactionsResponse:
    """One result an item, in order. A transaction that was decided before keeps its decision.

    Args:
        waiting: Those that may be decided on now.
    """
    parties = await lock_parties(tx, {item.party_id for item in request.items})
    before = await list_decisions(tx, {item.transaction_id for item in request.items})
    checks = await list_latest_checks(tx, list(parties))
    limited = [party.party_id for party in parties.values() if party.has_limits]
    facts = {
        currency: _Facts(await list_limits(tx, currency), *await list_used(tx, limited, currency, now))
        for currency in {item.amount.currency_code for item in request.items if item.party_id in limited}
    }
    made: dict[str, ComplianceCheck] = {}
    for item in request.items:
        is_new = item.transaction_id not in before and item.transaction_id not in made
        if is_new and item.transaction_id in waiting:
            made[item.transaction_id] = _decide(item, parties, checks, facts, now)
    stored = {each.resource_id: each for each in await insert_decisions(tx, made.values(), now)}
    await insert_usage(tx, _usage(request.items, stored, now))
    decided = {**before, **stored}
    if len(stored) < len(made):  # somebody else decided on one meanwhile
        decided = await list_decisions(tx, {item.transaction_id for item in request.items})
    outcomes = [
        _read_outcome(item, decided.get(item.transaction_id), stored.pop(item.transaction_id, None))
        for item in request.items
    ]
    return clearances_pb2.BatchEvaluateTransactionsResponse(
        results=build_results(clearances_pb2.EvaluationResult, request.items, outcomes)
    )


def _read_outcome(
    item: Item, check: ComplianceCheck | None, made: ComplianceCheck | None
) -> Outcome[pb.ComplianceCheck | Failure | IdempotencyKeyReused | None]:
    """From the check that holds the decision, and what this request made of it: nothing where it was made before."""
    if check is None:
        return Outcome(None)
    asked = (item.party_id, Money.Direction.Name(item.direction), _read_amount(item))
    if (check.party_id, check.direction, check.amount) != asked:
        message = "The transaction was decided on with another party, direction or amount."
        return Outcome(IdempotencyKeyReused(message, idempotency_key=item.transaction_id))
    return Outcome(check.failure or messages.to_compliance_check(check), replayed=made is None)


def _decide(
    item: Item,
    parties: Mapping[str, Party],
    checks: Mapping[str, Mapping[str, Check]],
    facts: Mapping[str, _Facts],
    now: datetime,
) -> ComplianceCheck:
    """The check that holds the decision.

    Args:
        facts: By currency, of the parties for which limits hold.

    Raises: NotSealed: it would be refused for what somebody wrote past this service, and so is neither.
    """
    party = parties.get(item.party_id)
    if party is None:
        failure = make_failure(PartyNotFound())
        [unknown] = clearance.UNKNOWN
        # Nobody has identified it.
        return _build_check(item, now, clearance.ADMITTING_CHECK, failure, replace(unknown, statement=failure.message))
    if missing := clearance.list_missing(clearance.checks_at(checks.get(item.party_id, {}), now)):
        return _refuse_uncleared(item, now, missing[0].rule, missing)
    if item.is_contribution and party.has_limits:
        known, minor = facts[item.amount.currency_code], item.amount.amount_minor
        if breach := first_breach(known.limits, known.used[item.party_id], minor, now):
            failure = make_failure(breach.refuse())
            return _build_check(item, now, "LIMIT_CHECK", failure, breach.explanation)
        if first_breach(known.limits, known.used_at_most[item.party_id], minor, now):
            refuse_doubted(item.party_id)
        for used in (known.used, known.used_at_most):
            used[item.party_id].update(dict.fromkeys(WITH_A_WINDOW, minor))
    return _build_check(item, now, "LIMIT_CHECK")


def _refuse_uncleared(item: Item, now: datetime, check_type: str, missing: tuple[Explanation, ...]) -> ComplianceCheck:
    """A failed check of the type whose answer is the first one missing."""
    failure = make_failure(PartyNotCleared(item.party_id, {one.rule: one.statement for one in missing}))
    return _build_check(item, now, check_type, failure, replace(missing[0], statement=failure.message))


def _build_check(
    item: Item,
    now: datetime,
    check_type: str,
    failure: Failure | None = None,
    explanation: Explanation | None = None,
) -> ComplianceCheck:
    """One that passed, unless there is a failure."""
    return ComplianceCheck(
        compliance_check_id=derived_id("chk", current_principal().org_id, item.transaction_id),
        check_type=check_type,
        status=CheckStatus.FAILED if failure else CheckStatus.PASSED,
        resource_type="TRANSACTION",
        resource_id=item.transaction_id,
        party_id=item.party_id,
        direction=Money.Direction.Name(item.direction),
        amount=_read_amount(item),
        failure=failure,
        explanation=explanation,
        created_at=now,
        updated_at=now,
    )


def _read_amount(item: Item | EvaluationFacts) -> Amount:
    return Amount(item.amount.amount_minor, item.amount.currency_code)


def _usage(items: Sequence[Item], made: Mapping[str, ComplianceCheck], now: datetime) -> Iterator[dict[str, Any]]:
    """A row for each contribution that passed now, the accredited's too: whoever loses the accreditation has a past."""
    counted: set[str] = set()
    for item in items:
        check = made.get(item.transaction_id)
        if check is None or check.failure or not item.is_contribution or item.transaction_id in counted:
            continue
        counted.add(item.transaction_id)
        yield {
            "transaction_id": item.transaction_id,
            "party_id": item.party_id,
            "amount_minor": item.amount.amount_minor,
            "arrived_minor": None,
            "currency": item.amount.currency_code,
            "counted": True,
            "version": 0,
            "counted_at": now,
        }
