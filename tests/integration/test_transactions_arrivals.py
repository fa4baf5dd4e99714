"""A person says what a wire or check brought: what the bank says it is, and not what was announced."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from realco.transactions.v1 import events_pb2 as events
from realco.transactions.v1 import transactions_pb2 as pb
from realco.type.v1.money_pb2 import Money

from services.chassis.calls.auth import Principal
from services.chassis.calls.validation import validate
from services.chassis.values.errors import DomainError, InvalidField
from services.chassis.values.ids import new_id
from tests.support.arrivals import THIRD, announce, build_arrival, confirm, correct
from tests.support.transactions import ADMIN, CHECKER, INVESTOR, ORG, TransactionsHarness, usd

T = pb.Transaction
SPONSOR = Principal("sponsor-9", "sponsor", ORG)


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


async def refused(call: Any) -> DomainError:
    with pytest.raises(DomainError) as refusal:
        await call
    return refusal.value


@pytest.mark.parametrize("method", [T.WIRE, T.CHECK])
@pytest.mark.parametrize("arrived", [75_00, 130_00], ids=["short", "over"])
async def test_a_wire_or_check_settles_with_what_was_corrected_and_says_what_was_announced(
    service: TransactionsHarness, method: int, arrived: int
) -> None:
    waiting = await correct(service, await announce(service, method), arrived)
    assert (waiting.status, waiting.corrected_by) == (T.PENDING_SETTLEMENT, THIRD.person)
    await confirm(service, waiting)
    read = await service.get(waiting.transaction_id)
    assert (read.amount, read.announced_amount) == (usd(arrived), usd(100_00))
    assert read.correction_note == "The bank kept a fee."
    [listed] = (await service.ask(ADMIN, "ListTransactions", pb.ListTransactionsRequest())).transactions
    assert (listed.amount, listed.announced_amount) == (usd(arrived), usd(100_00))
    query = "SELECT payload FROM outbox WHERE event_type LIKE '%.{}'"
    for event in (events.TransactionUpdated, events.TransactionSettled):
        async with service.database.begin_for_all() as tx:
            told = event.FromString(await tx.scalar(sa.text(query.format(event.DESCRIPTOR.name))))
        assert (told.transaction.amount, told.transaction.announced_amount) == (usd(arrived), usd(100_00))
        assert not told.transaction.HasField("correction_note")  # what people wrote


async def test_what_arrives_as_announced_says_nothing_of_a_correction(service: TransactionsHarness) -> None:
    done = await confirm(service, await announce(service))
    assert done.amount == usd(100_00)
    assert not done.HasField("announced_amount")
    assert not done.HasField("correction_note")


async def test_nobody_alone_says_that_another_amount_came(service: TransactionsHarness) -> None:
    waiting = await announce(service)
    refusal = await refused(confirm(service, waiting, amount=usd(75_00)))
    assert (refusal.reason, list(refusal.fields)) == ("INVALID_FIELD", ["amount"])
    corrected = await correct(service, waiting, 75_00, by=CHECKER)
    assert (await refused(confirm(service, corrected))).reason == "MAKER_IS_CHECKER"
    assert (await refused(confirm(service, waiting))).reason == "ETAG_MISMATCH"
    as_announced = await correct(service, corrected, 100_00, by=CHECKER)
    assert not as_announced.HasField("announced_amount")
    assert (await refused(confirm(service, as_announced))).reason == "MAKER_IS_CHECKER"
    assert (await service.ask(THIRD, "ConfirmTransaction", build_arrival(as_announced))).status == T.COMPLETED


async def test_a_correction_is_one_of_the_amount(service: TransactionsHarness) -> None:
    waiting = await announce(service)
    refusal = await refused(correct(service, waiting, Money(amount_minor=75_00, currency_code="EUR")))
    assert (refusal.reason, list(refusal.fields)) == ("CURRENCY_MISMATCH", ["amount.currency_code"])
    said = await correct(service, waiting, 100_00)
    assert (said.corrected_by, said.HasField("announced_amount"), said.HasField("correction_note")) == (
        THIRD.person,
        False,
        False,
    )
    assert (await correct(service, said, 100_00)).etag == said.etag, "who said it has said it"


async def test_what_somebody_says_has_come_nobody_else_cancels(service: TransactionsHarness) -> None:
    said = await correct(service, await announce(service), 100_00)
    for person in (ADMIN, CHECKER, INVESTOR):
        cancel = pb.CancelTransactionRequest(
            transaction_id=said.transaction_id, etag=said.etag, idempotency_key=new_id("key")
        )
        assert (await refused(service.ask(person, "CancelTransaction", cancel))).reason == "ILLEGAL_STATUS_CHANGE"
        assert "cancel" not in (await service.get(said.transaction_id, person)).allowed_actions
    cancel.idempotency_key = new_id("key")
    assert (await service.ask(THIRD, "CancelTransaction", cancel)).status == T.CANCELLED


async def test_the_same_that_somebody_said_nobody_else_says_once_more_to_cancel_it_then(
    service: TransactionsHarness,
) -> None:
    said = await correct(service, await announce(service), 90_00)
    refusal = await refused(correct(service, said, 90_00, by=CHECKER))
    assert (refusal.reason, refusal.metadata) == ("ARRIVAL_STATED", {"corrected_by": THIRD.person})
    other = await correct(service, said, 80_00, by=CHECKER)
    assert (other.amount, other.corrected_by) == (usd(80_00), CHECKER.person)
    for person in (THIRD, CHECKER, ADMIN):  # two say that it came
        cancel = pb.CancelTransactionRequest(
            transaction_id=other.transaction_id, etag=other.etag, idempotency_key=new_id("key")
        )
        assert (await refused(service.ask(person, "CancelTransaction", cancel))).reason == "ILLEGAL_STATUS_CHANGE"
        assert "cancel" not in (await service.get(other.transaction_id, person)).allowed_actions
    told = "SELECT payload FROM outbox WHERE event_type LIKE '%.TransactionUpdated' ORDER BY 1"
    async with service.database.begin_for_all() as tx:
        found = [events.TransactionUpdated.FromString(each).transaction for each in await tx.scalars(sa.text(told))]
    assert {(each.corrected_by, each.amount.amount_minor) for each in found} == {
        (THIRD.person, 90_00),
        (CHECKER.person, 80_00),
    }
    assert (await service.ask(THIRD, "ConfirmTransaction", build_arrival(other))).status == T.COMPLETED


@pytest.mark.parametrize("payer", [INVESTOR, SPONSOR, ADMIN], ids=["investor", "sponsor", "staff-of-the-payer"])
async def test_of_what_its_payer_announced_two_admins_say_that_it_came(
    service: TransactionsHarness, payer: Principal
) -> None:
    """An announcement is what somebody means to send, and no word about what the bank did: whatever role of who acts
    for the payer is in the token."""
    if payer is ADMIN:
        service.compliance.former[payer.person] = {"inv-001"}
    request = await service.deposit_request(payment_method=T.WIRE, bank_account_id=None)
    made = await service.ask(payer, "CreateTransaction", request)
    await service.work()
    waiting = await service.get(made.transaction_id)
    offered = (await service.ask(CHECKER, "GetTransaction", asked(waiting))).allowed_actions
    assert ("confirm" in offered) is (payer is ADMIN)  # for whom a person acts is asked when it is done
    assert (await refused(confirm(service, waiting))).reason == "ARRIVAL_NOT_STATED"
    itself = Principal("the-same", "admin", ORG, known_as=payer.person)
    assert (await refused(correct(service, waiting, 100_00, by=itself))).reason == "MAKER_IS_CHECKER"
    service.compliance.parties[THIRD.person] = {"inv-001"}
    assert (await refused(correct(service, waiting, 100_00, by=THIRD))).reason == "BENEFICIARY_IS_CHECKER"
    service.compliance.parties.clear()
    said = await correct(service, waiting, 100_00, by=CHECKER)
    assert (await refused(confirm(service, said))).reason == "MAKER_IS_CHECKER"
    done = await service.ask(THIRD, "ConfirmTransaction", build_arrival(said))
    assert (done.status, done.corrected_by, done.confirmed_by) == (T.COMPLETED, CHECKER.person, THIRD.person)


def asked(read: Any) -> pb.GetTransactionRequest:
    return pb.GetTransactionRequest(transaction_id=read.transaction_id)


async def test_what_has_arrived_or_is_drawn_is_not_corrected(service: TransactionsHarness) -> None:
    done = await confirm(service, await announce(service))
    assert (await refused(correct(service, done, 1_00))).reason == "ILLEGAL_STATUS_CHANGE"
    debit = await service.deposit("inv-001")
    by_ach = await refused(correct(service, debit, 1_00))
    assert by_ach.reason == "PAYMENT_METHOD_NOT_SUPPORTED"
    assert by_ach.message.startswith("Only of what goes by CHECK, INTERNAL_TRANSFER, WIRE a person says")


@pytest.mark.parametrize("reference", ["--", ".", " - / - "])
def test_a_bank_s_reference_has_a_letter_or_a_digit(reference: str) -> None:
    read = T(transaction_id="txn_" + "0" * 26, etag="e", amount=usd(1))
    validate(build_arrival(read, "電-", idempotency_key="key"))
    with pytest.raises(InvalidField) as refusal:
        validate(build_arrival(read, reference, idempotency_key="key"))
    assert list(refusal.value.fields) == ["bank_reference"]


@pytest.mark.parametrize("reference", ["電匯", "FED-\u0415", "\u0395D-1", "FED-\u0661"])
async def test_a_bank_s_reference_has_no_letters_that_only_look_like_those_that_banks_write(
    service: TransactionsHarness, reference: str
) -> None:
    refusal = await refused(confirm(service, await announce(service), reference))
    assert list(refusal.fields) == ["bank_reference"]


@pytest.mark.parametrize("arrived", [40_00, 160_00], ids=["short", "over"])
async def test_what_arrived_counts_against_the_commitment(service: TransactionsHarness, arrived: int) -> None:
    investment_id = service.distributions.invest("inv-001", 200_00)
    waiting = await announce(service, investment_id=investment_id)
    await confirm(service, await correct(service, waiting, arrived))
    more = {"investment_id": investment_id, "payment_method": T.WIRE, "bank_account_id": None}
    over = await service.deposit_request(**more, amount=usd(200_00 - arrived + 1))
    assert (await refused(service.ask(ADMIN, "CreateTransaction", over))).reason == "COMMITMENT_EXCEEDED"
    rest = await service.deposit_request(**more, amount=usd(200_00 - arrived))
    assert (await service.ask(ADMIN, "CreateTransaction", rest)).status == T.QUEUED


async def test_whoever_asks_for_far_too_much_reads_what_is_left_beside_what_is_on_its_way(
    service: TransactionsHarness,
) -> None:
    investment_id = service.distributions.invest("inv-001", 200_00)
    await announce(service, investment_id=investment_id)
    more = {"investment_id": investment_id, "payment_method": T.WIRE, "bank_account_id": None}
    for asked in (100_01, 200_01, 999_00):
        refusal = await refused(
            service.ask(ADMIN, "CreateTransaction", await service.deposit_request(**more, amount=usd(asked)))
        )
        assert refusal.metadata["remaining_minor"] == "10000"


async def test_an_investor_does_not_read_what_staff_wrote_of_a_difference(service: TransactionsHarness) -> None:
    waiting = await correct(service, await announce(service), 75_00)
    await confirm(service, waiting)
    seen = await service.get(waiting.transaction_id, INVESTOR)
    assert (seen.amount, seen.announced_amount) == (usd(75_00), usd(100_00))
    assert not seen.HasField("correction_note")
    assert not {CHECKER.person, THIRD.person} & set(str(seen).split('"'))
