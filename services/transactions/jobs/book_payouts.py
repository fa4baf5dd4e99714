"""Has escrow take the money of payouts in PROCESSING off the book, before any provider is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import sqlalchemy as sa
from realco.escrow.v1.error_reason_pb2 import ErrorReason
from realco.escrow.v1.journal_pb2 import LedgerAccount

from services.chassis.calls.auth import acting_as, service_principal
from services.chassis.calls.wire import from_failure, to_money
from services.chassis.data.transaction import Tx
from services.chassis.process.telemetry import log
from services.chassis.values.errors import DomainError
from services.chassis.values.failure import Failure, make_failure
from services.transactions.clients import PayoutItem, PostingResult
from services.transactions.dependencies import ACTOR, NAME, Dependencies
from services.transactions.domain.states import Status
from services.transactions.domain.transaction import Transaction
from services.transactions.jobs.batches import BATCH_MAX, ask_about, do_groups, group_by_person
from services.transactions.store import moves
from services.transactions.store import transactions as store

# Says that escrow, when it asked us, heard something else than what was committed before. The payout may be booked and
# paid already: so it has not failed, and is asked for again.
_NO_VERDICTS = frozenset({ErrorReason.Name(ErrorReason.PAYOUT_NOT_KNOWN)})

_CASH = LedgerAccount.Kind.Name(LedgerAccount.CASH)

NOT_BOOKED = store.build_taking(Status.PROCESSING, count_max=BATCH_MAX, where=sa.not_(store.IS_BOOKED))


async def book_payouts(dependencies: Dependencies) -> int:
    taken = await store.take_transactions(dependencies.database, NOT_BOOKED)
    await do_groups(group_by_person(taken), partial(_book_rows, dependencies))
    return len(taken)


async def _book_rows(dependencies: Dependencies, whose: tuple[str, str], rows: Sequence[Transaction]) -> None:
    org_id, person = whose
    with acting_as(service_principal(NAME, org_id, person)):
        async for asked, answer in ask_about(rows, partial(_book, dependencies)):
            await _record_answer(dependencies, asked, answer)


async def _book(dependencies: Dependencies, rows: Sequence[Transaction]) -> Sequence[PostingResult]:
    return await dependencies.peers.escrow.batch_book_payouts([_build_item(row) for row in rows])


async def _record_answer(
    dependencies: Dependencies, rows: Sequence[Transaction], answer: Sequence[PostingResult] | DomainError
) -> None:
    outcomes: dict[str, Failure | None] = {}
    if not isinstance(answer, DomainError):
        for row, result in zip(rows, answer, strict=True):
            outcomes[row.transaction_id] = _read_refusal(result)
    elif answer.kind.transient or answer.reason in _NO_VERDICTS:
        log.warning("escrow_gives_no_verdict", transactions=len(rows), note=answer.reason)
    else:
        outcomes = {row.transaction_id: make_failure(answer) for row in rows}
    async with dependencies.database.begin() as tx:
        await _record_outcomes(tx, dependencies, await store.lock_taken_transactions(tx, rows), outcomes)
    dependencies.work_due.set()


async def _record_outcomes(
    tx: Tx,
    dependencies: Dependencies,
    rows: Sequence[Transaction],
    outcomes: Mapping[str, Failure | None],
) -> None:
    """Writes what escrow answered of each payout (None: booked); those without an answer are asked about again."""
    now = dependencies.clock.now()
    booked = []
    for row in rows:
        if row.transaction_id not in outcomes:
            await store.postpone_transaction(tx, row)
        elif (failure := outcomes[row.transaction_id]) is None:
            booked.append(row)
        else:
            await moves.save_move(tx, row, Status.FAILED, actor=ACTOR, now=now, note=failure.message, failure=failure)
    await moves.save_booked(tx, booked)


def _build_item(row: Transaction) -> PayoutItem:
    return PayoutItem(
        idempotency_key=row.escrow_key,
        escrow_account_id=row.escrow_account_id,
        transaction_id=row.transaction_id,
        type=row.type,
        party_id=row.party_id,
        amount=to_money(row.amount),
        investment_id=row.investment_id or None,
        distribution_id=row.distribution_id or None,
    )


def _read_refusal(result: PostingResult) -> Failure | None:
    """Why escrow took nothing; where cash is short not how much there is, which is others' and no payee's business."""
    if not result.HasField("failure"):
        return None
    failure = from_failure(result.failure)
    if failure.metadata.get("ledger_account_kind") != _CASH:
        return failure
    told = {name: value for name, value in failure.metadata.items() if name != "available_minor"}
    return replace(failure, metadata=told)
