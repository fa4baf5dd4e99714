"""Accounts of companies: their entries are CCD, and come back by the rules of companies once two persons say so."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from realco.transactions.v1 import bank_accounts_pb2 as bank_pb

from services.chassis.values.errors import AnswerWithheld, InvalidField, Unavailable
from services.chassis.values.refusals import PartyNotFound
from services.transactions.domain.payments import PaymentStatus
from tests.integration.ach_desk import CUT_OFF, T, leave
from tests.support.ach import list_sent
from tests.support.transactions import ADMIN, INVESTOR, MONDAY, TransactionsHarness

pytest_plugins = ("tests.integration.ach_desk",)

B = bank_pb.BankAccount
SETTLED = CUT_OFF.replace(day=3, hour=13)
# The days of which the bank sends its last files: until they are over it has time.
AFTER_TWO_BANKING_DAYS = datetime(2024, 12, 6, tzinfo=UTC)
AFTER_SIXTY_DAYS = datetime(2025, 2, 4, tzinfo=UTC)  # the sixtieth is a Saturday


@pytest.fixture
def service(ach_service: TransactionsHarness) -> TransactionsHarness:
    return ach_service


async def add_account(service: TransactionsHarness, holder_type: int | None, *, confirmed: bool) -> B:
    service.compliance.kinds["inv-001"] = "LLC"
    account: B = await service.bank_account("inv-001", "02", holder_type=holder_type)
    return await service.confirm(account) if confirmed else account


async def draw(service: TransactionsHarness, account: B) -> T:
    """A contribution from the account, which leaves with the next file."""
    values = {"bank_account_id": account.bank_account_id}
    request = await service.deposit_request("inv-001", "77", **values)
    made: T = await service.ask(INVESTOR, "CreateTransaction", request)
    await service.work()
    await leave(service)
    return made


@pytest.mark.parametrize(("holder_type", "of_debit", "of_credit"), [
    (None, "WEB", "PPD"),
    (B.PERSON, "WEB", "PPD"),
    (B.COMPANY, "CCD", "CCD"),
])  # fmt: skip
async def test_the_class_of_an_entry_comes_from_who_holds_the_account(
    service, folders, holder_type, of_debit, of_credit
) -> None:
    account = await add_account(service, holder_type, confirmed=True)
    assert account.holder_type == (holder_type or B.PERSON)
    service.owe("inv-001")
    await service.payout_to(account.bank_account_id, "inv-001")
    await draw(service, account)
    sent = folders.sent[0].decode().splitlines()
    batches = {line[50:53] for line in sent if line[0] == "5"}
    assert batches == {of_debit, of_credit}
    assert len(list_sent(folders.sent[0])) == 2


@pytest.mark.parametrize(("confirmed", "final"), [(True, AFTER_TWO_BANKING_DAYS), (False, AFTER_SIXTY_DAYS)])
async def test_a_companys_debit_is_final_after_two_banking_days_where_two_persons_say_that_it_is_one(
    service, folders, confirmed, final
) -> None:
    """Who alone calls his own account a company's is drawn from as one, and his bank has a person's time (R05)."""
    account = await add_account(service, B.COMPANY, confirmed=confirmed)
    made = await draw(service, account)
    assert {line[50:53] for line in folders.sent[0].decode().splitlines() if line[0] == "5"} == {"CCD"}
    service.clock.set(SETTLED)
    await service.work(hurried=True)
    seen = await service.get(made.transaction_id)
    assert seen.status == T.SETTLED
    assert seen.final_time.ToDatetime(MONDAY.tzinfo) == final
    assert seen.explanations.final_time.rule == ("ACH_COMPANY_RETURN" if confirmed else "ACH_DEBIT_RETURN")
    service.clock.set(final)
    await service.work()
    seen = await service.get(made.transaction_id)
    assert (seen.status, seen.finality) == (T.COMPLETED, T.FINAL)


async def test_a_confirmation_that_comes_later_shortens_nothing(service, folders) -> None:
    account = await add_account(service, B.COMPANY, confirmed=False)
    made = await draw(service, account)
    await service.confirm(account)
    service.clock.set(SETTLED)
    await service.work(hurried=True)
    final = (await service.get(made.transaction_id)).final_time.ToDatetime(MONDAY.tzinfo)
    assert final == AFTER_SIXTY_DAYS


@pytest.mark.parametrize(("kind", "holder_type", "is_refused"), [
    ("INDIVIDUAL", B.COMPANY, True),
    ("JOINT", B.COMPANY, True),
    ("INDIVIDUAL", B.PERSON, False),
    ("LLC", B.COMPANY, False),
    ("LLC", B.PERSON, False),
    ("TRUST", B.COMPANY, False),
])  # fmt: skip
@pytest.mark.parametrize("principal", [INVESTOR, ADMIN])
async def test_no_account_of_a_natural_person_is_called_a_companys(
    service, principal, kind, holder_type, is_refused
) -> None:
    service.compliance.kinds["inv-001"] = kind
    if not is_refused:
        assert (await service.bank_account("inv-001", principal=principal, holder_type=holder_type)).bank_account_id
        return
    with pytest.raises(InvalidField) as refusal:
        await service.bank_account("inv-001", principal=principal, holder_type=holder_type)
    assert refusal.value.fields == {"holder_type": f"must be PERSON for a party that is {kind}"}


async def test_nobody_knows_a_company_where_compliance_does_not_say_so(service) -> None:
    service.compliance.kinds["inv-001"] = "KIND_UNSPECIFIED"
    with pytest.raises(AnswerWithheld):
        await add_account_as_it_is(service)
    service.wire.fail("BatchGetClearances", "lost")
    with pytest.raises(Unavailable):
        await add_account_as_it_is(service)
    service.compliance.unknown.add("inv-001")
    with pytest.raises(PartyNotFound):
        await add_account_as_it_is(service)


async def add_account_as_it_is(service: TransactionsHarness) -> B:
    return await service.bank_account("inv-001", principal=ADMIN, holder_type=B.COMPANY)


async def test_a_debit_of_a_company_that_is_a_person_by_now_is_not_drawn(service) -> None:
    account = await add_account(service, B.COMPANY, confirmed=True)
    service.compliance.kinds["inv-001"] = "INDIVIDUAL"
    made = await draw(service, account)
    failure = (await service.get(made.transaction_id)).failure
    assert (failure.code, "INDIVIDUAL" in failure.message) == ("BANK_ACCOUNT_NOT_USABLE", True)


async def test_a_companys_debit_waits_while_nobody_can_tell_what_its_party_is(service) -> None:
    """Compliance does not say it of a party that somebody altered in the database, though it is cleared."""
    account = await add_account(service, B.COMPANY, confirmed=True)
    service.compliance.kinds["inv-001"] = "KIND_UNSPECIFIED"
    made = await draw(service, account)
    assert (await service.get(made.transaction_id)).status == T.QUEUED
    service.compliance.kinds["inv-001"] = "LLC"
    await service.work(hurried=True)
    assert (await service.get(made.transaction_id)).status == T.PENDING_SETTLEMENT


@pytest.mark.parametrize(("holder_type", "days"), [(B.COMPANY, "2 banking days"), (B.PERSON, "60 days")])
async def test_whoever_confirms_an_account_reads_what_it_means_that_it_is_a_companys(
    service, holder_type, days
) -> None:
    account = await add_account(service, holder_type, confirmed=False)
    waiting = await service.waiting(account.bank_account_id)
    [told] = [each for each in waiting.explanations if each.rule == "HOLDER_TYPE"]
    for words in ("its party is LLC by law", f"final after {days}", "refunded without a second person"):
        assert words in told.statement
    assert waiting.summary == f"Money may go to account …{account.account_number_last4} of inv-001"
    service.wire.fail("BatchGetClearances", "lost")
    [told] = [
        each for each in (await service.waiting(account.bank_account_id)).explanations if each.rule == "HOLDER_TYPE"
    ]
    assert "nobody can tell" in told.statement


async def test_a_second_person_decides_on_whether_it_is_a_company_and_nobody_changes_it(service) -> None:
    account = await add_account(service, B.COMPANY, confirmed=False)
    content = json.loads((await service.waiting(account.bank_account_id)).content)
    assert content["resource"]["bankAccount"]["holderType"] == "COMPANY"
    assert "holder_type" not in bank_pb.UpdateBankAccountRequest.DESCRIPTOR.fields_by_name


async def test_a_late_return_of_a_companys_debit_is_booked_after_it_was_final(service_database) -> None:
    service = TransactionsHarness(await service_database("transactions"))
    account = await add_account(service, B.COMPANY, confirmed=True)
    request = await service.deposit_request("inv-001", "77", bank_account_id=account.bank_account_id)
    made = await service.ask(INVESTOR, "CreateTransaction", request)
    await service.work()
    await service.hook("evt_1", service.bank.report(made.transaction_id, PaymentStatus.SETTLED))
    await service.work()
    service.clock.advance(timedelta(days=7))
    await service.work()
    assert (await service.get(made.transaction_id)).finality == T.FINAL
    await service.hook("evt_2", service.bank.report(made.transaction_id, PaymentStatus.RETURNED, "R05"))
    await service.work()
    seen = await service.get(made.transaction_id)
    assert (seen.status, seen.failure.metadata["network_code"]) == (T.RETURNED, "R05")
