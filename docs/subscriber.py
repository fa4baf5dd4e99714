"""Prints ledger postings, from the first on: `python docs/subscriber.py nats://subscriber:PASSWORD@HOST:PORT`."""

import asyncio
import sys
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import nats
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from realco.escrow.v1.events_pb2 import JournalEntriesPosted

SUBJECT = "realco.escrow.v1.JournalEntriesPosted.*.>"  # of one organization: …JournalEntriesPosted.acme.>


async def read(js: JetStreamContext) -> AsyncIterator[Msg]:
    """Every message of the subject in order, each once, for ever."""
    config = ConsumerConfig(ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=1)
    while True:
        try:
            pull, expected = await js.pull_subscribe(SUBJECT, stream="ESCROW", config=config), 1
            async for message in fetch(pull):
                if message.metadata.sequence.consumer != expected:
                    break  # one was lost with a connection: ask again from there
                yield message
                expected, config.opt_start_seq = expected + 1, message.metadata.sequence.stream + 1
        except nats.errors.Error:
            await asyncio.sleep(1)  # the server is away, or has forgotten our consumer


async def fetch(pull: JetStreamContext.PullSubscription) -> AsyncIterator[Msg]:
    while True:
        try:
            yield (await pull.fetch(1, timeout=10))[0]
        except nats.errors.TimeoutError:
            continue  # nothing new


def show(message: Msg) -> None:
    for entry in JournalEntriesPosted.FromString(message.data).journal_entries:
        for leg in entry.ledger_entries:
            account, side, layer = leg.ledger_account, leg.Direction.Name(leg.direction), leg.Layer.Name(leg.layer)
            name = f"{account.Kind.Name(account.kind)} {account.party_id}".rstrip()
            print(message.headers["ce-time"], name, side, leg.amount.amount_minor, layer, flush=True)


async def main(url: str) -> None:
    client = await nats.connect(url, inbox_prefix=f"_INBOX_{urlsplit(url).username}", max_reconnect_attempts=-1)
    async for message in read(client.jetstream()):
        show(message)


asyncio.run(main(sys.argv[1]))
