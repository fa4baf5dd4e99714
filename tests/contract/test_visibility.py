"""Each field that an investor may be answered, and that names a person or was written by one, was decided on."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from realco.type.v1 import access_pb2

from gateway import contracts
from services.chassis.spelling.visibility import author_of, is_withheld

WRITTEN = {"note", "text", "description", "title", "metadata", "external_id"}
NAMING = {"actor", "makers", "legal_name", "display_name", "account_holder_name"}
# What an investor is told, and why that is right.
TOLD = {
    "realco.compliance.v1.Me.ActingFor.legal_name": "the investor's own party",
    "realco.compliance.v1.Party.legal_name": "the investor's own party",
    "realco.compliance.v1.PartyPerson.title": "of the investor's own party",
    "realco.distributions.v1.Distribution.description": "for statements",
    "realco.distributions.v1.Offering.display_name": "what an investor chooses by",
    "realco.transactions.v1.BankAccount.account_holder_name": "the investor's own bank account",
    "realco.transactions.v1.Transaction.description": "for statements",
    "realco.type.v1.Failure.metadata": "facts that the code promises",
}
# An investor's own call asks for no approval, and the inbox is staff's.
OF_STAFF = "realco.type.v1.Approval"


def list_answered() -> dict[str, FieldDescriptor]:
    found: dict[str, FieldDescriptor] = {}
    seen: set[str] = set()

    def walk(message: Descriptor) -> None:
        if message.full_name in seen or message.full_name.startswith(("google.", OF_STAFF)):
            return
        seen.add(message.full_name)
        for field in message.fields:
            found[field.full_name] = field
            if field.message_type is not None:
                walk(field.message_type)

    for method in contracts.methods():
        if access_pb2.Access.INVESTOR in method.GetOptions().Extensions[access_pb2.access].roles:
            walk(method.output_type)
    return found


ANSWERED = list_answered()
WITHHELD = {name: field for name, field in ANSWERED.items() if is_withheld(field)}


def is_about_persons(field: FieldDescriptor) -> bool:
    return field.name in WRITTEN | NAMING or field.name.endswith("_by")


def test_whatever_names_a_person_or_was_written_by_one_is_withheld_or_told_for_a_reason():
    undecided = {name for name, field in ANSWERED.items() if is_about_persons(field)} - WITHHELD.keys() - TOLD.keys()
    assert undecided == set(), "mark it with an option of visibility.proto, or say in TOLD why an investor is told"


def test_no_reason_is_left_behind():
    assert TOLD.keys() - (ANSWERED.keys() - WITHHELD.keys()) == set()


@pytest.mark.parametrize("name", sorted(WITHHELD))
def test_what_is_withheld_can_be_absent_and_its_author_is_a_text_beside_it(name):
    field = WITHHELD[name]
    assert field.has_presence or field.is_repeated, "an investor would be told a value that is not true"
    if author := author_of(field):
        assert field.containing_type.fields_by_name[author].type == FieldDescriptor.TYPE_STRING
