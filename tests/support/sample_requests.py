"""A request of any RPC that its rules accept, made from the descriptor: what it names is what a test has."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from buf.validate import validate_pb2
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from realco.escrow.v1 import journal_pb2
from realco.transactions.v1 import transactions_pb2
from realco.type.v1 import rules_pb2

from services.chassis.calls.validation import taken_values
from services.chassis.spelling.descriptors import is_map, is_required, option
from services.chassis.values.ids import new_id

# Texts with a pattern of their own, by the name of the field.
PATTERNED = {
    "content_hash": "0" * 64,
    "routing_number": "021000021",
    "account_number": "1234567890",
    "public_token": "public-sandbox-1234",
    "custodian_account_last4": "1234",
    "rate": "0.08",
    "sponsor_share": "0.2",
}


class SampleRequests:
    """
    Args:
        ids: Prefix of an id -> the id that requests name: `{"esc": "esc_…"}`.
        person_id: Who is named where a person is.
        soon: The time that requests name.
    """

    def __init__(self, ids: Mapping[str, str], person_id: str, soon: datetime) -> None:
        self._soon = soon
        self._ids = ids
        self._person_id = person_id

    def make(self, method: MethodDescriptor) -> Message:
        """With whatever is required, and every id that the request can name."""
        request = GetMessageClass(method.input_type)()
        self._fill_known(request)
        if "update_mask" in method.input_type.fields_by_name:
            getattr(request, "update_mask").paths.append("metadata")  # noqa: B009  # Message has no such attribute
        return request

    def _fill(self, message: Message) -> None:
        chosen: set[str] = set()
        for field in message.DESCRIPTOR.fields:
            group = field.containing_oneof
            is_choice = group is not None and len(group.fields) > 1
            if is_choice and group.name in chosen:
                continue
            if _is_needed(field) or self._id_prefix(field) in self._ids or (is_choice and _must_choose(group)):
                chosen |= {group.name} if is_choice else set()
                self._set(message, field)

    def _set(self, message: Message, field: FieldDescriptor) -> None:
        if is_map(field):
            return
        if field.is_repeated:
            values = getattr(message, field.name)
            if field.message_type is None:
                values.append(self._value(field))
            else:
                for _ in range(max(1, option(field, validate_pb2.field).repeated.min_items)):
                    self._fill_known(values.add())
        elif field.message_type is None:
            setattr(message, field.name, self._value(field))
        else:
            inner = getattr(message, field.name)
            inner.SetInParent()
            self._fill_known(inner)

    def _fill_known(self, message: Any) -> None:
        name = message.DESCRIPTOR.full_name
        if name == "realco.type.v1.Money":
            message.currency_code, message.amount_minor = "USD", 100
        elif name == "google.protobuf.Timestamp":
            message.FromDatetime(self._soon)
        elif name == "google.type.Date":
            message.year, message.month, message.day = 2026, 1, 31
        elif name == "google.api.HttpBody":
            message.data = b"{}"
        elif name == "realco.transactions.v1.CreateTransactionRequest":
            self._fill(message)
            # A contribution names an investment, no other account, and nothing that it is paid instead of.
            message.type = transactions_pb2.Transaction.ESCROW_DEPOSIT
            message.ClearField("to_escrow_account_id")
            message.ClearField("replaced_transaction_id")
        elif name == "realco.escrow.v1.LedgerAccount":
            message.kind, message.party_id = message.SUBSCRIPTION, self._ids.get("pty") or new_id("pty")
        elif name == "realco.escrow.v1.NewJournalEntry":
            message.type, message.description = journal_pb2.JournalEntry.REVERSAL, "sample"
            message.reverses_journal_entry_id = self._ids.get("je") or new_id("je")
        else:
            self._fill(message)

    def _value(self, field: FieldDescriptor) -> Any:
        if field.enum_type is not None:
            return taken_values(field)[0].number
        if field.type == FieldDescriptor.TYPE_BOOL:
            return False
        if field.type != FieldDescriptor.TYPE_STRING:
            return 1
        rules = _text_rules(field)
        if prefix := self._id_prefix(field):
            return self._ids.get(prefix) or new_id(prefix)
        if rules.Extensions[rules_pb2.subject]:
            return self._person_id
        if rules.Extensions[rules_pb2.currency]:
            return "USD"
        if rules.Extensions[rules_pb2.key]:
            return new_id("key")
        return PATTERNED.get(field.name, "sample")

    @staticmethod
    def _id_prefix(field: FieldDescriptor) -> str:
        if field.type != FieldDescriptor.TYPE_STRING:
            return ""
        prefix: str = _text_rules(field).Extensions[rules_pb2.id]
        return prefix


def _text_rules(field: FieldDescriptor) -> Any:
    rules: Any = option(field, validate_pb2.field)
    return rules.repeated.items.string if field.is_repeated else rules.string


def _is_needed(field: FieldDescriptor) -> bool:
    return is_required(field) or option(field, validate_pb2.field).repeated.min_items > 0


def _must_choose(group: Any) -> bool:
    return bool(group.GetOptions().Extensions[validate_pb2.oneof].required)
