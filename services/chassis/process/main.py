"""Runs a process to its end, and says why where it cannot start."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import uvloop

from services.chassis.process.settings import ConfigurationError, Settings
from services.chassis.process.telemetry import begin_lines, log
from services.chassis.values.errors import BootError

S = TypeVar("S", bound=Settings)


def run(main: Callable[[S], Awaitable[None]], settings_type: type[S]) -> int:
    """Runs `main` with the settings of this process, on uvloop: `sys.exit(run(main, Settings))`.

    Returns the process's exit status; 2 where it could not start.
    """

    async def with_settings() -> None:
        begin_lines()
        await main(settings_type.load())

    try:
        uvloop.run(with_settings())
    except (ConfigurationError, BootError) as refusal:
        print(f"cannot start: {refusal}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # the last stop: said in the log, then as a status
        log.error("ended", error=type(error).__name__, exc_info=error)
        return 1
    return 0
