"""Has a consumer pass over messages that a person saw to.

`python -m services.chassis.events.step_over <durable> <stream> <n>` runs with the settings of the service that owns the
consumer. Everything up to message `n` passes for handled, and the next consumer that is made begins after it: after 0,
with the first message that the stream has.
"""

from __future__ import annotations

import sys

from nats.js import JetStreamContext

from services.chassis.data.database import Database
from services.chassis.data.positions import set_position
from services.chassis.events import streams
from services.chassis.events.by_hand import open_consumer, run_command
from services.chassis.process.settings import ConfigurationError


async def step_over(database: Database, js: JetStreamContext, durable: str, stream: str, sequence: int) -> bool:
    """False if the stream does not reach to there."""
    there = await streams.fetch_stream(js, stream)
    if there is None or there["state"]["last_seq"] < sequence:
        return False
    async with database.begin_for_all() as tx:
        await set_position(tx, durable, stream, there["created"], sequence)
    return True


async def main(durable: str, stream: str, sequence: int) -> int:
    """Raises: ConfigurationError: there is no such consumer, or it does not hear the stream."""
    async with open_consumer(durable, "nats_url") as opened:
        if stream not in opened.subscription.subjects_by_stream():
            raise ConfigurationError(f"{durable} does not hear {stream}")
        client = await streams.connect(opened.settings.nats_url.get_secret_value(), durable)
        try:
            if await step_over(opened.database, streams.jetstream(client), durable, stream, sequence):
                return 0
        finally:
            await client.close()
    print(f"{stream} ends before {sequence}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    if len(sys.argv) != 4 or not sys.argv[3].isdecimal():
        sys.exit("usage: python -m services.chassis.events.step_over <durable> <stream> <sequence>")
    sys.exit(run_command(main(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
