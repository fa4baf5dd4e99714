"""Nobody alone: of everything that a person may have done, the contract says whether one person suffices."""

from __future__ import annotations

import inspect
import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from jsonschema import Draft202012Validator
from realco.compliance.v1.api_keys_pb2 import ApiKey
from realco.compliance.v1.notary_pb2 import Movement
from realco.distributions.v1 import distributions_pb2
from realco.type.v1 import access_pb2, approval_pb2, money_pb2

from gateway import contracts
from gateway.openapi_schemas import Schemas, Side
from services.chassis.approvals.messages import to_content
from services.chassis.approvals.requests import build_answer, find_answer_type, find_result_id, name_kind_of
from services.chassis.approvals.service import APPROVALS_SERVICE
from services.chassis.calls.access import rules_of
from services.chassis.calls.approval_kinds import list_approval_kinds, name_kind
from services.chassis.calls.auth import Principal, acting_as
from services.chassis.calls.serving import servers_of
from services.chassis.spelling.descriptors import is_required
from services.chassis.values.approval import NOBODY, ApprovalDetails, Change, Precondition
from services.chassis.values.money import Money
from services.compliance.domain.statements import DONE_BY_LAST_YES
from services.transactions.messages import to_transaction_content
from services.transactions.rights import RIGHTS
from tests.support.refusals import is_listed

ROOT = Path(__file__).parents[2]
_ACCESS: Any = access_pb2.access
_FOUR_EYES: Any = approval_pb2.four_eyes
METHODS = [method for service in contracts.services() for method in service.methods]


def writes_for_a_person(method: MethodDescriptor) -> bool:
    rule = rules_of([method.containing_service])[f"/{method.containing_service.full_name}/{method.name}"]
    return bool(rule.roles) and not rule.reads_only


WRITES = [method for method in METHODS if writes_for_a_person(method)]
TWO_PERSONS = [method for method in METHODS if method.GetOptions().Extensions[_FOUR_EYES].two_persons]
ASKING = [*TWO_PERSONS, *(method for method in METHODS if method.GetOptions().Extensions[_FOUR_EYES].waits)]


def by_name(method: MethodDescriptor) -> str:
    return str(method.full_name)


@pytest.mark.parametrize("method", WRITES, ids=by_name)
def test_whether_one_person_suffices_is_said_of_all_that_a_person_may_have_done(method):
    decision = method.GetOptions().Extensions[_FOUR_EYES].WhichOneof("decision")
    assert decision is not None
    if decision == "one_person":
        assert method.GetOptions().Extensions[_FOUR_EYES].one_person.endswith(".")


# Whoever says no, takes back, asks or has it carried out decides, too; the others give power or take it from persons.
DECISIONS = ("Approve", "Confirm", "Reject", "Review", "Resolve", "RecordApproval", "CancelApproval", "CommentApproval")
DEEDS = ("AssignPaymentException", "ExecuteDistribution", "RecordExecution")
ABOUT_PERSONS = ("EndSessions", "CreateApiKey", "RotateApiKey", "RevokeApiKey")
# Who signs in at a bank is there, and may have its word in place of a second person's; so is who reads the account.
AT_A_BANK = ("CreateLinkToken", "LinkBankAccount", "VerifyBankAccount")


def test_a_program_decides_nothing_and_makes_no_keys():
    rules = rules_of(contracts.services())
    closed = {path.rpartition("/")[2] for path, rule in rules.items() if rule.persons_only}
    names = {method.name for method in METHODS}
    assert closed == {name for name in names if name.startswith((*DECISIONS, *DEEDS, *ABOUT_PERSONS, *AT_A_BANK))}


def test_an_api_key_has_a_scope_for_each_thing_that_a_program_may_do():
    rules = rules_of(contracts.services()).values()
    assert {*ApiKey.Scope.keys()[1:]} == {
        rule.scope for rule in rules if rule.scope and not (rule.persons_only or rule.public)
    }


def test_what_spares_a_second_person_is_said_where_something_waits_and_is_a_bank_alone():
    sparing = {method.name: method.GetOptions().Extensions[_FOUR_EYES] for method in METHODS}
    said = {name: each for name, each in sparing.items() if each.spared_by}
    assert {name: each.waits for name, each in said.items()} == {"LinkBankAccount": "CONFIRM_BANK_ACCOUNT"}
    assert all(each.spared_by.endswith(".") for each in said.values())


@pytest.mark.parametrize("method", TWO_PERSONS, ids=by_name)
def test_what_needs_two_persons_answers_the_approval_that_waits(method):
    answer = method.output_type.fields_by_name["approval"]
    assert answer.message_type is approval_pb2.Approval.DESCRIPTOR
    assert "validate_only" in method.input_type.fields_by_name, "it is rehearsed before it is asked for"
    assert is_listed("TOO_MANY_APPROVALS", contracts.comments()[method.full_name]), "nobody asks for it without end"


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


@pytest.mark.parametrize("method", ASKING, ids=by_name)
def test_an_approval_is_read_by_whoever_may_read_what_it_is_about_among_them_all_who_may_ask_for_it(method):
    """In one way, whichever RPC of a kind asks for it."""
    four_eyes = method.GetOptions().Extensions[_FOUR_EYES]
    reads = f"{method.containing_service.file.package}.{four_eyes.read_with}"
    kind = four_eyes.waits or name_kind(method.input_type.name)
    assert list_approval_kinds()[kind] == reads
    rules = rules_of(contracts.services())
    assert rules[f"/{reads}"].reads_only
    assert rules[f"/{method.containing_service.full_name}/{method.name}"].roles <= rules[f"/{reads}"].roles


@pytest.mark.parametrize("method", TWO_PERSONS, ids=by_name)
def test_what_can_be_got_by_its_id_is_what_the_approval_is_read_with(method):
    [done] = [field.message_type.name for field in method.output_type.fields if field.name != "approval"]
    if f"Get{done}" in {each.name for each in METHODS}:
        assert method.GetOptions().Extensions[_FOUR_EYES].read_with.endswith(f"/Get{done}")


def fill(message: Any) -> Any:
    """With all that must be given, and nothing more: zeros, empty texts, lists of one."""
    for field in message.DESCRIPTOR.fields:
        if not is_required(field):
            continue
        if field.message_type is None:
            if field.is_repeated:
                getattr(message, field.name).append("")
        elif field.is_repeated:
            fill(getattr(message, field.name).add())
        else:
            fill(getattr(message, field.name)).SetInParent()
    return message


@pytest.mark.parametrize("method", TWO_PERSONS, ids=by_name)
def test_what_was_asked_for_stands_in_the_content_as_rest_takes_it(method):
    request = fill(GetMessageClass(method.input_type)())
    changes = (Change("amount", Money(0, "USD"), None),)
    details = ApprovalDetails(
        "",
        "",
        amount=Money(0, "USD"),
        beneficiary_party_ids=NOBODY,
        changes=changes,
        preconditions=(Precondition("escrow_etag", "1"),),
    )
    content = json.loads(to_content(name_kind_of(type(request)), "org_1", request, details, name="request"))
    schemas = Schemas()
    without = frozenset({"idempotency_key", "validate_only"})
    change = schemas.reference(approval_pb2.Approval.Change.DESCRIPTOR, Side.ANSWER)
    precondition = schemas.reference(approval_pb2.Approval.Precondition.DESCRIPTOR, Side.ANSWER)
    schema = {
        "properties": {
            "request": schemas.message(method.input_type, Side.REQUEST, without),
            "amount": schemas.reference(money_pb2.Money.DESCRIPTOR, Side.ANSWER),
            "changes": {"type": "array", "items": change},
            "preconditions": {"type": "array", "items": precondition},
        },
        "components": {"schemas": schemas.components},
    }
    shape = ("required", "type", "additionalProperties")  # the values are not such as anybody would send
    faults = [fault for fault in Draft202012Validator(schema).iter_errors(content) if fault.validator in shape]
    assert [(fault.json_path, fault.message) for fault in faults] == []
    assert content["preconditions"] == [{"field": "escrowEtag", "value": "1"}]
    assert content["amount"] == content["changes"][0]["beforeAmount"] == {"currencyCode": "USD", "amountMinor": "0"}


def test_of_a_resource_that_waits_stands_what_is_decided_on_and_all_of_that():
    allocation = distributions_pb2.Allocation(
        party_id="pty_1",
        amount={"currency_code": "USD"},
        lines=[{"tier": 1, "kind": "RETURN_OF_CAPITAL", "amount": {"currency_code": "USD"}}],
    )
    zero = {"currencyCode": "USD", "amountMinor": "0"}
    resource = distributions_pb2.DistributionContent(allocations=[allocation])
    details = ApprovalDetails("", "", beneficiary_party_ids=NOBODY)
    content = json.loads(to_content("APPROVE_DISTRIBUTION", "org_1", resource, details, name="resource"))
    assert content["resource"]["allocations"] == [
        {"partyId": "pty_1", "amount": zero, "lines": [{"tier": 1, "kind": "RETURN_OF_CAPITAL", "amount": zero}]}
    ]
    empty = distributions_pb2.DistributionContent(receivables_policy="BLOCK")
    content = json.loads(to_content("APPROVE_DISTRIBUTION", "org_1", empty, details, name="resource"))
    assert content["resource"] == {"allocations": [], "receivablesPolicy": "BLOCK"}


class Anything:
    """Has whatever it is asked for, and does none of it."""

    def __getattr__(self, name: str) -> Anything:
        return self


def test_the_contracts_name_every_kind_of_approval_that_a_service_asks_for_and_no_other():
    """The rules of an organization may be about these; an admin may decide each."""
    found: list[str] = []
    for service in servers_of(APPROVALS_SERVICE):
        approvals = import_module(f"services.{service}.approvals").build_approvals(Anything())
        with acting_as(Principal("admin-1", "admin", "org-1")):
            found += approvals.permissions.list_decidable_kinds()
    assert sorted(found) == sorted(list_approval_kinds())
    assert set(Movement.Kind.keys()[1:]) <= list_approval_kinds().keys(), (
        "what the notary hears of is a kind of approval"
    )
    assert set(Movement.Kind.keys()) >= DONE_BY_LAST_YES


def test_the_page_about_approvals_explains_every_kind():
    page = (ROOT / "docs" / "approvals.md").read_text()
    table = page.partition("## The kinds of approvals")[2]
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", table, re.MULTILINE)) == list_approval_kinds().keys()
    gaining = re.findall(r"^\| `[A-Z_]+` \| [^|]+ \|([^|]*)\|", table, re.MULTILINE)
    assert [each for each in gaining if not each.strip()] == [], "who gains, or that nobody in particular does"


def test_who_gains_is_said_of_whatever_needs_two_persons():
    """Nobody is said as well: a kind that leaves it out would let everybody decide."""
    with pytest.raises(TypeError, match="beneficiary_party_ids"):
        ApprovalDetails("", "")


def test_what_is_decided_on_of_a_transaction_is_written_once():
    """So its own route needs no content hash: its etag names what was read."""
    decided = set(re.findall(r"\brow\.(\w+)", inspect.getsource(to_transaction_content)))
    rights = RIGHTS["transactions"]
    assert {"bank_account_id", "amount", "party_id"} <= decided
    assert (decided | {"amount_minor", "currency"}) & {*rights.app.update, *rights.worker.update} == set()
