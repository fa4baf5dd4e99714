"""That escrow was restored is noticed whatever a login of the database wrote before the journals that are counted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from realco.distributions.v1 import offerings_pb2 as opb
from realco.escrow.v1.journal_pb2 import JournalEntry as Entry
from structlog.testing import capture_logs

from services.chassis.data.database import Database
from services.distributions.commands.raises.recounts import follow_incarnation
from services.distributions.store import counted_journals as store
from tests.support.distributions import DistributionsHarness

INSERT = """
INSERT INTO counted_journals (org_id, escrow_account_id, incarnation, journal_sequence, legs_counted,
    told_incarnation, told_sequence, past_incarnations, waits_since, due_at, version, seal)
"""


@pytest.fixture
async def service(service_database: Callable[[str], Awaitable[Database]]) -> DistributionsHarness:
    return DistributionsHarness(await service_database("distributions"))


async def restore_escrow(service: DistributionsHarness) -> opb.Offering:
    """An offering whose book has 100.00 of 170.00 by now, and of which nothing is told."""
    offering = await service.offering(200_00)
    held = await service.invest(offering, "inv-001", 100_00)
    of = {"investment_id": held.investment_id}
    account = offering.escrow_account_id
    await service.deliver(service.escrow.post(account, Entry.ADJUSTMENT, "cash", "subscription:inv-001", 70_00, **of))
    service.escrow.restore(account, 1)
    return offering


async def test_a_row_that_cannot_be_read_hides_no_restore_and_is_told(service: DistributionsHarness) -> None:
    await restore_escrow(service)
    async with service.database.begin_for_all() as tx:
        row = "VALUES ('x', '0-unreadable', 'x', 0, 0, '', 0, '[]', '290000-01-01', now(), 1, 'x')"
        await tx.driver.execute(INSERT + row)
    with capture_logs() as logged:
        assert await follow_incarnation(service.dependencies) == 1
    assert [line["row"] for line in logged if line["event"] == "row_not_sealed"] == ["x 0-unreadable"]


@pytest.mark.parametrize("count", [20, 45], ids=["as many as are asked about", "pages more"])
async def test_rows_that_somebody_made_up_hide_no_restore(
    service: DistributionsHarness, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(store, "_PAGE_ROWS", 10)
    offering = await restore_escrow(service)
    async with service.database.begin_for_all() as tx:
        rows = f"SELECT 'x', '0' || n, 'x', 0, 0, '', 0, '[]', NULL, NULL, 1, 'x' FROM generate_series(1, {count}) n"
        await tx.driver.execute(INSERT + rows)
    assert await follow_incarnation(service.dependencies) == 1
    await service.work()
    assert (await service.get(offering)).funded_amount.amount_minor == 100_00
