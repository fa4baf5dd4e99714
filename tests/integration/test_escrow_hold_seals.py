"""Who has only escrow's login places holds with the function of the book, and decides nothing by them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import asyncpg
import pytest
import sqlalchemy as sa
from realco.escrow.v1 import holds_pb2

from services.chassis.data.audit import audit_seals
from services.chassis.data.seals import NotSealed
from services.chassis.values.ids import derived_id
from services.escrow import tables
from tests.support.chassis import as_superuser
from tests.support.escrow import Escrow, key
from tests.support.escrow_payments import Payment
from tests.support.forged_entries import HELD, opened, pay
from tests.support.ledger_accounts import ledger_account


@pytest.fixture
async def escrow(service_urls) -> AsyncIterator[Escrow]:
    escrow = Escrow(await service_urls("escrow"))
    yield escrow
    await escrow.close()


async def forge_hold(
    escrow: Escrow, account: str, amount_minor: int, hold_id: str = "hold_x", seal: str = "CAST(NULL AS bytea)"
) -> None:
    """A hold in a colleague's name, which is over since long."""
    place = (
        "SELECT verdict FROM place_hold(now(), :org, :account, :hold, 'SUBSCRIPTION', 'inv-001', :amount, 'USD',"
        " 'DISPUTE', 'a court order', NULL, now() - interval '99 days', 'admin-2', NULL, '{}', sha256('x'),"
        f" (SELECT {seal} FROM (SELECT 1) one LEFT JOIN holds ON true))"
    )
    async with escrow.database.begin(escrow.org_id) as tx:
        names = {"org": escrow.org_id, "account": account, "hold": hold_id, "amount": amount_minor}
        assert await tx.scalar(sa.text(place), names) == "done"


async def remove_hold(escrow: Escrow, account: str, hold_id: str = "hold_x") -> None:
    """As an operator does."""
    async with as_superuser(escrow.urls) as admin:
        await admin.execute("SET session_replication_role = replica")
        await admin.execute("SELECT remove_hold($1, $2, $3)", escrow.org_id, account, hold_id)


@pytest.mark.parametrize("seal", ["CAST(NULL AS bytea)", "seal"], ids=["without a seal", "with the seal of another"])
async def test_a_hold_that_sql_placed_decides_nothing_and_is_told_until_an_operator_removes_it(escrow, seal):
    account = await opened(escrow)
    ours = await escrow.hold(account, HELD, 10)
    await forge_hold(escrow, account, 80, seal=seal)
    named = {"escrow_account_id": account, "hold_id": "hold_x"}
    end = {"idempotency_key": key(), **named}
    to = ledger_account("fees")
    for refused in (
        pay(escrow, account, amount_minor=50),
        escrow.hold(account, HELD, 50),
        escrow.call("GetHold", holds_pb2.GetHoldRequest(**named)),
        escrow.ask("ReleaseHold", holds_pb2.ReleaseHoldRequest(**end)),
        escrow.call("ReleaseHold", holds_pb2.ReleaseHoldRequest(**end)),
        escrow.ask("CaptureHold", holds_pb2.CaptureHoldRequest(**end, to_ledger_account=to)),
        escrow.call("CaptureHold", holds_pb2.CaptureHoldRequest(**end, to_ledger_account=to)),
    ):
        with pytest.raises(NotSealed, match=r"holds .*hold_x"):
            await refused
    assert await escrow.expire_holds() == 0
    assert await pay(escrow, account, amount_minor=10) == "journal_entry"
    listed = await escrow.call("ListHolds", holds_pb2.ListHoldsRequest(escrow_account_id=account))
    assert [each.hold_id for each in listed.holds] == [ours.hold_id]
    for login in (partial(escrow.database.begin, escrow.org_id), escrow.database.begin_for_all):
        with pytest.raises(asyncpg.PostgresError, match="permission denied"):
            async with login() as tx:
                await tx.execute(sa.text("SELECT remove_hold(:o, :a, 'hold_x')"), {"o": escrow.org_id, "a": account})
    alarms: dict[str, str] = {}
    audit = audit_seals(escrow.database, tables.metadata, alarms)
    await audit.run()
    assert alarms == {"rows of holds": "1 not sealed"}
    await remove_hold(escrow, account)
    await audit.run()
    assert alarms == {}
    assert await escrow.held(account) == {HELD: 10}
    assert (await escrow.trial_balance(account)).balanced
    assert await pay(escrow, account, amount_minor=50) == "journal_entry"


async def test_who_takes_the_id_of_a_hold_that_is_to_come_is_told_and_the_money_waits(escrow):
    account = await opened(escrow)
    payment = Payment(account, "ESCROW_DEPOSIT", 50)
    hold_id = derived_id("hold", payment.transaction.transaction_id, "1")
    await forge_hold(escrow, account, 1, hold_id)
    before = await escrow.posted(account)
    with pytest.raises(NotSealed, match=hold_id):
        await payment.happens(escrow, "SETTLED")
    assert await escrow.posted(account) == before
    await remove_hold(escrow, account, hold_id)
    await payment.happens(escrow, "SETTLED")
    assert await escrow.held(account) == {HELD: 50}


async def test_a_dispute_waits_while_sql_holds_the_money_and_is_not_taken_for_one_of_money_that_is_gone(escrow):
    account = await escrow.open()
    payment = Payment(account, "ESCROW_DEPOSIT", 50, method="CARD")
    await payment.happens(escrow, "SETTLED", "COMPLETED")
    await forge_hold(escrow, account, 50)
    with pytest.raises(NotSealed, match="hold_x"):
        await payment.happens(escrow, "DISPUTED")
    await remove_hold(escrow, account)
    await payment.happens(escrow, "DISPUTED")
    assert await escrow.held(account) == {HELD: 50}


async def test_a_return_makes_nobody_owe_what_sql_holds(escrow):
    account = await escrow.open()
    payment = Payment(account, "ESCROW_DEPOSIT", 50)
    await payment.happens(escrow, "SETTLED", "COMPLETED")
    await forge_hold(escrow, account, 50)
    with pytest.raises(NotSealed, match="hold_x"):
        await payment.happens(escrow, "RETURNED")
    assert await escrow.posted(account) == {"cash": 50, HELD: 50}
    await remove_hold(escrow, account)
    await payment.happens(escrow, "RETURNED")
    assert await escrow.posted(account) == {}
