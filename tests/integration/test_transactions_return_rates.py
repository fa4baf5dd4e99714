"""Return rates: of every rail that debits, of what this service wrote alone, and told once they are above a limit."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from realco.transactions.v1 import exceptions_pb2, return_rates_pb2

from services.chassis.calls.access import rule_of
from services.chassis.calls.auth import Principal
from services.chassis.values.ids import new_id
from services.transactions.domain.payments import PaymentStatus
from services.transactions.jobs.watch_return_rates import RETURN_RATE_RATIO, watch_return_rates
from services.transactions.store import return_rates
from services.transactions.tables import provider_payments
from tests.support.exceptions import list_exceptions
from tests.support.transactions import ADMIN, INVESTOR, MONDAY, TransactionsHarness

R = return_rates_pb2.AchReturnRate
E = exceptions_pb2.PaymentException
STRANGER = Principal("admin-9", "admin", "org-2")


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


async def debit(service: TransactionsHarness, code: str = "", number: str = "02") -> Any:
    """A contribution that settles, or comes back."""
    made = await service.deposit("inv-001", number)
    await service.work()
    status = PaymentStatus.RETURNED if code else PaymentStatus.SETTLED
    payment_id = service.bank.report(made.transaction_id, status, code)
    await service.hook(new_id("evt"), payment_id)
    await service.work()
    return made


async def read_rates(service: TransactionsHarness, by: Principal = ADMIN) -> Any:
    return await service.ask(by, "GetAchReturnRates", return_rates_pb2.GetAchReturnRatesRequest())


async def count(service: TransactionsHarness) -> tuple[int, dict[str, int]]:
    """How many debits there are, and how many returns of each kind, once they are counted."""
    service.clock.advance(timedelta(seconds=1))
    await service.run(watch_return_rates)
    rates = await read_rates(service)
    return rates.debit_count, {R.Kind.Name(each.kind): each.return_count for each in rates.rates}


def returns(unauthorized: int, administrative: int, overall: int) -> dict[str, int]:
    return {"UNAUTHORIZED": unauthorized, "ADMINISTRATIVE": administrative, "OVERALL": overall}


async def test_before_anything_is_counted_there_is_no_figure_and_no_time(service) -> None:
    rates = await read_rates(service)
    assert (rates.HasField("as_of"), rates.debit_count, list(rates.rates)) == (False, 0, [])


async def test_debits_and_what_came_back_of_them_are_counted_and_payouts_and_wires_are_not(service) -> None:
    for number, code in enumerate(("", "R01", "R03", "R10")):
        await debit(service, code, f"2{number}")
    payout = await service.payout("inv-002")
    await service.work()
    payment_id = service.bank.report(payout.transaction_id, PaymentStatus.RETURNED, "R03")
    await service.hook(new_id("evt"), payment_id)
    await service.work()
    assert await count(service) == (4, returns(1, 1, 3))
    rates = await read_rates(service)
    assert [(each.rate_bps, each.limit_bps, each.is_exceeded) for each in rates.rates] == [
        (2_500, 50, False),
        (2_500, 300, False),
        (7_500, 1_500, True),
    ]
    assert rates.as_of.ToDatetime(UTC) == service.clock.now()
    assert RETURN_RATE_RATIO.labels("OVERALL")._value.get() == 0.75


async def test_each_presentment_counts_by_itself(service) -> None:
    made = await debit(service, "R01")
    seen = await service.get(made.transaction_id)
    service.clock.set(seen.next_attempt_time.ToDatetime(MONDAY.tzinfo))
    await service.work()
    await service.hook(new_id("evt"), service.bank.report(made.transaction_id, PaymentStatus.RETURNED, "R01"))
    await service.work()
    assert await count(service) == (2, returns(0, 0, 2))


async def test_what_was_declined_was_at_no_bank_and_is_no_debit(service) -> None:
    await debit(service)
    made = await service.deposit("inv-001", "31")
    await service.work()
    await service.hook(new_id("evt"), service.bank.report(made.transaction_id, PaymentStatus.FAILED))
    await service.work()
    assert await count(service) == (1, returns(0, 0, 0))


async def test_what_comes_back_of_an_older_debit_counts_on_its_own_day_and_for_60_days(
    service,
) -> None:
    made = await debit(service)
    service.clock.advance(timedelta(days=59))
    await service.hook(new_id("evt"), service.bank.report(made.transaction_id, PaymentStatus.RETURNED, "R10"))
    await service.work()
    assert await count(service) == (1, returns(1, 0, 1))
    service.clock.advance(timedelta(days=2))
    assert await count(service) == (0, returns(1, 0, 1))
    service.clock.advance(timedelta(days=59))
    assert await count(service) == (0, returns(0, 0, 0))


async def test_a_rate_above_its_limit_calls_a_person_once_and_again_with_the_next_return(service) -> None:
    for number in range(2):
        await debit(service, "R10", f"4{number}")
    await count(service)
    assert await list_exceptions(service) == [], "two returns say nothing about a rate"
    await debit(service, "R10", "42")
    await count(service)
    await count(service)
    found = {each.kind: each for each in await list_exceptions(service)}
    assert set(found) == {E.ACH_UNAUTHORIZED_RATE, E.ACH_OVERALL_RATE}
    assert E.ACH_ADMINISTRATIVE_RATE not in found, "of these no account was wrong"
    told = found[E.ACH_UNAUTHORIZED_RATE]
    assert (told.severity, told.occurrence_count, told.cause) == (
        E.HIGH,
        1,
        "3 of 3 debits of 60 days came back as not authorized: 0.5 % are allowed.",
    )
    request = exceptions_pb2.ResolvePaymentExceptionRequest(
        idempotency_key=new_id("key"),
        payment_exception_id=told.payment_exception_id,
        etag=told.etag,
        note="We stopped the campaign.",
    )
    await service.ask(ADMIN, "ResolvePaymentException", request)
    await count(service)
    [same] = await list_exceptions(service, kind=["ACH_UNAUTHORIZED_RATE"])
    assert same.status == E.RESOLVED, "an hour more is no return more"
    await debit(service, "R07", "43")
    await count(service)
    [again] = await list_exceptions(service, kind=["ACH_UNAUTHORIZED_RATE"])
    assert (again.status, again.cause[:6]) == (E.OPEN, "4 of 4")


@pytest.mark.parametrize(("statement", "debits_left"), [
    ((
        "INSERT INTO provider_payments (org_id, transaction_id, attempt, presentment, provider, provider_key,"
        " provider_reference, sent_at, is_debit) SELECT org_id, transaction_id, n, 1, provider,"
        " transaction_id || n, transaction_id || n, sent_at, true FROM provider_payments, generate_series(10, 700) n"
    ), 2),
    ("UPDATE provider_payments SET sent_at = sent_at + interval '1 day' WHERE outcome IS NULL", 1),
], ids=["debits made up", "a debit altered"])  # fmt: skip
async def test_what_somebody_wrote_to_the_database_counts_nowhere(service, statement, debits_left) -> None:
    for number, code in enumerate(("R10", "")):
        await debit(service, code, f"5{number}")
    async with service.database.begin(ADMIN.org_id) as tx:
        await tx.execute(sa.text(statement))
    assert await count(service) == (debits_left, returns(1, 0, 1))


async def test_a_return_whose_attempt_somebody_altered_is_booked_all_the_same(service) -> None:
    made = await debit(service)
    async with service.database.begin(ADMIN.org_id) as tx:
        await tx.execute(sa.text("UPDATE provider_payments SET sent_at = sent_at + interval '1 second'"))
    service.bank.report(made.transaction_id, PaymentStatus.RETURNED, "R10")
    service.clock.advance(timedelta(days=1))  # no webhook finds it: it is looked at again
    await service.work()
    assert (await service.get(made.transaction_id)).failure.metadata["network_code"] == "R10"


async def test_many_are_counted_page_by_page(service, monkeypatch) -> None:
    for number, code in enumerate(("", "R01", "R03")):  # all at the same moment
        await debit(service, code, f"6{number}")
    monkeypatch.setattr(return_rates, "_PAGE", 1)
    attempts = provider_payments.c
    monkeypatch.setattr(return_rates, "_DEBITS", return_rates._build_page(attempts.sent_at, attempts.is_debit))
    returned = return_rates._build_page(attempts.ended_at, attempts.outcome == "RETURNED")
    monkeypatch.setattr(return_rates, "_RETURNS", returned)
    assert await count(service) == (3, returns(0, 1, 2))


async def test_each_organization_has_its_own_rates(service) -> None:
    await debit(service, "R10")
    await count(service)
    assert (await read_rates(service, STRANGER)).debit_count == 0


def test_staff_and_auditors_read_rates_and_investors_do_not() -> None:
    rule = rule_of("realco.transactions.v1.ReturnRatesService/GetAchReturnRates")
    assert (rule.roles, rule.admits(INVESTOR)) == ({"sponsor", "admin", "auditor"}, False)
