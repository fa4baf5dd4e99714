"""One event's way from its message to its handler, and that of several in one transaction.

- An event that its service did not sign is not even read (signatures.py).
- An event that is not among the handled ones, and older than those that are remembered, is not handled: it may have
  been, long ago (data/retention.py).
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from google.protobuf.message import Message
from realco.type.v1.event_pb2 import EventMeta

from services.chassis.calls.auth import acting_as, is_organization, service_principal
from services.chassis.calls.wire import from_timestamp
from services.chassis.data.database import Database
from services.chassis.data.handled_events import claim_events
from services.chassis.data.incarnation import read_incarnation
from services.chassis.data.retention import EVENT_AGE_DAYS_MAX
from services.chassis.data.transaction import Tx
from services.chassis.events import streams
from services.chassis.events.signatures import EventKeys
from services.chassis.events.subjects import event_type_of
from services.chassis.process import telemetry
from services.chassis.values.clock import Clock


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a handler knows of an event beside its message. It acts in the event's organization, for its actor."""

    now: datetime  # business time of handling


# (tx, event, delivery) -> None. Local database work only: it may run again, and remote calls belong to jobs.
Handler = Callable[[Tx, Any, Delivery], Awaitable[None]]


@dataclass(frozen=True)
class Subscription:
    """The events one consumer handles, and how. Its streams follow from the events' names.

    Args:
        is_about_money: A book, or what is owed or paid, is wrong where one of them is not handled.
        concerns: Of an event, whether it says anything that its handler would act upon. Else it is passed over.
    """

    consumer: str
    handlers: Mapping[type[Message], Handler]
    is_about_money: bool
    concerns: Mapping[type[Message], Callable[[Any], bool]] = field(default_factory=dict)

    def types_by_stream(self) -> dict[str, frozenset[str]]:
        """Stream -> the events that have handlers."""
        found: dict[str, set[str]] = {}
        for event in self.handlers:
            event_type = event.DESCRIPTOR.full_name
            found.setdefault(streams.stream_of(event_type), set()).add(event_type)
        return {stream: frozenset(types) for stream, types in sorted(found.items())}

    def find_handler(self, subject: str) -> tuple[type[Message], Handler] | None:
        event_type = event_type_of(subject)
        for event, handler in self.handlers.items():
            if event.DESCRIPTOR.full_name == event_type:
                return event, handler
        return None


class Envelope(Protocol):
    """An event as it came, or as it was set aside."""

    @property
    def subject(self) -> str: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def data(self) -> bytes: ...


class Malformed(Exception):
    """The message can never be handled, however often it is tried."""


class TooOld(Exception):
    """Nobody knows any more whether the event was handled; a person finds out, and says so."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event that its service told, and what handles it."""

    message: Any
    handler: Handler
    event_id: str
    org_id: str
    traceparent: str | None


async def read_event(subscription: Subscription, keys: EventKeys, envelope: Envelope) -> Event | None:
    """None where there is no handler. It is proven all the same: it may be one of ours under another subject.

    Raises:
        NotProven: no service of ours told it, so nothing of it was read.
        Malformed, DecodeError: it can never be handled.
    """
    telemetry.continue_trace(None)
    await keys.check(envelope.subject, envelope.headers, envelope.data)
    found = subscription.find_handler(envelope.subject)
    if found is None:
        return None
    event_type, handler = found
    message: Any = event_type.FromString(envelope.data)
    return Event(message, handler, *_origin(message.meta, envelope.subject), envelope.headers.get("traceparent"))


async def read_next(subscription: Subscription, keys: EventKeys, envelope: Envelope) -> Event | None:
    """As `read_event`; None also where nothing that the event says concerns the handler."""
    event = await read_event(subscription, keys, envelope)
    concerns = None if event is None else subscription.concerns.get(type(event.message))
    return event if event is None or concerns is None or concerns(event.message) else None


def _origin(meta: EventMeta, subject: str) -> tuple[str, str]:
    """The event's id and its organization, which the subject names too: a team hears by subject."""
    try:
        event_id = str(uuid.UUID(meta.event_id))
    except ValueError:
        raise Malformed("an event says its id") from None
    if not is_organization(meta.org_id) or subject.split(".")[4:5] != [meta.org_id]:
        raise Malformed("an event says its organization, and is published under it")
    return event_id, meta.org_id


async def apply_told(
    database: Database,
    subscription: Subscription,
    keys: EventKeys,
    envelope: Envelope,
    clock: Clock,
    *,
    of_any_age: bool,
) -> bool:
    """Handles one event in one transaction, wherever it stands in its stream; False if it had been handled before.

    Args:
        of_any_age: A person says that it was not handled, should nobody else know any more.

    Raises:
        What `read_event` and `apply_events` raise; Malformed where there is no handler.
    """
    event = await read_event(subscription, keys, envelope)
    if event is None:
        raise Malformed("no handler for this subject")
    async with database.begin(event.org_id) as tx:
        about = tx, database.name, subscription.consumer
        [applied] = await apply_events(*about, [event], await read_incarnation(tx), clock, of_any_age=of_any_age)
    return applied


async def apply_events(
    tx: Tx,
    service: str,
    consumer: str,
    events: Sequence[Event],
    incarnation: str,
    clock: Clock,
    *,
    of_any_age: bool = False,
) -> list[bool]:
    """Handles events of the transaction's organization, one after the other; of each, whether it was not before.

    Raises:
        TooOld: one is not among the handled events, and may be forgotten: it is handled only if a person says so.
    """
    with acting_as(service_principal(service, events[0].org_id)):
        new = await claim_events(tx, consumer, [event.event_id for event in events], incarnation)
    applied = []
    for event in events:
        is_new = event.event_id in new
        applied.append(is_new)
        if not is_new:
            continue
        new.remove(event.event_id)
        telemetry.continue_trace(event.traceparent)
        now = clock.now()
        # By the time that the signature covers: a header, and when NATS stored it, are anybody's to say.
        is_too_old = now - from_timestamp(event.message.meta.occur_time) > timedelta(days=EVENT_AGE_DAYS_MAX)
        if is_too_old and not of_any_age:
            raise TooOld
        with acting_as(service_principal(service, event.org_id, on_behalf_of=event.message.meta.actor or None)):
            await event.handler(tx, event.message, Delivery(now))
    return applied
