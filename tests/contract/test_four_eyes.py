"""Nobody alone: of everything that a person may have done, the contract says whether one person suffices."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from realco.type.v1 import access_pb2, approval_pb2

from gateway import contracts
from services.chassis.approvals.requests import build_answer, find_answer_type, find_result_id
from services.chassis.calls.access import rules_of

_ACCESS: Any = access_pb2.access
_FOUR_EYES: Any = approval_pb2.four_eyes
METHODS = [method for service in contracts.services() for method in service.methods]


def writes_for_a_person(method: MethodDescriptor) -> bool:
    rule = rules_of([method.containing_service])[f"/{method.containing_service.full_name}/{method.name}"]
    return bool(rule.roles) and not rule.reads_only


WRITES = [method for method in METHODS if writes_for_a_person(method)]
TWO_PERSONS = [method for method in METHODS if method.GetOptions().Extensions[_FOUR_EYES].two_persons]


def by_name(method: MethodDescriptor) -> str:
    return str(method.full_name)


@pytest.mark.parametrize("method", WRITES, ids=by_name)
def test_whether_one_person_suffices_is_said_of_all_that_a_person_may_have_done(method):
    decision = method.GetOptions().Extensions[_FOUR_EYES].WhichOneof("decision")
    assert decision is not None
    if decision == "one_person":
        assert method.GetOptions().Extensions[_FOUR_EYES].one_person.endswith(".")


@pytest.mark.parametrize("method", TWO_PERSONS, ids=by_name)
def test_what_needs_two_persons_answers_the_approval_that_waits(method):
    answer = method.output_type.fields_by_name["approval"]
    assert answer.message_type is approval_pb2.Approval.DESCRIPTOR
    assert "validate_only" in method.input_type.fields_by_name, "it is rehearsed before it is asked for"


@pytest.mark.parametrize("method", TWO_PERSONS, ids=by_name)
def test_beside_the_approval_the_answer_has_one_field_for_what_was_done(method):
    [either] = method.output_type.oneofs
    assert list(either.fields) == list(method.output_type.fields)
    [done] = [field for field in either.fields if field.name != "approval"]
    answer_type = GetMessageClass(method.output_type)
    assert find_answer_type(GetMessageClass(method.input_type)) is answer_type
    made = GetMessageClass(done.message_type)()
    assert build_answer(answer_type, made).WhichOneof(either.name) == done.name
    # Its own id is the approval's result; what has none has no id field at all.
    own = f"{done.name}_id"
    if own in done.message_type.fields_by_name:
        setattr(made, own, "id_1")
        assert find_result_id(build_answer(answer_type, made)) == "id_1"
    else:
        assert made.DESCRIPTOR.name in ("PostingResults", "PartyPerson")
