"""Exceptions: found often they are one, a person takes each and says what was found, and found again it is open."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from realco.transactions.v1 import events_pb2 as events
from realco.transactions.v1 import exceptions_pb2 as pb
from realco.transactions.v1.transactions_pb2 import Transaction
from realco.type.v1.event_pb2 import EventMeta
from realco.type.v1.sort_pb2 import Sort
from structlog.testing import capture_logs

from services.chassis.calls.access import rule_of
from services.chassis.calls.auth import Principal, acting_as, service_principal
from services.chassis.data.heard_persons import record_persons
from services.chassis.data.seals import NotSealed
from services.chassis.values.errors import DomainError
from services.chassis.values.ids import new_id
from services.chassis.values.money import Money
from services.transactions.commands.exceptions import report_apart
from services.transactions.domain.exceptions import About, ExceptionKind
from services.transactions.domain.payments import PaymentStatus
from services.transactions.store.exception_reports import report
from tests.support import servers
from tests.support.arrivals import THIRD
from tests.support.exceptions import count_found, list_exceptions, report_twice, resolve
from tests.support.transactions import ADMIN, CHECKER, ESCROW_ACCOUNT, INVESTOR, MONDAY, ORG, TransactionsHarness

E = pb.PaymentException
TXN, OTHER = "txn_" + "0" * 26, "txn_" + "1" * 26
STRANGER = Principal("admin-9", "admin", "org-2")


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


async def assign(service: TransactionsHarness, found: Any, person: str, by: Principal = ADMIN) -> Any:
    named = {"payment_exception_id": found.payment_exception_id, "etag": found.etag}
    request = pb.AssignPaymentExceptionRequest(**named, person_id=person or None)
    return await service.ask(by, "AssignPaymentException", request)


async def get(service: TransactionsHarness, found: Any, by: Principal = ADMIN) -> Any:
    request = pb.GetPaymentExceptionRequest(payment_exception_id=found.payment_exception_id)
    return await service.ask(by, "GetPaymentException", request)


async def history(service: TransactionsHarness, found: Any) -> list[tuple[str, str, str]]:
    request = pb.ListPaymentExceptionStatusChangesRequest(payment_exception_id=found.payment_exception_id)
    answer = await service.ask(ADMIN, "ListPaymentExceptionStatusChanges", request)
    return [(E.Status.Name(each.status), each.actor, each.note) for each in answer.status_changes]


async def test_what_is_found_each_minute_is_one_exception_whose_count_grows_and_one_event(
    service: TransactionsHarness,
) -> None:
    before = count_found(ExceptionKind.PAID_TWICE)
    with capture_logs() as logs:
        [first] = await report_twice(service, TXN)
        service.clock.advance(timedelta(minutes=1))
        [found] = await report_twice(service, TXN, times=2)
    assert (first.occurrence_count, found.occurrence_count, found.etag == first.etag) == (1, 3, True)
    assert found.create_time.ToDatetime(MONDAY.tzinfo) == found.open_time.ToDatetime(MONDAY.tzinfo) == MONDAY
    assert found.last_seen_time.ToDatetime(MONDAY.tzinfo) == MONDAY + timedelta(minutes=1)
    assert await service.events(found.payment_exception_id) == ["PaymentExceptionOpened"]
    assert [each["transaction_id"] for each in logs if each["event"] == "paid_twice"] == [TXN] * 3, "each is told"
    assert count_found(ExceptionKind.PAID_TWICE) == before + 3


async def test_another_cause_is_another_thing_to_decide(service: TransactionsHarness) -> None:
    [found] = await report_twice(service, TXN)
    await report_apart(
        service.dependencies, ORG, ExceptionKind.PAID_TWICE, About(transaction_id=TXN), "Three payments."
    )
    seen = await get(service, found)
    assert (seen.cause, seen.occurrence_count) == ("Three payments.", 2)
    with pytest.raises(DomainError, match="changed since you read it"):
        await resolve(service, found, "One was returned.")
    assert await service.events(found.payment_exception_id) == ["PaymentExceptionOpened", "PaymentExceptionUpdated"]


async def test_a_person_takes_it_hands_it_over_gives_it_back_and_says_what_was_found(
    service: TransactionsHarness,
) -> None:
    [found] = await report_twice(service, TXN)
    seen = await get(service, found)
    assert list(seen.allowed_actions) == ["assign", "resolve"]
    assert (seen.meaning[:10], seen.remedy[:9]) == ("A provider", "Find both")
    taken = await assign(service, found, ADMIN.person)
    with pytest.raises(DomainError, match="changed since you read it"):
        await assign(service, found, CHECKER.person, CHECKER)
    over = await assign(service, taken, CHECKER.person, CHECKER)
    back = await assign(service, over, "")
    assert [each.assignee for each in (taken, over, back)] == [ADMIN.person, CHECKER.person, ""]
    service.clock.advance(timedelta(hours=1))
    done = await resolve(service, back, "The newer one was returned.", CHECKER)
    assert (done.status, done.resolved_by, done.resolution_note, list(done.allowed_actions)) == (
        E.RESOLVED,
        CHECKER.person,
        "The newer one was returned.",
        [],
    )
    assert done.resolve_time.ToDatetime(MONDAY.tzinfo) == MONDAY + timedelta(hours=1)
    for act in (assign(service, done, "ann"), resolve(service, done, "Once more.")):
        with pytest.raises(DomainError) as refused:
            await act
        assert refused.value.reason == "ILLEGAL_STATUS_CHANGE"
    told = ["Opened", "Updated", "Updated", "Updated", "Resolved"]
    assert await service.events(found.payment_exception_id) == [f"PaymentException{each}" for each in told]
    assert done.aggregate_version == 5


async def test_what_is_found_again_after_it_was_resolved_is_open_again_and_still_says_who_resolved_it(
    service: TransactionsHarness,
) -> None:
    [found] = await report_twice(service, TXN)
    await resolve(service, await assign(service, found, CHECKER.person), "It is returned.")
    service.clock.advance(timedelta(days=1))
    [again] = await report_twice(service, TXN)
    assert (again.payment_exception_id, again.status) == (found.payment_exception_id, E.OPEN)
    assert (again.assignee, again.resolved_by, again.resolution_note) == ("", ADMIN.person, "It is returned.")
    assert again.open_time.ToDatetime(MONDAY.tzinfo) == MONDAY + timedelta(days=1)
    assert again.create_time.ToDatetime(MONDAY.tzinfo) == MONDAY
    await resolve(service, again, "It is there no more.", CHECKER)
    assert await history(service, found) == [
        ("OPEN", "service:transactions", "Two payments."),
        ("RESOLVED", ADMIN.person, "It is returned."),
        ("OPEN", "service:transactions", "Two payments."),
        ("RESOLVED", CHECKER.person, "It is there no more."),
    ]


async def test_two_processes_that_find_the_same_thing_at_once_open_one_exception(service: TransactionsHarness) -> None:
    other = TransactionsHarness(service.database)
    await asyncio.gather(*(report_twice(each, TXN, times=3) for each in (service, other)))
    [found] = await list_exceptions(service)
    assert found.occurrence_count == 6
    assert await service.events(found.payment_exception_id) == ["PaymentExceptionOpened"]


async def test_two_persons_who_resolve_it_at_once_are_one_who_did(service: TransactionsHarness) -> None:
    [found] = await report_twice(service, TXN)
    acts = [resolve(service, found, "x", by) for by in (ADMIN, CHECKER)]
    done = await asyncio.gather(*acts, return_exceptions=True)
    assert sorted(type(each).__name__ for each in done) == ["EtagMismatch", "PaymentException"]


async def test_another_organization_finds_nothing_of_it(service: TransactionsHarness) -> None:
    [found] = await report_twice(service, TXN)
    assert await list_exceptions(service, STRANGER) == []
    for act in (get(service, found, STRANGER), resolve(service, found, "x", STRANGER)):
        with pytest.raises(DomainError) as refused:
            await act
        assert refused.value.reason == "PAYMENT_EXCEPTION_NOT_FOUND"


@pytest.mark.parametrize(("rpc", "roles"), [
    ("GetPaymentException", {"sponsor", "admin", "auditor"}),
    ("ListPaymentExceptions", {"sponsor", "admin", "auditor"}),
    ("ListPaymentExceptionStatusChanges", {"sponsor", "admin", "auditor"}),
    ("AssignPaymentException", {"admin"}),
    ("ResolvePaymentException", {"admin"}),
])  # fmt: skip
def test_who_works_on_money_reads_and_admins_resolve_and_no_investor_sees_any(rpc: str, roles: set[str]) -> None:
    rule = rule_of(f"realco.transactions.v1.ExceptionsService/{rpc}")
    assert (rule.roles, rule.admits(INVESTOR), rule.services) == (roles, False, set())


async def test_a_list_is_filtered_by_what_it_says_and_by_that_nobody_has_it(service: TransactionsHarness) -> None:
    [first] = await report_twice(service, TXN)
    service.clock.advance(timedelta(minutes=1))
    [second] = await report_twice(service, OTHER)
    file = About(file_name="x.ach")
    await report_apart(service.dependencies, ORG, ExceptionKind.ACH_FILE_FOREIGN, file, "It is not ours.")
    await assign(service, first, "ann")
    await resolve(service, second, "It is gone.")
    expected: list[tuple[dict[str, Any], list[str]]] = [
        ({"kind": ["PAID_TWICE"]}, [OTHER, TXN]),
        ({"kind": ["PAID_TWICE"], "order": Sort.OLDEST_FIRST}, [TXN, OTHER]),
        ({"status": ["OPEN"], "order": Sort.OLDEST_FIRST}, [TXN, ""]),
        ({"status": ["RESOLVED"]}, [OTHER]),
        ({"severity": ["LOW", "MEDIUM"]}, []),
        ({"severity": ["HIGH"], "status": ["OPEN"], "order": Sort.OLDEST_FIRST}, [TXN, ""]),
        ({"assignee": ["ann", "bob"]}, [TXN]),
        ({"unassigned": True, "status": ["OPEN"]}, [""]),
        ({"unassigned": False}, [TXN]),
        ({"transaction_id": [OTHER]}, [OTHER]),
        ({"ids": [first.payment_exception_id]}, [TXN]),
        ({"from_time": second.create_time, "kind": ["PAID_TWICE"]}, [OTHER]),
        ({"to_time": second.create_time}, [TXN]),
    ]
    for filters, ids in expected:
        found = await list_exceptions(service, **filters)
        assert [each.transaction_id for each in found] == ids, filters


async def test_a_list_finds_what_is_about_payments_of_an_escrow_account(service: TransactionsHarness) -> None:
    paid = (await service.deposit()).transaction_id
    for transaction_id in (paid, TXN):
        await report_twice(service, transaction_id)
    other = "esc_" + "9" * 26
    for accounts, ids in [
        ([ESCROW_ACCOUNT], [paid]),
        ([other], []),
        ([other, ESCROW_ACCOUNT], [paid]),
        ([], [TXN, paid]),
    ]:
        found = await list_exceptions(service, escrow_account_id=accounts)
        assert sorted(each.transaction_id for each in found) == sorted(ids), accounts


async def test_pages_have_each_exception_once(service: TransactionsHarness) -> None:
    for number in range(5):
        await report_twice(service, f"txn_{number:026d}")
    seen, token = [], ""
    for size in (2, 2, 2):
        request = pb.ListPaymentExceptionsRequest(page_size=size, page_token=token, order=Sort.OLDEST_FIRST)
        page = await service.ask(ADMIN, "ListPaymentExceptions", request)
        seen += [each.transaction_id for each in page.payment_exceptions]
        token = page.next_page_token
    assert (sorted(seen), token) == ([f"txn_{number:026d}" for number in range(5)], "")


async def test_events_carry_no_note_and_no_name_of_a_file(service: TransactionsHarness) -> None:
    file = About(file_name="Ann Lee.ach")
    await report_apart(service.dependencies, ORG, ExceptionKind.ACH_FILE_FOREIGN, file, "It is not ours.")
    [found] = await list_exceptions(service)
    await resolve(service, found, "Ann Lee put it there.")
    async with service.database.begin_for_all() as tx:
        query = sa.text("SELECT event_type, payload FROM outbox WHERE aggregate_id = :id ORDER BY id")
        rows = await tx.execute(query, {"id": found.payment_exception_id})
        told = [getattr(events, row.event_type.rsplit(".", 1)[1]).FromString(row.payload) for row in rows]
    assert [each.payment_exception.status for each in told] == [E.OPEN, E.RESOLVED]
    assert [each.meta.actor for each in told] == ["service:transactions", ADMIN.person]
    assert [str(each) for each in told if "Ann" in str(each)] == []


@pytest.mark.parametrize("statement", [
    (
        "UPDATE payment_exceptions SET status = 'RESOLVED', version = version + 1, resolved_by = 'bob',"
        " resolved_at = now(), resolution_note = 'x'"
    ),
    "UPDATE payment_exceptions SET assignee = 'bob', version = version + 1",
    "UPDATE payment_exceptions SET cause = 'nothing', version = version + 1",
    "UPDATE payment_exceptions SET occurrence_count = 0, version = version + 1",
], ids=["resolved", "taken", "another cause", "not counted"])  # fmt: skip
async def test_who_edits_or_hides_one_by_sql_is_found_out_and_it_is_opened_anew(
    service: TransactionsHarness, statement: str
) -> None:
    transaction_id = new_id("txn")  # what was refused once is not in the log again
    [found] = await report_twice(service, transaction_id)
    async with service.database.begin(ORG) as tx:
        await tx.execute(sa.text(statement))
    with capture_logs() as logs:
        listed = await report_twice(service, transaction_id)
    assert "row_not_sealed" in {each["event"] for each in logs}
    [anew] = [each for each in listed if each.payment_exception_id != found.payment_exception_id]
    assert (anew.status, anew.occurrence_count, anew.cause) == (E.OPEN, 1, "Two payments.")
    assert (await get(service, anew)).etag == anew.etag
    for act in (get(service, found), assign(service, found, "ann"), resolve(service, found, "x")):
        with pytest.raises(NotSealed):
            await act


async def test_nobody_removes_one_or_rewrites_what_was_found(
    service: TransactionsHarness, postgres: servers.TestPostgres
) -> None:
    [found] = await report_twice(service, TXN)
    await resolve(service, found, "It is returned.")
    with pytest.raises(Exception, match="payment_exception_history"):
        await servers.tamper(postgres.admin_dsn, service.database, "UPDATE payment_exception_history SET note = 'x'")


async def test_an_exception_that_sql_made_up_keeps_no_return_from_being_recorded(service: TransactionsHarness) -> None:
    made = await service.deposit()
    await service.work()
    forged = (
        "INSERT INTO payment_exceptions (org_id, payment_exception_id, kind, subject, status, cause, occurrence_count,"
        " openings, created_at, opened_at, last_seen_at, updated_at, version) VALUES (:org, :forged,"
        " 'RETURN_TO_REVIEW', :id, 'OPEN', 'x', 1, 1, now(), now(), now(), now(), 1)"
    )
    async with service.database.begin(ORG) as tx:
        values = {"org": ORG, "forged": new_id("exc"), "id": made.transaction_id}
        await tx.execute(sa.text(forged), values)
    service.bank.report(made.transaction_id, PaymentStatus.RETURNED, "R17")
    await service.work(hurried=True)
    assert (await service.get(made.transaction_id)).status == Transaction.RETURNED
    listed = await list_exceptions(service, kind=["RETURN_TO_REVIEW"])
    [found] = [each for each in listed if each.payment_exception_id != values["forged"]]
    assert (await get(service, found)).transaction_id == made.transaction_id


async def test_however_many_exceptions_sql_made_up_a_return_is_recorded_as_soon_as_ever(
    service: TransactionsHarness,
) -> None:
    made = await service.deposit()
    await service.work()
    async with service.database.begin(ORG) as tx:
        forged = sa.text(
            "INSERT INTO payment_exceptions (org_id, payment_exception_id, kind, subject, status, cause,"
            " occurrence_count, openings, created_at, opened_at, last_seen_at, updated_at, version)"
            " SELECT :org, 'exc_' || lpad(n::text, 26, '0'), 'RETURN_TO_REVIEW', :id, 'OPEN', 'x', 1, 1, now(), now(),"
            " now(), now(), 1 FROM generate_series(1, 20000) n"
        )
        await tx.execute(forged, {"org": ORG, "id": made.transaction_id})
    service.bank.report(made.transaction_id, PaymentStatus.RETURNED, "R17")
    with capture_logs() as logs:
        await service.work(hurried=True)
    assert (await service.get(made.transaction_id)).status == Transaction.RETURNED
    assert "row_not_sealed" not in {each["event"] for each in logs}, "none of them is looked at"


async def test_what_is_not_recorded_after_all_leaves_no_exception(service: TransactionsHarness) -> None:
    async def record_and_fail() -> None:
        async with service.database.begin() as tx:
            report(tx, ExceptionKind.RETURN_TO_REVIEW, About(transaction_id=TXN), "R17", MONDAY)
            raise ZeroDivisionError

    with acting_as(service_principal("transactions", ORG)), pytest.raises(ZeroDivisionError):
        await record_and_fail()
    assert await list_exceptions(service) == []


@pytest.mark.parametrize("amount_minor", [2**63, -(2**80)])
async def test_an_amount_that_is_none_keeps_nothing_from_being_told(
    service: TransactionsHarness, amount_minor: int
) -> None:
    about = About(transaction_id=TXN, amount=Money(amount_minor, "USD"))
    await report_apart(service.dependencies, ORG, ExceptionKind.PAYMENT_NOT_OURS, about, "It differs in amount.")
    [found] = await list_exceptions(service)
    assert (found.transaction_id, found.HasField("amount")) == (TXN, False)


@pytest.mark.parametrize("named", ["transaction_id", "bank_account_id"])
async def test_who_had_a_part_in_it_or_acts_for_its_party_does_not_say_that_it_is_resolved(
    service: TransactionsHarness, named: str
) -> None:
    made = await service.ask(ADMIN, "CreateTransaction", await service.deposit_request())
    account = await service.bank_account("inv-001", "09", principal=ADMIN)
    of = {"transaction_id": made.transaction_id, "bank_account_id": account.bank_account_id}
    about = About(**{named: of[named]})
    await report_apart(service.dependencies, ORG, ExceptionKind.RETURN_TO_REVIEW, about, "R16")
    [found] = await list_exceptions(service)
    with acting_as(service_principal("transactions", ORG)):
        async with service.database.begin() as tx:
            await record_persons(tx, "inv-001", [CHECKER.person], EventMeta(aggregate_version=1))
    for person, reason in ((ADMIN, "MAKER_IS_CHECKER"), (CHECKER, "BENEFICIARY_IS_CHECKER")):
        assert list((await get(service, found, person)).allowed_actions) == ["assign"]
        with pytest.raises(DomainError) as refusal:
            await resolve(service, found, "It is nothing.", person)
        assert refusal.value.reason == reason
    assert list((await get(service, found, THIRD)).allowed_actions) == ["assign", "resolve"]
    assert (await resolve(service, found, "The bank was asked.", THIRD)).status == E.RESOLVED


@pytest.mark.parametrize(("person", "party_id"), [("former", "inv-001"), ("acting", "sponsor-1")])
async def test_who_left_a_party_lately_or_acts_for_one_that_gains_does_not_say_that_it_is_resolved(
    service: TransactionsHarness, person: str, party_id: str
) -> None:
    """From what is paid for an investment its sponsor gains, at the closing."""
    made = await service.ask(ADMIN, "CreateTransaction", await service.deposit_request())
    about = About(transaction_id=made.transaction_id)
    await report_apart(service.dependencies, ORG, ExceptionKind.PAYMENT_NOT_OURS, about, "It failed there.")
    [found] = await list_exceptions(service)
    acting = {"former": service.compliance.former, "acting": service.compliance.parties}[person]
    acting[THIRD.person] = {party_id}
    with pytest.raises(DomainError) as refusal:
        await resolve(service, found, "It is nothing.", THIRD)
    assert refusal.value.reason == "BENEFICIARY_IS_CHECKER"
    acting.clear()
    assert (await resolve(service, found, "The bank was asked.", THIRD)).status == E.RESOLVED


async def test_who_takes_one_from_colleagues_over_and_over_is_stopped(service: TransactionsHarness) -> None:
    [found] = await report_twice(service, TXN)
    for person in (CHECKER.person, "admin-5", "admin-6", "admin-7"):
        found = await assign(service, found, person)
    with pytest.raises(DomainError) as refusal:
        await assign(service, found, "admin-8")
    assert refusal.value.reason == "TOO_MANY_STOPS"
    assert (await assign(service, found, CHECKER.person, by=CHECKER)).assignee == CHECKER.person
