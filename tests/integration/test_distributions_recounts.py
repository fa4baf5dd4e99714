"""What the book says of contributions is counted once, also where escrow's database was restored from a backup."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from realco.distributions.v1 import distributions_pb2 as dpb
from realco.distributions.v1 import events_pb2 as events
from realco.distributions.v1 import offerings_pb2 as opb
from realco.escrow.v1.events_pb2 import JournalEntriesPosted
from realco.escrow.v1.journal_pb2 import JournalEntry as Entry
from structlog.testing import capture_logs

from services.chassis.data.database import Database
from services.chassis.data.seals import NotSealed
from services.chassis.data.tables import approvals
from services.distributions.commands.raises import recounts
from services.distributions.tables import counted_journals, investments
from tests.support.distributions import CLOSING, DistributionsHarness, refusal_of
from tests.support.peers.transactions import Txn, complete_payout


@pytest.fixture
async def service(service_database: Callable[[str], Awaitable[Database]]) -> DistributionsHarness:
    return DistributionsHarness(await service_database("distributions"))


def by_hand(service: DistributionsHarness, held: opb.Investment, account: str, minor: int) -> JournalEntriesPosted:
    on, of = f"subscription:{held.party_id}", {"investment_id": held.investment_id}
    return service.escrow.post(account, Entry.ADJUSTMENT, "cash", on, minor, **of)


async def miss_an_entry(service: DistributionsHarness, offering: opb.Offering, *missed: JournalEntriesPosted) -> None:
    """Its journal waits to be counted anew: something was booked that nothing told of."""
    book = offering.escrow_account_id, Entry.DEPOSIT, "cash", "distributable"
    service.in_order.lose(missed[0] if missed else service.escrow.post(*book, 1))
    await service.deliver(service.escrow.post(*book, 1))


async def funded(service: DistributionsHarness, offering: opb.Offering) -> tuple[int, int]:
    """Of the offering, and of all its investments together."""
    of_each = [each.funded_amount.amount_minor for each in (await service.positions(offering)).values()]
    return (await service.get(offering)).funded_amount.amount_minor, sum(of_each)


async def waits(service: DistributionsHarness) -> list[bool]:
    async with service.database.begin_for_all() as tx:
        rows = await tx.execute(sa.select(counted_journals))
        return [row.waits_since is not None for row in rows]


def recounted(logged: list[Any]) -> list[tuple[int, int]]:
    lines = [line for line in logged if line["event"] == "offering_recounted"]
    assert {line["log_level"] for line in lines} <= {"warning"}
    return [(line["funded_minor_before"], line["funded_minor_after"]) for line in lines]


async def test_an_entry_that_is_told_twice_under_another_event_counts_once(service: DistributionsHarness) -> None:
    offering = await service.offering(200_00)
    held = await service.invest(offering, "inv-001", 200_00, fund=False)
    told = service.arrived(service.contribution(offering, held, 100_00))
    await service.deliver(told, told)
    assert (await funded(service, offering), await waits(service)) == ((100_00, 100_00), [False])


async def test_what_a_restored_escrow_books_once_more_counts_once(service: DistributionsHarness) -> None:
    offering = await service.offering(200_00)
    held = await service.invest(offering, "inv-001", 200_00, fund=False)
    paid = await service.fund(offering, held, 100_00)
    service.escrow.restore(offering.escrow_account_id, 0)
    await service.deliver(service.arrived(paid))
    assert (await funded(service, offering), await waits(service)) == ((100_00, 100_00), [True])
    with capture_logs() as logged:
        await service.work()
    assert (await funded(service, offering), await waits(service)) == ((100_00, 100_00), [False])
    assert recounted(logged) == [(100_00, 100_00)]
    await service.deliver(service.arrived(service.contribution(offering, held, 50_00)))  # what follows is counted on
    assert (await funded(service, offering), await waits(service)) == ((150_00, 150_00), [False])


async def test_what_no_restored_book_has_counts_no_more_though_nothing_is_told_of_the_account(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(200_00)
    held = await service.invest(offering, "inv-001", 100_00)
    await service.deliver(by_hand(service, held, offering.escrow_account_id, 70_00))
    assert await funded(service, offering) == (170_00, 170_00)
    service.escrow.restore(offering.escrow_account_id, 1)
    with capture_logs() as logged:
        await service.work()
    assert (await funded(service, offering), recounted(logged)) == ((100_00, 100_00), [(170_00, 100_00)])
    [*_, changed] = await service.told(events.InvestmentFundingChanged)
    assert changed.investment.funded_amount.amount_minor == 100_00
    [*_, updated] = await service.told(events.OfferingUpdated)
    assert updated.offering.funded_amount.amount_minor == 100_00
    async with service.database.begin_for_all() as tx:  # nobody posted any of it by hand
        assert [row.has_entries_by_hand for row in await tx.execute(sa.select(investments))] == [False]


async def test_what_a_life_that_is_over_told_counts_for_nothing_when_it_is_heard_again(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(200_00)
    held = await service.invest(offering, "inv-001", 100_00)
    of_before = by_hand(service, held, offering.escrow_account_id, 70_00)
    service.in_order.lose(of_before)
    service.escrow.restore(offering.escrow_account_id, 1)
    await service.work()
    with capture_logs() as logged:
        await service.deliver(of_before)
        await service.work()
    assert (await funded(service, offering), recounted(logged)) == ((100_00, 100_00), [])


async def test_an_entry_that_was_missed_is_counted_with_the_journal(service: DistributionsHarness) -> None:
    offering = await service.offering(200_00)
    held = await service.invest(offering, "inv-001", 100_00)
    missed = service.arrived(service.contribution(offering, held, 30_00))
    await miss_an_entry(service, offering, missed)
    assert await funded(service, offering) == (100_00, 100_00)
    await service.work()
    assert (await funded(service, offering), await waits(service)) == ((130_00, 130_00), [False])
    await service.deliver(missed)  # which had been set aside
    assert await funded(service, offering) == (130_00, 130_00)


async def test_an_offering_that_uses_an_account_with_a_journal_counts_it(service: DistributionsHarness) -> None:
    account = service.escrow.open()
    service.in_order.lose(service.escrow.post(account, Entry.DEPOSIT, "cash", "fees", 5))
    offering = await service.offering(200_00, escrow_account_id=account)
    await service.invest(offering, "inv-001", 100_00)
    await service.work()
    assert (await funded(service, offering), await waits(service)) == ((100_00, 100_00), [False])


async def test_a_journal_is_read_page_by_page_and_what_is_told_meanwhile_is_read_as_well(
    service: DistributionsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recounts, "_PAGE_SIZE", 2)
    offering = await service.offering(200_00)
    held = await service.invest(offering, "inv-001", 100_00)
    await service.deliver(*(by_hand(service, held, offering.escrow_account_id, 1_00) for _ in range(4)))
    list_page, listed = service.escrow.ListJournalEntries, []

    async def list_and_book(request: Any, context: Any) -> Any:
        page = await list_page(request, context)
        listed.append(len(page.journal_entries))
        if not page.next_page_token and len(listed) < 6:
            await service.deliver(by_hand(service, held, offering.escrow_account_id, 10_00))
        return page

    monkeypatch.setattr(service.escrow, "ListJournalEntries", list_and_book)
    await miss_an_entry(service, offering)
    await recounts.recount_offering(service.dependencies)
    assert (await funded(service, offering), await waits(service)) == ((124_00, 124_00), [False])
    assert max(listed) == 2


async def test_a_restore_while_the_journal_is_read_has_it_read_from_the_first_entry(
    service: DistributionsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recounts, "_PAGE_SIZE", 2)
    offering = await service.offering(200_00)
    held = await service.invest(offering, "inv-001", 100_00)
    await service.deliver(*(by_hand(service, held, offering.escrow_account_id, 1_00) for _ in range(4)))
    list_page, restored = service.escrow.ListJournalEntries, []

    async def list_and_restore(request: Any, context: Any) -> Any:
        page = await list_page(request, context)
        if not restored:
            restored.append(service.escrow.restore(offering.escrow_account_id, 3))
        return page

    monkeypatch.setattr(service.escrow, "ListJournalEntries", list_and_restore)
    await miss_an_entry(service, offering)
    await recounts.recount_offering(service.dependencies)
    assert (await funded(service, offering), await waits(service)) == ((102_00, 102_00), [False])


async def test_what_cannot_be_read_now_waits_and_is_counted_later(service: DistributionsHarness) -> None:
    offering = await service.offering(200_00)
    await service.invest(offering, "inv-001", 100_00)
    service.escrow.restore(offering.escrow_account_id, 0)
    await miss_an_entry(service, offering)
    with service.wire.cut(service.escrow), capture_logs() as logged:
        await service.work()
    postponed = [line["reason"] for line in logged if line["event"] == "recount_postponed"]
    assert (postponed, await waits(service), await funded(service, offering)) == (
        ["UNAVAILABLE"],
        [True],
        (100_00, 100_00),
    )
    await service.make_due()
    await service.work()
    assert (await funded(service, offering), await waits(service)) == ((0, 0), [False])


async def test_while_its_journal_waits_an_offering_is_neither_closed_nor_refunded(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(100_00)
    held = await service.invest(offering, "inv-001", 100_00)
    service.clock.set(CLOSING)
    await miss_an_entry(service, offering)
    refund = opb.RefundOfferingRequest(offering_id=offering.offering_id, note="n")
    cancel = opb.CancelInvestmentRequest(investment_id=held.investment_id)
    for call in (
        lambda: service.close(offering),
        lambda: service.call(service.offerings.RefundOffering, refund),
        lambda: service.call(service.investments.CancelInvestment, cancel),
    ):
        assert await refusal_of(call()) == "OFFERING_NOT_COUNTED"
    await service.work()
    assert (await service.close(offering)).status == opb.Offering.CLOSING


async def test_a_closing_and_an_execution_that_have_begun_go_on_once_the_journal_is_counted(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(100_00)
    await service.invest(offering, "inv-001", 100_00)
    service.clock.set(CLOSING)
    await service.close(offering)
    await miss_an_entry(service, offering)
    with service.wire.cut(service.escrow):
        await service.work()
    assert service.wire.requests("ReleaseSubscriptions") == []
    assert (await service.get(offering)).status == opb.Offering.CLOSING
    await _go_on(service)
    assert (await service.get(offering)).status == opb.Offering.CLOSED

    service.deposit(offering, 10_00)
    distribution = await service.approved(offering, 10_00)
    await miss_an_entry(service, offering)
    assert await refusal_of(service.execute(distribution)) == "OFFERING_NOT_COUNTED"
    await service.work()
    await service.execute(distribution)
    await miss_an_entry(service, offering)
    with service.wire.cut(service.escrow):
        await service.work()
    assert service.wire.requests("DeclareDistribution") == []
    await _go_on(service)
    assert (await service.get(distribution)).status == dpb.Distribution.PROCESSING


async def _go_on(service: DistributionsHarness) -> None:
    for _ in range(2):  # the count first, and then what waited for it
        await service.make_due()
        await service.work()


async def test_an_investor_withdraws_while_the_journal_waits_and_is_paid_what_is_counted_then(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(200_00)
    held = await service.invest(offering, "inv-001", 100_00)
    await service.deliver(by_hand(service, held, offering.escrow_account_id, 70_00))
    service.escrow.restore(offering.escrow_account_id, 1)
    await service.deliver(service.escrow.post(offering.escrow_account_id, Entry.DEPOSIT, "cash", "fees", 1))
    cancel = opb.CancelInvestmentRequest(investment_id=held.investment_id)
    answer = await service.call(service.investments.CancelInvestment, cancel, "inv-001", "investor")
    assert answer.status == opb.Investment.CANCELLING
    assert not service.transactions.by_key
    await service.work()
    assert [each.amount.amount_minor for each in service.transactions.by_key.values()] == [100_00]


async def test_a_count_of_the_same_journal_changes_nothing(service: DistributionsHarness) -> None:
    """After contributions, a refund that came to nothing, a return, and a decision of two persons."""
    offering = await service.offering(500_00)
    first, second = [await service.invest(offering, each, 100_00) for each in ("inv-001", "inv-002")]
    late = await service.fund(offering, second, 30_00, clear=False)
    await service.withdraw(first)
    [refund] = service.transactions.by_key.values()
    await service.deliver(service.gave_back(refund), service.bounced(refund))
    back = f"subscription:{late.party_id}", "cash", 30_00
    about = {"transaction_id": late.transaction_id, "investment_id": late.investment_id}
    await service.deliver(service.escrow.post(offering.escrow_account_id, Entry.RETURN, *back, **about))
    cancel = opb.CancelInvestmentRequest(investment_id=second.investment_id)
    await service.grant(await service.ask(service.investments.CancelInvestment, cancel))
    before = await _read_sums(service)
    await miss_an_entry(service, offering)
    with capture_logs() as logged:
        await service.work()
    assert len(recounted(logged)) == 1
    assert await _read_sums(service) == before
    assert {row["refund_approved_minor"] for row in before} == {0, 100_00}


@pytest.mark.parametrize("is_restored", [False, True])
async def test_a_decision_covers_nothing_that_comes_after_what_two_persons_saw_has_gone(
    service: DistributionsHarness, is_restored: bool
) -> None:
    """Though it went while the journal waited; and nothing at all once the book that they saw is no more."""
    offering = await service.offering(500_00)
    held = await service.invest(offering, "inv-001", 100_00, fund=False)
    paid = await service.fund(offering, held, 100_00, clear=False)
    cancel = opb.CancelInvestmentRequest(investment_id=held.investment_id)
    await service.grant(await service.ask(service.investments.CancelInvestment, cancel))
    assert [row["refund_approved_minor"] for row in await _read_sums(service)] == [100_00]
    if is_restored:
        service.escrow.restore(offering.escrow_account_id, 1)
    else:
        await miss_an_entry(service, offering)
        about = {"transaction_id": paid.transaction_id, "investment_id": held.investment_id}
        back = f"subscription:{held.party_id}", "cash", 100_00
        await service.deliver(service.escrow.post(offering.escrow_account_id, Entry.RETURN, *back, **about))
    await service.work()
    assert [row["refund_approved_minor"] for row in await _read_sums(service)] == [0]


async def _read_sums(service: DistributionsHarness) -> list[dict[str, Any]]:
    async with service.database.begin_for_all() as tx:
        rows = await tx.execute(sa.select(investments).order_by(investments.c.investment_id))
        return [{name: value for name, value in row._mapping.items() if name.endswith("_minor")} for row in rows]


async def test_a_report_that_comes_while_the_journal_waits_is_kept(service: DistributionsHarness) -> None:
    offering = await service.offering(200_00)
    held = await service.invest(offering, "inv-001", 100_00, fund=False)
    paid: Txn = await service.fund(offering, held, 100_00, clear=False)
    await miss_an_entry(service, offering)
    await service.deliver(complete_payout(paid))
    await service.work()
    position = (await service.positions(offering))["inv-001"]
    assert (position.funded_amount.amount_minor, position.cleared_amount.amount_minor) == (100_00, 100_00)


async def test_an_account_that_a_restored_escrow_has_not_keeps_no_other_from_being_counted_anew(
    service: DistributionsHarness,
) -> None:
    lost, offering = [await service.offering(200_00) for _ in range(2)]
    held = await service.invest(offering, "inv-001", 100_00)
    await service.deliver(by_hand(service, held, offering.escrow_account_id, 70_00))
    await service.invest(lost, "inv-001", 100_00)
    service.escrow.restore(offering.escrow_account_id, 1)
    del service.escrow.accounts[lost.escrow_account_id]
    with capture_logs() as logged:
        await service.work()
    assert await funded(service, offering) == (100_00, 100_00)
    assert [line["reason"] for line in logged if line["event"] == "recount_postponed"] == ["ESCROW_ACCOUNT_NOT_FOUND"]
    assert sorted(await waits(service)) == [False, True]


async def test_a_closing_that_is_approved_while_the_journal_waits_is_done_once_it_is_counted(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(100_00)
    await service.invest(offering, "inv-001", 100_00)
    service.clock.set(CLOSING)
    request = opb.CloseOfferingRequest(offering_id=offering.offering_id)
    asked = await service.ask(service.offerings.CloseOffering, request)
    await miss_an_entry(service, offering)
    assert await refusal_of(service.grant(asked)) == "OFFERING_NOT_COUNTED"
    assert (await service.get(offering)).status == opb.Offering.OPEN
    await service.work()
    async with service.database.begin_for_all() as tx:
        await tx.execute(sa.update(approvals).values(due_at=sa.func.clock_timestamp()))
    await service.work()
    assert (await service.get(offering)).status == opb.Offering.CLOSED


async def test_how_far_a_journal_is_counted_is_what_the_service_wrote_last(service: DistributionsHarness) -> None:
    offering = await service.offering(200_00)
    held = await service.invest(offering, "inv-001", 100_00)
    async with service.database.begin_for_all() as tx:
        [before] = await tx.execute(sa.select(counted_journals))
    told = by_hand(service, held, offering.escrow_account_id, 1_00)
    await service.deliver(told)
    back = {name: getattr(before, name) for name in ("journal_sequence", "version", "seal")}
    with pytest.raises(asyncpg.PostgresError):
        async with service.database.begin_for_all() as tx:
            await tx.execute(sa.update(counted_journals).values(**back))
    async with service.database.begin_for_all() as tx:
        version = counted_journals.c.version + 1
        await tx.execute(sa.update(counted_journals).values(journal_sequence=0, version=version))
    with pytest.raises(NotSealed):
        await service.deliver(told)
    assert await funded(service, offering) == (101_00, 101_00)
