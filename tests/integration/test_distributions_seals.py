"""Who has only a login to the database of distributions moves no money with it, and withholds none for long."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import date, timedelta
from types import SimpleNamespace

import asyncpg
import pytest
import sqlalchemy as sa
from google.protobuf.field_mask_pb2 import FieldMask
from realco.distributions.v1 import distributions_pb2 as dpb
from realco.distributions.v1 import events_pb2 as events
from realco.distributions.v1 import offerings_pb2 as opb
from realco.escrow.v1.escrow_accounts_pb2 import EscrowAccount
from realco.type.v1.approval_pb2 import Approval

from services.chassis.calls.wire import to_timestamp
from services.chassis.data.audit import audit_seals
from services.chassis.data.database import Database
from services.chassis.data.seals import NotSealed
from services.chassis.process.telemetry import ROWS_NOT_SEALED
from services.chassis.values.errors import DomainError
from services.distributions.store.investments import list_cancelling_ids
from services.distributions.store.offerings import OFFERINGS
from services.distributions.tables import allocations, investments, metadata
from tests.support import servers
from tests.support.databases import connect, open_database
from tests.support.distributions import CLOSING, ORG, START, DistributionsHarness
from tests.support.peers.transactions import complete_payout, return_payout
from tests.support.seals import OF_SERVICE


@pytest.fixture
async def service(service_database: Callable[[str], Awaitable[Database]]) -> DistributionsHarness:
    return DistributionsHarness(await service_database("distributions"))


async def write(service: DistributionsHarness, statement: str) -> None:
    async with service.database.begin(ORG) as tx:
        await tx.execute(sa.text(statement))


_END = "UPDATE sagas SET due_at = NULL, epoch = epoch + 1"
_BEGIN_AGAIN = "UPDATE sagas SET due_at = now(), epoch = epoch + 1"
_INVENT = (
    "INSERT INTO sagas (org_id, saga_id, kind, subject_id, actor, makers_and_checkers, created_at, due_at, seal)"
    " SELECT org_id, 'saga_0', kind, subject_id, 'admin-9', '[]', created_at, created_at, seal"
    " FROM sagas"
    " WHERE kind = 'EXECUTION'"
)


@pytest.mark.parametrize(("declared", "statement"), [
    (False, _END),
    (True, _END),
    (True, _BEGIN_AGAIN),
    (False, _INVENT),
], ids=["ended", "ended after its first step", "begun again", "invented"])  # fmt: skip
async def test_whoever_edits_sagas_has_each_payment_made_once_and_for_who_ordered_it(
    service: DistributionsHarness, statement: str, *, declared: bool
) -> None:
    offering = await service.closed_offering(("inv-001", 100_000_00))
    service.deposit(offering, 10_000_00)
    distribution = await service.execute(await service.approved(offering, 10_000_00), "sponsor-7")
    if declared:
        service.wire.fail("BatchCreatePayouts", "lost")
        await service.work()
    await service.make_due()
    await write(service, statement)
    await service.work()
    assert [told.meta.actor for told in await service.told(events.DistributionDeclared)] == ["sponsor-7"]
    assert service.wire.persons["BatchCreatePayouts"] == "sponsor-7"
    assert sorted(payout.party_id for payout in service.transactions.by_key.values()) == ["inv-001", "sponsor-1"]
    assert (await service.get(distribution)).status == dpb.Distribution.PROCESSING


_ONLY_THE_FIRST = (
    "UPDATE sagas SET due_at = clock_timestamp() + CASE actor WHEN 'admin-1' THEN interval '0' ELSE interval '20 hours'"
    " END, epoch = epoch + 1 WHERE kind = 'CLOSING'"
)


async def test_a_closing_that_escrow_refused_closes_nothing_later_in_the_name_of_who_asked_for_it(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(100_000_00)
    await service.invest(offering, "inv-001", 100_000_00)
    service.clock.set(CLOSING)
    await service.close(offering, "admin-1")
    account = service.escrow.accounts[offering.escrow_account_id]
    account.status = EscrowAccount.FROZEN
    await service.work()
    account.status = EscrowAccount.ACTIVE
    assert (await service.get(offering)).status == opb.Offering.OPEN
    await service.close(offering, "admin-7")
    await write(service, _ONLY_THE_FIRST)
    await service.work()
    assert (await service.get(offering)).status == opb.Offering.CLOSING
    await service.make_due()
    await service.work()
    assert [told.meta.actor for told in await service.told(events.OfferingClosed)] == ["admin-7"]
    assert [service.wire.persons[call] for call in ("ReleaseSubscriptions", "BatchCreatePayouts")] == ["admin-7"] * 2


async def test_no_closing_that_sql_hid_while_the_deadline_was_moved_is_carried_out_once_it_is_put_right(
    service: DistributionsHarness, postgres: servers.TestPostgres
) -> None:
    offering = await service.offering(150_00, exemption=opb.Offering.REG_D_506B)
    await service.invest(offering, "inv-001", 150_00)
    request = opb.CloseOfferingRequest(offering_id=offering.offering_id)
    asked = await service.ask(service.offerings.CloseOffering, request, "admin-3")
    await write(service, "UPDATE approvals SET note = 'x', version = version + 1")
    moved = opb.UpdateOfferingRequest(
        offering_id=offering.offering_id,
        deadline_time=to_timestamp(START + timedelta(days=60)),
        update_mask=FieldMask(paths=["deadline_time"]),
        etag=(await service.get(offering)).etag,
    )
    await service.call(service.offerings.UpdateOffering, moved, "admin-4")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="approvals keeps its rows"):
        await write(service, "UPDATE approvals SET note = NULL")
    with pytest.raises(NotSealed):
        await service.grant(asked, "admin-2")
    right = "UPDATE approvals SET note = NULL, version = version - 1"
    await servers.put_right(postgres.admin_dsn, service.database, right)
    with pytest.raises(DomainError) as refusal:
        await service.grant(asked, "admin-2")
    assert refusal.value.reason == "CONTENT_OUTDATED"
    await service.work()
    assert (await service.get(offering)).status == opb.Offering.OPEN


async def test_an_offering_that_somebody_else_wrote_has_no_escrow_account_of_its_own(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(100_00)
    await write(service, "UPDATE offerings SET seal = NULL, version = version + 1")
    with pytest.raises(NotSealed):
        await service.offering(100_00, escrow_account_id=offering.escrow_account_id)


@pytest.mark.parametrize("statement", [
    "UPDATE contributions SET version = 1000000",
    "UPDATE contributions SET counted = NOT counted, version = version + 1",
], ids=["newer than what will be reported", "counted by hand"])  # fmt: skip
async def test_a_contribution_that_was_edited_decides_nothing(service: DistributionsHarness, statement: str) -> None:
    offering = await service.offering(100_000_00)
    transaction = await service.fund(offering, await service.invest(offering, "inv-001", 100_000_00, fund=False), 100)
    await write(service, statement)
    for report in (return_payout, complete_payout):
        with pytest.raises(NotSealed):
            await service.deliver(report(transaction))


@pytest.mark.parametrize("statement", [
    "UPDATE payouts SET transaction_id = NULL, version = version + 1 WHERE party_id = 'inv-002'",
    "UPDATE payouts SET status = 'FAILED', version = version + 1 WHERE party_id = 'inv-002'",
    "UPDATE allocations SET attempts = 0, version = version + 1 WHERE party_id = 'inv-001'",
    (
        "UPDATE allocations SET status = 'RETURNED', version = version + 1 WHERE party_id = 'inv-001';"
        "UPDATE allocations SET status = 'PROCESSING', version = version + 1 WHERE party_id = 'inv-001'"
    ),
], ids=["of no transaction", "ended", "another allocation altered", "another said to be under way"])  # fmt: skip
async def test_what_became_of_a_payout_is_heard_again_once_the_rows_about_it_say_what_we_wrote(
    service: DistributionsHarness, statement: str
) -> None:
    offering = await service.closed_offering(("inv-001", 60_000_00), ("inv-002", 40_000_00))
    distribution = await service.executed(offering, 10_000_00)
    await service.pay(distribution, but=["inv-002"])
    for each in statement.split(";"):
        await write(service, each)
    with pytest.raises(NotSealed):
        await service.pay(distribution, but=["inv-001", "sponsor-1"])
    assert (await service.get(distribution)).status == dpb.Distribution.PROCESSING


@pytest.mark.parametrize(("pays_in", "altered"), [
    (True, "status = 'CANCELLED', funded_minor = 0"),
    (False, "status = 'CANCELLING'"),
], ids=["cancelled before it is", "not cancelled though it is"])  # fmt: skip
async def test_an_offering_is_refunded_when_each_investment_was_cancelled_and_not_when_sql_says_so(
    service: DistributionsHarness, pays_in: bool, altered: str
) -> None:
    offering = await service.offering(100_00)
    await service.invest(offering, "inv-001", 50_00)
    await service.invest(offering, "inv-002", 50_00, fund=pays_in)
    request = opb.RefundOfferingRequest(offering_id=offering.offering_id, note="The target was missed.")
    await service.call(service.offerings.RefundOffering, request)
    await service.work()
    await write(service, f"UPDATE investments SET {altered}, version = version + 1 WHERE party_id = 'inv-002'")
    payout = service.transactions.newest("inv-001")
    with pytest.raises(NotSealed):
        await service.deliver(service.gave_back(payout), complete_payout(payout))
    assert (await service.get(offering)).status == opb.Offering.REFUNDING


async def test_nobody_is_asked_to_approve_what_allocations_add_up_to_that_somebody_edited(
    service: DistributionsHarness,
) -> None:
    offering = await service.closed_offering(("inv-001", 60_000_00), ("inv-002", 40_000_00))
    distribution = await service.calculate(await service.draft(offering, 10_000_00))
    altered = "attempts = attempts + 1, version = version + 1"
    await write(service, f"UPDATE allocations SET {altered} WHERE party_id = 'inv-002'")
    with pytest.raises(NotSealed):
        await service.submit(distribution)


async def test_one_payout_that_transactions_does_not_take_keeps_no_other_from_being_made(
    service: DistributionsHarness,
) -> None:
    investors = [f"inv-00{number}" for number in range(1, 6)]
    offering = await service.closed_offering(*((investor, 10_000_00) for investor in investors))
    service.deposit(offering, 5_000_00)
    distribution = await service.execute(await service.approved(offering, 5_000_00))
    service.transactions.unordered.add("inv-004")
    service.transactions.keys_unknown.add("inv-002")
    await service.work()
    told = {investor: each.transaction_id != "" for investor, each in (await service.allocations(distribution)).items()}
    assert told == {investor: investor not in ("inv-002", "inv-004") for investor in investors}
    assert {each.status for each in (await service.allocations(distribution)).values()} == {dpb.Allocation.PROCESSING}
    service.transactions.unordered.clear()
    service.transactions.keys_unknown.clear()
    await service.make_due()
    await service.work()
    assert all(each.transaction_id for each in (await service.allocations(distribution)).values())


async def test_what_was_altered_is_found_though_nothing_is_done_with_it(
    service: DistributionsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    offering = await service.closed_offering(("inv-001", 60_000_00), ("inv-002", 40_000_00))
    monkeypatch.setattr("services.chassis.data.audit._ROWS_MAX", 1)
    audit = audit_seals(service.database, metadata, {})

    async def look() -> float:
        before = sum(ROWS_NOT_SEALED.labels(name)._value.get() for name in metadata.tables)
        for _ in range(4):  # investments, contributions and payouts have three rows at most, and an end
            await audit.run()
        return sum(ROWS_NOT_SEALED.labels(name)._value.get() for name in metadata.tables) - before

    assert await look() == 0
    await service.executed(offering, 10_000_00)
    await write(service, "UPDATE payouts SET status = 'FAILED', version = version + 1 WHERE party_id = 'inv-002'")
    assert await look() > 0


async def test_terms_that_another_release_spelled_otherwise_stay_readable_when_the_offering_changes(
    service: DistributionsHarness,
) -> None:
    """As before a tier got one more parameter: the row lacks it, and the value has its default."""
    offering = await service.offering(100_000_00)
    spelled = {"tiers": [[kind, {}] for kind in ("RETURN_OF_CAPITAL", "PREFERRED_RETURN", "CATCH_UP", "SPLIT")]}
    release_before = replace(OFFERINGS, columns=lambda value: OFFERINGS.columns(value) | spelled)
    with service.as_("admin-1", "admin"):
        async with service.database.begin(ORG) as tx:
            for release, name in ((release_before, "as it was"), (OFFERINGS, "changed"), (OFFERINGS, "once more")):
                found = await OFFERINGS.lock_known(tx, offering.offering_id)
                await release.save(tx, found, replace(found, display_name=name), found.updated_at)
            assert (await OFFERINGS.lock_known(tx, offering.offering_id)).display_name == "once more"


@pytest.mark.parametrize(("table", "altered", "put_back"), [
    ("investments", "funded_minor = 0", "funded_minor = 10000"),
    ("offerings", "makers = '[]'", "makers = '[\"admin-1\"]'"),
], ids=["what is paid back, and to whom", "who had a part in it"])  # fmt: skip
async def test_no_approval_says_what_an_altered_row_says(
    service: DistributionsHarness, postgres: servers.TestPostgres, table: str, altered: str, put_back: str
) -> None:
    """Whoever alters a row while somebody reads or approves does not put it back before the deed: an operator does."""
    offering = await service.offering(100_00)
    investment = await service.invest(offering, "inv-001", 100_00)
    asked = [
        (service.investments.CancelInvestment, opb.CancelInvestmentRequest(investment_id=investment.investment_id)),
        (service.offerings.CloseOffering, opb.CloseOfferingRequest(offering_id=offering.offering_id)),
        (service.offerings.RefundOffering, opb.RefundOfferingRequest(offering_id=offering.offering_id, note="No.")),
    ]
    for method, request in asked:
        approval = await service.ask(method, request)
        await write(service, f"UPDATE {table} SET {altered}, version = version + 1")
        with pytest.raises(NotSealed):
            await service.read_approval(approval.approval_id)
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match=f"{table} keeps its rows"):
            await write(service, f"UPDATE {table} SET {put_back}")
        with pytest.raises(NotSealed):
            await service.grant(approval)
        right = f"UPDATE {table} SET {put_back}, version = version - 1"
        await servers.put_right(postgres.admin_dsn, service.database, right)
        assert (await service.read_approval(approval.approval_id)).status == Approval.PENDING
        service.clock.set(CLOSING)


@pytest.mark.parametrize("statement", [
    "UPDATE distributions SET declared_at = NULL, version = version + 1",
    (
        "UPDATE investments SET released_minor = released_minor - 1, unreturned_minor = 0, version = version + 1"
        " WHERE party_id = 'inv-002'"
    ),
], ids=["not declared any more", "another contribution"])  # fmt: skip
async def test_a_waterfall_leaves_out_no_row_because_it_was_altered(
    service: DistributionsHarness, statement: str
) -> None:
    offering = await service.closed_offering(("inv-001", 60_000_00), ("inv-002", 40_000_00))
    service.deposit(offering, 20_000_00)
    await service.executed(offering, 10_000_00)
    draft = await service.draft(offering, 10_000_00, date(2026, 3, 1))
    await write(service, statement)
    with pytest.raises(NotSealed):
        await service.calculate(draft)


async def test_a_draft_that_lost_a_payee_is_never_paid(service: DistributionsHarness) -> None:
    offering = await service.closed_offering(("inv-001", 60_000_00), ("inv-002", 40_000_00))
    service.deposit(offering, 10_000_00)
    draft = await service.calculate(await service.draft(offering, 10_000_00))
    await write(service, "DELETE FROM allocations WHERE party_id = 'inv-002'")
    with pytest.raises(NotSealed):
        await service.submit(await service.get(draft))


@pytest.mark.parametrize("kind", ["app", "worker"])
async def test_no_login_takes_a_payee_out_of_what_waits_by_a_look_at_when_it_was_a_draft(
    service_urls: Callable[[str], Awaitable[SimpleNamespace]], kind: str
) -> None:
    service = DistributionsHarness(open_database(urls := await service_urls("distributions"), "distributions"))
    draft = await service.calculate(await service.draft(await service.closed_offering(("inv-001", 10_000)), 1_00))
    async with connect(getattr(urls, f"{kind}_url"), OF_SERVICE) as login:
        await login.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        await login.execute(f"SELECT set_config('app.org_id', '{ORG}', true); SELECT FROM distributions")
        await service.submit(await service.get(draft))
        with pytest.raises(asyncpg.PostgresSystemError):
            await login.execute("DELETE FROM allocations WHERE party_id = 'inv-001'")


async def test_lines_that_somebody_wrote_explain_no_allocation(service: DistributionsHarness) -> None:
    offering = await service.closed_offering(("inv-001", 60_000_00))
    draft = await service.calculate(await service.draft(offering, 10_000_00))
    async with service.database.begin(ORG) as tx:
        removing = sa.delete(allocations).where(allocations.c.org_id == ORG).returning(allocations)
        kept = [dict(row._mapping) for row in await tx.execute(removing)]
        for each in kept:
            each["lines"][0]["kind"] = "SPLIT"
        await tx.execute(sa.insert(allocations), kept)
    [allocation, *_] = kept
    request = dpb.GetAllocationRequest(distribution_id=draft.distribution_id, allocation_id=allocation["allocation_id"])
    with pytest.raises(NotSealed):
        await service.call(service.distributions.GetAllocation, request)


async def test_no_further_attempt_is_made_of_a_payout_that_was_altered(service: DistributionsHarness) -> None:
    """Whoever had a part in it is not known any more."""
    offering = await service.closed_offering(("inv-001", 100_00))
    distribution = await service.executed(offering, 10_00)
    await service.deliver(return_payout(service.transactions.newest("inv-001"), "R02"))
    owed = (await service.allocations(distribution))["inv-001"]
    async with service.database.begin_for_all() as tx:
        alter = "UPDATE payouts SET updated_at = now(), version = version + 1 WHERE type = 'DISTRIBUTION'"
        await tx.execute(sa.text(alter))
    request = dpb.ResendAllocationRequest(
        distribution_id=distribution.distribution_id, allocation_id=owed.allocation_id
    )
    with pytest.raises(NotSealed):
        await service.call(service.distributions.ResendAllocation, request)


async def test_an_old_request_that_was_altered_keeps_nothing_from_being_asked_and_done_again(
    service: DistributionsHarness,
) -> None:
    held = await service.invest(await service.offering(100_00), "inv-001", 50_00)
    request = opb.CancelInvestmentRequest(investment_id=held.investment_id)
    await service.decline(await service.ask(service.investments.CancelInvestment, request))
    service.clock.advance(timedelta(days=15))
    await write(service, "UPDATE approvals SET note = 'x', version = version + 1")
    again = await service.ask(service.investments.CancelInvestment, request, "admin-3")
    await service.grant(again)
    assert (await service.get(held)).status == opb.Investment.CANCELLING


async def test_rows_that_sql_made_up_hide_none_of_those_that_a_saga_still_asks_about(
    service: DistributionsHarness,
) -> None:
    offering = await service.offering(100_00)
    held = await service.invest(offering, "inv-001", 50_00)
    await service.call(
        service.offerings.RefundOffering, opb.RefundOfferingRequest(offering_id=offering.offering_id, note="It is off.")
    )
    async with service.database.begin(ORG) as tx:
        [kept] = await tx.execute(sa.select(investments).where(investments.c.org_id == ORG))
        waiting = {name: value for name, value in kept._mapping.items() if "refund_" in name or "cancelling" in name}
        made_up = dict(kept._mapping) | dict.fromkeys(waiting) | {"status": "PENDING", "refund_approved_minor": 0}
        await tx.execute(sa.insert(investments), [made_up | {"investment_id": f"inv_!{number}"} for number in range(5)])
        begin = sa.update(investments).where(investments.c.org_id == ORG, investments.c.status == "PENDING")
        await tx.execute(begin.values(status="CANCELLING", version=investments.c.version + 1, **waiting))
    with service.as_("admin-1"):
        async with service.database.begin() as tx:
            assert await list_cancelling_ids(tx, kept.cancelling_saga_id, 2) == [held.investment_id]
            assert await list_cancelling_ids(tx, "saga_of_none", 2) == []
