"""Money that is to be paid and stands still is in the list of exceptions, once, and says so when it went after all."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from realco.transactions.v1 import bank_accounts_pb2 as bank_pb
from realco.transactions.v1 import exceptions_pb2, transactions_pb2

from services.chassis.calls.auth import Principal
from services.chassis.values.approval import VALIDITY
from services.chassis.values.errors import DomainError
from services.chassis.values.ids import new_id
from services.transactions.domain.payments import PaymentStatus
from tests.integration.test_transactions_refund_accounts import contribute, refund
from tests.integration.test_transactions_refund_reasons import say_no
from tests.integration.test_transactions_staff_payouts import keep, order
from tests.support.exceptions import list_exceptions, resolve
from tests.support.transactions import ADMIN, CHECKER, ESCROW_ACCOUNT, ORG, TransactionsHarness, usd

T, E = transactions_pb2.Transaction, exceptions_pb2.PaymentException
OTHER = Principal("admin-3", "admin", ORG)
ALLOCATION = {"distribution_id": "dist_1", "allocation_id": "all_1"}


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


async def unpaid(service: TransactionsHarness, **filters: Any) -> list[Any]:
    found = await list_exceptions(service, kind=["PAYOUT_NOT_PAID"], status=["OPEN"], **filters)
    for each in found:
        assert (each.severity, each.escrow_account_id) == (E.MEDIUM, ESCROW_ACCOUNT)
    return found


async def settle(service: TransactionsHarness, made: Any) -> None:
    service.bank.report(made.transaction_id, PaymentStatus.SETTLED)
    await service.work(hurried=True)
    assert (await service.get(made.transaction_id)).status in (T.SETTLED, T.COMPLETED)


async def send_back(service: TransactionsHarness, made: Any, code: str = "R03") -> None:
    payment_id = service.bank.report(made.transaction_id, PaymentStatus.RETURNED, code)
    await service.hook(f"evt_{new_id('key')}", payment_id)
    await service.work()
    assert (await service.get(made.transaction_id)).status == T.RETURNED


async def grant_if_asked(service: TransactionsHarness, made: Any) -> None:
    if made.status == T.PENDING_APPROVAL:
        await service.grant(await service.waiting(made.transaction_id))
        await service.work()


async def pay_share(service: TransactionsHarness, **more: Any) -> Any:
    made = await service.payout_to(None, "inv-001", **ALLOCATION, **more)
    await service.work()
    return made


async def test_a_payee_without_an_account_is_one_exception_until_the_money_has_arrived(
    service: TransactionsHarness,
) -> None:
    service.owe("inv-001")
    for count in (1, 2):
        assert (await pay_share(service)).failure.code == "NO_PAYOUT_BANK_ACCOUNT"
        [found] = await unpaid(service)
        assert (found.occurrence_count, found.transaction_id) == (count, "")
    assert (found.party_id, found.distribution_id, found.allocation_id) == ("inv-001", "dist_1", "all_1")
    assert found.amount == usd(50_00)
    assert found.cause == (
        "Distribution: 50.00 USD to inv-001 is not paid. NO_PAYOUT_BANK_ACCOUNT: The party has no confirmed bank"
        " account for payouts. To send it again: POST /distributions/dist_1/allocations/all_1/resend."
    )
    await service.confirm(await service.bank_account("inv-001"))
    made = await pay_share(service)
    [told] = await unpaid(service)
    assert f"was ordered anew on 2024-12-02, as {made.transaction_id}" in told.cause
    await settle(service, made)
    [told] = await unpaid(service)
    assert told.cause.startswith(f"50.00 USD has arrived at inv-001 since, by {made.transaction_id}.")
    assert told.occurrence_count == 2, "that it went is no more to look at"
    await resolve(service, told, "Paid.", OTHER)
    assert await unpaid(service) == []


async def test_what_comes_back_after_somebody_was_done_with_it_opens_it_again(service: TransactionsHarness) -> None:
    assert (await pay_share(service)).failure.code == "NO_PAYOUT_BANK_ACCOUNT"
    [first] = await unpaid(service)
    await resolve(service, first, "A new account is on its way.", OTHER)
    await service.confirm(await service.bank_account("inv-001"))
    service.owe("inv-001")
    made = await pay_share(service, amount=usd(40_00))
    assert await unpaid(service) == [], "that it is ordered anew opens nothing"
    await settle(service, made)
    assert await unpaid(service) == []
    await send_back(service, made)
    [again] = await unpaid(service)
    assert (again.payment_exception_id, again.occurrence_count) == (first.payment_exception_id, 2)
    assert f"{made.transaction_id} RETURNED, R03" in again.cause
    assert again.amount == usd(40_00), "the amount is that which is owed now"


async def test_a_refund_that_nobody_approved_in_time_is_in_the_list(service: TransactionsHarness) -> None:
    paid = await contribute(service, "02", amount=usd(50_00))
    made = await refund(service, paid, amount=usd(50_00), approved=False)
    assert await unpaid(service) == []
    service.clock.advance(VALIDITY)
    await service.expire_approvals()
    [found] = await unpaid(service)
    assert (found.transaction_id, found.party_id, found.amount) == (made.transaction_id, "inv-001", usd(50_00))
    assert found.investment_id == paid.investment_id
    assert "APPROVAL_EXPIRED" in found.cause
    assert f"POST /investments/{paid.investment_id}/refund/resend" in found.cause


async def test_a_refund_that_a_second_person_rejected_is_owed_all_the_same(service: TransactionsHarness) -> None:
    paid = await contribute(service, "02", amount=usd(50_00))
    await say_no(service, await refund(service, paid, amount=usd(50_00), approved=False))
    [found] = await unpaid(service)
    assert "APPROVAL_REJECTED: A second person said no." in found.cause


async def test_that_a_refund_stands_still_has_it_wait_for_no_second_person_when_it_is_sent_again(
    service: TransactionsHarness,
) -> None:
    """No money is in doubt by it: it is here, and did not leave."""
    paid = await contribute(service, "02", amount=usd(50_00))
    service.clock.advance(timedelta(days=65))
    await service.work()
    first = await refund(service, paid, amount=usd(50_00))
    await service.hook("evt_declined", service.bank.report(first.transaction_id, PaymentStatus.FAILED))
    await service.work()
    [found] = await unpaid(service)
    assert found.transaction_id == first.transaction_id
    assert (await refund(service, paid, amount=usd(50_00))).status == T.PENDING_SETTLEMENT


async def test_a_contribution_that_its_bank_takes_back_says_so_where_its_refund_stands_still(
    service: TransactionsHarness,
) -> None:
    paid = await contribute(service, "02", amount=usd(50_00))
    await say_no(service, await refund(service, paid, amount=usd(50_00), approved=False))
    await send_back(service, paid, "R10")
    [found] = await unpaid(service)
    assert found.cause.startswith(f"The contribution {paid.transaction_id}, 50.00 USD, went back by its bank since")
    assert found.occurrence_count == 1


async def test_a_debit_that_is_presented_again_takes_nothing_from_what_is_to_be_refunded(
    service: TransactionsHarness,
) -> None:
    paid = await contribute(service, "02", amount=usd(50_00))
    await say_no(service, await refund(service, paid, amount=usd(50_00), approved=False))
    before = await unpaid(service)
    payment_id = service.bank.report(paid.transaction_id, PaymentStatus.RETURNED, "R01")
    await service.hook("evt_r01", payment_id)
    await service.work()
    assert (await service.get(paid.transaction_id)).status == T.PENDING_RETRY
    assert await unpaid(service) == before


async def test_a_contribution_that_goes_back_once_its_refund_was_sent_again_does_not_say_that_less_is_owed(
    service: TransactionsHarness,
) -> None:
    """Its party has it twice then, and owes it: what is said of the refund is that it arrived."""
    paid = await contribute(service, "02", amount=usd(50_00))
    await say_no(service, await refund(service, paid, amount=usd(50_00), approved=False))
    again = await refund(service, paid, amount=usd(50_00), approved=True)
    await grant_if_asked(service, again)
    await settle(service, again)
    await send_back(service, paid, "R10")
    [found] = await unpaid(service)
    assert found.cause.startswith(f"50.00 USD has arrived at inv-001 since, by {again.transaction_id}.")


async def test_proceeds_for_which_the_book_has_too_little_are_in_the_list_and_an_offering_has_them_once(
    service: TransactionsHarness,
) -> None:
    await service.confirm(await service.bank_account("sponsor-1"))
    for count in (1, 2):
        made = await service.payout_to(None, "sponsor-1", type=T.ESCROW_WITHDRAWAL)
        await service.work()
        await service.grant(await service.waiting(made.transaction_id))
        await service.work()
        assert (await service.get(made.transaction_id)).status == T.FAILED
        [found] = await unpaid(service)
        assert (found.occurrence_count, found.party_id) == (count, "sponsor-1")
        assert made.transaction_id in found.cause
        assert "/proceeds/resend" in found.cause


@pytest.mark.parametrize("type_name", ["PLATFORM_FEE", "CONSTRUCTION_DRAW"])
async def test_what_staff_ordered_and_the_bank_sent_back_is_in_the_list(
    service: TransactionsHarness, type_name: str
) -> None:
    keep(service, type_name, 50_00)
    made = await order(service, type_name=type_name)
    await service.grant(await service.waiting(made.transaction_id))
    await service.work()
    await send_back(service, made, "R02")
    [found] = await unpaid(service)
    assert found.transaction_id == made.transaction_id
    assert "POST /transactions" in found.cause


async def test_what_persons_decided_not_to_pay_stands_still_for_nobody(service: TransactionsHarness) -> None:
    keep(service, "PLATFORM_FEE", 500_00)
    await say_no(service, await order(service))
    made = await order(service)
    request = transactions_pb2.CancelTransactionRequest(transaction_id=made.transaction_id, etag=made.etag, note="No.")
    assert (await service.ask(ADMIN, "CancelTransaction", request)).status == T.CANCELLED
    assert await unpaid(service) == []


async def test_what_one_person_of_staff_orders_and_nobody_approves_fills_no_list(service: TransactionsHarness) -> None:
    keep(service, "PLATFORM_FEE", 500_00)
    made = [await order(service, amount=usd(minor)) for minor in (1, 2)]
    service.clock.advance(VALIDITY)
    await service.expire_approvals()
    ended = [await service.get(each.transaction_id) for each in made]
    assert [(each.status, each.failure.code) for each in ended] == [(T.CANCELLED, "APPROVAL_EXPIRED")] * 2
    assert await unpaid(service) == []


async def pay_fee(service: TransactionsHarness, **more: Any) -> Any:
    made = await order(service, **more)
    await service.grant(await service.waiting(made.transaction_id))
    await service.work()
    return made


async def fail_fee(service: TransactionsHarness) -> Any:
    keep(service, "PLATFORM_FEE", 500_00)
    made = await pay_fee(service)
    await service.hook("evt_failed", service.bank.report(made.transaction_id, PaymentStatus.FAILED))
    await service.work()
    return made


async def test_what_staff_orders_instead_of_what_came_to_nothing_is_followed(service: TransactionsHarness) -> None:
    first = await fail_fee(service)
    [found] = await unpaid(service)
    assert f"POST /transactions, with replacedTransactionId {first.transaction_id}." in found.cause
    rejected = first
    for _ in range(2):
        rejected = await order(service, replaced_transaction_id=rejected.transaction_id)
        [told] = await unpaid(service)
        assert f"was ordered anew on 2024-12-02, as {rejected.transaction_id}" in told.cause
        await say_no(service, rejected)
        [told] = await unpaid(service)
        assert f"{rejected.transaction_id} CANCELLED, APPROVAL_REJECTED" in told.cause
        assert (told.amount, told.occurrence_count) == (usd(50_00), 1)
        assert f"replacedTransactionId {first.transaction_id}." in told.cause
    again = await pay_fee(service, replaced_transaction_id=first.transaction_id)
    await settle(service, again)
    [told] = await unpaid(service)
    assert told.cause.startswith(f"50.00 USD has arrived at inv-001 since, by {again.transaction_id}.")


async def test_another_order_of_staff_that_does_not_say_what_it_stands_for_is_another_debt(
    service: TransactionsHarness,
) -> None:
    await fail_fee(service)
    found = await unpaid(service)
    await settle(service, await pay_fee(service))
    assert await unpaid(service) == found


async def test_what_one_transaction_pays_says_nothing_of_what_another_owes_since(service: TransactionsHarness) -> None:
    """As of a refund to several cards: an earlier part comes back while a later one is on its way."""
    first = await service.payout(**ALLOCATION)
    await service.work()
    await settle(service, first)
    service.clock.advance(timedelta(minutes=1))
    second = await pay_share(service)
    service.clock.advance(timedelta(minutes=1))
    await send_back(service, first)
    await settle(service, second)
    [found] = await unpaid(service)
    assert f"{first.transaction_id} RETURNED" in found.cause


async def test_who_had_a_part_in_it_or_is_paid_does_not_say_that_it_is_settled(service: TransactionsHarness) -> None:
    assert (await pay_share(service, makers_and_checkers=["admin-2"])).failure.code == "NO_PAYOUT_BANK_ACCOUNT"
    [found] = await unpaid(service)
    for person in (ADMIN, CHECKER):  # who asked for it at distributions, and who approved it there
        with pytest.raises(DomainError) as refused:
            await resolve(service, found, "Never mind.", person)
        assert refused.value.reason == "MAKER_IS_CHECKER"
    service.compliance.parties[OTHER.person] = {"inv-001"}
    with pytest.raises(DomainError) as refused:
        await resolve(service, found, "Never mind.", OTHER)
    assert refused.value.reason == "BENEFICIARY_IS_CHECKER"
    assert len(await unpaid(service)) == 1


async def test_who_had_a_part_in_any_attempt_is_kept_from_resolving_it(service: TransactionsHarness) -> None:
    for person in ("admin-2", "admin-3"):
        await pay_share(service, makers_and_checkers=[person])
    [found] = await unpaid(service)
    for person in (CHECKER, OTHER):
        with pytest.raises(DomainError) as refused:
            await resolve(service, found, "Never mind.", person)
        assert refused.value.reason == "MAKER_IS_CHECKER"


async def test_what_stands_still_is_found_by_its_account_and_its_payee(service: TransactionsHarness) -> None:
    await pay_share(service)
    await service.payout_to(None, "inv-002", distribution_id="dist_1", allocation_id="all_2")
    assert len(await unpaid(service, escrow_account_id=[ESCROW_ACCOUNT])) == 2
    assert await unpaid(service, escrow_account_id=["esc_" + "1" * 26]) == []
    [found] = await unpaid(service, party_id=["inv-002"])
    assert found.allocation_id == "all_2"


async def test_a_retired_account_that_was_to_be_paid_leaves_the_money_in_the_list(service: TransactionsHarness) -> None:
    made = await service.payout(**ALLOCATION)
    request = bank_pb.DeleteBankAccountRequest(bank_account_id=made.bank_account_id)
    await service.ask(ADMIN, "DeleteBankAccount", request)
    await service.work()
    assert (await service.get(made.transaction_id)).status == T.FAILED
    [found] = await unpaid(service)
    assert "BANK_ACCOUNT_NOT_USABLE" in found.cause
