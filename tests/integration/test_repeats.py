"""What was done and is asked for again: one rule for all services (docs/idempotency.md).

Where a key is optional, the resource is answered as it is, nothing changes, and nobody is asked to approve it. Where a
key is required, the act is refused under another one with ILLEGAL_STATUS_CHANGE, which says the status and the one that
was wanted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from realco.approvals.v1 import approvals_pb2
from realco.compliance.v1 import api_keys_pb2, compliance_pb2, parties_pb2
from realco.distributions.v1 import distributions_pb2 as dpb
from realco.distributions.v1 import offerings_pb2 as opb
from realco.escrow.v1 import escrow_accounts_pb2, holds_pb2
from realco.transactions.v1 import bank_accounts_pb2, exceptions_pb2
from realco.transactions.v1 import transactions_pb2 as tpb

from deploy.topology import SERVICE_NAMES
from gateway import contracts
from services.chassis.calls.auth import Principal, acting_as
from services.chassis.data.database import Database
from services.chassis.values.errors import DomainError
from services.chassis.values.ids import new_id
from services.transactions.domain.payments import PaymentStatus
from tests.integration.ach_desk import pay_by_file
from tests.support.arrivals import build_arrival
from tests.support.compliance import CHECKER as REVIEWER
from tests.support.compliance import MAKER, ComplianceHarness, ordered_for
from tests.support.distributions import CLOSING, ORG, DistributionsHarness
from tests.support.escrow import Escrow, key
from tests.support.exceptions import report_twice
from tests.support.ledger_accounts import ledger_account
from tests.support.money import usd
from tests.support.transactions import ADMIN, CHECKER, IMPORT, TransactionsHarness

NewDatabase = Callable[[str], Awaitable[Database]]
# What they do is done once more each time, has no status of its own, or leaves nothing that could be taken back again.
NO_ACTS = ("Update", "Resend", "Replay", "Comment", "DeleteTransactionLimit")
# By service, in the order of their names.
_PLAYED = (
    "ReviewComplianceCheck AddPartyPerson PutTransactionLimit RevokeApiKey",
    (
        "CalculateDistribution SubmitDistribution ApproveDistribution RejectDistribution ExecuteDistribution"
        " CancelDistribution ChangeReceivablesPolicy CloseOffering RefundOffering CancelInvestment ApproveApproval"
        " RejectApproval CancelApproval"
    ),
    "FreezeEscrowAccount UnfreezeEscrowAccount ChangeEscrowAccountCustodian CloseEscrowAccount CaptureHold ReleaseHold",
    (
        "CancelTransaction ApproveTransaction RejectTransaction ConfirmTransaction RetryTransaction DeleteBankAccount"
        " UnblockBankAccount RecordTransactionReturn ReverseTransaction CorrectTransactionAmount"
        " AssignPaymentException ResolvePaymentException"
    ),
)
PLAYED = {service: acts.split() for service, acts in zip(sorted(SERVICE_NAMES), _PLAYED, strict=True)}


def find_resource(method: MethodDescriptor) -> Descriptor:
    """What it answers, or would answer were it not for the approval."""
    answer = method.output_type
    made = [field.message_type for field in answer.fields if field.containing_oneof and field.message_type]
    return made[0] if "approval" in answer.fields_by_name and made else answer


def is_act(method: MethodDescriptor) -> bool:
    """Whether it moves a resource that has a status, and that the request names; or it needs two persons."""
    asked, resource = method.input_type.fields_by_name, find_resource(method)
    if "idempotency_key" not in asked or method.name.startswith(NO_ACTS):
        return False
    if "approval" in method.output_type.fields_by_name and not is_key_required(method.input_type):
        return True
    return "status" in resource.fields_by_name and resource.fields[0].name in asked


def is_key_required(request: Descriptor) -> bool:
    options = request.fields_by_name["idempotency_key"].GetOptions()
    return field_behavior_pb2.REQUIRED in options.Extensions[field_behavior_pb2.field_behavior]


def test_every_act_is_played_below():
    acts = {method.name for service in contracts.services() for method in service.methods if is_act(method)}
    assert acts == {act for acts in PLAYED.values() for act in acts}


class Play:
    """Sends each act of a service, and then again, as it stands by then.

    Args:
        ask: Sends a request to the RPC of this name as a person.
    """

    def __init__(self, service: str, ask: Callable[[str, Any], Awaitable[Any]]) -> None:
        self._ask = ask
        self._left = set(PLAYED[service])

    async def __call__(self, call: Callable[[Any], Awaitable[Any]], request: Any) -> Any:
        rpc = request.DESCRIPTOR.name.removesuffix("Request")
        self._left.discard(rpc)
        is_required = is_key_required(request.DESCRIPTOR)
        if is_required:
            request.idempotency_key = new_id("key")
        again = type(request)()
        again.CopyFrom(request)
        done = _read_resource(await call(request))
        if getattr(request, "etag", ""):
            again.etag = done.etag
        if not is_required:
            assert _read_resource(await call(again)) == done
            told = _read_resource(await self._ask(rpc, again))
            assert (type(told), getattr(told, "etag", "")) == (type(done), getattr(done, "etag", ""))
            return done
        again.idempotency_key = new_id("key")
        with pytest.raises(DomainError) as refused:
            await call(again)
        assert refused.value.reason == "ILLEGAL_STATUS_CHANGE"
        assert set(refused.value.metadata) == {"status", "wanted_status"}
        return done

    def end(self) -> None:
        assert self._left == set()


def ask_of(*servicers: Any, person: Principal) -> Callable[[str, Any], Awaitable[Any]]:
    async def ask(rpc: str, request: Any) -> Any:
        [handler] = [getattr(servicer, rpc) for servicer in servicers if hasattr(servicer, rpc)]
        with acting_as(person):
            return await handler(request, None)

    return ask


def _read_resource(answer: Any) -> Any:
    """Raises: AssertionError where it waits for a second person."""
    outcome = answer.DESCRIPTOR.oneofs_by_name.get("outcome") and answer.WhichOneof("outcome")
    assert outcome != "approval"
    return getattr(answer, outcome) if outcome else answer


async def test_acts_on_transactions_that_are_asked_for_again(service_database: NewDatabase, tmp_path: Path) -> None:
    service = TransactionsHarness(await service_database("transactions"))
    play = Play("transactions", partial(service.ask, ADMIN))

    def as_(principal: Any, rpc: str) -> Callable[[Any], Awaitable[Any]]:
        return partial(service.ask, principal, rpc)

    cancel = tpb.CancelTransactionRequest(transaction_id=(await service.deposit()).transaction_id)
    await play(as_(ADMIN, "CancelTransaction"), cancel)

    for act, more in (("Approve", {}), ("Reject", {"note": "no"})):
        waiting = await service.ask(ADMIN, "CreateTransaction", await service.deposit_request())
        named = {"transaction_id": waiting.transaction_id, "etag": waiting.etag, **more}
        await play(as_(CHECKER, f"{act}Transaction"), getattr(tpb, f"{act}TransactionRequest")(**named))

    wire = await service.deposit(payment_method=tpb.Transaction.WIRE, bank_account_id=None)
    await service.work()
    other = tpb.CorrectTransactionAmountRequest(transaction_id=wire.transaction_id, amount=usd(1_00), note="A fee.")
    await play(as_(IMPORT, "CorrectTransactionAmount"), other)
    confirm = build_arrival(await service.get(wire.transaction_id))
    await play(as_(CHECKER, "ConfirmTransaction"), confirm)
    of_wire = {"transaction_id": wire.transaction_id, "kind": "WIRE_RETURNED", "bank_reference": "RET-1"}
    recalled = tpb.RecordTransactionReturnRequest(**of_wire, note="By its sender.")
    await play(as_(IMPORT, "RecordTransactionReturn"), recalled)

    paying, payout = await pay_by_file(await service_database("transactions"), tmp_path)
    reverse = {"transaction_id": payout.transaction_id, "reason": tpb.Transaction.Reversal.DUPLICATE, "note": "Twice."}
    await play(partial(paying.ask, IMPORT, "ReverseTransaction"), tpb.ReverseTransactionRequest(**reverse))

    debit = await service.deposit()
    await service.work()
    service.bank.report(debit.transaction_id, PaymentStatus.RETURNED, "R01")
    await service.work(hurried=True)
    await play(as_(IMPORT, "RetryTransaction"), tpb.RetryTransactionRequest(transaction_id=debit.transaction_id))

    account = await service.bank_account("inv-009")
    delete = bank_accounts_pb2.DeleteBankAccountRequest(bank_account_id=account.bank_account_id, etag=account.etag)
    await play(as_(ADMIN, "DeleteBankAccount"), delete)

    forbidden = await service.deposit("inv-010", "07")
    await service.work()
    service.bank.report(forbidden.transaction_id, PaymentStatus.RETURNED, "R07")
    await service.work(hurried=True)
    unblock = bank_accounts_pb2.UnblockBankAccountRequest(bank_account_id=forbidden.bank_account_id, note="A mandate.")
    await play(as_(IMPORT, "UnblockBankAccount"), unblock)

    [found] = await report_twice(service, forbidden.transaction_id)
    of_it = {"payment_exception_id": found.payment_exception_id}
    take = exceptions_pb2.AssignPaymentExceptionRequest(**of_it, etag=found.etag, person_id=ADMIN.person)
    taken = await play(as_(ADMIN, "AssignPaymentException"), take)
    resolve = exceptions_pb2.ResolvePaymentExceptionRequest(**of_it, etag=taken.etag, note="The bank returned it.")
    await play(as_(CHECKER, "ResolvePaymentException"), resolve)
    play.end()


async def test_acts_on_escrow_accounts_and_holds_that_are_asked_for_again(escrow: Escrow) -> None:
    play = Play("escrow", ask_of(*escrow.servicers, person=escrow.admin))
    account = await escrow.open()
    named = {"escrow_account_id": account}
    for request in (
        escrow_accounts_pb2.FreezeEscrowAccountRequest(**named, note="Court order."),
        escrow_accounts_pb2.UnfreezeEscrowAccountRequest(**named),
        escrow_accounts_pb2.ChangeEscrowAccountCustodianRequest(
            **named, custodian_name="Second", custodian_account_last4="4321"
        ),
        escrow_accounts_pb2.CloseEscrowAccountRequest(**named),
    ):
        rpc = request.DESCRIPTOR.name.removesuffix("Request")
        await play(partial(escrow.call, rpc), request)

    named = {"escrow_account_id": await escrow.open()}
    await escrow.post(named["escrow_account_id"], ("cash", 100), ("subscription:inv-001", -100))
    for act in ("Capture", "Release"):
        place = holds_pb2.PlaceHoldRequest(
            **named,
            idempotency_key=key(),
            amount={"currency_code": "USD", "amount_minor": 10},
            ledger_account=ledger_account("subscription:inv-001"),
            reason=holds_pb2.Hold.DISPUTE,
        )
        hold = await escrow.call("PlaceHold", place)
        request = getattr(holds_pb2, f"{act}HoldRequest")(**named, hold_id=hold.hold_id)
        if act == "Capture":
            request.to_ledger_account.CopyFrom(ledger_account("fees"))
        await play(partial(escrow.call, f"{act}Hold"), request)
    play.end()


async def test_acts_on_offerings_and_distributions_that_are_asked_for_again(service_database: NewDatabase) -> None:
    service = DistributionsHarness(await service_database("distributions"))
    servicers = (service.offerings, service.investments, service.distributions, service.approvals)
    play = Play("distributions", ask_of(*servicers, person=Principal("admin-1", "admin", ORG)))

    async def act(method: Any, request: Any, person: str = "admin-1") -> Any:
        async def call(sent: Any) -> Any:
            with service.as_(person):
                return await method(sent, None)

        return await play(call, request)

    offerings, distributions, inbox = service.offerings, service.distributions, service.approvals
    offering = await service.offering(100_000_00)
    await service.invest(offering, "inv-001", 100_000_00)
    for funded in (True, False):
        investment = await service.invest(await service.offering(), "inv-002", 10_000_00, fund=funded)
        cancel = opb.CancelInvestmentRequest(investment_id=investment.investment_id)
        await play(partial(service.call, service.investments.CancelInvestment), cancel)

    refund = opb.RefundOfferingRequest(offering_id=(await service.offering()).offering_id, note="Not enough.")
    asked = await service.ask(offerings.RefundOffering, refund)
    await act(inbox.CancelApproval, approvals_pb2.CancelApprovalRequest(approval_id=asked.approval_id))
    await play(partial(service.call, offerings.RefundOffering), refund)

    service.clock.set(CLOSING)
    policy = opb.ChangeReceivablesPolicyRequest(offering_id=offering.offering_id, receivables_policy="SET_OFF")
    await play(partial(service.call, offerings.ChangeReceivablesPolicy), policy)
    close = opb.CloseOfferingRequest(offering_id=offering.offering_id)
    await play(partial(service.call, offerings.CloseOffering), close)
    await service.work()

    async def submit() -> Any:
        named = {"distribution_id": (await service.draft(offering, 100_00)).distribution_id}
        await act(distributions.CalculateDistribution, dpb.CalculateDistributionRequest(**named))
        return await act(distributions.SubmitDistribution, dpb.SubmitDistributionRequest(**named))

    service.deposit(offering, 100_00)
    first, second, third, fourth = [await submit() for _ in range(4)]
    reject = dpb.RejectDistributionRequest(distribution_id=first.distribution_id, note="no", etag=first.etag)
    await act(distributions.RejectDistribution, reject, "admin-2")
    no = await service.find_approval(second.distribution_id)
    reject_asked = approvals_pb2.RejectApprovalRequest(approval_id=no.approval_id, note="no", etag=no.etag)
    await act(inbox.RejectApproval, reject_asked, "admin-2")
    yes = await service.find_approval(third.distribution_id)
    approve_asked = approvals_pb2.ApproveApprovalRequest(
        approval_id=yes.approval_id, content_hash=yes.content_hash, etag=yes.etag
    )
    await act(inbox.ApproveApproval, approve_asked, "admin-2")
    await act(distributions.CancelDistribution, dpb.CancelDistributionRequest(distribution_id=third.distribution_id))
    named = {"distribution_id": fourth.distribution_id}
    approve = dpb.ApproveDistributionRequest(**named, content_hash=fourth.content_hash, etag=fourth.etag)
    await act(distributions.ApproveDistribution, approve, "admin-2")
    await act(distributions.ExecuteDistribution, dpb.ExecuteDistributionRequest(**named))
    play.end()


async def test_acts_on_parties_checks_and_limits_that_are_asked_for_again(service_database: NewDatabase) -> None:
    service = ComplianceHarness(await service_database("compliance"))
    ask = ask_of(service.servicer, service.parties, service.inbox, service.api_keys, person=MAKER)
    order = ask_of(service.servicer, service.parties, person=ordered_for(MAKER))
    play = Play("compliance", ask)
    await service.create()
    check = (await service.waiting(service.party_id))[0]

    async def call(request: Any) -> Any:
        with acting_as(REVIEWER):
            return await service.servicer.ReviewComplianceCheck(request, None)

    review = compliance_pb2.ReviewComplianceCheckRequest(
        compliance_check_id=check.compliance_check_id, decision="PASSED", note="Seen.", etag=check.etag
    )
    await play(call, review)

    add = parties_pb2.AddPartyPersonRequest(party_id=service.party_id, person_id="Ann", title="Trustee")
    await play(partial(order, "AddPartyPerson"), add)

    limits = (await ask("ListTransactionLimits", compliance_pb2.ListTransactionLimitsRequest())).transaction_limits
    default = next(each for each in limits if each.type == compliance_pb2.TransactionLimit.DAILY_DEPOSIT)
    put = compliance_pb2.PutTransactionLimitRequest(type=default.type, amount=default.amount, etag=default.etag)
    assert (await ask("PutTransactionLimit", put)).HasField("approval"), "a limit of one's own is no default"
    await play(partial(order, "PutTransactionLimit"), put)

    create = api_keys_pb2.CreateApiKeyRequest(idempotency_key=new_id("key"), display_name="ERP", scopes=["ESCROW_READ"])
    create.expire_time.FromDatetime(service.clock.now() + timedelta(days=30))
    made = (await ask("CreateApiKey", create)).api_key
    await play(partial(ask, "RevokeApiKey"), api_keys_pb2.RevokeApiKeyRequest(api_key_id=made.api_key_id))
    play.end()
