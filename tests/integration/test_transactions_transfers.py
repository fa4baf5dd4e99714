"""A transfer to another escrow account: staff orders it, another approves it, and a third says that it was made."""

from __future__ import annotations

from typing import Any

import pytest
from realco.escrow.v1.escrow_accounts_pb2 import EscrowAccount
from realco.escrow.v1.journal_pb2 import JournalEntry
from realco.transactions.v1 import transactions_pb2 as pb
from realco.transactions.v1.unfinished_pb2 import ListUnfinishedTransactionsRequest
from realco.type.v1.money_pb2 import Money
from realco.type.v1.sort_pb2 import Sort

from services.chassis.calls.auth import Principal
from services.chassis.values.errors import DomainError
from services.chassis.values.ids import new_id
from tests.support.arrivals import build_arrival
from tests.support.exceptions import list_exceptions, report_twice
from tests.support.transactions import ADMIN, CHECKER, ESCROW_ACCOUNT, ORG, TransactionsHarness, usd

T = pb.Transaction
THIRD = Principal("admin-3", "admin", ORG)
OTHER = "esc_" + "9" * 26
SPONSOR = "inv-001"


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    """The account has 50.00 to distribute, and another one of the same sponsor has nothing."""
    made = TransactionsHarness(await service_database("transactions"))
    made.escrow.accounts[ESCROW_ACCOUNT].sponsor_party_id = SPONSOR
    made.escrow.open(escrow_account_id=OTHER, sponsor=SPONSOR)
    made.escrow.post(ESCROW_ACCOUNT, JournalEntry.ADJUSTMENT, "cash", "distributable", 50_00)
    return made


async def refused(work: Any) -> DomainError:
    with pytest.raises(DomainError) as refusal:
        await work
    return refusal.value


def build_order(**more: Any) -> pb.CreateTransactionRequest:
    values: dict[str, Any] = {
        "idempotency_key": new_id("key"),
        "type": T.TRANSFER,
        "payment_method": T.INTERNAL_TRANSFER,
        "amount": usd(50_00),
        "escrow_account_id": ESCROW_ACCOUNT,
        "to_escrow_account_id": OTHER,
        "party_id": SPONSOR,
        "description": "For the works next door",
    }
    return pb.CreateTransactionRequest(**values | more)


async def order(service: TransactionsHarness, principal: Principal = ADMIN, **more: Any) -> Any:
    return await service.ask(principal, "CreateTransaction", build_order(**more))


async def test_three_persons_move_cash_of_the_issuer_to_its_other_account(service: TransactionsHarness) -> None:
    service.escrow.committed[OTHER] = {"inv-009"}
    made = await order(service)
    assert (made.status, made.direction, made.to_escrow_account_id) == (T.PENDING_APPROVAL, Money.Direction.OUT, OTHER)
    dossier = await service.waiting(made.transaction_id)
    assert set(dossier.beneficiary_party_ids) == {SPONSOR, "inv-009"}, "who gains where it arrives approves it no more"
    told = {each.rule: each.statement for each in dossier.explanations}
    assert told["TRANSFER_TO"].startswith("50.00 USD goes to DISTRIBUTABLE of ")
    assert OTHER in told["TRANSFER_TO"]
    assert '"toEscrowAccountId":"' + OTHER in dossier.content.replace(" ", "")
    assert (await refused(service.grant(dossier, ADMIN))).reason == "MAKER_IS_CHECKER"
    await service.grant(dossier)
    await service.work()
    waiting = await service.get(made.transaction_id)
    assert waiting.status == T.PENDING_SETTLEMENT
    assert service.escrow.book[ESCROW_ACCOUNT, "distributable"] == 0, "it has left what can be distributed"
    for person in (ADMIN, CHECKER):
        assert (await refused(service.ask(person, "ConfirmTransaction", build_arrival(waiting)))).reason == (
            "MAKER_IS_CHECKER"
        )
    done = await service.ask(THIRD, "ConfirmTransaction", build_arrival(waiting))
    assert (done.status, done.finality) == (T.COMPLETED, T.FINAL)


async def test_a_list_finds_transfers_by_the_account_that_they_go_to(service: TransactionsHarness) -> None:
    """And shows nobody more than before: an investor reads none, whose they are not."""
    made = [(await order(service)).transaction_id for _ in range(2)]
    await service.deposit()
    for who, query, wanted in [
        (ADMIN, {"to_escrow_account_id": [OTHER]}, made[::-1]),
        (ADMIN, {"to_escrow_account_id": [OTHER, ESCROW_ACCOUNT], "order": Sort.OLDEST_FIRST}, made),
        (ADMIN, {"to_escrow_account_id": [OTHER], "status": [T.SETTLED]}, []),
        (ADMIN, {"to_escrow_account_id": [ESCROW_ACCOUNT]}, []),
        (ADMIN, {"escrow_account_id": [OTHER]}, []),
        (Principal("inv-009", "investor", ORG, parties=frozenset({"inv-009"})), {"to_escrow_account_id": [OTHER]}, []),
    ]:
        page = await service.ask(who, "ListTransactions", pb.ListTransactionsRequest(**query))
        assert [each.transaction_id for each in page.transactions] == wanted
    await report_twice(service, made[0])
    for account in (OTHER, ESCROW_ACCOUNT):
        [found] = await list_exceptions(service, escrow_account_id=[account])
        assert found.transaction_id == made[0]


@pytest.mark.parametrize(
    ("more", "fields"),
    [
        ({"to_escrow_account_id": None}, ["to_escrow_account_id"]),
        ({"to_escrow_account_id": ESCROW_ACCOUNT}, ["to_escrow_account_id"]),
        ({"payment_method": T.WIRE, "bank_account_id": "ba_" + "0" * 26}, ["payment_method"]),
        ({"type": T.WITHDRAWAL}, ["payment_method", "to_escrow_account_id"]),
        ({"type": T.WITHDRAWAL, "to_escrow_account_id": None}, ["payment_method"]),
        ({"party_id": "sponsor-1"}, ["party_id"]),
        ({"to_escrow_account_id": "esc_" + "8" * 26}, ["to_escrow_account_id"]),
    ],
)
async def test_it_names_another_account_and_goes_by_no_other_way(
    service: TransactionsHarness, more: dict[str, Any], fields: list[str]
) -> None:
    faults = (await refused(order(service, **more))).fields
    assert list(faults) == fields
    if "payment_method" in fields:
        assert faults["payment_method"] == "must be INTERNAL_TRANSFER for TRANSFER, and only then"


async def test_it_goes_to_an_open_account_of_the_same_sponsor_and_currency_alone(service: TransactionsHarness) -> None:
    there = service.escrow.accounts[OTHER]
    for name, wrong, reason in (
        ("sponsor_party_id", "sponsor-1", "INVALID_FIELD"),
        ("currency_code", "EUR", "CURRENCY_MISMATCH"),
        ("status", EscrowAccount.FROZEN, "ESCROW_ACCOUNT_FROZEN"),
        ("status", EscrowAccount.CLOSED, "ESCROW_ACCOUNT_CLOSED"),
    ):
        right = getattr(there, name)
        setattr(there, name, wrong)
        refusal = await refused(order(service))
        assert (refusal.reason, list(refusal.fields)) == (reason, ["to_escrow_account_id"])
        setattr(there, name, right)
    assert (await order(service)).status == T.PENDING_APPROVAL


async def test_neither_account_closes_before_it_is_over_and_what_was_not_made_comes_back(
    service: TransactionsHarness,
) -> None:
    made = await order(service)
    await service.grant(await service.waiting(made.transaction_id))
    await service.work()
    escrow = Principal("service:escrow", "service", ORG)
    for account in (ESCROW_ACCOUNT, OTHER):
        request = ListUnfinishedTransactionsRequest(escrow_account_id=account)
        found = await service.ask(escrow, "ListUnfinishedTransactions", request)
        assert list(found.transaction_ids) == [made.transaction_id]
    said = pb.RecordTransactionReturnRequest(
        idempotency_key=new_id("key"), transaction_id=made.transaction_id, kind="NOT_SENT", note="By our bank."
    )
    approval = (await service.ask(ADMIN, "RecordTransactionReturn", said)).approval
    await service.grant(await service.waiting(made.transaction_id))
    assert approval.approval_id
    assert (await service.get(made.transaction_id)).status == T.FAILED


async def test_whoever_says_that_it_was_confirmed_in_error_reads_what_is_taken_where_it_arrived(
    service: TransactionsHarness,
) -> None:
    made = await order(service)
    await service.grant(await service.waiting(made.transaction_id))
    await service.work()
    await service.ask(THIRD, "ConfirmTransaction", build_arrival(await service.get(made.transaction_id)))
    of_it = {"transaction_id": made.transaction_id}
    service.escrow.post(OTHER, JournalEntry.TRANSFER, "cash", "distributable", 50_00, **of_it)
    service.escrow.post(OTHER, JournalEntry.ADJUSTMENT, "distributable", "cash", 20_00)
    said = pb.RecordTransactionReturnRequest(
        idempotency_key=new_id("key"), kind="CONFIRMED_IN_ERROR", note="Of another deal.", **of_it
    )
    await service.ask(ADMIN, "RecordTransactionReturn", said)
    dossier = await service.waiting(made.transaction_id)
    [told] = [each for each in dossier.explanations if each.rule == "TRANSFER_TO"]
    assert told.statement.startswith("50.00 USD would be TAKEN from ")
    assert told.statement.endswith(
        f"({OTHER}), which is ACTIVE: 50.00 USD from CASH, 30.00 USD from DISTRIBUTABLE. 20.00 USD of it was spent"
        f" there, and {SPONSOR} would owe it. 20.00 USD of cash would be missing there."
    )
    assert {each.name: each.value for each in told.operands[3:]} == {
        "CASH": "30.00 USD, then -20.00 USD",
        "DISTRIBUTABLE": "30.00 USD, then 0.00 USD",
        f"RETURNS_RECEIVABLE of {SPONSOR}": "0.00 USD, then 20.00 USD",
    }


async def test_an_investor_moves_nothing_between_accounts(service: TransactionsHarness) -> None:
    investor = Principal(SPONSOR, "investor", ORG, parties=frozenset({SPONSOR}))
    assert (await refused(order(service, investor))).reason == "TYPE_NOT_SUPPORTED"
