"""Puts a dead letter away for good, once a person saw to what it was about.

`python -m services.chassis.events.dismiss <durable> <number> <person> <reason>` runs with the settings of the service
that owns the consumer. The letter waits no more and is never handled; it stays in the stream, and the log says who
dismissed it and why. Its number is told by the replay (replay.py).
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing

from nats.aio.msg import Msg
from nats.js import JetStreamContext

from services.chassis.events.replay import COMES_AGAIN_SECONDS, QUIET_SECONDS, find, leave, list_letters, open_jetstream
from services.chassis.process import telemetry
from services.chassis.process.settings import ConfigurationError, Settings
from services.chassis.process.telemetry import log
from services.chassis.values.errors import BootError


async def dismiss(
    js: JetStreamContext,
    durable: str,
    number: int,
    person: str,
    reason: str,
    quiet_seconds: float = COMES_AGAIN_SECONDS + QUIET_SECONDS,  # a replay may just have left it
) -> bool:
    """False if no such letter of the consumer waits."""
    async with aclosing(list_letters(js, durable, quiet_seconds)) as letters:
        async for letter in letters:
            if letter.metadata.sequence.stream == number:
                await letter.ack_sync(timeout=5)
                _say_dismissed(durable, letter, person, reason)
                return True
            await leave(letter)
    return False


def _say_dismissed(durable: str, letter: Msg, person: str, reason: str) -> None:
    headers = letter.headers or {}
    log.warning(
        "dead_letter_dismissed",
        consumer=durable,
        number=letter.metadata.sequence.stream,
        subject=headers.get("realco-subject"),
        event_id=headers.get("ce-id"),
        cause=headers.get("realco-cause"),
        person=person,
        reason=reason,
    )


async def main(durable: str, number: int, person: str, reason: str) -> int:
    settings = Settings.load()
    settings.require("nats_url")
    service, _ = find(durable)
    telemetry.configure_logging(service)
    async with open_jetstream(settings, durable) as js:
        if await dismiss(js, durable, number, person, reason):
            return 0
    print(f"no dead letter {number} of {durable} waits", file=sys.stderr)
    return 1


if __name__ == "__main__":
    if len(sys.argv) != 5 or not sys.argv[2].isdecimal():
        sys.exit("usage: python -m services.chassis.events.dismiss <durable> <number> <person> <reason>")
    try:
        sys.exit(asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4])))
    except (ConfigurationError, BootError) as refusal:
        sys.exit(f"cannot dismiss: {refusal}")
