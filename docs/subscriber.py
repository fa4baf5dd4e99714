"""Prints ledger postings, from the first on: `python docs/subscriber.py nats://subscriber:PASSWORD@HOST:PORT KEYS`."""

import asyncio
import base64
import json
import sys
from pathlib import Path
from urllib.parse import urlsplit

import nats
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig
from realco.escrow.v1.events_pb2 import JournalEntriesPosted

SUBJECT = "realco.escrow.v1.JournalEntriesPosted.*.>"  # of one organization: …JournalEntriesPosted.acme.>
seen = set[str]()


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def read_keys(file: str) -> dict[str, Ed25519PublicKey]:
    keys = json.loads(Path(file).read_text())["keys"]
    return {key["kid"]: Ed25519PublicKey.from_public_bytes(decoded(key["x"])) for key in keys}


def check_signature(message: Msg, keys: dict[str, Ed25519PublicKey]) -> None:
    """Raises unless the escrow service told this event."""
    key_id, signature = message.headers["realco-signature"].split(" ")
    if not key_id.startswith("escrow:"):
        raise ValueError(f"{key_id} is no key of the escrow service")
    signed = f"realco-event\n{message.subject}\n{message.headers['ce-id']}\n".encode() + message.data
    keys[key_id].verify(decoded(signature), signed)


def show(message: Msg) -> None:
    if message.headers["ce-id"] in seen:  # delivery is at least once
        return
    seen.add(message.headers["ce-id"])
    for entry in JournalEntriesPosted.FromString(message.data).journal_entries:
        for leg in entry.ledger_entries:
            account, side, layer = leg.ledger_account, leg.Direction.Name(leg.direction), leg.Layer.Name(leg.layer)
            name = f"{account.Kind.Name(account.kind)} {account.party_id}".rstrip()
            print(message.headers["ce-time"], name, side, leg.amount.amount_minor, layer, flush=True)


async def main(url: str, keys: dict[str, Ed25519PublicKey]) -> None:
    client = await nats.connect(url, inbox_prefix=f"_INBOX_{urlsplit(url).username}", max_reconnect_attempts=-1)
    config = ConsumerConfig(inactive_threshold=3600)  # seconds that the server remembers us while we are away
    pull = await client.jetstream().pull_subscribe(SUBJECT, stream="ESCROW", config=config)
    while True:
        try:
            [message] = await pull.fetch(1, timeout=10)
        except TimeoutError:
            continue  # nothing new
        check_signature(message, keys)
        show(message)
        await message.ack()


asyncio.run(main(sys.argv[1], read_keys(sys.argv[2])))
