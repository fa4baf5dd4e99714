"""Whether the terminal somebody works at was closed.

A shell passes the hang-up on to its jobs as SIGHUP. Where no shell is between (`ssh -t host make run`), the system
tells make alone, and make waits for its children: so we look for ourselves.
"""

from __future__ import annotations

import asyncio
import os
import select
from typing import TextIO

_LOOK_SECONDS = 1.0


def at_work(out: TextIO) -> bool:
    """Whether it is a terminal and we are what runs in it: a job in the background may outlive its terminal."""
    return out.isatty() and os.tcgetpgrp(out.fileno()) == os.getpgrp()


async def closed(out: TextIO) -> None:
    """Returns when it is."""
    poll = select.poll()
    poll.register(out.fileno(), 0)
    while not any(event & select.POLLHUP for _, event in poll.poll(0)):  # noqa: ASYNC110  # nobody tells us
        await asyncio.sleep(_LOOK_SECONDS)
