"""What a durable consumer has to be, and what is wrong with one: the provisioner makes them so, each service checks its
own.

A consumer hears its whole stream, also what its service has no handler for: so the numbers of what it hands out have no
gap, and a message that was removed, hidden by a filter, acknowledged by somebody else or stored under another subject
is missed at once. It is at fault where an event could pass it unhandled: it is not there, hands messages out in another
way, begins after what was handled, has gone past it, or knows acknowledgements that its service never gave; or where a
message is out that no process of the service works on, and stays so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, ReplayPolicy

from services.chassis.events.configurations import find_differences
from services.chassis.values.position import Position

# Deliveries are not limited: who consumes counts the attempts, and a limit would lose messages in a long outage.
ACK_WAIT_SECONDS = 5
# How long a process's word that it works on a message counts; it gives it every third of ACK_WAIT_SECONDS.
HELD_SECONDS = ACK_WAIT_SECONDS
# A message that none of our processes holds comes again after ACK_WAIT_SECONDS, under another number. One that does not
# is kept from us by somebody who tells NATS that it is being worked on.
KEPT_SECONDS = 2 * ACK_WAIT_SECONDS
_MAX_ACK_PENDING = 1
_MAX_DELIVER = -1
_MAX_WAITING = 512
_HANDLERS = "handlers"
# Where it begins is no setting to compare: it differs with the time a consumer was made.
BEGINNING = ("deliver_policy", "opt_start_seq", "opt_start_time")


def configuration(name: str, handlers: Sequence[str], handled: int = 0) -> ConsumerConfig:
    """How the consumer of that name is made.

    Args:
        handlers: The subjects that the service has handlers for; the consumer remembers them, and hears everything.
        handled: The last sequence of the stream that needs not come again.
    """
    return ConsumerConfig(
        name=name,
        durable_name=name,
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=handled + 1,
        replay_policy=ReplayPolicy.INSTANT,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT_SECONDS,
        max_ack_pending=_MAX_ACK_PENDING,
        max_deliver=_MAX_DELIVER,
        max_waiting=_MAX_WAITING,
        metadata={_HANDLERS: " ".join(sorted(handlers))},
    )


def find_faults(wanted: ConsumerConfig, info: Mapping[str, Any] | None, handled: Position) -> list[str]:
    """Why events may pass this consumer unhandled; nothing where all is well.

    Args:
        info: What the server says of it; None: it has none.
        handled: What the service had handled when the server said so, or later.
    """
    if info is None:
        return ["is missing"]
    actual = info["config"]
    faults = find_differences(wanted, actual, ignored=(*BEGINNING, "metadata"))
    unknown = _handlers_of(wanted.metadata) - _handlers_of(actual.get("metadata"))
    faults += [f"does not know that {subject} is handled" for subject in sorted(unknown)]
    start = _start_of(actual)
    if start is None or start > handled.stream_sequence + 1:
        faults.append(f"begins at {start or 'no sequence'}, and {handled.stream_sequence} was the last handled")
    floor, delivered = info["ack_floor"]["stream_seq"], info["delivered"]["stream_seq"]
    if floor > handled.stream_sequence:
        faults.append(f"is acknowledged up to {floor}, and {handled.stream_sequence} was the last handled")
    elif delivered > handled.stream_sequence + 1:
        faults.append(f"went on to {delivered}, and {handled.stream_sequence} was the last handled")
    return faults


def find_beyond(stream: Mapping[str, Any], handled: Position) -> list[str]:
    """Why the position cannot be of what the stream holds: it was put back to an earlier state, for instance.

    Args:
        stream: What the server said of it after `handled` was read.
    """
    is_beyond = handled.stream_sequence > stream["state"]["last_seq"]
    return [f"was handled up to {handled.stream_sequence}, which is beyond the end of the stream"] if is_beyond else []


def is_of_newer_release(wanted: ConsumerConfig, info: Mapping[str, Any]) -> bool:
    """Whether it was made for a release that handles more, and to which this one leaves the messages therefore."""
    return bool(_handlers_of(info["config"].get("metadata")) - _handlers_of(wanted.metadata))


def _handlers_of(metadata: Mapping[str, str] | None) -> set[str]:
    return set((metadata or {}).get(_HANDLERS, "").split())


def find_withheld(info: Mapping[str, Any], handled: Position) -> int:
    """The number of the delivery that is out and that none of our processes says it is working on; 0 where none is."""
    delivery: int = info["delivered"]["consumer_seq"]
    is_out = info["num_ack_pending"] > 0 and delivery > handled.consumer_sequence
    return delivery if is_out and delivery != handled.held_sequence else 0


def _start_of(actual: Mapping[str, Any]) -> int | None:
    """The first sequence it hands out; None where that depends on when it was made."""
    if actual["deliver_policy"] == DeliverPolicy.ALL:
        return 1
    return actual.get("opt_start_seq") if actual["deliver_policy"] == DeliverPolicy.BY_START_SEQUENCE else None
