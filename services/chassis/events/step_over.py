"""Has a consumer go on from where a person says.

`python -m services.chassis.events.step_over <consumer> <stream> <n>` runs with the settings of the service that owns
the consumer. Everything up to message `n` passes for handled, and this release goes on from there, even where one that
handles more was there before: after 0, with the first message that the stream has.
"""

from __future__ import annotations

import sys

from nats.js import JetStreamContext

from services.chassis.data.database import Database
from services.chassis.data.positions import set_position
from services.chassis.events import streams
from services.chassis.events.by_hand import open_consumer, run_command
from services.chassis.events.handling import Subscription
from services.chassis.process.settings import ConfigurationError


async def step_over(
    database: Database, js: JetStreamContext, subscription: Subscription, stream: str, sequence: int
) -> bool:
    """False if the stream does not reach to there."""
    there = await streams.fetch_stream(js, stream)
    if there is None or there["state"]["last_seq"] < sequence:
        return False
    # Of messages that are no more, nobody can be told whether they were handled.
    before = max(sequence, there["state"]["first_seq"] - 1)
    handlers = subscription.types_by_stream()[stream]
    async with database.begin_for_all() as tx:
        await set_position(tx, subscription.consumer, stream, there["created"], before, handlers)
    return True


async def main(consumer: str, stream: str, sequence: int) -> int:
    """Raises: ConfigurationError: there is no such consumer, or it does not hear the stream."""
    async with open_consumer(consumer, "nats_url") as opened:
        if stream not in opened.subscription.types_by_stream():
            raise ConfigurationError(f"{consumer} does not hear {stream}")
        client = await streams.connect(opened.settings.nats_url.get_secret_value(), consumer)
        try:
            if await step_over(opened.database, streams.jetstream(client), opened.subscription, stream, sequence):
                return 0
        finally:
            await client.close()
    print(f"{stream} ends before {sequence}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    if len(sys.argv) != 4 or not sys.argv[3].isdecimal():
        sys.exit("usage: python -m services.chassis.events.step_over <consumer> <stream> <sequence>")
    sys.exit(run_command(main(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
