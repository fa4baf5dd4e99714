"""What a reader of the events alone knows: the same as whoever asks, after any story."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message import Message
from realco.approvals.v1 import approvals_pb2
from realco.transactions.v1 import bank_accounts_pb2 as bank_pb
from realco.transactions.v1 import events_pb2, webhooks_pb2
from realco.transactions.v1 import transactions_pb2 as pb

from services.chassis.values.errors import DomainError
from services.chassis.values.ids import new_id
from services.transactions.domain.payments import PaymentStatus
from tests.support.arrivals import confirm
from tests.support.events import as_in_events
from tests.support.transactions import ADMIN, CHECKER, IMPORT, TransactionsHarness

T = pb.Transaction


@pytest.fixture
async def service(service_database) -> TransactionsHarness:
    return TransactionsHarness(await service_database("transactions"))


async def read_events(service: TransactionsHarness) -> list[Any]:
    async with service.database.begin_for_all() as tx:
        rows = (await tx.execute(sa.text("SELECT event_type, payload FROM outbox ORDER BY id"))).all()
    return [getattr(events_pb2, row.event_type.rsplit(".", 1)[1]).FromString(row.payload) for row in rows]


def state_of(event: Any) -> Message:
    """The resource that an event carries."""
    [field] = [
        field
        for field in event.DESCRIPTOR.fields
        if field.message_type is not None and field.name in ("transaction", "bank_account", "webhook", "approval")
    ]
    state: Message = getattr(event, field.name)
    return state


async def story(service: TransactionsHarness) -> None:
    """Something of everything: arrivals, a return, a decline, approvals, a cancellation, a blocked account."""
    settled, returned, late = [await service.deposit(f"inv-{number}") for number in range(3)]
    await service.deposit("inv-4", suffix="93")
    cancelled = await service.deposit("inv-5")
    await service.ask(ADMIN, "CancelTransaction", pb.CancelTransactionRequest(transaction_id=cancelled.transaction_id))
    proceeds = await service.payout("sponsor-1", type=T.ESCROW_WITHDRAWAL)
    wire = await service.deposit("inv-6", payment_method=T.WIRE, bank_account_id=None)
    await service.work()
    waiting = await service.get(proceeds.transaction_id)
    approve = pb.ApproveTransactionRequest(transaction_id=waiting.transaction_id, etag=waiting.etag)
    await service.ask(CHECKER, "ApproveTransaction", approve)
    await confirm(service, await service.get(wire.transaction_id))
    with service.wire.cut(service.compliance):
        await service.deposit("inv-7")
    for number, made in enumerate((settled, late)):
        payment_id = service.bank.report(made.transaction_id, PaymentStatus.SETTLED)
        body = HttpBody(data=f"evt_{number} payment.changed {payment_id}".encode())
        await service.ask(ADMIN, "ReceiveSandboxWebhook", webhooks_pb2.ReceiveSandboxWebhookRequest(body=body))
    service.bank.report(returned.transaction_id, PaymentStatus.RETURNED, "R01", at=service.clock.now())
    await service.work(hurried=True)
    service.bank.report(late.transaction_id, PaymentStatus.RETURNED, "R02", at=service.clock.now())
    service.clock.advance(timedelta(days=61))
    await service.hurry()
    await service.work(hurried=True)
    await service.expire_approvals()
    for hook in (await service.ask(ADMIN, "ListWebhooks", webhooks_pb2.ListWebhooksRequest())).webhooks:
        await service.ask(
            IMPORT,
            "ReplayWebhook",
            webhooks_pb2.ReplayWebhookRequest(idempotency_key=new_id("key"), webhook_id=hook.webhook_id),
        )
    await service.work()


async def read_all(service: TransactionsHarness) -> dict[str, Message]:
    """Every resource as GET answers it, by id."""
    found: dict[str, Message] = {}
    kinds: list[tuple[str, Any, str, str, Callable[[str], Message]]] = [
        (
            "Transaction",
            pb.ListTransactionsRequest(),
            "transactions",
            "transaction_id",
            lambda key: pb.GetTransactionRequest(transaction_id=key),
        ),
        (
            "BankAccount",
            bank_pb.ListBankAccountsRequest(),
            "bank_accounts",
            "bank_account_id",
            lambda key: bank_pb.GetBankAccountRequest(bank_account_id=key),
        ),
        (
            "Webhook",
            webhooks_pb2.ListWebhooksRequest(),
            "webhooks",
            "webhook_id",
            lambda key: webhooks_pb2.GetWebhookRequest(webhook_id=key),
        ),
        (
            "Approval",
            approvals_pb2.ListApprovalsRequest(),
            "approvals",
            "approval_id",
            lambda key: approvals_pb2.GetApprovalRequest(approval_id=key),
        ),
    ]
    for name, listing, items, key, request in kinds:
        for item in getattr(await service.ask(ADMIN, f"List{name}s", listing), items):
            found[getattr(item, key)] = await service.ask(ADMIN, f"Get{name}", request(getattr(item, key)))
    return found


async def test_the_last_event_of_each_resource_is_the_resource(service: TransactionsHarness) -> None:
    await story(service)
    known: dict[str, Message] = {}
    versions: dict[str, list[int]] = {}
    for event in await read_events(service):
        known[event.meta.aggregate_id] = state_of(event)
        versions.setdefault(event.meta.aggregate_id, []).append(event.meta.aggregate_version)
    resources = await read_all(service)
    statuses = {T.Status.Name(each.status) for each in resources.values() if isinstance(each, T)}
    assert statuses >= {"COMPLETED", "FAILED", "CANCELLED", "RETURNED", "PENDING_SETTLEMENT"}
    assert known == {key: as_in_events(resource) for key, resource in resources.items()}
    for key, numbers in versions.items():
        assert numbers == list(range(1, len(numbers) + 1)), key


async def test_each_move_of_a_history_names_the_event_that_told_of_it(service: TransactionsHarness) -> None:
    await story(service)
    told: dict[str, list[tuple[int, int]]] = {}
    for event in await read_events(service):
        if isinstance(state := state_of(event), T) and not isinstance(event, events_pb2.TransactionUpdated):
            told.setdefault(state.transaction_id, []).append((event.meta.aggregate_version, state.status))
    for transaction_id, moves in told.items():
        request = pb.ListTransactionStatusChangesRequest(transaction_id=transaction_id)
        history = await service.ask(ADMIN, "ListTransactionStatusChanges", request)
        assert [(move.aggregate_version, move.status) for move in history.status_changes] == moves


async def test_a_transaction_says_what_its_reader_may_do_and_why_its_times_are_so(service: TransactionsHarness) -> None:
    made = await service.deposit(external_id="order-7", metadata={"desk": "3"})
    assert (made.external_id, dict(made.metadata)) == ("order-7", {"desk": "3"})
    assert (await service.get(made.transaction_id)).allowed_actions == ["cancel"]
    await service.work()
    service.bank.report(made.transaction_id, PaymentStatus.RETURNED, "R01", at=service.clock.now())
    await service.work(hurried=True)
    waiting = await service.get(made.transaction_id)
    assert list(waiting.allowed_actions) == ["cancel", "retry"]
    assert waiting.explanations.next_attempt_time.rule == "ACH_REPRESENTMENT"
    assert not waiting.explanations.HasField("final_time")
    query = pb.ListTransactionsRequest(external_id=["order-7"])
    [listed] = (await service.ask(ADMIN, "ListTransactions", query)).transactions
    assert (listed.etag, list(listed.allowed_actions), listed.HasField("explanations")) == (waiting.etag, [], False)


async def test_what_is_only_validated_leaves_nothing(service: TransactionsHarness) -> None:
    request = await service.deposit_request(validate_only=True)
    before = len(await read_events(service))
    assert (await service.ask(IMPORT, "CreateTransaction", request)).status == T.QUEUED
    assert (await service.ask(ADMIN, "CreateTransaction", request)).status == T.PENDING_APPROVAL
    with service.wire.cut(service.compliance):
        assert (await service.ask(IMPORT, "CreateTransaction", request)).status == T.INITIATED
    assert (await service.ask(ADMIN, "ListTransactions", pb.ListTransactionsRequest())).transactions == []
    service.compliance.uncleared[request.party_id] = "KYC is FAILED"
    with pytest.raises(DomainError, match="KYC is FAILED"):
        await service.ask(IMPORT, "CreateTransaction", request)
    del service.compliance.uncleared[request.party_id]
    assert (len(await read_events(service)), service.compliance.made) == (before, {})
    request.validate_only = False
    made = await service.ask(IMPORT, "CreateTransaction", request)
    cancel = pb.CancelTransactionRequest(transaction_id=made.transaction_id, etag=made.etag, validate_only=True)
    assert (await service.ask(ADMIN, "CancelTransaction", cancel)).status == T.CANCELLED
    assert (await service.get(made.transaction_id)).status == T.QUEUED
