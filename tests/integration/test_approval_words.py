"""What a second person reads is ours, and each word of somebody else's stands in quotation marks: of every kind."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from realco.approvals.v1 import approvals_pb2
from realco.compliance.v1 import api_keys_pb2, compliance_pb2, parties_pb2
from realco.distributions.v1 import offerings_pb2 as opb
from realco.escrow.v1 import escrow_accounts_pb2 as accounts_pb
from realco.escrow.v1 import holds_pb2 as holds_pb
from realco.escrow.v1 import journal_pb2 as journal_pb
from realco.escrow.v1.journal_pb2 import JournalEntry
from realco.transactions.v1 import bank_accounts_pb2 as bank_pb
from realco.transactions.v1 import transactions_pb2 as pb
from realco.type.v1.approval_pb2 import Approval

from services.chassis.calls.auth import acting_as
from services.chassis.calls.wire import to_timestamp
from services.chassis.values.ids import new_id
from services.transactions.commands.exceptions import report_apart
from services.transactions.domain.exceptions import About, ExceptionKind
from services.transactions.domain.payments import PaymentStatus
from tests.integration.ach_desk import pay_by_file
from tests.support.arrivals import announce, confirm, report
from tests.support.compliance import CHECKER as COMPLIANCE_CHECKER
from tests.support.compliance import MAKER, ComplianceHarness
from tests.support.distributions import DistributionsHarness
from tests.support.dossiers import ask_for_each_move
from tests.support.escrow import Escrow, key, new_entry
from tests.support.exceptions import list_exceptions, resolve
from tests.support.ledger_accounts import ledger_account
from tests.support.money import usd
from tests.support.peers.transactions import fail_payout
from tests.support.transactions import ADMIN, CHECKER, ESCROW_ACCOUNT, ORG, TransactionsHarness
from tests.support.words import check_quoted, have_answers_marked, have_words_marked, say

T = pb.Transaction


async def test_whoever_approves_in_compliance_reads_nobodys_words_as_ours(service_database: Any) -> None:
    compliance = ComplianceHarness(await service_database("compliance"))
    have_words_marked(compliance.parties, compliance.servicer, compliance.api_keys)
    await compliance.create(persons=[parties_pb2.CreatePartyRequest.Person(person_id="ann", title="Manager")])
    found = [check.compliance_check_id for check in await compliance.waiting(compliance.party_id)]
    limit = await compliance.put_limit(1_000_00)
    expires = to_timestamp(compliance.clock.now() + timedelta(days=30))
    values = {"idempotency_key": "1", "display_name": "ERP", "expire_time": expires, "scopes": ["ESCROW_READ"]}
    asked: list[Approval] = []
    with acting_as(MAKER):
        issued = await compliance.api_keys.CreateApiKey(api_keys_pb2.CreateApiKeyRequest(**values), None)
        adding = parties_pb2.AddPartyPersonRequest(party_id=compliance.party_id, person_id="bo", idempotency_key="2")
        asked.append((await compliance.parties.AddPartyPerson(adding, None)).approval)
        higher = compliance_pb2.PutTransactionLimitRequest(
            type=limit.type, amount=usd(2_000_00), etag=limit.etag, idempotency_key="3"
        )
        asked.append((await compliance.servicer.PutTransactionLimit(higher, None)).approval)
        removal = compliance_pb2.DeleteTransactionLimitRequest(
            transaction_limit_id=limit.transaction_limit_id, etag=limit.etag, idempotency_key="4"
        )
        asked.append((await compliance.servicer.DeleteTransactionLimit(removal, None)).approval)
    with acting_as(COMPLIANCE_CHECKER):
        request = approvals_pb2.ListApprovalsRequest(resource_id=[*found, issued.api_key.api_key_id])
        waiting = [*(await compliance.inbox.ListApprovals(request, None)).approvals, *asked]
        reading = [approvals_pb2.GetApprovalRequest(approval_id=each.approval_id) for each in waiting]
        read = [await compliance.inbox.GetApproval(each, None) for each in reading]
    shown = check_quoted(compliance.approvals, read)
    assert shown == {"legal_name", "person_id", "display_name"}


async def test_whoever_approves_in_escrow_reads_nobodys_words_as_ours(escrow: Escrow) -> None:
    have_words_marked(*escrow.servicers)
    account, frozen, empty = await escrow.open(), await escrow.open(), await escrow.open()
    await escrow.post(account, ("cash", 10_00), ("suspense", -10_00))
    await escrow.freeze(frozen)
    held = (await escrow.hold(account, "suspense", 2_00)).hold_id
    entry = new_entry(("cash", 5), ("suspense", -5))
    item = journal_pb.BatchPostJournalEntriesRequest.Item(idempotency_key=key(), journal_entry=entry)
    of, capture = {"escrow_account_id": account, "idempotency_key": key()}, ledger_account("fees")
    requests: dict[str, Any] = {
        "PostJournalEntry": journal_pb.PostJournalEntryRequest(journal_entry=entry, **of),
        "BatchPostJournalEntries": journal_pb.BatchPostJournalEntriesRequest(escrow_account_id=account, items=[item]),
        "CaptureHold": holds_pb.CaptureHoldRequest(
            hold_id=held, to_ledger_account=capture, amount=usd(1_00), **of | {"idempotency_key": key()}
        ),
        "ReleaseHold": holds_pb.ReleaseHoldRequest(hold_id=held, **of | {"idempotency_key": key()}),
        "ChangeEscrowAccountCustodian": accounts_pb.ChangeEscrowAccountCustodianRequest(
            escrow_account_id=account, custodian_name="Second Custody"
        ),
        "UnfreezeEscrowAccount": accounts_pb.UnfreezeEscrowAccountRequest(escrow_account_id=frozen),
        "CloseEscrowAccount": accounts_pb.CloseEscrowAccountRequest(escrow_account_id=empty),
    }
    asked = [await escrow.ask(rpc, request) for rpc, request in requests.items()]
    shown = check_quoted(escrow.approvals, [await escrow.read_approval(each) for each in asked])
    assert shown == {"display_name", "description"}


async def test_whoever_approves_in_distributions_reads_nobodys_words_as_ours(service_database: Any) -> None:
    distributions = DistributionsHarness(await service_database("distributions"))
    have_words_marked(distributions.offerings, distributions.investments, distributions.distributions)
    have_answers_marked(distributions.escrow, distributions.transactions, distributions.compliance)
    offering, asked = await ask_for_each_move(distributions)
    policy = opb.ChangeReceivablesPolicyRequest(offering_id=offering.offering_id, receivables_policy="SET_OFF")
    asked.append(await distributions.ask(distributions.offerings.ChangeReceivablesPolicy, policy))
    found = [await distributions.read_approval(each.approval_id) for each in asked]
    refund = opb.RefundOfferingRequest(offering_id=offering.offering_id, note="The sale fell through.")
    await distributions.call(distributions.offerings.RefundOffering, refund)
    await distributions.work()
    await distributions.deliver(fail_payout(distributions.transactions.newest("inv-002")))
    again = opb.RefundOfferingRequest(offering_id=offering.offering_id, note="Once more.")
    found.append(await distributions.ask(distributions.offerings.RefundOffering, again))
    shown = check_quoted(distributions.workflow, found)
    assert shown == {"display_name", "note", "account_holder_name"}


async def test_whoever_approves_in_transactions_reads_nobodys_words_as_ours(
    service_database: Any, tmp_path: Path
) -> None:
    service = TransactionsHarness(await service_database("transactions"))
    have_words_marked(service.transactions, service.accounts, service.webhooks, service.exceptions)
    have_answers_marked(service.escrow, service.compliance, service.distributions)
    to, sponsor = "esc_" + "9" * 26, service.escrow.accounts[ESCROW_ACCOUNT].sponsor_party_id
    service.escrow.open(escrow_account_id=to, sponsor=sponsor)
    service.escrow.accounts[to].display_name = "Elm Street"
    service.escrow.post(ESCROW_ACCOUNT, JournalEntry.ADJUSTMENT, "cash", "distributable", 50_00)
    for note in ("A test.", None):  # one is resolved, one is open
        about = About(file_name=say("file_name"))
        await report_apart(service.dependencies, ORG, ExceptionKind.ACH_FILE_UNREADABLE, about, "It is cut.")
        if note is not None:
            [unread] = await list_exceptions(service)
            await resolve(service, unread, note, CHECKER)
    found = [await service.ask_for_replay(await service.deposit("inv-003", "03"))]
    debit = await service.ask(ADMIN, "CreateTransaction", await service.deposit_request())
    paid = await service.payout("sponsor-1", type=T.ESCROW_WITHDRAWAL)
    transfer = pb.CreateTransactionRequest(
        idempotency_key=new_id("key"),
        type=T.TRANSFER,
        payment_method=T.INTERNAL_TRANSFER,
        amount=usd(50_00),
        escrow_account_id=ESCROW_ACCOUNT,
        to_escrow_account_id=to,
        party_id=sponsor,
    )
    moved = await service.ask(ADMIN, "CreateTransaction", transfer)
    await service.work()
    wire = await confirm(service, await announce(service, party_id="inv-004"))
    found.append(await report(service, wire, "WIRE_RETURNED"))
    waiting = (await service.bank_account("inv-005", "05")).bank_account_id
    drawn = await service.deposit("inv-006", "06")
    await service.work()
    service.bank.report(drawn.transaction_id, PaymentStatus.RETURNED, "R02")
    await service.work(hurried=True)
    blocked = bank_pb.UnblockBankAccountRequest(bank_account_id=drawn.bank_account_id, note="The bank was wrong.")
    found.append((await service.ask(ADMIN, "UnblockBankAccount", blocked)).approval)
    ids = [debit.transaction_id, paid.transaction_id, moved.transaction_id, waiting]
    read = [await service.waiting(each) for each in (*ids, *(each.resource_id for each in found))]
    paying, payout = await pay_by_file(await service_database("transactions"), tmp_path)
    have_words_marked(paying.transactions)
    said = {"transaction_id": payout.transaction_id, "reason": T.Reversal.DUPLICATE, "note": "Twice."}
    await paying.ask(ADMIN, "ReverseTransaction", pb.ReverseTransactionRequest(idempotency_key=new_id("key"), **said))
    read.append(await paying.waiting(payout.transaction_id))
    shown = check_quoted(service.approvals, read)
    assert shown == {"account_holder_name", "bank_reference", "display_name", "file_name", "note"}
