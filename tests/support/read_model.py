"""A read model of one organization, kept from events alone, and the same resources as REST answers them.

The reader knows nothing of ours but the contracts: it takes the events from the first on, holds them against the
promises of docs/subscribing.md, and keeps the last state of each resource.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import nats
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.symbol_database import Default
from nats.js.api import AckPolicy, ConsumerConfig
from realco.compliance.v1.events_pb2 import TransactionLimitDeleted

from demo.harness.money import minor_of
from demo.harness.rest import Json, RestClient
from deploy.topology import SERVICES
from gateway import contracts
from services.chassis.data.event_messages import is_left_out
from services.chassis.data.versions import aggregate_field_of
from services.chassis.spelling.descriptors import camel_case
from services.chassis.spelling.json_writer import writer_of
from tests.support.event_names import status_told, statuses_told

# What a resource's own id is called.
IDS = {
    "Allocation": "allocationId",
    "ApiKey": "apiKeyId",
    "Approval": "approvalId",
    "BankAccount": "bankAccountId",
    "ComplianceCheck": "complianceCheckId",
    "Distribution": "distributionId",
    "EscrowAccount": "escrowAccountId",
    "Hold": "holdId",
    "Investment": "investmentId",
    "JournalEntry": "journalEntryId",
    "Offering": "offeringId",
    "Party": "partyId",
    "PaymentException": "paymentExceptionId",
    "Transaction": "transactionId",
    "TransactionLimit": "transactionLimitId",
    "Webhook": "webhookId",
}
RESOURCES = {
    resource.name: resource
    for event in contracts.events()
    for resource in (each.message_type for each in event.fields)
    if resource is not None and resource.name in IDS
}
# Which of its fields names what the events are about that tell its changes.
ABOUT = {
    resource.name: camel_case(about)
    for event in contracts.events()
    for resource in (each.message_type for each in event.fields)
    if resource is not None and (about := aggregate_field_of(resource))
}

State = dict[tuple[str, str], Json]
# Posted and pending of the ledger accounts of one kind, in cents, positive for a debit; zeros are left out.
Balances = dict[tuple[str, str, str], int]


@dataclass
class ReadModel:
    """The last state of each resource, by kind and id, and the faults of the events themselves."""

    state: State = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)  # by aggregate
    incarnations: dict[str, set[str]] = field(default_factory=dict)  # by area
    faults: list[str] = field(default_factory=list)

    def apply(self, event: Any) -> None:
        meta, name = event.meta, event.DESCRIPTOR.full_name
        former = self.versions.get(meta.aggregate_id, 0)
        if meta.aggregate_version != former + 1:
            self.faults.append(f"{name} {meta.aggregate_id}: {meta.aggregate_version} comes after {former}")
        self.versions[meta.aggregate_id] = meta.aggregate_version
        self.incarnations.setdefault(name.split(".")[1], set()).add(meta.incarnation)
        for kind, message in _resources(event):
            if personal := sorted(each.json_name for each, _ in message.ListFields() if is_left_out(each)):
                self.faults.append(f"{name}: {', '.join(personal)} is for nobody to hear")
            resource = without_left_out(kind, writer_of(message.DESCRIPTOR)(message))
            told = status_told(event.DESCRIPTOR, message.DESCRIPTOR)
            if told is not None and resource["status"] != told:
                self.faults.append(f"{name} {meta.aggregate_id}: its status is {resource['status']}")
            before = self.state.get((kind, resource[IDS[kind]]))
            moved = (
                meta.aggregate_id == resource[IDS[kind]] and before and before.get("status") != resource.get("status")
            )
            if moved and resource["status"] not in statuses_told(event.DESCRIPTOR, message.DESCRIPTOR):
                self.faults.append(
                    f"{name} {meta.aggregate_id}: does not say that it may be {resource['status']} by it"
                )
            self.state[kind, resource[IDS[kind]]] = resource
        if "person_ids" in event.DESCRIPTOR.fields_by_name:
            self.state["Persons", f"{event.party.party_id}/persons"] = {
                "personIds": list(event.person_ids),
                "waitingPersonIds": list(event.waiting_person_ids),
            }
        if isinstance(event, TransactionLimitDeleted):
            self.state.pop(("TransactionLimit", event.transaction_limit_id), None)

    def sum_balances(self) -> Balances:
        """What the legs of all journal entries add up to."""
        sums: Counter[tuple[str, str, str]] = Counter()
        for (kind, _), entry in self.state.items():
            for leg in entry["ledgerEntries"] if kind == "JournalEntry" else ():
                key = entry["escrowAccountId"], leg["ledgerAccount"]["kind"], leg["layer"]
                sums[key] += minor_of(leg["amount"]) * (1 if leg["direction"] == "DEBIT" else -1)
        return {key: amount_minor for key, amount_minor in sums.items() if amount_minor}


def without_left_out(kind: str, resource: Json) -> Json:
    """What REST spells, without what the contracts say that no event carries."""
    return _drop_left_out(RESOURCES[kind], resource)


def _drop_left_out(descriptor: Descriptor, spelled: Json) -> Json:
    kept = dict(spelled)
    for each in descriptor.fields:
        if is_left_out(each):
            kept.pop(each.json_name, None)
        elif isinstance(items := kept.get(each.json_name), list) and each.message_type is not None:
            kept[each.json_name] = [_drop_left_out(each.message_type, item) for item in items]
    return kept


def _resources(event: Message) -> Iterator[tuple[str, Message]]:
    """What the event carries the state of."""
    for described, value in event.ListFields():
        if described.type == FieldDescriptor.TYPE_MESSAGE:
            kind = described.message_type.name
            for message in value if described.is_repeated else [value]:
                if kind in IDS:
                    yield kind, message


async def read_events(url: str, org_id: str) -> ReadModel:
    """Every event of the organization so far."""
    model = ReadModel()
    client = await nats.connect(url, inbox_prefix=f"_INBOX_{urlsplit(url).username}", allow_reconnect=False)
    try:
        for service in SERVICES:
            subject = f"realco.{service.name}.v1.*.{org_id}.>"
            config = ConsumerConfig(ack_policy=AckPolicy.NONE)
            pull = await client.jetstream().pull_subscribe(subject, stream=service.stream.name, config=config)
            left = (await pull.consumer_info()).num_pending or 0
            while left:
                for message in await pull.fetch(min(left, 100), timeout=10):
                    model.apply(Default().GetSymbol((message.headers or {})["ce-type"]).FromString(message.data))
                    left -= 1
    finally:
        await client.close()
    return model


def read_rest(client: RestClient, versions: dict[str, int] | None = None) -> State:
    """Each resource of the client's organization, as a GET of it answers, without what events do not tell.

    Args:
        versions: Takes the version that each list and each GET says, by what events of it are about.
    """
    state: State = {}
    said: dict[str, int] = {} if versions is None else versions

    def note(kind: str, resource: Json) -> None:
        if about := ABOUT.get(kind):
            number = int(resource["aggregateVersion"])
            said[resource[about]] = min(number, said.get(resource[about], number))

    def keep(kind: str, resource: Json) -> None:
        state[kind, resource[IDS[kind]]] = without_left_out(kind, resource)
        note(kind, resource)

    def read_each(kind: str, path: str, items: str) -> list[Json]:
        listed = client.list_all(path, items)
        for one in listed:
            note(kind, one)
            keep(kind, client.get(f"{path}/{one[IDS[kind]]}"))
        return listed

    read_each("Transaction", "/transactions", "transactions")
    read_each("BankAccount", "/bank-accounts", "bankAccounts")
    read_each("Approval", "/approvals", "approvals")
    read_each("ApiKey", "/api-keys", "apiKeys")
    read_each("Webhook", "/webhooks", "webhooks")
    read_each("PaymentException", "/exceptions", "paymentExceptions")
    read_each("Offering", "/offerings", "offerings")
    read_each("Investment", "/investments", "investments")
    read_each("ComplianceCheck", "/compliance-checks", "complianceChecks")
    for party in read_each("Party", "/parties", "parties"):
        path = f"{party['partyId']}/persons"
        persons = client.list_all(f"/parties/{path}", "persons")
        state["Persons", path] = {
            "personIds": [one["personId"] for one in persons if "actStartTime" in one],
            "waitingPersonIds": [one["personId"] for one in persons if "actStartTime" not in one],
        }
    for limit in client.list_all("/transaction-limits", "transactionLimits"):
        if not limit["isDefault"]:  # what an organization begins with, or has again, is no resource of its own
            keep("TransactionLimit", client.get(f"/transaction-limits/{limit['transactionLimitId']}"))
    for distribution in read_each("Distribution", "/distributions", "distributions"):
        read_each("Allocation", f"/distributions/{distribution['distributionId']}/allocations", "allocations")
    for account in read_each("EscrowAccount", "/escrow-accounts", "escrowAccounts"):
        path = f"/escrow-accounts/{account['escrowAccountId']}"
        read_each("Hold", f"{path}/holds", "holds")
        read_each("JournalEntry", f"{path}/journal-entries", "journalEntries")
    return state


def read_balances(client: RestClient) -> Balances:
    """As the book gives them, a line a kind of ledger account."""
    found: Balances = {}
    for account in client.list_all("/escrow-accounts", "escrowAccounts"):
        path = f"/escrow-accounts/{account['escrowAccountId']}/ledger-accounts"
        for line in client.list_all(path, "ledgerAccounts"):
            sign = 1 if line["normalBalance"] == "DEBIT" else -1
            for layer in ("POSTED", "PENDING"):
                if amount_minor := minor_of(line[layer.lower()]):
                    key = account["escrowAccountId"], line["ledgerAccount"]["kind"], layer
                    found[key] = found.get(key, 0) + sign * amount_minor
    return found


def list_differences(told: State, rest: State) -> list[str]:
    """A line for each field that the events and REST have otherwise."""
    found = []
    for key in told.keys() | rest.keys():
        event, resource, what = told.get(key), rest.get(key), " ".join(key)
        if event is None or resource is None:
            found.append(f"{what}: {'no event' if event is None else 'not in REST'}")
            continue
        found += [
            f"{what}: {name} is {event.get(name)!r} in events, {resource.get(name)!r} in REST"
            for name in event.keys() | resource.keys()
            if event.get(name) != resource.get(name)
        ]
    return sorted(found)
