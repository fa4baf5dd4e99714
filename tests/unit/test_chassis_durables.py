"""What is wrong with a durable consumer: whatever lets an event pass unhandled, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from nats.js.api import AckPolicy, DeliverPolicy

from services.chassis.events.durables import configuration, find_beyond, find_faults, is_of_newer_release
from services.chassis.values.position import Position

MONEY, HOLDS = "realco.escrow.v1.JournalEntriesPosted.>", "realco.escrow.v1.HoldPlaced.>"
WANTED = configuration("audit", [MONEY, HOLDS])
HANDLED = Position(stream_sequence=40, consumer_sequence=12)


def info(changes: dict[str, Any], acknowledged: int = 40, delivered: int = 40) -> dict[str, Any]:
    config = WANTED.evolve(**changes).as_dict()
    return {"config": config, "ack_floor": {"stream_seq": acknowledged}, "delivered": {"stream_seq": delivered}}


@pytest.mark.parametrize(
    ("there", "faults"),
    [
        (info({}), []),
        (info({"opt_start_seq": 41}), []),
        (info({"deliver_policy": DeliverPolicy.ALL, "opt_start_seq": None}), []),
        (info({}, acknowledged=39), []),  # the last acknowledgement is on its way
        (info({}, delivered=41), []),  # the next message is out
        (info({"metadata": {"handlers": f"{HOLDS} {MONEY} more.>"}}), []),  # a newer release is beside
        (None, ["is missing"]),
        (info({"metadata": {"handlers": HOLDS}}), [f"does not know that {MONEY} is handled"]),
        (info({"filter_subjects": [HOLDS]}), [f'filter_subjects is ["{HOLDS}"], wanted not set']),
        (info({"filter_subject": HOLDS}), [f'filter_subject is "{HOLDS}", wanted not set']),
        (info({"ack_policy": AckPolicy.NONE}), ['ack_policy is "none", wanted "explicit"']),
        (info({"max_ack_pending": 7}), ["max_ack_pending is 7, wanted 1"]),
        (info({"max_deliver": 3}), ["max_deliver is 3, wanted -1"]),
        (info({"deliver_subject": "elsewhere"}), ['deliver_subject is "elsewhere", wanted not set']),
        (info({"pause_until": "2099-01-01T00:00:00Z"}), ['pause_until is "2099-01-01T00:00:00Z", wanted not set']),
        (info({"headers_only": True}), ["headers_only is true, wanted not set"]),
        (info({"opt_start_seq": 42}), ["begins at 42, and 40 was the last handled"]),
        (info({"deliver_policy": DeliverPolicy.NEW, "opt_start_seq": None}), ["begins at no sequence, and 40"]),
        (info({}, acknowledged=41, delivered=41), ["is acknowledged up to 41, and 40 was the last handled"]),
        (info({}, delivered=42), ["went on to 42, and 40 was the last handled"]),
    ],
)
def test_a_consumer_is_at_fault_where_an_event_could_pass_it_unhandled(
    there: dict[str, Any] | None, faults: list[str]
) -> None:
    found = find_faults(WANTED, there, HANDLED)
    assert len(found) == len(faults)
    assert all(said.startswith(fault) for said, fault in zip(found, faults, strict=True)), found


@pytest.mark.parametrize(("last", "is_beyond"), [(41, False), (40, False), (39, True), (0, True)])
def test_a_position_that_the_stream_does_not_reach_is_at_fault(last: int, is_beyond: bool) -> None:
    assert bool(find_beyond({"state": {"last_seq": last}}, HANDLED)) is is_beyond


def test_messages_are_left_to_the_release_that_handles_more() -> None:
    assert not is_of_newer_release(WANTED, info({}))
    assert is_of_newer_release(WANTED, info({"metadata": {"handlers": f"{HOLDS} {MONEY} more.>"}}))
