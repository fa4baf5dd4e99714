"""What the provisioner wants of JetStream, derived from the subscriptions."""

from __future__ import annotations

from typing import Any

import pytest
from nats.js.api import DiscardPolicy, StorageType, StreamConfig
from realco.escrow.v1 import events_pb2 as escrow
from realco.transactions.v1 import events_pb2 as transactions

from deploy.provision import consumers_of, durables_of, find_differences, stream_configurations
from services.chassis.events.consumer import Subscription


async def handle(tx: object, event: object, meta: object) -> None:
    pass


SUBSCRIPTION = Subscription(
    "compliance_audit",
    {escrow.JournalEntriesPosted: handle, transactions.TransactionSettled: handle},
)


def test_a_subscription_to_two_areas_has_a_consumer_on_each_stream_and_one_over_its_dead_letters() -> None:
    made = {consumer.stream: consumer for consumer in consumers_of("compliance", SUBSCRIPTION)}
    assert {stream: consumer.subjects for stream, consumer in made.items()} == {
        "ESCROW": ("realco.escrow.v1.JournalEntriesPosted.>",),
        "TRANSACTIONS": ("realco.transactions.v1.TransactionSettled.>",),
        "DEAD_LETTERS": ("realco.dead_letters.compliance_audit",),
    }
    assert {consumer.name for consumer in made.values()} == {"compliance_audit"}
    assert durables_of(list(made.values()))["compliance"] == ["compliance_audit"]


def test_events_stay_in_order_and_dead_letters_do_not_wait_for_each_other() -> None:
    pending = {
        consumer.stream: consumer.configuration().max_ack_pending
        for consumer in consumers_of("compliance", SUBSCRIPTION)
    }
    assert pending == {"ESCROW": 1, "TRANSACTIONS": 1, "DEAD_LETTERS": 1000}


@pytest.mark.parametrize("stream", stream_configurations(), ids=lambda stream: stream.name)
def test_every_stream_keeps_what_it_acknowledged(stream: StreamConfig) -> None:
    assert (stream.storage, stream.discard, stream.max_age) == (StorageType.FILE, DiscardPolicy.NEW, 0)
    assert (stream.deny_delete, stream.deny_purge) == (True, True)
    assert stream.duplicate_window == 2 * 3600


@pytest.mark.parametrize(
    ("wanted", "actual", "count"),
    [
        ({"max_age": 0, "allow_atomic": True}, {"allow_atomic": True, "num_replicas": 1}, 0),  # zero is left out
        ({"subjects": ["a"]}, {"subjects": ["a"]}, 0),
        ({"subjects": ["a"]}, {"subjects": ["a", "b"]}, 1),
        ({"deny_delete": True}, {}, 1),
        ({"duplicate_window": 5, "max_msgs": -1}, {"duplicate_window": 30, "max_msgs": 3}, 2),
    ],
)
def test_drift_is_found_field_by_field(wanted: dict[str, Any], actual: dict[str, Any], count: int) -> None:
    # Both are of one kind: what a configuration does not name is not compared.
    assert len(find_differences(StreamConfig(**wanted), StreamConfig(**actual))) == count
