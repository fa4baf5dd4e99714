"""Events as another team reads them: from the first on, in the order of their stream, each once, for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import nats.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

_IDLE_SECONDS, _PAUSE_SECONDS = 5.0, 0.25


async def read_messages(js: JetStreamContext, stream: str, subject: str) -> AsyncIterator[Msg]:
    """Continues after the last one when the server or the consumer was away."""
    config = ConsumerConfig(ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=1)
    while True:
        try:
            pull, expected = await js.pull_subscribe(subject, stream=stream, config=config), 1
            async for message in _fetch(pull):
                if message.metadata.sequence.consumer != expected:
                    break  # one was lost with a connection: ask again from there
                yield message
                expected, config.opt_start_seq = expected + 1, message.metadata.sequence.stream + 1
        except nats.errors.Error:
            await asyncio.sleep(_PAUSE_SECONDS)


async def _fetch(pull: JetStreamContext.PullSubscription) -> AsyncIterator[Msg]:
    while True:
        try:
            yield (await pull.fetch(1, timeout=_IDLE_SECONDS))[0]
        except nats.errors.TimeoutError:
            continue  # nothing new
