"""An event is named as what happened, and which status it tells can be read in its name or its comment."""

from __future__ import annotations

import re

import pytest
from google.protobuf.descriptor import MethodDescriptor
from realco.type.v1 import event_pb2

from gateway import contracts
from tests.support.event_names import list_statuses, status_told, statuses_told

METHODS = [method for service in contracts.services() for method in service.methods]


def creations() -> list[MethodDescriptor]:
    """What makes nothing takes no key."""
    keyed = [method for method in METHODS if "idempotency_key" in method.input_type.fields_by_name]
    return [method for method in keyed if method.name.startswith("Create")]


@pytest.mark.parametrize("method", creations(), ids=lambda method: str(method.full_name))
def test_what_is_created_is_told_by_the_name_of_its_rpc(method):
    told = f"{method.name.removeprefix('Create')}Created"
    area = contracts.area_of(method.full_name)
    assert told in {event.name for event in contracts.events() if contracts.area_of(event.full_name) == area}


# A fact that is neither an RPC's nor a status, and one that a status only waits after (PENDING_...).
OWN_FACTS = {
    "ApiKeyApproved": "ACTIVE: its first secret was approved",
    "ApprovalRequested": "the RPC that needs two persons asked for it",
    "BankAccountConfirmed": "ACTIVE",
    "ComplianceCheckCompleted": "PASSED and FAILED are its outcomes",
    "DistributionDeclared": "it is owed from now on: a fact of the books",
    "DistributionPayoutsCreated": "the transactions are",
    "DistributionResumed": "from an end back to PROCESSING",
    "DistributionSentBack": "to DRAFT: a person rejected it, its maker took it back, or nobody decided in time",
    "InvestmentActivated": "ACTIVE",
    "InvestmentFundingChanged": "more or less money than before",
    "PartyClearanceChanged": "given or taken away",
    "PaymentExceptionOpened": "OPEN, for the first time or again",
    "OpenItemChanged": "more or less waits to be settled than before: a fact of the books",
    "TransactionApprovalRequested": "PENDING_APPROVAL",
    "TransactionRetryScheduled": "PENDING_RETRY",
    "TransactionSubmitted": "PENDING_SETTLEMENT",
}
IRREGULAR = {"Freeze": "Frozen", "Put": "Put", "Unfreeze": "Unfrozen", "Resend": "Resent", "Submit": "Submitted"}


def named_by_rpcs() -> dict[str, set[str]]:
    """Area -> what its events may be called for its RPCs, verb last: `PlaceHold` tells `HoldPlaced`."""
    names: dict[str, set[str]] = {}
    for method in METHODS:
        found = re.fullmatch("([A-Z][a-z]+)([A-Z].*)", method.name)
        assert found, method.name
        verb, noun = found.groups()
        past = IRREGULAR.get(verb) or verb.removesuffix("e") + "ed"
        plural = re.sub("y$", "ie", noun) + "s"
        names.setdefault(contracts.area_of(method.full_name), set()).update({noun + past, plural + past})
    return names


def test_an_event_is_named_as_what_happened_an_rpc_or_a_status_that_was_reached():
    """A name for several of them (`Resolved`, `StatusChanged`) says nothing: who hears it has to look inside."""
    rpcs, odd = named_by_rpcs(), set()
    for event in contracts.events():
        resources = [field.message_type for field in event.fields if field.message_type is not None]
        plain = {noun.name + word for noun in resources for word in ("Created", "Updated")}
        plain.add("PartyPersonUpdated")  # a part of the resource
        told = [status for noun in resources if (status := status_told(event, noun)) is not None]
        if not told and event.name not in plain | rpcs[contracts.area_of(event.full_name)]:
            odd.add(event.name)
    assert odd == OWN_FACTS.keys()


# What tells more than one status: whoever hears it reads the resource anyway.
TELL_SEVERAL = {"ApprovalUpdated", "ComplianceCheckCompleted", "WebhookUpdated"}
# Nothing of ours reaches them yet; a check that was not asked for yet is told by its party.
NOT_TOLD = {
    "ComplianceCheck": {"PENDING", "ERROR"},
    "EscrowAccount": {"LIQUIDATING"},
    "Investment": {"COMPLETED", "RECONFIRM_REQUIRED"},
}


def statuses_by_event() -> dict[str, dict[str, set[str]]]:
    """Resource -> what each event that is about it can bring it to."""
    found: dict[str, dict[str, set[str]]] = {}
    for event in contracts.events():
        holder, _, about = event.GetOptions().Extensions[event_pb2.event].aggregate.partition(".")
        resource = event.fields_by_name[holder].message_type
        if resource is not None and list_statuses(resource) and resource.fields[0].name == about:
            found.setdefault(resource.name, {})[event.name] = statuses_told(event, resource)
    return found


def test_a_status_is_told_by_an_event_of_its_own_and_an_update_tells_what_has_none():
    """Who subscribes to a status must not have to look for it in an event for whatever else may change."""
    resources = {message.name: message for message in contracts.messages()}
    several, told_twice, silent = set(), [], {}
    for resource, told in statuses_by_event().items():
        several |= {event for event, statuses in told.items() if len(statuses) > 1}
        # What it begins as may be reached again by an update.
        others = [told[event] for event in told if not event.endswith(("Updated", "Created", "Requested"))]
        told_twice += told.get(f"{resource}Updated", set()) & set().union(*others)
        if unsaid := set(list_statuses(resources[resource])) - set().union(*told.values()):
            silent[resource] = unsaid
    assert (several, told_twice, silent) == (TELL_SEVERAL, [], NOT_TOLD)
