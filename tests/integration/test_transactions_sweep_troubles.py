"""What Stripe pays elsewhere, or not at all, or so that nobody can explain it, is told once, and not followed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa
from realco.transactions.v1 import exceptions_pb2, payouts_pb2
from realco.transactions.v1 import sweeps_pb2 as pb
from structlog.testing import capture_logs

from services.chassis.calls.auth import acting_as
from services.chassis.values.ids import new_id
from services.transactions.jobs.read_sweeps import read_sweeps
from tests.integration.stripe_desk import (
    alter,
    pay_by_card,
    post,
)
from tests.integration.sweep_desk import (
    OPERATOR,
    arrive,
    find_part,
    find_told,
    list_lines,
    list_sweeps,
    pay_out,
    read_paid_out,
)
from tests.support.exceptions import list_exceptions
from tests.support.transactions import ADMIN, ESCROW_ACCOUNT, TransactionsHarness

pytest_plugins = ("tests.integration.stripe_desk", "tests.integration.sweep_desk")

E = exceptions_pb2.PaymentException


@pytest.fixture
def service(sweep_service: TransactionsHarness) -> TransactionsHarness:
    return sweep_service


async def test_whoever_decides_that_money_leaves_reads_of_a_sweep_that_did_not_arrive(service, url, books) -> None:
    await pay_by_card(service, url)
    payout, _ = await read_paid_out(service, url, books)
    asked = payouts_pb2.GetReceivedMoneyRequest(escrow_account_id=ESCROW_ACCOUNT)
    with acting_as(ADMIN):
        before = (await service.payouts.GetReceivedMoney(asked, None)).explanations
        await post(url, f"payouts/{payout['id']}/fail")
        await service.run(read_sweeps)
        after = (await service.payouts.GetReceivedMoney(asked, None)).explanations
    assert "EXCEPTIONS_OPEN" not in {each.rule for each in before}
    [told] = [each for each in after if each.rule == "EXCEPTIONS_OPEN"]
    assert [(each.name, each.value) for each in told.operands] == [("stripe", "SWEEP_FAILED")]


async def test_what_a_payout_costs_is_a_line_of_it_that_is_nobodys(service, url, books) -> None:
    service.dependencies = replace(service.dependencies, operator_org_id=OPERATOR.org_id)
    await pay_by_card(service, url)
    await post(url, "balance_transactions", type="topup", amount="25")
    payout = await pay_out(url)
    alter(books, payout["id"], amount=payout["amount"] - 25)
    alter(books, payout["balance_transaction"], amount=-payout["amount"] + 25, fee=25)
    await arrive(books, payout)
    await service.run(read_sweeps)
    assert (await find_part(service, payout)).is_explained
    lines = await list_lines(service, OPERATOR, sweep_id=[(await find_part(service, payout, OPERATOR)).sweep_id])
    assert sorted((line.kind, line.net.amount_minor) for line in lines) == [
        (pb.SweepLine.FEE, -25),
        (pb.SweepLine.OTHER, 25),
    ]


async def test_what_goes_to_another_bank_account_is_told_once(service, url, books) -> None:
    await pay_by_card(service, url)
    await read_paid_out(service, url, books)
    await pay_by_card(service, url)
    other, _ = await read_paid_out(service, url, books, destination=f"ba_{new_id('x')}")
    await service.run(read_sweeps)
    [told] = await list_exceptions(service, kind=["SWEEP_REDIRECTED"])
    assert (told.provider_payment_id, told.occurrence_count) == (other["id"], 1)


async def test_a_payout_that_a_person_ordered_there_is_one_that_nobody_can_explain(service, url, books) -> None:
    service.dependencies = replace(service.dependencies, operator_org_id=OPERATOR.org_id)
    manual = await post(url, "payouts", amount="500", currency="usd")
    await arrive(books, manual)
    await service.run(read_sweeps)
    told = await find_told(service, manual, "SWEEP_NOT_EXPLAINED", OPERATOR)
    assert ("does not say of which movements" in told.cause, told.HasField("amount")) == (True, False)
    assert await list_sweeps(service) == []


async def test_lines_that_do_not_add_up_call_a_person_until_they_do(service, url, books) -> None:
    service.dependencies = replace(service.dependencies, operator_org_id=OPERATOR.org_id)
    paid = await pay_by_card(service, url)
    hidden = await post(url, "balance_transactions", type="topup", amount="333")
    payout = await pay_out(url)
    alter(books, hidden["id"], _payout="elsewhere")
    await arrive(books, payout)
    await service.run(read_sweeps)
    part = await find_part(service, payout)
    assert (part.is_explained, part.amount.amount_minor) == (False, payout["amount"] - 333)
    for by in (ADMIN, OPERATOR):
        assert "3.33" in (await find_told(service, payout, "SWEEP_NOT_EXPLAINED", by)).cause
    await service.run(read_sweeps)
    assert (await find_told(service, payout, "SWEEP_NOT_EXPLAINED")).occurrence_count == 1
    alter(books, hidden["id"], _payout=payout["id"])
    await service.run(read_sweeps)
    assert (await find_part(service, payout)).is_explained
    told = await find_told(service, payout, "SWEEP_NOT_EXPLAINED")
    assert (told.status, "add up by now" in told.cause) == (E.OPEN, True)
    assert [line.transaction_id for line in await list_lines(service)] == [paid.transaction_id]


@pytest.mark.parametrize("changes", [{"status": "paid"}, {"amount": 1}, {"destination": "ba_of_somebody"}])
async def test_what_stripe_says_otherwise_than_before_is_told_and_not_followed(service, url, books, changes) -> None:
    await pay_by_card(service, url)
    payout, _ = await read_paid_out(service, url, books)
    await post(url, f"payouts/{payout['id']}/fail")
    await service.run(read_sweeps)
    before = await find_part(service, payout)
    alter(books, payout["id"], **changes)
    await service.run(read_sweeps)
    assert await find_part(service, payout) == before
    assert [each.provider_payment_id for each in await list_exceptions(service, kind=["SWEEP_NOT_EXPLAINED"])] == [
        payout["id"]
    ]


async def test_a_movement_that_is_in_two_sweeps_counts_in_the_first_and_is_told(service, url, books) -> None:
    await pay_by_card(service, url)
    _, part = await read_paid_out(service, url, books)
    [line] = await list_lines(service, sweep_id=[part.sweep_id])
    await pay_by_card(service, url)
    second = await pay_out(url)
    alter(books, line.provider_movement_id, _payout=second["id"])
    await arrive(books, second)
    await service.run(read_sweeps)
    assert [each.is_explained for each in await list_sweeps(service)] == [False, True]
    told = await list_exceptions(service, kind=["SWEEP_NOT_EXPLAINED"])
    assert second["id"] in {each.provider_payment_id for each in told}
    assert (
        len([each for each in await list_lines(service) if each.provider_movement_id == line.provider_movement_id]) == 1
    )


async def test_a_contradiction_stays_one_when_the_sweep_goes_on(service, url, books) -> None:
    await pay_by_card(service, url)
    _, part = await read_paid_out(service, url, books)
    [line] = await list_lines(service, sweep_id=[part.sweep_id])
    await pay_by_card(service, url)
    second = await pay_out(url)
    alter(books, line.provider_movement_id, _payout=second["id"])
    alter(books, second["id"], amount=second["amount"] + line.net.amount_minor)
    alter(books, second["balance_transaction"], amount=-second["amount"] - line.net.amount_minor)
    await arrive(books, second)
    await service.run(read_sweeps)
    assert [each.is_explained for each in await list_sweeps(service)] == [False, True]
    await post(url, f"payouts/{second['id']}/fail")
    await service.run(read_sweeps)
    assert [(each.status, each.is_explained) for each in await list_sweeps(service)] == [
        (pb.Sweep.FAILED, False),
        (pb.Sweep.SETTLED, True),
    ]


async def test_a_payout_that_failed_before_stripe_said_what_is_in_it_is_told_to_whose_it_is_then(
    service, url, books
) -> None:
    service.dependencies = replace(service.dependencies, operator_org_id=OPERATOR.org_id)
    await pay_by_card(service, url)
    payout = await pay_out(url)
    await arrive(books, payout)
    alter(books, payout["id"], reconciliation_status="in_progress", status="failed", failure_code="account_closed")
    await service.run(read_sweeps)
    assert (await find_told(service, payout, "SWEEP_FAILED", OPERATOR)).status == E.OPEN
    assert await list_sweeps(service) == []
    alter(books, payout["id"], reconciliation_status="completed")
    for _ in range(2):
        await service.run(read_sweeps)
        part = await find_part(service, payout)
        told = await find_told(service, payout, "SWEEP_FAILED")
        assert (part.status, part.is_explained, told.amount) == (pb.Sweep.FAILED, True, part.amount)
        assert told.occurrence_count == 1


async def test_a_row_that_somebody_altered_holds_up_its_sweep_and_no_other(service, url, books) -> None:
    paid = await pay_by_card(service, url)
    async with service.database.begin_for_all() as tx:
        await tx.execute(
            sa.text("UPDATE provider_payments SET sent_at = sent_at + interval '1 s' WHERE transaction_id = :id"),
            {"id": paid.transaction_id},
        )
    held = await pay_out(url)
    await pay_by_card(service, url)
    with capture_logs() as logs:
        payout, part = await read_paid_out(service, url, books)
    assert held["id"] in {each["sweep_id"] for each in logs if each["event"] == "sweep_not_read"}
    assert [each.sweep_id for each in await list_sweeps(service)] == [part.sweep_id]
    assert payout["id"] == part.provider_sweep_id


async def test_a_payout_of_a_time_to_come_keeps_no_other_from_being_read(service, url, books) -> None:
    odd = await post(url, "payouts", amount="500", currency="usd")
    alter(books, odd["id"], created=2**33)
    await service.run(read_sweeps)
    await pay_by_card(service, url)
    _, part = await read_paid_out(service, url, books)
    assert part.is_explained


async def test_whoever_writes_that_a_sweep_is_explained_has_a_person_called_once_more(service, url, books) -> None:
    await pay_by_card(service, url)
    hidden = await post(url, "balance_transactions", type="topup", amount="333")
    payout = await pay_out(url)
    alter(books, hidden["id"], _payout="elsewhere")
    await arrive(books, payout)
    await service.run(read_sweeps)
    async with service.database.begin_for_all() as tx:
        written = (
            "UPDATE provider_sweeps SET explanation = 'EXPLAINED', version = version + 1 WHERE provider_sweep_id = :id"
        )
        await tx.execute(sa.text(written), {"id": payout["id"]})
    await service.run(read_sweeps)
    assert (await find_told(service, payout, "SWEEP_NOT_EXPLAINED")).occurrence_count == 2
    await service.run(read_sweeps)
    assert (await find_told(service, payout, "SWEEP_NOT_EXPLAINED")).occurrence_count == 2, "it is ours again"
