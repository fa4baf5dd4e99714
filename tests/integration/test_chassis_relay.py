"""How many events a relay tells at a time."""

from __future__ import annotations

from services.chassis.events import relay
from tests.support.chassis_events import emit, emit_at_once, relaying


async def test_few_events_are_published_one_after_the_other_and_many_as_one_batch(database, js, listener):
    async with relaying(database, js):
        await emit_at_once(database, "one", "two")
        await listener.names(2)
        await emit_at_once(database, "three", "four", "five", "six")
        await listener.names(6)
    batches = [message.headers.get("Nats-Batch-Id") for message in listener.messages]
    assert batches[:2] == [None, None]
    assert None not in batches[2:]
    assert len(set(batches[2:])) == 1


async def test_what_is_committed_within_a_moment_is_told_together(database, js, listener, monkeypatch):
    looks, look = 0, relay.relay_batch

    async def count(*arguments):
        nonlocal looks
        looks += 1
        return await look(*arguments)

    monkeypatch.setattr(relay, "relay_batch", count)
    monkeypatch.setattr(relay, "GATHERING_SECONDS", 1.0)
    names = [f"n{number}" for number in range(10)]
    async with relaying(database, js):
        for name in names:
            await emit(database, name)
        assert await listener.names(10) == names
    assert looks <= 5
