"""A payout of staff that came to nothing is paid by another one instead: once, and whoever approves reads of it."""

from __future__ import annotations

import asyncio
from typing import Any

from realco.transactions.v1 import transactions_pb2 as pb

from services.chassis.values.errors import DomainError
from services.chassis.values.ids import new_id
from services.transactions.domain.payments import PaymentStatus
from tests.integration.test_transactions_staff_payouts import build_order, keep, order, refused
from tests.integration.test_transactions_staff_payouts import service as service
from tests.support.bulk import create
from tests.support.transactions import ADMIN, TransactionsHarness, usd

T = pb.Transaction


async def pay(service: TransactionsHarness, made: Any, status: PaymentStatus, code: str = "") -> None:
    await service.grant(await service.waiting(made.transaction_id))
    await service.work()
    payment = service.bank.report(made.transaction_id, status, code)
    await service.hook(f"evt_{new_id('key')}", payment)
    await service.work()


async def come_to_nothing(service: TransactionsHarness) -> Any:
    """A fee of 50.00 that its bank did not take."""
    keep(service, "PLATFORM_FEE", 150_00)
    made = await order(service)
    await pay(service, made, PaymentStatus.FAILED, "R03")
    ended = await service.get(made.transaction_id)
    assert ended.status == T.FAILED
    return ended


async def order_instead(service: TransactionsHarness, former: Any, **more: Any) -> Any:
    return await order(service, replaced_transaction_id=former.transaction_id, **more)


async def test_it_is_replaced_by_one_at_a_time_and_by_none_once_one_has_arrived(service: TransactionsHarness) -> None:
    former = await come_to_nothing(service)
    second = await order_instead(service, former)
    assert second.replaced_transaction_id == former.transaction_id
    told = {each.rule: each.statement for each in (await service.waiting(second.transaction_id)).explanations}
    assert told["PAID_INSTEAD"].startswith(f"It is paid instead of {former.transaction_id}, 50.00 USD, which is FAILED")
    again = await refused(order_instead(service, former))
    assert (again.reason, again.metadata) == ("ALREADY_REPLACED", {"transaction_id": second.transaction_id})
    await pay(service, second, PaymentStatus.FAILED, "R03")
    third = await order_instead(service, second)
    assert third.replaced_transaction_id == former.transaction_id, "it stands for the first one"
    await pay(service, third, PaymentStatus.SETTLED)
    for each in (former, second):
        assert (await refused(order_instead(service, each))).reason == "ALREADY_REPLACED"


async def test_what_pays_something_else_or_another_amount_is_refused(service: TransactionsHarness) -> None:
    former = await come_to_nothing(service)
    keep(service, "CONSTRUCTION_DRAW", 50_00)
    for more, field in (
        ({"type_name": "CONSTRUCTION_DRAW"}, "replaced_transaction_id"),
        ({"amount": usd(50_01)}, "amount"),
        ({"amount": usd(1)}, "amount"),
    ):
        refusal = await refused(order_instead(service, former, **more))
        assert list(getattr(refusal, "fields", {})) == [field]


async def test_what_is_not_over_is_not_replaced(service: TransactionsHarness) -> None:
    keep(service, "PLATFORM_FEE", 50_00)
    made = await order(service)
    assert (await refused(order_instead(service, made))).reason == "ILLEGAL_STATUS_CHANGE"


async def test_what_staff_did_not_order_or_is_not_there_is_not_replaced(service: TransactionsHarness) -> None:
    debit = await service.deposit()
    unknown = await build_order(service, replaced_transaction_id=new_id("txn"))
    assert (await refused(service.ask(ADMIN, "CreateTransaction", unknown))).reason == "TRANSACTION_NOT_FOUND"
    assert list(getattr(await refused(order_instead(service, debit)), "fields", {})) == ["replaced_transaction_id"]


async def test_many_who_order_instead_of_it_at_once_order_one(service: TransactionsHarness) -> None:
    former = await come_to_nothing(service)
    wanted = [await build_order(service, replaced_transaction_id=former.transaction_id) for _ in range(6)]
    made = await asyncio.gather(
        *(service.ask(ADMIN, "CreateTransaction", each) for each in wanted), return_exceptions=True
    )
    refusals = [each.reason for each in made if isinstance(each, DomainError)]
    assert refusals == ["ALREADY_REPLACED"] * 5


async def test_in_a_batch_two_do_not_stand_for_the_same(service: TransactionsHarness) -> None:
    former = await come_to_nothing(service)
    wanted = [await build_order(service, replaced_transaction_id=former.transaction_id) for _ in range(2)]
    results = await create(service, ADMIN, wanted)
    assert [each.failure.code for each in results] == ["", "INVALID_FIELD"]
    assert results[0].transaction.replaced_transaction_id == former.transaction_id
