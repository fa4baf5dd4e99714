"""Has a consumer pass over messages that a person saw to.

`python -m services.chassis.events.step_over <durable> <stream> <n>` runs with the settings of the service that owns the
consumer. Everything up to message `n` passes for handled, and the next consumer that is made begins after it.
"""

from __future__ import annotations

import sys

from services.chassis.data.positions import set_position
from services.chassis.events.by_hand import open_consumer, run_command
from services.chassis.process.settings import ConfigurationError


async def main(durable: str, stream: str, sequence: int) -> int:
    """Raises: ConfigurationError: there is no such consumer, or it does not hear the stream."""
    async with open_consumer(durable) as opened:
        if stream not in opened.subscription.subjects_by_stream():
            raise ConfigurationError(f"{durable} does not hear {stream}")
        async with opened.database.begin_for_all() as tx:
            await set_position(tx, durable, stream, sequence)
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 4 or not sys.argv[3].isdecimal():
        sys.exit("usage: python -m services.chassis.events.step_over <durable> <stream> <sequence>")
    sys.exit(run_command(main(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
