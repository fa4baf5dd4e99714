"""What the money of an escrow account rests on, which whoever has it leave reads before."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from realco.escrow.v1.journal_pb2 import JournalEntry
from realco.transactions.v1 import exceptions_pb2, payouts_pb2
from realco.transactions.v1 import transactions_pb2 as pb

from services.chassis.calls.auth import Principal, acting_as, service_principal
from services.chassis.calls.wire import to_timestamp
from services.chassis.values.errors import DomainError
from services.chassis.values.money import Money
from services.transactions.domain.exceptions import About, ExceptionKind
from services.transactions.domain.payments import PaymentStatus
from services.transactions.domain.received_money import RECEIVED_WITHIN
from services.transactions.store import exceptions as exception_store
from services.transactions.store import received_money
from services.transactions.store.exception_reports import report as report_found
from tests.support import servers
from tests.support.arrivals import announce, build_arrival, confirm, report
from tests.support.exceptions import list_exceptions, resolve
from tests.support.transactions import ADMIN, CHECKER, ESCROW_ACCOUNT, ORG, TransactionsHarness, usd

T = pb.Transaction
STATEMENT = " The custodian's statement shows whether it did."
FOURTH = Principal("admin-4", "admin", ORG)


@pytest.fixture
async def service(service_database: Any) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


async def list_received(service: TransactionsHarness, escrow_account_id: str, deadline: Any = None) -> list[Any]:
    asked = payouts_pb2.GetReceivedMoneyRequest(
        escrow_account_id=escrow_account_id, deadline_time=None if deadline is None else to_timestamp(deadline)
    )
    with acting_as(service_principal("distributions", ORG)):
        return list((await service.payouts.GetReceivedMoney(asked, None)).explanations)


async def read_received(service: TransactionsHarness, deadline: Any = None) -> dict[str, Any]:
    """What is told, by its rule."""
    return {each.rule: each for each in await list_received(service, ESCROW_ACCOUNT, deadline)}


async def test_by_whose_word_how_much_is_there_is_told_for_a_year(service: TransactionsHarness) -> None:
    assert await read_received(service) == {}
    first = await announce(service, amount=usd(300_00))
    second = await announce(service, amount=usd(200_00))
    third = await announce(service, amount=usd(100_00))
    for each, reference in ((first, "FED-1"), (second, "FED-2")):
        await confirm(service, each, reference)
    service.clock.advance(timedelta(minutes=1))
    await service.ask(FOURTH, "ConfirmTransaction", build_arrival(third, "FED-3"))
    [told] = (await read_received(service)).values()
    assert told.rule == "MONEY_CONFIRMED_BY_PERSONS"
    assert told.statement == (
        "By the word of persons 600.00 USD came into the escrow account within 365 days: admin-2 (500.00 USD), admin-4"
        " (100.00 USD). The custodian's statement shows whether it did."
    )
    named = [(each.name, each.amount) for each in told.operands]
    assert named == [(each.transaction_id, each.amount) for each in (first, second, third)]
    service.clock.advance(RECEIVED_WITHIN - timedelta(seconds=1))
    told = (await read_received(service))["MONEY_CONFIRMED_BY_PERSONS"]
    assert told.statement.startswith("By the word of persons 100.00 USD")
    long_ago = service.clock.now() - RECEIVED_WITHIN * 2
    told = (await read_received(service, long_ago))["MONEY_CONFIRMED_BY_PERSONS"]
    assert told.statement.startswith("By the word of persons 100.00 USD"), "of a year, however old the deadline is"


async def test_what_came_after_the_deadline_is_told_and_by_whose_word(service: TransactionsHarness) -> None:
    deadline = service.clock.now() + timedelta(hours=1)
    early = await announce(service, amount=usd(300_00))
    late = await announce(service, amount=usd(200_00))
    await confirm(service, early)
    assert "MONEY_AFTER_DEADLINE" not in await read_received(service, deadline)
    service.clock.set(deadline + timedelta(seconds=1))
    await confirm(service, late, "FED-2")
    told = (await read_received(service, deadline))["MONEY_AFTER_DEADLINE"]
    assert told.statement == (
        f"After the deadline of {deadline:%Y-%m-%d %H:%M} UTC came 200.00 USD, by the word of admin-2 (200.00 USD)."
    )
    assert [(each.name, each.amount) for each in told.operands] == [(late.transaction_id, usd(200_00))]
    assert "MONEY_AFTER_DEADLINE" not in await read_received(service)


@pytest.mark.parametrize(
    "forgery", ["confirmed_by = NULL, bank_reference = NULL", "settled_at = settled_at - interval '400 days'"]
)
async def test_whoever_alters_in_the_database_what_was_said_of_it_hides_nothing(
    service: TransactionsHarness, postgres: servers.Postgres, forgery: str
) -> None:
    await confirm(service, await announce(service))
    forging = f"UPDATE transactions SET version = version + 1, {forgery}"
    await servers.tamper(postgres.admin_dsn, service.database, forging)
    told = (await read_received(service))["MONEY_ALTERED"]
    assert told.statement == "What came in was altered in the database."


async def test_cents_by_the_dozen_hide_nothing_of_what_came(
    service: TransactionsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the largest are read one by one; the sums are of all, as far as a login of the database left them."""
    monkeypatch.setattr(received_money, "_LARGEST_MAX", 2)
    deadline = service.clock.now()
    large, middle, small = [await announce(service, amount=usd(minor)) for minor in (500_00, 300_00, 200_00)]
    drawn = await service.deposit(amount=usd(1_000_00))
    cents = [await announce(service, amount=usd(1)) for _ in range(3)]
    await service.work()
    service.bank.report(drawn.transaction_id, PaymentStatus.SETTLED)
    await service.work(hurried=True)
    service.clock.advance(timedelta(seconds=1))
    for number, each in enumerate([large, middle, small, *cents]):
        await confirm(service, each, f"FED-{number}")
    told = await read_received(service, deadline)
    assert told["MONEY_NOT_FINAL"].statement.startswith("The bank may take at least 1,000.00 USD that")
    assert "persons at least 1,000.03 USD came" in told["MONEY_CONFIRMED_BY_PERSONS"].statement
    others = told["MONEY_NOT_PROVEN"].statement
    assert "there are 5 of 500.03 USD in all, of which nobody has proven" in others
    late = "came at least 1,000.03 USD, by the word of admin-2 (500.00 USD)."
    assert told["MONEY_AFTER_DEADLINE"].statement.endswith(late)
    assert [each.name for each in told["MONEY_AFTER_DEADLINE"].operands] == [large.transaction_id]
    hiding = "finality = 'FINAL', settled_at = created_at, version = version + 1 WHERE amount_minor < 30000"
    async with service.database.begin(ORG) as tx:
        await tx.execute(sa.text(f"UPDATE transactions SET {hiding}"))
    assert (await read_received(service, deadline))["MONEY_NOT_PROVEN"].statement == others


async def test_what_was_transferred_here_is_told_and_what_it_rested_on_where_it_was(
    service: TransactionsHarness,
) -> None:
    """And its line of the statement confirms nothing more, in both accounts."""
    other = service.escrow.open(escrow_account_id="esc_" + "9" * 26, sponsor="sponsor-1")
    service.escrow.post(ESCROW_ACCOUNT, JournalEntry.ADJUSTMENT, "cash", "distributable", 300_00)
    await confirm(service, await announce(service, amount=usd(300_00)))
    wanted = {"type": T.TRANSFER, "payment_method": T.INTERNAL_TRANSFER, "amount": usd(300_00)}
    places = {"escrow_account_id": ESCROW_ACCOUNT, "to_escrow_account_id": other, "party_id": "sponsor-1"}
    order = pb.CreateTransactionRequest(idempotency_key="key", description="Next door", **wanted, **places)
    moving = await service.ask(ADMIN, "CreateTransaction", order)
    await service.grant(await service.waiting(moving.transaction_id))
    await service.work()
    await service.ask(FOURTH, "ConfirmTransaction", build_arrival(await service.get(moving.transaction_id), "BOOK-77"))
    told = await list_received(service, other)
    came = "By the word of persons 300.00 USD came into the escrow account within 365 days: "
    there = f"Some of it was transferred from {ESCROW_ACCOUNT}, where: {came}admin-2 (300.00 USD)."
    assert [each.statement.removesuffix(STATEMENT) for each in told] == [f"{came}admin-4 (300.00 USD).", there]
    announced = await announce(service, amount=usd(300_00))
    with pytest.raises(DomainError) as refused:
        await confirm(service, announced, "BOOK-77")
    assert refused.value.reason == "BANK_REFERENCE_USED"


async def test_what_was_transferred_is_followed_to_where_it_came_from_however_far_and_whatever_became_of_it(
    service: TransactionsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through other accounts, behind larger receipts, and once a bank has taken it back."""
    monkeypatch.setattr(received_money, "_LARGEST_MAX", 1)
    places = [service.escrow.open(escrow_account_id=f"esc_{each * 26}", sponsor="inv-001") for each in "12"]
    service.escrow.accounts[ESCROW_ACCOUNT].sponsor_party_id = "inv-001"
    drawn = await service.deposit(amount=usd(300_00))
    await service.work()
    service.bank.report(drawn.transaction_id, PaymentStatus.SETTLED)
    await service.work(hurried=True)
    for number, (source, to) in enumerate(
        [(ESCROW_ACCOUNT, places[0]), (places[0], places[1]), (places[0], places[1])]
    ):
        service.escrow.post(source, JournalEntry.ADJUSTMENT, "cash", "distributable", 400_00)
        wanted = {"type": T.TRANSFER, "payment_method": T.INTERNAL_TRANSFER, "amount": usd((300 + number) * 100)}
        named = {"escrow_account_id": source, "to_escrow_account_id": to, "party_id": "inv-001"}
        order = pb.CreateTransactionRequest(idempotency_key=f"k{number}", description="Next door", **wanted, **named)
        moving = await service.ask(ADMIN, "CreateTransaction", order)
        await service.grant(await service.waiting(moving.transaction_id))
        await service.work()
        said = build_arrival(await service.get(moving.transaction_id), f"BOOK-{number}")
        await service.ask(FOURTH, "ConfirmTransaction", said)

    async def list_of_first() -> list[str]:
        found = await list_received(service, places[1])
        return [each.rule for each in found if f"from {ESCROW_ACCOUNT}, where:" in each.statement]

    assert await list_of_first() == ["MONEY_NOT_FINAL"]
    await service.hook("evt_r", service.bank.report(drawn.transaction_id, PaymentStatus.RETURNED, "R10"))
    await service.work(hurried=True)
    assert await list_of_first() == ["MONEY_TAKEN_BACK"]


async def test_where_payees_are_paid_and_since_when_is_told_at_once(service: TransactionsHarness) -> None:
    paid = await service.payout("inv-001", "01", payment_method=T.WIRE)
    await service.work()
    await confirm(service, await service.get(paid.transaction_id), "OUT-1")
    arrived = (await service.get(paid.transaction_id)).settle_time
    new = await service.confirm(await service.bank_account("inv-002", "02"))
    asked = payouts_pb2.BatchGetPayoutAccountsRequest(party_ids=["inv-001", "inv-002", "inv-003"])
    with acting_as(service_principal("distributions", ORG)):
        found = (await service.payouts.BatchGetPayoutAccounts(asked, None)).payout_accounts
    by_party = {each.bank_account.party_id: each for each in found}
    assert sorted(by_party) == ["inv-001", "inv-002"], "who has no account is not there"
    assert by_party["inv-001"].bank_account.bank_account_id == paid.bank_account_id
    assert by_party["inv-001"].first_paid_time == arrived
    assert not by_party["inv-002"].HasField("first_paid_time")
    assert by_party["inv-002"].bank_account.bank_account_id == new.bank_account_id


async def test_whoever_pays_again_reads_what_came_back_by_the_word_of_persons(service: TransactionsHarness) -> None:
    """And what persons said was never sent."""
    service.owe("inv-001")
    made = []
    for kind, minor in {"CHECK_RETURNED": 40_00, "CONFIRMED_IN_ERROR": 30_00, "NOT_SENT": 20_00}.items():
        payout = await service.payout_to(None, "inv-001", payment_method=T.CHECK, amount=usd(minor))
        await service.work()
        waiting = await service.get(payout.transaction_id)
        if kind != "NOT_SENT":
            waiting = await confirm(service, waiting, f"CHK-{minor}")
        assert ("MONEY_BACK_BY_PERSONS" in await read_received(service)) == bool(made)
        await service.grant(await report(service, waiting, kind))
        made.append(payout.transaction_id)
    told = (await read_received(service))["MONEY_BACK_BY_PERSONS"]
    assert told.statement.startswith("By the word of persons 90.00 USD that was paid out came back, or was never sent")
    assert [each.name for each in told.operands] == made
    service.clock.advance(RECEIVED_WITHIN + timedelta(days=1))
    assert "MONEY_BACK_BY_PERSONS" not in await read_received(service)


async def find_exceptions(service: TransactionsHarness, *found: tuple[About, ExceptionKind]) -> None:
    with acting_as(service_principal("transactions", ORG)):
        async with service.database.begin() as tx:
            for about, kind in found:
                report_found(tx, kind, about, "It was paid back there.", service.clock.now())


async def test_what_nobody_has_looked_into_is_told_before_money_leaves(service: TransactionsHarness) -> None:
    """What a provider says was paid back there stands in no book: the exception alone says that it is missing."""
    other = service.escrow.open(escrow_account_id="esc_" + "9" * 26, sponsor="sponsor-1")
    of_sponsor = {"type": T.DEPOSIT, "party_id": "sponsor-1", "investment_id": None}
    paid, elsewhere = await service.deposit(), await announce(service, escrow_account_id=other, **of_sponsor)
    assert not [each for each in await read_received(service) if each.startswith("EXCEPTIONS")]
    await find_exceptions(
        service,
        (About(transaction_id=paid.transaction_id, amount=Money(100_00, "USD")), ExceptionKind.PAYMENT_NOT_OURS),
        (About(transaction_id=paid.transaction_id), ExceptionKind.WEBHOOK_FAILED),  # LOW: in its turn
        (About(transaction_id=elsewhere.transaction_id), ExceptionKind.PAYMENT_NOT_OURS),
        (About(file_name="x.ach"), ExceptionKind.ACH_FILE_FOREIGN),
    )
    of_account, of_nobody = await list_received(service, ESCROW_ACCOUNT)
    assert {of_account.rule, of_nobody.rule} == {"EXCEPTIONS_OPEN"}
    assert of_account.statement == (
        f"Open exceptions about payments of the escrow account: 1, first PAYMENT_NOT_OURS of {paid.transaction_id},"
        " 100.00 USD. What they say may be missing in it: look into them first."
    )
    assert of_nobody.statement.endswith(": 1. Any escrow account may have less than its book says.")


@pytest.mark.parametrize("of_nobody", [False, True])
async def test_who_resolved_what_about_it_is_told_for_a_year(service: TransactionsHarness, of_nobody: bool) -> None:
    """One person resolves an exception: whoever decides that money leaves sees that it was, by whom and why."""
    paid = await service.deposit()
    about = About(file_name="x.ach") if of_nobody else About(transaction_id=paid.transaction_id)
    await find_exceptions(service, (about, ExceptionKind.PAYMENT_NOT_OURS))
    listed = exceptions_pb2.ListPaymentExceptionsRequest(status=[exceptions_pb2.PaymentException.OPEN])
    [found] = (await service.ask(CHECKER, "ListPaymentExceptions", listed)).payment_exceptions
    await resolve(service, found, "Asked the provider: fine.", CHECKER)
    told = (await read_received(service))["EXCEPTIONS_RESOLVED"]
    which = "of the organization about no payment of ours that is known," if of_nobody else "about its payments"
    said = f"Exceptions {which} that were resolved within 365 days: 1, last PAYMENT_NOT_OURS of"
    assert told.statement.startswith(said)
    assert told.statement.endswith(f": by admin-2 on {service.clock.now():%Y-%m-%d}, “Asked the provider: fine.”.")
    service.clock.advance(RECEIVED_WITHIN + timedelta(days=1))
    assert "EXCEPTIONS_RESOLVED" not in await read_received(service)


_CALLED_RESOLVED = """
UPDATE payment_exceptions
SET status = 'RESOLVED', resolved_by = 'admin-9', resolved_at = now(), resolution_note = 'seen', version = version + 1
"""
_LONG_AGO = _CALLED_RESOLVED.replace("now()", "'2020-01-01'")
_MADE_UP = """
INSERT INTO payment_exceptions (
    org_id, payment_exception_id, kind, subject, status, cause, transaction_id, occurrence_count, openings, created_at,
    opened_at, last_seen_at, updated_at, version
) SELECT org_id, payment_exception_id || n, kind, subject || n, status, cause, transaction_id, 1, 1,
    now() + interval '1 day', now(), now(), now(), 1 FROM payment_exceptions, generate_series(1, 300) n
"""


@pytest.mark.parametrize(
    "forgery",
    [_CALLED_RESOLVED, _LONG_AGO, _MADE_UP],
    ids=["one is resolved", "one was resolved long ago", "hundreds are made up"],
)
async def test_exceptions_that_a_login_altered_are_told_as_such(
    service: TransactionsHarness, postgres: servers.Postgres, forgery: str
) -> None:
    paid = await service.deposit()
    await find_exceptions(service, (About(transaction_id=paid.transaction_id), ExceptionKind.PAYMENT_NOT_OURS))
    await servers.tamper(postgres.admin_dsn, service.database, forgery)
    told = (await read_received(service))["MONEY_ALTERED"]
    assert told.statement == "Exceptions about payments of the escrow account were altered in the database."


async def test_cents_by_the_dozen_hide_no_exception(service: TransactionsHarness) -> None:
    paid = [await service.deposit(amount=usd(minor)) for minor in (70_00, *[1] * 11)]
    for each in paid:
        about = About(transaction_id=each.transaction_id, amount=Money(each.amount.amount_minor, "USD"))
        await find_exceptions(service, (about, ExceptionKind.PAYMENT_NOT_OURS))
        service.clock.advance(timedelta(seconds=1))
    is_open = (await read_received(service))["EXCEPTIONS_OPEN"]
    assert ": 12, first PAYMENT_NOT_OURS of " + paid[0].transaction_id in is_open.statement
    for found in reversed(await list_exceptions(service)):  # the oldest first
        await resolve(service, found, "Looked into it.", CHECKER)
        service.clock.advance(timedelta(seconds=1))
    told = (await read_received(service))["EXCEPTIONS_RESOLVED"]
    assert f": 12, the largest PAYMENT_NOT_OURS of {paid[0].transaction_id}, 70.00 USD: by admin-2" in told.statement
    assert told.operands[0].name == paid[0].transaction_id


async def test_no_transfer_that_sql_made_up_leads_anywhere_or_keeps_anybody_from_reading_the_rest(
    service: TransactionsHarness, postgres: servers.TestPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However large it says it is, and of whatever currency."""
    monkeypatch.setattr(received_money, "_LARGEST_MAX", 3)
    for number in range(3):
        await confirm(service, await announce(service, amount=usd(500_00 - number)), f"FED-{number}")
    made_up = """
        SET session_replication_role = replica;
        INSERT INTO transactions SELECT (jsonb_populate_record(NULL::transactions, to_jsonb(t) || jsonb_build_object(
            'transaction_id', 'txn_' || n, 'seal', NULL, 'type', 'TRANSFER', 'investment_id', NULL,
            'payment_method', 'INTERNAL_TRANSFER', 'finality', 'PROVISIONAL', 'final_at', NULL,
            'next_look_at', now(), 'due_at', now(),
            'amount_minor', CASE WHEN n < 4 THEN 4000000000000000000 ELSE 1 END,
            'currency', CASE n WHEN 5 THEN 'ZZZ' ELSE 'USD' END, 'bank_reference', 'X' || n,
            'escrow_account_id', 'esc_decoy' || n, 'to_escrow_account_id', t.escrow_account_id))).*
        FROM (SELECT * FROM transactions LIMIT 1) t, generate_series(1, 9) n;
        INSERT INTO transaction_history
        SELECT (jsonb_populate_record(
            NULL::transaction_history, to_jsonb(h) || jsonb_build_object('transaction_id', 'txn_' || n))).*
        FROM (SELECT * FROM transaction_history WHERE to_status = 'SETTLED' LIMIT 1) h, generate_series(1, 9) n
    """
    await servers.tamper(postgres.admin_dsn, service.database, made_up)
    told = await list_received(service, ESCROW_ACCOUNT)
    assert {"MONEY_ALTERED", "MONEY_NOT_PROVEN"} <= {each.rule for each in told}
    assert "esc_decoy" not in str(told)


@pytest.mark.parametrize("of_nobody", [False, True])
async def test_that_there_are_more_exceptions_than_anybody_has_proven_is_told(
    service: TransactionsHarness, monkeypatch: pytest.MonkeyPatch, of_nobody: bool
) -> None:
    monkeypatch.setattr(exception_store, "_GRAVE_MAX", 2)
    for minor in (300_00, 200_00, 100_00):
        made = await service.deposit(amount=usd(minor))
        named = {"provider_payment_id": str(minor)} if of_nobody else {"transaction_id": made.transaction_id}
        about = About(**named, amount=Money(minor, "USD"))
        await find_exceptions(service, (about, ExceptionKind.PAYMENT_NOT_OURS))
    for found in await list_exceptions(service):
        await resolve(service, found, "Looked into it.", CHECKER)
    assert "EXCEPTIONS_NOT_PROVEN" in await read_received(service)
