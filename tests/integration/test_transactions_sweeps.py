"""What Stripe pays to the custodian, over its stand-in: which contributions are in it, to the cent, and whose."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from realco.transactions.v1 import exceptions_pb2
from realco.transactions.v1 import sweeps_pb2 as pb
from structlog.testing import capture_logs

from sandbox.stripe.fees import DISPUTE_FEE, FAILED_DEBIT_FEE, compute_card_fee, compute_debit_fee
from services.chassis.calls.access import rule_of
from services.chassis.data.seals import NotSealed
from services.chassis.values.ids import new_id
from services.transactions.domain.refusals import SweepNotFound
from services.transactions.jobs.read_sweeps import read_sweeps
from services.transactions.store import sweeps as store
from tests.integration.stripe_desk import (
    ROUTING_NUMBER,
    confirm,
    have_disputed,
    pay_by_card,
    post,
)
from tests.integration.sweep_desk import (
    OPERATOR,
    OTHER,
    arrive,
    find_part,
    list_lines,
    list_sweeps,
    pay_for_another_organization,
    pay_out,
    read_paid_out,
    sum_minor,
)
from tests.integration.test_transactions_card_refunds import contribute, give_back
from tests.integration.test_transactions_provider_fees import costs
from tests.support.exceptions import list_exceptions
from tests.support.transactions import ADMIN, ORG, TransactionsHarness, usd

pytest_plugins = ("tests.integration.stripe_desk", "tests.integration.sweep_desk")

E = exceptions_pb2.PaymentException


@pytest.fixture
def service(sweep_service: TransactionsHarness) -> TransactionsHarness:
    return sweep_service


async def test_a_month_of_contributions_adds_up_to_the_cent_with_what_the_book_has(service, url, books) -> None:
    debit = await service.deposit()
    await service.work()
    debit = await service.get(debit.transaction_id)
    confirm(url, debit.provider_reference)
    account = await service.bank_account("inv-001", routing_number=ROUTING_NUMBER, account_number="000222222227")
    failing = await service.deposit(bank_account_id=account.bank_account_id)
    await service.work()
    confirm(url, (await service.get(failing.transaction_id)).provider_reference)
    refunded = await contribute(service, url)
    refund = await give_back(service, refunded, 40_00)
    disputed = await pay_by_card(service, url)
    await have_disputed(url, books, disputed.provider_reference)
    fees = {
        debit.transaction_id: compute_debit_fee(100_00),
        failing.transaction_id: FAILED_DEBIT_FEE,
        refunded.transaction_id: compute_card_fee(100_00),
        disputed.transaction_id: compute_card_fee(100_00) + DISPUTE_FEE,
    }
    for transaction_id, fee in fees.items():
        await costs(service, transaction_id, fee)
    payout, part = await read_paid_out(service, url, books)
    assert (part.status, part.amount, part.is_explained) == (pb.Sweep.SETTLED, usd(payout["amount"]), True)
    lines = await list_lines(service, sweep_id=[part.sweep_id])
    assert sum_minor(lines) == payout["amount"] == sum_minor(lines, "gross") - sum_minor(lines, "fee")
    told = {transaction_id: (await service.get(transaction_id)).provider_fee.amount_minor for transaction_id in fees}
    by_transaction = {each: sum_minor([line for line in lines if line.transaction_id == each], "fee") for each in fees}
    assert by_transaction == fees == told
    found = sorted((line.transaction_id, line.kind, line.gross.amount_minor) for line in lines)
    assert found == sorted([
        (debit.transaction_id, pb.SweepLine.PAYMENT, 100_00),
        (failing.transaction_id, pb.SweepLine.RETURN, 0),
        (refunded.transaction_id, pb.SweepLine.PAYMENT, 100_00),
        (refund.transaction_id, pb.SweepLine.REFUND, -40_00),
        (disputed.transaction_id, pb.SweepLine.PAYMENT, 100_00),
        (disputed.transaction_id, pb.SweepLine.DISPUTE, -100_00),
    ])  # fmt: skip
    assert {line.escrow_account_id for line in lines} == {debit.escrow_account_id}
    assert [line.sweep_id for line in await list_lines(service, transaction_id=[refund.transaction_id])] == [
        part.sweep_id
    ]


async def test_organizations_that_share_an_account_see_their_own_part_and_nobody_the_whole(service, url, books) -> None:
    service.dependencies = replace(service.dependencies, operator_org_id=OPERATOR.org_id)
    mine = await pay_by_card(service, url)
    theirs = await pay_for_another_organization(service, url)
    await post(url, "balance_transactions", type="stripe_fee", amount="-700")
    payout, part = await read_paid_out(service, url, books)
    net = 100_00 - compute_card_fee(100_00)
    assert payout["amount"] == 2 * net - 700
    parts = {by.org_id: await find_part(service, payout, by) for by in (ADMIN, OTHER, OPERATOR)}
    assert [each.amount.amount_minor for each in parts.values()] == [net, net, -700]
    assert all(each.is_explained for each in parts.values())
    assert len({each.sweep_id for each in parts.values()}) == 3
    about = {
        by.org_id: [line.transaction_id for line in await list_lines(service, by, provider=["stripe"])]
        for by in (ADMIN, OTHER)
    }
    assert about == {ADMIN.org_id: [mine.transaction_id], OTHER.org_id: [theirs]}
    [fee] = [line for line in await list_lines(service, OPERATOR) if line.kind == pb.SweepLine.FEE]
    assert (fee.net, fee.HasField("transaction_id")) == (usd(-700), False)
    with pytest.raises(SweepNotFound):
        await service.ask(OTHER, "GetSweep", pb.GetSweepRequest(sweep_id=part.sweep_id))
    assert await service.ask(ADMIN, "GetSweep", pb.GetSweepRequest(sweep_id=part.sweep_id)) == part


async def test_a_sweep_in_which_an_organization_has_nothing_does_not_exist_for_it(service, url, books) -> None:
    await pay_by_card(service, url)
    payout, _ = await read_paid_out(service, url, books)
    assert [each for each in await list_sweeps(service, OTHER) if each.provider_sweep_id == payout["id"]] == []


async def test_what_is_nobodys_is_in_the_log_alone_where_no_organization_operates_the_instance(
    service, url, books
) -> None:
    await pay_by_card(service, url)
    await post(url, "balance_transactions", type="stripe_fee", amount="-700")
    with capture_logs() as logs:
        payout, part = await read_paid_out(service, url, books)
    [told] = [each for each in logs if each["event"] == "sweep_lines_of_nobody" and each["sweep_id"] == payout["id"]]
    assert (told["count"], told["net_minor"]) == (1, -700)
    assert (part.is_explained, part.amount.amount_minor) == (True, payout["amount"] + 700)


async def test_a_sweep_that_fails_after_it_was_paid_is_told_and_its_money_is_in_the_next_one(
    service, url, books
) -> None:
    await pay_by_card(service, url)
    await pay_for_another_organization(service, url)
    payout, part = await read_paid_out(service, url, books)
    await post(url, f"payouts/{payout['id']}/fail")
    await service.run(read_sweeps)
    failed = await find_part(service, payout)
    assert (failed.status, failed.failure_code, failed.amount) == (pb.Sweep.FAILED, "account_closed", part.amount)
    for by in (ADMIN, OTHER):
        [told] = await list_exceptions(service, by, kind=["SWEEP_FAILED"])
        assert (told.provider_payment_id, told.amount) == (payout["id"], part.amount), "its own part"
        assert (told.severity, told.status, told.occurrence_count) == (E.HIGH, E.OPEN, 1)
    second = await pay_by_card(service, url)
    again, both = await read_paid_out(service, url, books)
    lines = await list_lines(service, sweep_id=[both.sweep_id])
    assert {(line.kind, line.transaction_id, line.net.amount_minor) for line in lines} == {
        (pb.SweepLine.FAILED_SWEEP, "", part.amount.amount_minor),
        (pb.SweepLine.PAYMENT, second.transaction_id, part.amount.amount_minor),
    }
    assert (both.is_explained, sum_minor(lines)) == (True, both.amount.amount_minor)
    [back] = await list_lines(service, OTHER, sweep_id=[(await find_part(service, again, OTHER)).sweep_id])
    assert (back.kind, back.net) == (pb.SweepLine.FAILED_SWEEP, part.amount)
    await service.run(read_sweeps)
    assert [each.occurrence_count for each in await list_exceptions(service, kind=["SWEEP_FAILED"])] == [1]


async def test_what_was_read_is_read_again_without_a_trace_also_after_a_crash_between(
    service, url, books, monkeypatch
) -> None:
    await pay_by_card(service, url)
    payout = await pay_out(url)
    await arrive(books, payout)
    save_known, dying = store.save_known, True

    async def die(*given: Any) -> None:
        if dying:
            raise ConnectionError("it was killed")
        await save_known(*given)

    monkeypatch.setattr(store, "save_known", die)
    await service.run(read_sweeps)
    part, lines = await find_part(service, payout), await list_lines(service)
    dying = False
    for _ in range(2):
        await service.run(read_sweeps)
        assert (await find_part(service, payout), await list_lines(service)) == (part, lines)


async def test_a_line_that_somebody_made_up_in_the_database_is_not_listed(service, url, books) -> None:
    await pay_by_card(service, url)
    _, part = await read_paid_out(service, url, books)
    before = await list_lines(service)
    never = await pay_by_card(service, url)
    values = {
        "line": new_id("swl"),
        "sweep": part.sweep_id,
        "made_up": new_id("swp"),
        "transaction": never.transaction_id,
        "account": never.escrow_account_id,
    }
    line = (
        "INSERT INTO sweep_lines (org_id, sweep_line_id, sweep_id, provider, provider_movement_id, kind,"
        " transaction_id, escrow_account_id, gross_minor, fee_minor, net_minor, currency, created_at) SELECT org_id,"
        " :line, :sweep, provider, 'txn_next', kind, :transaction, :account, 100, 0, 100, currency, now()"
        " FROM sweep_lines LIMIT 1"
    )
    whole = (
        "INSERT INTO sweeps SELECT (jsonb_populate_record(s, jsonb_build_object('sweep_id', CAST(:made_up AS text),"
        " 'provider_sweep_id', 'po_made_up'))).* FROM sweeps s WHERE sweep_id = :sweep"
    )
    async with service.database.begin(ORG) as tx:
        await tx.execute(sa.text(line), values)
        await tx.execute(sa.text(whole), values)
    with capture_logs() as logs:
        assert await list_lines(service) == before
        assert await list_sweeps(service) == [part]
        assert await list_sweeps(service, transaction_id=[never.transaction_id]) == []
    assert {each["place"] for each in logs if each["event"] == "row_not_sealed"} == {"sweep_lines", "sweeps"}
    with pytest.raises(NotSealed):
        await service.ask(ADMIN, "GetSweep", pb.GetSweepRequest(sweep_id=values["made_up"]))


@pytest.mark.parametrize("rpc", ["GetSweep", "ListSweeps", "ListSweepLines"])
def test_admins_and_auditors_read_sweeps_and_nobody_else(rpc) -> None:
    rule = rule_of(f"realco.transactions.v1.SweepsService/{rpc}")
    assert {*rule.roles} == {"admin", "auditor"}
