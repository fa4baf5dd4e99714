"""What an event loses before it leaves, and what it is cut into."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from google.protobuf.message_factory import GetMessageClass
from realco.distributions.v1 import events_pb2 as distributions_events
from realco.escrow.v1 import events_pb2 as escrow_events
from realco.escrow.v1 import journal_pb2 as pb

from services.chassis.data.event_messages import PAYLOAD_BYTES_MAX, cut, leave_out

_FILE = """
name: "tests/event_messages.proto" package: "tests.event_messages" syntax: "proto3"
dependency: "realco/type/v1/event.proto"
message_type {
  name: "Resource"
  field { name: "id" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "said" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL
          options { [realco.type.v1.not_in_events]: true } }
  field { name: "one" number: 3 type: TYPE_MESSAGE type_name: ".tests.event_messages.Resource" label: LABEL_OPTIONAL }
  field { name: "many" number: 4 type: TYPE_MESSAGE type_name: ".tests.event_messages.Resource" label: LABEL_REPEATED }
  field { name: "mapped" number: 5 type: TYPE_MESSAGE type_name: ".tests.event_messages.Resource.MappedEntry"
          label: LABEL_REPEATED }
  nested_type {
    name: "MappedEntry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
    field { name: "value" number: 2 type: TYPE_MESSAGE type_name: ".tests.event_messages.Resource"
            label: LABEL_OPTIONAL }
  }
}
"""


@pytest.fixture(scope="module")
def resource() -> Any:
    """A message that has itself in every way a message can be in another."""
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(text_format.Parse(_FILE, descriptor_pb2.FileDescriptorProto()).SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName("tests.event_messages.Resource"))


def test_what_no_event_carries_is_left_out_however_deep_it_is(resource):
    def build(said: str, depth: int = 2) -> Any:
        inner = build(said, depth - 1) if depth else None
        within = {"one": inner, "many": [inner, inner], "mapped": {"key": inner}} if depth else {}
        return resource(id="id_1", said=said, **within)

    event = build("what a person wrote")
    leave_out(event)
    assert event == build("")
    assert not event.one.one.HasField("one"), "what was not there is not there afterwards"


def entry(legs: int, external_id: str = "e") -> pb.JournalEntry:
    return pb.JournalEntry(
        journal_entry_id="je_1", external_id=external_id, ledger_entries=[pb.LedgerEntry(leg=n) for n in range(legs)]
    )


def cut_entries(*entries: pb.JournalEntry) -> list[escrow_events.JournalEntriesPosted]:
    return cut(escrow_events.JournalEntriesPosted(escrow_account_id="esc_1", journal_entries=entries))


def check_parts(parts: list[Any]) -> None:
    assert [(part.part, part.part_count) for part in parts] == [(n, len(parts)) for n in range(1, len(parts) + 1)]
    assert all(part.ByteSize() <= PAYLOAD_BYTES_MAX - 1024 for part in parts), "there is room for the envelope"


@pytest.mark.parametrize(("count", "parts_min"), [(0, 1), (1, 1), (500, 2)])
def test_a_list_is_in_as_many_parts_as_it_takes_and_in_its_order(count, parts_min):
    entries = [entry(2, f"{number:0>1000}") for number in range(count)]
    parts = cut_entries(*entries)
    assert [each for part in parts for each in part.journal_entries] == entries
    assert {part.escrow_account_id for part in parts} == {"esc_1"}
    assert len(parts) >= parts_min
    check_parts(parts)


def test_an_item_too_large_for_a_part_is_in_several_with_each_of_its_own_once():
    parts = cut_entries(entry(1), entry(100_000, "large"), entry(1))
    pieces = [each for part in parts for each in part.journal_entries]
    assert [each.external_id for each in (pieces[0], pieces[-1])] == ["e", "e"]
    assert {(each.journal_entry_id, each.external_id) for each in pieces[1:-1]} == {("je_1", "large")}
    assert [leg.leg for each in pieces[1:-1] for leg in each.ledger_entries] == list(range(100_000))
    check_parts(parts)


def test_what_stands_beside_the_list_is_in_each_part():
    event = distributions_events.DistributionCalculated(
        distribution={"distribution_id": "dist_1"}, allocations=[{"allocation_id": "a" * 200}] * 3000
    )
    parts = cut(event)
    assert len(parts) > 2
    assert {part.distribution.distribution_id for part in parts} == {"dist_1"}
    assert sum(len(part.allocations) for part in parts) == 3000
    check_parts(parts)
