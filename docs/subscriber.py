"""Prints ledger postings as they happen: `python docs/subscriber.py nats://subscriber:PASSWORD@HOST:PORT`."""

import asyncio
import sys

import nats
from nats.aio.msg import Msg
from realco.escrow.v1.events_pb2 import JournalEntriesPosted

seen = set[str]()


async def show(message: Msg) -> None:
    if message.headers["ce-id"] not in seen:  # delivery is at least once
        seen.add(message.headers["ce-id"])
        for entry in JournalEntriesPosted.FromString(message.data).journal_entries:
            for leg in entry.ledger_entries:
                side, layer = leg.Direction.Name(leg.direction), leg.Layer.Name(leg.layer)
                print(message.headers["ce-time"], leg.ledger_account, side, leg.amount.amount_minor, layer, flush=True)


async def main(url: str) -> None:
    client = await nats.connect(url, max_reconnect_attempts=-1)
    subject = "realco.escrow.v1.JournalEntriesPosted.>"
    await client.jetstream().subscribe(subject, stream="ESCROW", ordered_consumer=True, cb=show)
    await asyncio.Event().wait()


asyncio.run(main(sys.argv[1]))
