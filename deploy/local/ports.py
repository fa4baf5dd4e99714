"""Free TCP ports on loopback for what only talks inside one instance.

- Ports lie below the system's ephemeral range, so no outgoing connection takes one while its program restarts.
- A port that was used before is used again if it is still free.
"""

from __future__ import annotations

import errno
import random
import socket

LOOPBACK = "127.0.0.1"
_FIRST, _LAST = 10_000, 32_000
# A port stays free until its program binds it, so this process remembers which ones it has given away.
_given: set[int] = set()


def is_free(port: int) -> bool:
    return not explain_unavailable(port)


def explain_unavailable(port: int) -> str:
    """Why we may not listen there; empty if we may."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free for us
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            return "is for root alone" if error.errno == errno.EACCES else "is taken by another program"
    return ""


def choose_free_port(preferred: int | None = None) -> int:
    """The preferred port if nobody listens there, else one picked at random (two instances starting at once differ)."""
    if preferred and is_free(preferred):
        _given.add(preferred)
        return preferred
    for _ in range(1_000):
        port = random.randint(_FIRST, _LAST)  # noqa: S311  # nothing depends on nobody guessing it
        if port not in _given and is_free(port):
            _given.add(port)
            return port
    raise RuntimeError(f"No free port between {_FIRST} and {_LAST} on {LOOPBACK}")
