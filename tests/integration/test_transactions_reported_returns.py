"""A wire or check that a person confirmed comes back, or had never come: two persons say so."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from realco.escrow.v1.escrow_accounts_pb2 import EscrowAccount
from realco.escrow.v1.journal_pb2 import JournalEntry
from realco.transactions.v1 import transactions_pb2 as pb

from services.chassis.values.errors import DomainError
from services.chassis.values.ids import new_id
from services.transactions.domain.payments import PaymentStatus
from services.transactions.domain.reported_returns import RETURN_KINDS
from tests.support.arrivals import announce, build_arrival, confirm, correct, report
from tests.support.transactions import ADMIN, CHECKER, ESCROW_ACCOUNT, TransactionsHarness, usd

T = pb.Transaction
METHODS = {"CHECK_RETURNED": T.CHECK, "WIRE_RETURNED": T.WIRE, "CONFIRMED_IN_ERROR": T.CHECK}


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


async def refused(call: Any) -> DomainError:
    with pytest.raises(DomainError) as refusal:
        await call
    return refusal.value


async def arrived(service: TransactionsHarness, method: int = T.CHECK, reference: str = "FED-1") -> Any:
    return await confirm(service, await announce(service, method), reference)


@pytest.mark.parametrize("kind", METHODS)
async def test_two_persons_say_that_what_was_confirmed_is_not_there_any_more(
    service: TransactionsHarness, kind: str
) -> None:
    done = await arrived(service, METHODS[kind])
    asked = await report(service, done, kind)
    assert (await service.get(done.transaction_id)).status == done.status
    assert (await refused(service.grant(asked, ADMIN))).reason == "MAKER_IS_CHECKER"
    await service.grant(asked)
    read = await service.get(done.transaction_id)
    assert (read.status, read.finality, read.failure.code) == (T.RETURNED, T.PROVISIONAL, kind)
    assert dict(read.failure.metadata) == ({} if kind == "CONFIRMED_IN_ERROR" else {"bank_reference": "RET-1"})
    assert (await service.events(done.transaction_id))[-1] == "TransactionReturned"
    assert "record_return" not in read.allowed_actions
    await service.work(hurried=True)
    assert (await service.get(done.transaction_id)).status == T.RETURNED


async def test_who_decides_reads_what_is_taken_from_whom(service: TransactionsHarness) -> None:
    waiting = await announce(service, T.CHECK)
    done = await confirm(service, await correct(service, waiting, 90_00))
    assert "record_return" in (await service.get(done.transaction_id)).allowed_actions
    about = {"transaction_id": done.transaction_id}
    service.escrow.post(ESCROW_ACCOUNT, JournalEntry.DEPOSIT, "cash", "subscription:inv-001", 90_00, **about)
    await report(service, done)
    dossier = await service.waiting(done.transaction_id)
    assert dossier.summary == "Contribution: 90.00 USD, from inv-001, by check. The check came back."
    assert (dossier.resource_id, dossier.scope_id, dossier.amount) == (done.transaction_id, ESCROW_ACCOUNT, usd(90_00))
    assert list(dossier.beneficiary_party_ids) == ["inv-001", "sponsor-1"]
    said = {each.rule: each.statement for each in dossier.explanations}
    assert said["CONFIRMED_BY_A_PERSON"] == "admin-2 confirmed 90.00 USD on 2024-12-02, of 100.00 USD announced."
    assert "ESCROW_ACTIVE" in said
    taken = {each.ledger_account.kind: each.after.amount_minor for each in dossier.effects}
    assert taken == {"CASH": 0, "SUBSCRIPTION": 0}


@pytest.mark.parametrize("party", ["inv-001", "sponsor-1"])
async def test_who_gains_where_the_money_arrives_does_not_say_that_it_came_back(
    service: TransactionsHarness, party: str
) -> None:
    asked = await report(service, await arrived(service))
    service.compliance.parties[CHECKER.person] = {party}
    assert (await refused(service.grant(asked))).reason == "BENEFICIARY_IS_CHECKER"


@pytest.mark.parametrize("kind", METHODS)
async def test_only_a_reference_that_was_confirmed_in_error_confirms_another(
    service: TransactionsHarness, kind: str
) -> None:
    done, other = await arrived(service, METHODS[kind]), await announce(service, METHODS[kind])
    await service.grant(await report(service, done, kind))
    if kind == "CONFIRMED_IN_ERROR":
        assert (await confirm(service, other)).bank_reference == "FED-1"
        third = await announce(service)
        assert (await refused(confirm(service, third))).metadata == {"transaction_id": other.transaction_id}
    else:
        assert (await refused(confirm(service, other))).reason == "BANK_REFERENCE_USED"


async def test_one_line_of_a_statement_is_one_fact_whatever_it_is_said_to_be(service: TransactionsHarness) -> None:
    first, second = await arrived(service, reference="IN-5"), await arrived(service, reference="IN-6")
    assert (await refused(report(service, first, bank_reference="in 6"))).reason == "BANK_REFERENCE_USED"
    for alike in ("IN-\u0416", "\u0406N-6", "IN-\u0666"):  # letters and digits that look alike
        assert (await refused(report(service, first, bank_reference=alike))).reason == "INVALID_FIELD"
    own = await report(service, second, bank_reference="IN-6")  # a check may come back under its own number
    [told] = [each.statement for each in own.explanations if each.rule == "BANK_REFERENCE"]
    assert "“IN-6”" in told
    assert "the reference that confirmed the payment" in told
    await service.grant(own)
    await service.grant(await report(service, first, bank_reference="R-7"))
    waiting = await announce(service, T.CHECK)
    assert (await refused(confirm(service, waiting, "r7"))).reason == "BANK_REFERENCE_USED"


async def test_the_line_that_confirmed_a_wire_does_not_say_that_it_came_back(service: TransactionsHarness) -> None:
    wire = await arrived(service, T.WIRE, reference="FED-9")
    asked = report(service, wire, kind="WIRE_RETURNED", bank_reference="fed 9")
    assert (await refused(asked)).reason == "BANK_REFERENCE_USED"
    await service.grant(await report(service, wire, kind="WIRE_RETURNED", bank_reference="FED-10"))
    assert (await service.path(wire.transaction_id))[-1] == "RETURNED"


async def test_a_line_of_a_statement_is_looked_up_by_its_reference(service: TransactionsHarness) -> None:
    first, _ = await arrived(service, reference="FED-1"), await arrived(service, reference="FED-2")
    found = await service.ask(ADMIN, "ListTransactions", pb.ListTransactionsRequest(bank_reference=["FED-1"]))
    assert [each.transaction_id for each in found.transactions] == [first.transaction_id]
    debit = await service.deposit()
    await service.work()
    known = (await service.get(debit.transaction_id)).provider_reference
    found = await service.ask(ADMIN, "ListTransactions", pb.ListTransactionsRequest(provider_reference=[known]))
    assert [each.transaction_id for each in found.transactions] == [debit.transaction_id]


@pytest.mark.parametrize("after", [0, 10, 100], ids=["at risk", "completed", "final"])
async def test_a_check_comes_back_however_late(service: TransactionsHarness, after: int) -> None:
    done = await arrived(service)
    service.clock.advance(timedelta(days=after))
    await service.work(hurried=True)
    await service.grant(await report(service, done))
    assert (await service.path(done.transaction_id))[-1] == "RETURNED"


async def test_what_was_asked_for_is_done_though_the_return_risk_has_ended_since(service: TransactionsHarness) -> None:
    done = await arrived(service)
    service.clock.advance(timedelta(days=6))
    asked = await report(service, done)
    service.clock.advance(timedelta(days=2))
    await service.work(hurried=True)
    assert (await service.get(done.transaction_id)).status == T.COMPLETED
    await service.grant(asked)
    assert (await service.get(done.transaction_id)).status == T.RETURNED


async def test_what_came_back_is_over(service: TransactionsHarness) -> None:
    done = await arrived(service)
    await service.grant(await report(service, done))
    assert (await refused(report(service, done))).reason == "ILLEGAL_STATUS_CHANGE"
    read = await service.get(done.transaction_id)
    assert (await refused(service.ask(CHECKER, "ConfirmTransaction", build_arrival(read)))).reason == (
        "ILLEGAL_STATUS_CHANGE"
    )
    again = pb.RetryTransactionRequest(idempotency_key=new_id("key"), transaction_id=done.transaction_id)
    assert (await refused(service.ask(ADMIN, "RetryTransaction", again))).reason == "NOT_RETRYABLE"


async def test_nothing_comes_back_by_a_person_s_word_that_no_person_confirmed(service: TransactionsHarness) -> None:
    assert (await refused(report(service, await announce(service, T.CHECK)))).reason == "ILLEGAL_STATUS_CHANGE"
    debit = await service.deposit()
    await service.work()
    service.bank.report(debit.transaction_id, PaymentStatus.SETTLED)
    await service.work(hurried=True)
    assert (await refused(report(service, debit, "CONFIRMED_IN_ERROR"))).reason == "PAYMENT_METHOD_NOT_SUPPORTED"


@pytest.mark.parametrize(
    ("kind", "more", "fields"),
    [
        ("WIRE_RETURNED", {}, ["kind"]),
        ("CHECK_RETURNED", {"bank_reference": None}, ["bank_reference"]),
        ("CONFIRMED_IN_ERROR", {"bank_reference": "RET-1"}, ["bank_reference"]),
    ],
)
async def test_what_is_reported_is_what_can_happen_to_a_check(
    service: TransactionsHarness, kind: str, more: dict[str, Any], fields: list[str]
) -> None:
    refusal = await refused(report(service, await arrived(service), kind, **more))
    assert (refusal.reason, list(refusal.fields)) == ("INVALID_FIELD", fields)


async def test_a_return_is_recorded_in_a_frozen_account_and_in_none_that_is_closed(
    service: TransactionsHarness,
) -> None:
    done = await arrived(service)
    service.escrow.accounts[ESCROW_ACCOUNT].status = EscrowAccount.CLOSED
    assert (await refused(report(service, done))).reason == "ESCROW_ACCOUNT_CLOSED"
    service.escrow.accounts[ESCROW_ACCOUNT].status = EscrowAccount.FROZEN
    await service.grant(await report(service, done))
    assert (await service.get(done.transaction_id)).status == T.RETURNED


def test_each_kind_of_the_contract_has_its_row() -> None:
    assert {*RETURN_KINDS} == {*METHODS, "NOT_SENT"} == {*T.ReturnKind.keys()} - {"RETURN_KIND_UNSPECIFIED"}
