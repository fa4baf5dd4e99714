"""Many transactions at once: each as a single request would have made it, and nobody's refusal is anybody else's."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
import sqlalchemy as sa
from realco.escrow.v1.escrow_accounts_pb2 import EscrowAccount
from realco.transactions.v1 import transactions_pb2 as pb

from services.chassis.calls.answer import REPLAYED, answer_metadata, begin_answer
from services.chassis.calls.auth import Principal
from services.chassis.calls.validation import validate
from services.chassis.values.errors import DomainError, InvalidField
from services.chassis.values.ids import new_id
from tests.support.bulk import count_stored, create, name_outcomes, vary
from tests.support.peers.compliance import decide
from tests.support.transactions import ADMIN, ESCROW_ACCOUNT, IMPORT, INVESTOR, TransactionsHarness, usd

T = pb.Transaction
OTHER = Principal("inv-002", "investor", "org-1", parties=frozenset({"inv-002"}))


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


async def refuse_alone(service: TransactionsHarness, principal: Principal, item) -> DomainError:
    with pytest.raises(DomainError) as refusal:
        await service.ask(principal, "CreateTransaction", item)
    return refusal.value


REFUSED = {
    "no account of its party": ({"bank_account_id": ""}, "INVALID_FIELD"),
    "an account that a wire has not": ({"payment_method": T.WIRE}, "INVALID_FIELD"),
    "no investment": ({"investment_id": ""}, "INVALID_FIELD"),
    "no party": ({"party_id": ""}, "INVALID_FIELD"),
    "an unknown party": ({"party_id": "inv-404", "bank_account_id": new_id("ba")}, "PARTY_NOT_FOUND"),
    "an unknown investment": ({"investment_id": new_id("inv")}, "INVESTMENT_NOT_FOUND"),
    "an unknown bank account": ({"bank_account_id": new_id("ba")}, "BANK_ACCOUNT_NOT_FOUND"),
    "another escrow account": ({"escrow_account_id": new_id("esc")}, "ESCROW_ACCOUNT_MISMATCH"),
    "more than is committed": ({"amount": usd(2_000_00)}, "COMMITMENT_EXCEEDED"),
    "another currency": ({"amount": {"currency_code": "EUR", "amount_minor": 1}}, "CURRENCY_MISMATCH"),
}


async def test_among_a_thousand_each_is_made_or_refused_as_it_would_be_alone(service: TransactionsHarness) -> None:
    service.compliance.unknown.add("inv-404")
    good = await service.deposit_request(amount=usd(1))
    uncleared = await service.deposit_request("inv-003", amount=usd(1))
    service.compliance.uncleared["inv-003"] = "KYC is FAILED"
    bad = [vary(good, **change) for change, _ in REFUSED.values()]
    items = [vary(good) for _ in range(1000 - len(bad) - 1)]
    for number, item in enumerate([*bad, vary(uncleared)]):
        items.insert(number * 90, item)
    results = await create(service, IMPORT, items)

    assert [each.idempotency_key for each in results] == [item.idempotency_key for item in items]
    assert Counter(name_outcomes(results)) == Counter(reason for _, reason in REFUSED.values()) + Counter(
        {"QUEUED": 989, "PARTY_NOT_CLEARED": 1}
    )
    by_key = {each.idempotency_key: each for each in results}
    for item, (_, reason) in zip(bad, REFUSED.values(), strict=True):
        alone = await refuse_alone(service, IMPORT, vary(item))
        told = by_key[item.idempotency_key].failure
        assert (told.code, told.fields.keys()) == (reason, alone.fields.keys()) == (alone.reason, alone.fields.keys())
        if reason != "COMMITMENT_EXCEEDED":  # which names what is left by then
            assert (dict(told.fields), dict(told.metadata)) == (alone.fields, alone.metadata)
    assert await service.path(results[1].transaction.transaction_id) == ["INITIATED", "APPROVED", "QUEUED"]
    assert await service.events(results[1].transaction.transaction_id) == [
        "TransactionCreated",
        "TransactionApproved",
        "TransactionQueued",
    ]
    kept = by_key[items[900].idempotency_key].failure
    assert (await service.get(kept.metadata["transaction_id"])).status == T.FAILED


async def test_the_others_are_asked_about_all_of_them_at_once(service: TransactionsHarness) -> None:
    items = [await service.deposit_request(f"inv-{number:03}", amount=usd(1)) for number in range(150)]
    service.wire.calls.clear()
    assert set(name_outcomes(await create(service, IMPORT, items))) == {"QUEUED"}
    assert Counter(rpc for rpc, _ in service.wire.calls) == {
        "BatchGetClearances": 1,
        "GetEscrowAccount": 1,
        "ListInvestments": 2,  # which takes a hundred ids
        "GetOffering": 1,
        "BatchEvaluateTransactions": 2,
    }


async def test_a_batch_that_is_repeated_has_one_effect_and_its_first_answers(service: TransactionsHarness) -> None:
    good = await service.deposit_request(amount=usd(1))
    over = vary(good, amount=usd(2_000_00))
    unknown = vary(good, bank_account_id=new_id("ba"))
    first = await create(service, IMPORT, [good, over, unknown])
    with service.wire.cut(service.escrow):  # whom a replay does not ask
        again = await create(service, IMPORT, [over, good])
        alone = await service.ask(IMPORT, "CreateTransaction", good)
    assert [each.replayed for each in again] == [True, True]
    assert [again[1].transaction, again[0].failure] == [first[0].transaction, first[1].failure]
    assert alone == first[0].transaction
    # What reached no decision has left its key free.
    unknown.bank_account_id = good.bank_account_id
    assert name_outcomes(await create(service, IMPORT, [unknown])) == ["QUEUED"]
    assert await count_stored(service, ADMIN) == 2


async def test_an_item_and_a_single_request_are_one_deed_under_one_key(service: TransactionsHarness) -> None:
    good, other = await service.deposit_request(amount=usd(1)), await service.deposit_request("inv-002")
    alone = await service.ask(IMPORT, "CreateTransaction", good)
    changed = vary(good, idempotency_key=good.idempotency_key, amount=usd(2))
    begin_answer()
    [told] = await create(service, IMPORT, [good])
    assert answer_metadata() == ((REPLAYED, "true"),)  # for every item is one
    begin_answer()
    results = await create(service, IMPORT, [changed, other])
    assert answer_metadata() == ()
    assert (told.transaction, told.replayed) == (alone, True)
    assert name_outcomes(results) == ["IDEMPOTENCY_KEY_REUSED", "QUEUED"]
    assert (dict(results[0].failure.fields), results[0].replayed) == (
        {"idempotency_key": "was used with another request"},
        False,
    )
    assert await count_stored(service, ADMIN) == 2


async def test_two_batches_at_once_with_some_keys_alike_do_each_thing_once(service: TransactionsHarness) -> None:
    good = await service.deposit_request(amount=usd(1))
    items = [vary(good) for _ in range(150)]
    one, other = await asyncio.gather(
        create(service, IMPORT, items[:100]), create(service, IMPORT, list(reversed(items[50:])))
    )
    assert set(name_outcomes([*one, *other])) == {"QUEUED"}
    made = {each.idempotency_key: each.transaction.transaction_id for each in one}
    assert all(made.setdefault(each.idempotency_key, each.transaction.transaction_id) for each in other)
    assert [made[each.idempotency_key] for each in other] == [each.transaction.transaction_id for each in other]
    assert await count_stored(service, ADMIN) == len(set(made.values())) == 150
    assert sum(each.replayed for each in [*one, *other]) == 50


@pytest.mark.parametrize(("amounts", "outcomes", "left"), [
    ([600, 300], ["QUEUED", "QUEUED"], []),
    ([600, 301], ["QUEUED", "COMMITMENT_EXCEEDED"], [300]),
    ([600, 301, 300], ["QUEUED", "COMMITMENT_EXCEEDED", "QUEUED"], [300]),  # what was refused takes nothing
    ([901, 900, 1], ["COMMITMENT_EXCEEDED", "QUEUED", "COMMITMENT_EXCEEDED"], [900, 0]),
])  # fmt: skip
async def test_the_contributions_of_a_batch_do_not_exceed_a_commitment_together(
    service: TransactionsHarness, amounts, outcomes, left
) -> None:
    good = await service.deposit_request(amount=usd(100_00))
    assert (await service.ask(IMPORT, "CreateTransaction", good)).status == T.QUEUED  # of 1,000.00
    items = [vary(good, amount=usd(amount * 100)) for amount in amounts]
    results = await create(service, IMPORT, [*items, await service.deposit_request("inv-002")])
    assert name_outcomes(results) == [*outcomes, "QUEUED"]
    told = [each.failure.metadata["remaining_minor"] for each in results if each.HasField("failure")]
    assert told == [str(amount * 100) for amount in left]


async def test_what_staff_draws_waits_for_a_second_person_one_by_one(service: TransactionsHarness) -> None:
    good = await service.deposit_request(amount=usd(1))
    results = await create(service, ADMIN, [vary(good) for _ in range(3)])
    assert name_outcomes(results) == ["PENDING_APPROVAL"] * 3
    for each in results:
        await service.grant(await service.waiting(each.transaction.transaction_id))
        assert (await service.get(each.transaction.transaction_id)).status == T.QUEUED


async def test_an_investor_sends_what_it_may_send_alone_and_nothing_else(service: TransactionsHarness) -> None:
    own, others = await service.deposit_request(), await service.deposit_request("inv-002")
    own.party_id = ""  # which means itself
    cash = pb.CreateTransactionRequest(
        idempotency_key="cash", type=T.DEPOSIT, payment_method=T.WIRE, amount=usd(1), escrow_account_id=ESCROW_ACCOUNT
    )
    results = await create(service, INVESTOR, [own, others, cash])
    assert name_outcomes(results) == ["QUEUED", "PARTY_NOT_FOUND", "TYPE_NOT_SUPPORTED"]
    assert results[0].transaction.party_id == "inv-001"
    assert [dict(each.failure.fields) for each in results[1:]] == [
        (await refuse_alone(service, INVESTOR, vary(item))).fields for item in (others, cash)
    ]


async def test_a_rehearsal_says_what_would_become_of_each_and_writes_nothing(service: TransactionsHarness) -> None:
    service.compliance.daily_deposit_minor = 300_00
    good = await service.deposit_request()
    reviewed = await service.deposit_request("inv-002")
    service.compliance.results["inv-002"] = decide("MANUAL_REVIEW", "It is large.")
    items = [good, *(vary(good) for _ in range(3)), vary(good, amount=usd(900_00)), reviewed]
    before = await _count_rows(service)
    results = await create(service, IMPORT, items, validate_only=True)
    expected = ["QUEUED", "QUEUED", "QUEUED", "TRANSACTION_LIMIT_EXCEEDED", "COMMITMENT_EXCEEDED", "PENDING_APPROVAL"]
    assert name_outcomes(results) == expected
    assert not any(each.replayed for each in results)
    assert await _count_rows(service) == before
    # And so it becomes, under the same keys.
    assert name_outcomes(await create(service, IMPORT, items)) == expected
    assert name_outcomes(await create(service, IMPORT, [good], validate_only=True)) == ["TRANSACTION_LIMIT_EXCEEDED"]


async def _count_rows(service: TransactionsHarness) -> list[int]:
    async with service.database.begin_for_all() as tx:
        tables = ("transactions", "transaction_history", "approvals", "handled_requests")
        return [await tx.scalar(sa.text(f"SELECT count(*) FROM {table}")) for table in tables]


async def test_what_compliance_does_not_decide_now_a_job_has_decided_later(service: TransactionsHarness) -> None:
    good = await service.deposit_request(amount=usd(1))
    items = [vary(good) for _ in range(120)]
    with service.wire.cut(service.compliance):
        results = await create(service, IMPORT, items)
    assert set(name_outcomes(results)) == {"INITIATED"}
    await service.hurry()
    await service.work()
    told = await create(service, IMPORT, items[:1])
    assert (name_outcomes(told), told[0].replayed) == (["QUEUED"], True)
    assert await service.path(results[-1].transaction.transaction_id) != ["INITIATED"]


@pytest.mark.parametrize("peer", ["escrow", "distributions"])
async def test_where_nobody_can_say_whether_it_could_be_received_nothing_is_written(
    service: TransactionsHarness, peer: str
) -> None:
    good = await service.deposit_request()
    with service.wire.cut(getattr(service, peer)), pytest.raises(DomainError) as refusal:
        await create(service, IMPORT, [good])
    assert refusal.value.reason == "UNAVAILABLE"
    assert name_outcomes(await create(service, IMPORT, [good])) == ["QUEUED"]


async def test_a_frozen_account_keeps_no_other_from_going_on(service: TransactionsHarness) -> None:
    frozen = new_id("esc")
    service.escrow.open(escrow_account_id=frozen, sponsor="sponsor-1")
    service.escrow.accounts[frozen].status = EscrowAccount.FROZEN
    good = await service.deposit_request(amount=usd(1))
    of_issuer = {"type": pb.Transaction.DEPOSIT, "investment_id": None, "escrow_account_id": frozen}
    results = await create(service, IMPORT, [await service.deposit_request("sponsor-1", **of_issuer), good])
    assert name_outcomes(results) == ["ESCROW_ACCOUNT_FROZEN", "QUEUED"]


async def test_a_row_that_somebody_altered_stops_what_names_it_and_nothing_else(service: TransactionsHarness) -> None:
    good, other = await service.deposit_request(amount=usd(1)), await service.deposit_request("inv-002")
    third = await service.deposit_request("inv-003")
    [paid] = await create(service, IMPORT, [vary(third)])
    async with service.database.begin_for_all() as tx:
        suspend = "UPDATE bank_accounts SET status = 'SUSPENDED', version = version + 1 WHERE bank_account_id = :id"
        await tx.execute(sa.text(suspend), {"id": other.bank_account_id})
        spoil = "UPDATE transactions SET seal = '\\x00', version = version + 1 WHERE transaction_id = :id"
        await tx.execute(sa.text(spoil), {"id": paid.transaction.transaction_id})
    results = await create(service, IMPORT, [other, good, third])
    assert name_outcomes(results) == ["ROW_NOT_SEALED", "QUEUED", "ROW_NOT_SEALED"]
    assert [each.failure.retryable for each in results] == [True, False, True]


MALFORMED = [
    (lambda request: request.items.add(), "items[1].idempotency_key"),
    (lambda request: request.items[0].ClearField("amount"), "items[0].amount"),
    (lambda request: request.items.append(request.items[0]), "items[1].idempotency_key"),
    (lambda request: setattr(request.items[0], "validate_only", True), "items"),
    (lambda request: request.ClearField("items"), "items"),
]


@pytest.mark.parametrize(("change", "field"), MALFORMED)
def test_a_batch_that_is_malformed_is_refused_as_a_whole(change, field) -> None:
    ids = {"escrow_account_id": new_id("esc"), "party_id": new_id("pty"), "investment_id": new_id("inv")}
    item = pb.CreateTransactionRequest(idempotency_key="k", type=7, payment_method=2, amount=usd(1), **ids)
    request = pb.BatchCreateTransactionsRequest(items=[item])
    validate(request)
    change(request)
    with pytest.raises(InvalidField) as refusal:
        validate(request)
    assert field in refusal.value.fields
