"""Whether the terminal that we run in was closed.

A shell passes the hang-up on to its jobs as SIGHUP. Without a shell between (`ssh -t host make run`), the system
informs make alone, and make waits for its children: so we check it ourselves.
"""

from __future__ import annotations

import asyncio
import os
import select
from typing import TextIO

_POLL_SECONDS = 1.0


def is_in_foreground(out: TextIO) -> bool:
    """Whether it is a terminal and we are what runs in it: a background job may outlive its terminal."""
    return out.isatty() and os.tcgetpgrp(out.fileno()) == os.getpgrp()


async def wait_until_closed(out: TextIO) -> None:
    """Returns when it is."""
    poll = select.poll()
    poll.register(out.fileno(), 0)
    while not any(event & select.POLLHUP for _, event in poll.poll(0)):  # noqa: ASYNC110  # nobody tells us
        await asyncio.sleep(_POLL_SECONDS)
