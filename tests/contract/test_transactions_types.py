"""The table of types is the only place that says what holds for a type, and the contract takes what it says."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from buf.validate import validate_pb2
from google.protobuf.message import Message
from realco.escrow.v1 import journal_pb2
from realco.transactions.v1 import payouts_pb2
from realco.transactions.v1 import transactions_pb2 as pb

from services.transactions.domain.types import TYPES

SERVICE = Path(__file__).parents[2] / "services" / "transactions"
_FIELD: Any = validate_pb2.field


def taken_by(request: type[Message]) -> set[str]:
    """The types that a request may name."""
    rules = request.DESCRIPTOR.fields_by_name["type"].GetOptions().Extensions[_FIELD]
    return {pb.Transaction.Type.Name(number) for number in getattr(rules.enum, "in")}


def test_people_order_what_comes_in_and_services_what_goes_out():
    assert taken_by(pb.CreateTransactionRequest) == {each.name for each in TYPES.values() if each.is_debit}
    assert taken_by(payouts_pb2.BatchCreatePayoutsRequest.Item) == {
        each.name for each in TYPES.values() if not each.is_debit
    }


def test_a_payout_is_taken_from_a_ledger_account_of_escrow():
    sources = {each.source for each in TYPES.values() if each.source}
    assert sources <= set(journal_pb2.LedgerAccount.Kind.keys())


def test_no_other_file_names_a_type():
    named = [
        f"{file.relative_to(SERVICE)}:{node.lineno} {node.value}"
        for file in SERVICE.rglob("*.py")
        if file.name != "types.py" and "migrations" not in file.parts
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and node.value in TYPES
    ]
    assert named == [], "ask domain/types.py what holds for it"
