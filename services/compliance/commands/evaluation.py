"""Decides on transactions and counts what it lets pass, in one transaction under the parties' locks.

Fail closed: a party that is not known, or has a check that is not PASSED, moves no money either way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from realco.compliance.v1 import clearances_pb2
from realco.compliance.v1 import compliance_pb2 as pb
from realco.type.v1.money_pb2 import Money
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.calls.auth import current_principal
from services.chassis.calls.batch import Outcome, build_results
from services.chassis.data.once import IdempotencyKeyReused
from services.chassis.values.explanation import Explanation, write_explanation
from services.chassis.values.failure import Failure, make_failure, read_failure, write_failure
from services.chassis.values.ids import derived_id
from services.chassis.values.refusals import PartyNotCleared, PartyNotFound
from services.compliance import messages
from services.compliance.domain import clearance
from services.compliance.domain.clearance import Check
from services.compliance.domain.limits import Limit, LimitType, first_breach
from services.compliance.domain.parties import has_limits
from services.compliance.store.checks import insert_decisions, list_decisions, list_latest_checks
from services.compliance.store.limits import insert_usage, list_limits, list_used
from services.compliance.store.parties import lock_parties

Item = clearances_pb2.BatchEvaluateTransactionsRequest.Item


@dataclass(slots=True)
class _Facts:
    """What the decisions of one currency rest on; `used` grows with each transaction that passes."""

    limits: Sequence[Limit]
    used: dict[str, dict[LimitType, int]]


async def batch_evaluate_transactions(
    tx: AsyncConnection, request: clearances_pb2.BatchEvaluateTransactionsRequest, now: datetime
) -> clearances_pb2.BatchEvaluateTransactionsResponse:
    """One result an item, in order. A transaction that was decided before keeps its decision."""
    parties = await lock_parties(tx, {item.party_id for item in request.items})
    before = await list_decisions(tx, {item.transaction_id for item in request.items})
    checks = await list_latest_checks(tx, list(parties))
    facts = {
        currency: _Facts(await list_limits(tx, currency), await list_used(tx, list(parties), currency, now))
        for currency in {item.amount.currency_code for item in request.items}
    }
    rows: dict[str, dict[str, Any]] = {}
    for item in request.items:
        if item.transaction_id not in before and item.transaction_id not in rows:
            rows[item.transaction_id] = _decide(item, parties, checks, facts[item.amount.currency_code], now)
    ours = await insert_decisions(tx, rows.values(), now)
    rows = {transaction_id: row for transaction_id, row in rows.items() if transaction_id in ours}
    await insert_usage(tx, _usage(request.items, rows, now))
    decided = await list_decisions(tx, {item.transaction_id for item in request.items})
    outcomes = [
        _read_outcome(item, decided[item.transaction_id], rows.pop(item.transaction_id, None)) for item in request.items
    ]
    return clearances_pb2.BatchEvaluateTransactionsResponse(
        results=build_results(clearances_pb2.EvaluationResult, request.items, outcomes)
    )


def _read_outcome(
    item: Item, check: Any, made: object | None
) -> Outcome[pb.ComplianceCheck | Failure | IdempotencyKeyReused]:
    """From the check that holds the decision, and what this request made of it: nothing where it was made before."""
    if any(getattr(check, column) != value for column, value in _subject(item).items()):
        message = "The transaction was decided on with another party, direction or amount."
        return Outcome(IdempotencyKeyReused(message, transaction_id=item.transaction_id))
    return Outcome(read_failure(check.failure) or messages.to_compliance_check(check), replayed=made is None)


def _decide(
    item: Item, parties: Mapping[str, Any], checks: Mapping[str, Mapping[str, Check]], facts: _Facts, now: datetime
) -> dict[str, Any]:
    """The row of the check that holds the decision."""
    party = parties.get(item.party_id)
    if party is None:
        failure = make_failure(PartyNotFound())
        [unknown] = clearance.UNKNOWN
        return _row(item, "KYC", failure, replace(unknown, statement=failure.message))  # nobody has identified it
    if missing := clearance.list_missing(clearance.checks_at(checks.get(item.party_id, {}), now)):
        return _refuse_uncleared(item, missing[0].rule, missing)
    if item.direction == Money.IN:
        limits = facts.limits if has_limits(party.roles, party.accreditation) else ()
        used = facts.used.setdefault(item.party_id, {})
        if breach := first_breach(limits, used, item.amount.amount_minor, now):
            failure = Failure("TRANSACTION_LIMIT_EXCEEDED", breach.working, metadata=breach.metadata())
            return _row(item, "LIMIT_CHECK", failure, breach.explanation)
        for limit_type in LimitType:
            if limit_type is not LimitType.PER_TRANSACTION:
                used[limit_type] = used.get(limit_type, 0) + item.amount.amount_minor
    return _row(item, "LIMIT_CHECK")


def _refuse_uncleared(item: Item, check_type: str, missing: tuple[Explanation, ...]) -> dict[str, Any]:
    """A failed check of the type whose answer is the first one missing."""
    failure = make_failure(PartyNotCleared(item.party_id, clearance.spell_missing(missing)))
    return _row(item, check_type, failure, replace(missing[0], statement=failure.message))


def _row(
    item: Item,
    check_type: str,
    failure: Failure | None = None,
    explanation: Explanation | None = None,
) -> dict[str, Any]:
    """A check that passed, unless there is a failure."""
    org_id = current_principal().org_id
    return {
        "org_id": org_id,
        "compliance_check_id": derived_id("chk", org_id, item.transaction_id),
        "check_type": check_type,
        "status": "FAILED" if failure else "PASSED",
        "entity_type": "TRANSACTION",
        **_subject(item),
        "failure": write_failure(failure),
        "explanation": write_explanation(explanation) if explanation else None,
    }


def _subject(item: Item) -> dict[str, Any]:
    """The columns of what is decided on."""
    return {
        "entity_id": item.transaction_id,
        "party_id": item.party_id,
        "direction": Money.Direction.Name(item.direction),
        "amount_minor": item.amount.amount_minor,
        "currency": item.amount.currency_code,
    }


def _usage(items: Sequence[Item], rows: Mapping[str, Mapping[str, Any]], now: datetime) -> Iterator[dict[str, Any]]:
    """A row for each money-in that passed now. Accredited parties' too: whoever loses the accreditation has a past."""
    counted: set[str] = set()
    for item in items:
        row = rows.get(item.transaction_id)
        if row is None or row["status"] != "PASSED" or item.direction != Money.IN or item.transaction_id in counted:
            continue
        counted.add(item.transaction_id)
        yield {
            "org_id": row["org_id"],
            "transaction_id": item.transaction_id,
            "party_id": item.party_id,
            "amount_minor": item.amount.amount_minor,
            "currency": item.amount.currency_code,
            "counted": True,
            "version": 0,
            "counted_at": now,
        }
