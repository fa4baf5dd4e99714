"""Rows that a login of the database wrote about a payout that is taken back."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from services.chassis.data.seals import NotSealed
from services.transactions.tables import transactions
from services.transactions.tables.ach import ach_entries
from tests.integration.test_transactions_reversals import COUNTS, ORDERED, SETTLED, be, fetch, pay, reverse, told
from tests.support.transactions import ADMIN, TransactionsHarness

pytest_plugins = ("tests.integration.ach_desk",)


@pytest.fixture
def service(ach_service: TransactionsHarness) -> TransactionsHarness:
    return ach_service


async def test_a_reversal_that_sql_wrote_draws_nothing_and_nothing_comes_back_by_it(service, folders) -> None:
    payout, _ = await pay(service, folders)
    async with service.database.begin(ADMIN.org_id) as tx:
        [row] = await tx.execute(sa.select(ach_entries).where(ach_entries.c.org_id == ADMIN.org_id))
        made_up = dict(row._mapping) | {"ach_entry_id": "ach_0", "provider_key": "x", "kind": "REVERSAL"}
        made_up |= {"reversed_entry_id": row.ach_entry_id, "is_inbound": True, "status": "WAITING"}
        made_up |= dict.fromkeys(("ach_file_id", "trace_no", "effective_on"))
        await tx.execute(sa.insert(ach_entries).values(made_up))
    await reverse(service, payout)
    assert await fetch(service, folders, ORDERED.replace(hour=20)) == []
    [cause] = await told(service)
    assert cause.startswith("Its debit is not ordered: a row that this service did not write has the place of its")
    async with service.database.begin(ADMIN.org_id) as tx:
        of_ours = transactions.c.transaction_id == payout.transaction_id
        said = {"reversal_status": "SETTLED", "reversal_reason": "DUPLICATE", "reversal_ordered_at": SETTLED}
        said |= {"reversal_settled_at": SETTLED, "reversal_risk_end_at": SETTLED}
        await tx.execute(sa.update(transactions).where(of_ours).values(said | {"version": transactions.c.version + 1}))
    await be(service, COUNTS)
    with pytest.raises(NotSealed):
        await service.get(payout.transaction_id)
    assert "TransactionReturned" not in await service.events(payout.transaction_id)


async def test_a_payout_that_sql_altered_keeps_no_other_payment_from_leaving_while_it_is_reversed(
    service, folders
) -> None:
    payout, _ = await pay(service, folders)
    await reverse(service, payout)
    await service.deposit()
    await service.work()
    async with service.database.begin_for_all() as tx:
        await tx.execute(
            sa.text("UPDATE ach_entries SET change_code = 'C05', version = version + 1 WHERE status = 'SENT'")
        )
    assert [each.code for each in await fetch(service, folders, ORDERED.replace(hour=20))] == ["27"]
    assert (await service.get(payout.transaction_id)).reversal.failure.code == "ROW_NOT_SEALED"
    assert len(await told(service)) == 1
