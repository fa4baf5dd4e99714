"""Whose a provider's payment is: found whoever writes rows about it."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from services.transactions.domain.payments import PaymentStatus
from services.transactions.store.provider_payments import find_owner
from tests.support.transactions import ORG, TransactionsHarness


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


async def test_whose_a_webhook_is_is_found_however_many_rows_sql_made_up_about_its_payment(
    service: TransactionsHarness,
) -> None:
    made = await service.deposit()
    await service.work()
    payment_id = service.bank.report(made.transaction_id, PaymentStatus.SETTLED)
    async with service.database.begin_for_all() as tx:
        forged = sa.text(
            "INSERT INTO provider_payments SELECT (p).* FROM (SELECT jsonb_populate_record(p, jsonb_build_object("
            "'attempt', -n, 'provider_key', n::text, 'provider_reference', NULL)) AS p"
            " FROM provider_payments p, generate_series(1, 2500) n) forged"
        )
        await tx.execute(forged)
    database, bank = service.database, made.provider or "sandbox"
    owner = (ORG, made.transaction_id)
    for known_by in (payment_id, "pay_unknown"):
        assert await find_owner(database, bank, known_by, made.transaction_id) == owner
    assert await find_owner(database, bank, "pay_unknown", "txn_unknown") is None
