"""A closed terminal is noticed, and a job in its background is left alone."""

from __future__ import annotations

import asyncio
import io
import os
import pty

from deploy.local import terminal


async def test_a_closed_terminal_is_noticed() -> None:
    ours, theirs = pty.openpty()
    noticed = asyncio.create_task(terminal.wait_until_closed(os.fdopen(theirs, "w")))
    await asyncio.sleep(0)
    assert not noticed.done()
    os.close(ours)
    await noticed


def test_what_is_no_terminal_is_not_looked_after() -> None:
    assert not terminal.is_in_foreground(io.StringIO())
