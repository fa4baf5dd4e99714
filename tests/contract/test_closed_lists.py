"""A closed list has one home: what a request may name is what the database keeps and what the code can read again."""

from __future__ import annotations

import importlib
import re
from collections import defaultdict
from typing import Any

import pytest
import sqlalchemy as sa
from buf.validate import validate_pb2
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from deploy.topology import SERVICE_NAMES
from gateway import contracts
from services.chassis.calls.access import is_read
from services.chassis.data.constraints import list_values

METADATA = {name: importlib.import_module(f"services.{name}.tables").metadata for name in SERVICE_NAMES}
# By its column, the enum of the contract in which callers give it or see it.
SHOWN_AS = {
    "compliance.api_keys.status": "compliance.v1.ApiKey.Status",
    "compliance.compliance_checks.check_type": "compliance.v1.ComplianceCheck.Type",
    "compliance.compliance_checks.direction": "type.v1.Money.Direction",
    "compliance.compliance_checks.resource_type": "compliance.v1.ComplianceCheck.ResourceType",
    "compliance.compliance_checks.status": "compliance.v1.ComplianceCheck.Status",
    "compliance.default_limits.limit_type": "compliance.v1.TransactionLimit.Type",
    "compliance.parties.accreditation": "compliance.v1.Party.Accreditation",
    "compliance.parties.kind": "compliance.v1.Party.Kind",
    "compliance.transaction_limits.limit_type": "compliance.v1.TransactionLimit.Type",
    "distributions.allocations.payee_type": "distributions.v1.Allocation.PayeeType",
    "distributions.allocations.status": "distributions.v1.Allocation.Status",
    "distributions.distributions.status": "distributions.v1.Distribution.Status",
    "distributions.distributions.type": "distributions.v1.Distribution.Type",
    "distributions.investments.status": "distributions.v1.Investment.Status",
    "distributions.offerings.exemption": "distributions.v1.Offering.Exemption",
    "distributions.offerings.receivables_policy": "distributions.v1.Offering.ReceivablesPolicy",
    "distributions.offerings.status": "distributions.v1.Offering.Status",
    "escrow.escrow_accounts.status": "escrow.v1.EscrowAccount.Status",
    "escrow.holds.reason": "escrow.v1.Hold.Reason",
    "escrow.holds.status": "escrow.v1.Hold.Status",
    "escrow.journal_entries.type": "escrow.v1.JournalEntry.Type",
    "escrow.ledger_account_kinds.normal_balance": "escrow.v1.LedgerEntry.Direction",
    "transactions.bank_account_verifications.status": "transactions.v1.BankAccount.Verification.Status",
    "transactions.bank_accounts.account_type": "transactions.v1.BankAccount.AccountType",
    "transactions.bank_accounts.block_reason": "transactions.v1.BankAccount.BlockReason",
    "transactions.bank_accounts.confirmation": "transactions.v1.BankAccount.Confirmation",
    "transactions.bank_accounts.holder_type": "transactions.v1.BankAccount.HolderType",
    "transactions.bank_accounts.name_match": "transactions.v1.BankAccount.NameMatch",
    "transactions.bank_accounts.status": "transactions.v1.BankAccount.Status",
    "transactions.payment_exceptions.kind": "transactions.v1.PaymentException.Kind",
    "transactions.payment_exceptions.status": "transactions.v1.PaymentException.Status",
    "transactions.sweep_lines.kind": "transactions.v1.SweepLine.Kind",
    "transactions.sweeps.status": "transactions.v1.Sweep.Status",
    "transactions.transactions.dispute_status": "transactions.v1.Transaction.DisputeStatus",
    "transactions.transactions.finality": "transactions.v1.Transaction.Finality",
    "transactions.transactions.payment_method": "transactions.v1.Transaction.PaymentMethod",
    "transactions.transactions.reconciliation_status": "transactions.v1.Transaction.ReconciliationStatus",
    "transactions.transactions.reversal_reason": "transactions.v1.Transaction.Reversal.Reason",
    "transactions.transactions.reversal_status": "transactions.v1.Transaction.Reversal.Status",
    "transactions.transactions.status": "transactions.v1.Transaction.Status",
    "transactions.transactions.type": "transactions.v1.Transaction.Type",
    "transactions.webhooks.status": "transactions.v1.Webhook.Status",
} | {f"{service}.approvals.status": "type.v1.Approval.Status" for service in SERVICE_NAMES}
# No caller ever sees these.
OWN = {
    "compliance.statements.act",
    "distributions.payouts.status",
    "distributions.payouts.type",
    "distributions.sagas.kind",
    "transactions.ach_entries.holder_type",
    "transactions.ach_entries.kind",
    "transactions.ach_entries.status",
    "transactions.ach_files.status",
    "transactions.provider_payments.outcome",
    "transactions.provider_sweeps.explanation",
    "transactions.provider_sweeps.status",
    "transactions.vault_keys.purpose",
    *(f"{service}.handled_requests.status" for service in SERVICE_NAMES),
}
# What requests name and no column keeps by its name, and why.
NOT_KEPT = {
    "compliance.v1.ApiKey.Scope": "a list, read and written by the names of the contract itself",
    "compliance.v1.Movement.Kind": "the name of a kind of approvals, which their services list",
    "escrow.v1.LedgerAccount.Kind": "a key of the chart of accounts: test_ledger_accounts.py",
    "transactions.v1.Transaction.ReturnKind": "the code of a failure: RETURN_KINDS, which a test compares",
}
# What no request names, though it names others of the same list: we write it ourselves.
OURS = {
    "compliance.v1.ComplianceCheck.Status": {"MANUAL_REVIEW", "EXPIRED"},
    "escrow.v1.Hold.Reason": {"RETURN_RISK"},
    "escrow.v1.JournalEntry.Type": {
        *("CAPTURE", "DISTRIBUTION", "PROVIDER_FEE", "RELEASE", "RETURN", "SET_OFF", "TRANSFER")
    },
}
_RULES: Any = validate_pb2.field


def list_checks() -> dict[str, sa.CheckConstraint]:
    """By its column, each constraint that is nothing but a list of values."""
    return {
        f"{service}.{table.name}.{listed[1]}": check
        for service, metadata in METADATA.items()
        for table in metadata.tables.values()
        for check in table.constraints
        if isinstance(check, sa.CheckConstraint)
        and (listed := re.fullmatch(r"(\w+) IN \([^()]*\)", str(check.sqltext)))
    }


def taken_by(field: FieldDescriptor) -> set[str]:
    """The names that an enum of a request may have."""
    rules = field.GetOptions().Extensions[_RULES]
    rule = rules.repeated.items.enum if field.is_repeated else rules.enum
    only = getattr(rule, "in")
    return {
        value.name
        for value in field.enum_type.values
        if value.number and value.number not in rule.not_in and (not only or value.number in only)
    }


def list_taken() -> dict[str, set[str]]:
    """By enum, what the requests that write something may name of it."""
    taken: dict[str, set[str]] = defaultdict(set)
    waiting = [method.input_type for each in contracts.services() for method in each.methods if not is_read(method)]
    seen: set[Descriptor] = set()
    while waiting:
        message = waiting.pop()
        if message in seen or not message.full_name.startswith("realco."):
            continue
        seen.add(message)
        for field in message.fields:
            if field.enum_type is not None and field.enum_type.full_name.startswith("realco."):
                taken[field.enum_type.full_name.removeprefix("realco.")] |= taken_by(field)
            if field.message_type is not None:
                waiting.append(field.message_type)
    return taken


CHECKS = list_checks()
TAKEN = list_taken()


@pytest.mark.parametrize("column", sorted(CHECKS))
def test_the_values_of_a_column_are_said_by_the_domain_or_the_contract_and_by_no_table(column):
    assert "known" in CHECKS[column].info, "write one_of(column, enum), of the chassis, instead of a list of texts"


def test_whatever_a_request_names_has_its_column_or_a_reason_to_have_none():
    assert set(CHECKS) == {*SHOWN_AS, *OWN}
    assert {*TAKEN} - {*SHOWN_AS.values()} == {*NOT_KEPT}


@pytest.mark.parametrize(("column", "enum"), sorted(SHOWN_AS.items()))
def test_a_column_keeps_exactly_what_requests_name_and_we_write_and_the_contract_can_say_it(column, enum):
    kept = set(list_values(CHECKS[column].info["known"]))
    assert kept <= set(list_values(descriptor_pool.Default().FindEnumTypeByName(f"realco.{enum}")))
    assert enum not in TAKEN or kept == TAKEN[enum] | OURS.get(enum, set())
