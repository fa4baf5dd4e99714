"""What is wrong with a durable consumer: whatever lets an event pass unhandled, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from nats.js.api import AckPolicy, DeliverPolicy

from services.chassis.data.positions import Position
from services.chassis.events.durables import configuration, find_faults

MONEY, HOLDS = "realco.escrow.v1.JournalEntriesPosted.>", "realco.escrow.v1.HoldPlaced.>"
WANTED = configuration("audit", [MONEY, HOLDS])
HANDLED = Position(stream_sequence=40, consumer_sequence=12)


def info(changes: dict[str, Any], acknowledged: tuple[int, int] = (12, 40)) -> dict[str, Any]:
    consumer, stream = acknowledged
    return {"config": WANTED.evolve(**changes).as_dict(), "ack_floor": {"consumer_seq": consumer, "stream_seq": stream}}


@pytest.mark.parametrize(
    ("there", "faults"),
    [
        (info({}), []),
        (info({"filter_subjects": [HOLDS, MONEY]}), []),
        (info({"filter_subjects": [MONEY, HOLDS, "realco.escrow.v1.HoldReleased.>"]}), []),  # a newer release is beside
        (info({"opt_start_seq": 41}), []),
        (info({"deliver_policy": DeliverPolicy.ALL, "opt_start_seq": None}), []),
        (info({}, acknowledged=(11, 39)), []),  # the last acknowledgement is on its way
        (info({}, acknowledged=(14, 40)), []),  # the last one was delivered three times
        (info({}, acknowledged=(12, 55)), []),  # what follows is of no concern to it
        (None, ["is missing"]),
        (info({"filter_subjects": [HOLDS]}), [f"does not hear {MONEY}"]),
        (info({"filter_subjects": None, "filter_subject": HOLDS}), [f"does not hear {MONEY}"]),
        (info({"filter_subjects": [HOLDS, MONEY.replace(">", "acme.>")]}), [f"does not hear {MONEY}"]),
        (info({"ack_policy": AckPolicy.NONE}), ['ack_policy is "none", wanted "explicit"']),
        (info({"max_ack_pending": 7}), ["max_ack_pending is 7, wanted 1"]),
        (info({"max_deliver": 3}), ["max_deliver is 3, wanted -1"]),
        (info({"deliver_subject": "elsewhere"}), ['deliver_subject is "elsewhere", wanted not set']),
        (info({"pause_until": "2099-01-01T00:00:00Z"}), ['pause_until is "2099-01-01T00:00:00Z", wanted not set']),
        (info({"opt_start_seq": 42}), ["begins at 42, and 40 was the last handled"]),
        (info({"deliver_policy": DeliverPolicy.NEW, "opt_start_seq": None}), ["begins at no sequence, and 40"]),
        (info({}, acknowledged=(13, 41)), ["is acknowledged up to 41, and 40 was the last handled"]),
    ],
)
def test_a_consumer_is_at_fault_where_an_event_could_pass_it_unhandled(
    there: dict[str, Any] | None, faults: list[str]
) -> None:
    found = find_faults(WANTED, there, HANDLED)
    assert len(found) == len(faults)
    assert all(said.startswith(fault) for said, fault in zip(found, faults, strict=True)), found


def test_a_consumer_that_begins_with_the_first_event_is_sound_where_nothing_was_handled() -> None:
    assert find_faults(WANTED, info({}, acknowledged=(0, 0)), Position()) == []
