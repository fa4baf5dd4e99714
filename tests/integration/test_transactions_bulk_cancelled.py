"""Many cancellations at once: each by the rules of one, and nobody's refusal is anybody else's."""

from __future__ import annotations

from collections import Counter

import pytest
import sqlalchemy as sa
from realco.transactions.v1 import transactions_pb2 as pb

from services.chassis.calls.auth import Principal
from services.chassis.calls.validation import validate
from services.chassis.values.errors import DomainError, InvalidField
from services.chassis.values.ids import new_id
from tests.support.bulk import cancel, create, name_outcomes, vary
from tests.support.transactions import ADMIN, CHECKER, IMPORT, INVESTOR, TransactionsHarness, usd

Cancel = pb.CancelTransactionRequest
STRANGER = Principal("inv-999", "investor", "org-1", parties=frozenset({"inv-999"}))


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


async def make(service: TransactionsHarness, number: int, principal: Principal = ADMIN) -> list[pb.Transaction]:
    good = await service.deposit_request(amount=usd(1))
    results = await create(service, principal, [vary(good) for _ in range(number)])
    return [each.transaction for each in results]


async def test_each_is_cancelled_or_refused_as_it_would_be_alone(service: TransactionsHarness) -> None:
    waiting, queued, late, done, stale = [*await make(service, 1), *await make(service, 4, IMPORT)]
    await cancel(service, ADMIN, [Cancel(transaction_id=done.transaction_id)])
    await service.ask(IMPORT, "CancelTransaction", Cancel(transaction_id=late.transaction_id))
    sent = await service.deposit()
    queued = await service.get(queued.transaction_id)
    asked = [
        Cancel(transaction_id=waiting.transaction_id, etag=waiting.etag, note="A mistake."),
        Cancel(transaction_id=queued.transaction_id),
        Cancel(transaction_id=done.transaction_id),
        Cancel(transaction_id=stale.transaction_id, etag="0" * 8),
        Cancel(transaction_id=new_id("txn")),
        Cancel(transaction_id=sent.transaction_id),
    ]
    async with service.database.begin_for_all() as tx:
        spoil = "UPDATE transactions SET seal = '\\x00', version = version + 1 WHERE transaction_id = :id"
        await tx.execute(sa.text(spoil), {"id": late.transaction_id})
    asked.append(Cancel(transaction_id=late.transaction_id))
    results = await cancel(service, ADMIN, asked)
    expected = ["CANCELLED"] * 3 + ["ETAG_MISMATCH", "TRANSACTION_NOT_FOUND", "CANCELLED", "ROW_NOT_SEALED"]
    assert name_outcomes(results) == expected
    assert await service.path(waiting.transaction_id) == ["INITIATED", "PENDING_APPROVAL", "CANCELLED"]
    assert await service.list_waiting(waiting.transaction_id) == []
    [*_, last] = (
        await service.ask(
            ADMIN,
            "ListTransactionStatusChanges",
            pb.ListTransactionStatusChangesRequest(transaction_id=waiting.transaction_id),
        )
    ).status_changes
    assert (last.note, last.actor) == ("cancelled: “A mistake.”", "admin-1")
    for item, result in zip(asked[3:5], results[3:5], strict=True):
        with pytest.raises(DomainError) as alone:
            await service.ask(ADMIN, "CancelTransaction", item)
        assert (alone.value.reason, alone.value.fields) == (result.failure.code, dict(result.failure.fields))


async def test_what_a_bank_has_is_cancelled_by_nobody(service: TransactionsHarness) -> None:
    [sent] = await make(service, 1, IMPORT)
    await service.work()
    [waiting] = await make(service, 1)
    asked = [Cancel(transaction_id=each.transaction_id, idempotency_key=new_id("key")) for each in (sent, waiting)]
    results = await cancel(service, ADMIN, asked)
    assert name_outcomes(results) == ["ILLEGAL_STATUS_CHANGE", "CANCELLED"]
    again = await cancel(service, ADMIN, asked)
    assert [each.replayed for each in again] == [True, True]
    assert [again[0].failure, again[1].transaction] == [results[0].failure, results[1].transaction]
    assert await service.ask(ADMIN, "CancelTransaction", asked[1]) == results[1].transaction


async def test_who_stops_others_does_so_three_times_an_hour_in_a_batch_too(service: TransactionsHarness) -> None:
    ours, theirs = await make(service, 4, CHECKER), await make(service, 2)
    asked = [Cancel(transaction_id=each.transaction_id) for each in [*ours, *theirs]]
    results = await cancel(service, ADMIN, asked)
    assert name_outcomes(results) == ["CANCELLED"] * 3 + ["TOO_MANY_STOPS"] + ["CANCELLED"] * 2
    assert (await service.get(ours[3].transaction_id)).status == pb.Transaction.PENDING_APPROVAL
    assert name_outcomes(await cancel(service, INVESTOR, asked[3:4])) == ["CANCELLED"]


async def test_an_investor_cancels_what_is_its_partys_and_learns_of_nothing_else(service: TransactionsHarness) -> None:
    made = await make(service, 2)
    asked = [Cancel(transaction_id=each.transaction_id) for each in made]
    assert name_outcomes(await cancel(service, STRANGER, asked)) == ["TRANSACTION_NOT_FOUND"] * 2
    assert name_outcomes(await cancel(service, INVESTOR, asked)) == ["CANCELLED"] * 2


async def test_a_rehearsed_cancellation_cancels_nothing(service: TransactionsHarness) -> None:
    made = await make(service, 3, IMPORT)
    asked = [Cancel(transaction_id=each.transaction_id, idempotency_key=new_id("key")) for each in made]
    assert name_outcomes(await cancel(service, ADMIN, asked, validate_only=True)) == ["CANCELLED"] * 3
    assert {(await service.get(each.transaction_id)).status for each in made} == {pb.Transaction.QUEUED}
    assert not any(each.replayed for each in await cancel(service, IMPORT, asked))


async def test_a_thousand_are_cancelled_with_their_history_and_events(service: TransactionsHarness) -> None:
    made = await make(service, 1000, IMPORT)
    results = await cancel(
        service, IMPORT, [Cancel(transaction_id=each.transaction_id, etag=each.etag) for each in made]
    )
    assert Counter(name_outcomes(results)) == {"CANCELLED": 1000}
    last = made[-1].transaction_id
    assert (await service.events(last))[-1] == "TransactionCancelled"
    assert await service.path(last) == ["INITIATED", "APPROVED", "QUEUED", "CANCELLED"]


@pytest.mark.parametrize(("items", "field"), [
    ([], "items"),
    ([Cancel(transaction_id="txn_1", validate_only=True)], "items"),
    ([Cancel(transaction_id="txn_1"), Cancel(transaction_id="esc_1")], "items[1].transaction_id"),
    (
        [Cancel(transaction_id=f"txn_{number}", idempotency_key="k") for number in range(2)],
        "items[1].idempotency_key",
    ),
])  # fmt: skip
def test_a_batch_of_cancellations_that_is_malformed_is_refused_as_a_whole(items, field) -> None:
    with pytest.raises(InvalidField) as refusal:
        validate(pb.BatchCancelTransactionsRequest(items=items))
    assert set(refusal.value.fields) == {field}


async def test_a_batch_that_names_a_transaction_twice_says_where(service: TransactionsHarness) -> None:
    [made] = await make(service, 1, IMPORT)
    twice = [Cancel(transaction_id=made.transaction_id) for _ in range(2)]
    with pytest.raises(InvalidField) as refusal:
        await cancel(service, IMPORT, twice)
    assert refusal.value.fields == {"items[1].transaction_id": "is that of items[0], too"}
    assert (await service.get(made.transaction_id)).status != pb.Transaction.CANCELLED
