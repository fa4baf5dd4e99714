"""What a stream lost while a process looked at it: messages that are gone before their time, whoever had handled them.

The server remembers nothing of that, so the process does, until it ends: whoever has published again what was lost
starts it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from services.chassis.events.stored import Stream

# Between the server's clock, by which it forgets, and the moment at which it tells how the stream is.
_SLACK = timedelta(minutes=1)


class Losses:
    """Of the streams that one process looks at."""

    def __init__(self) -> None:
        self._before: dict[str, Mapping[str, Any]] = {}
        self._found: dict[str, list[str]] = {}

    def look(self, stream: Stream, info: Mapping[str, Any]) -> list[str]:
        """What it lost since it was looked at first.

        Args:
            info: What the server says of it, word for word.
        """
        before = self._before.get(stream.name)
        self._before[stream.name] = info
        found = self._found.setdefault(stream.name, [])
        if before is not None:
            found += _compare(before, info, stream.kept_days)
        return list(found)


def _compare(before: Mapping[str, Any], after: Mapping[str, Any], kept_days: int) -> list[str]:
    if before["created"] != after["created"]:
        return [f"was made anew at {after['created']}, without what it had"]
    old, new = before["state"], after["state"]
    found = []
    if new["last_seq"] < old["last_seq"]:
        found.append(f"ends with {new['last_seq']}, and ended with {old['last_seq']}")
    removed = new.get("num_deleted", 0) - old.get("num_deleted", 0)
    if removed > 0:
        found.append(f"lost {removed} from among its messages")
    # An empty stream begins after its last message, so this is also one that lost all of them.
    if new["first_seq"] > max(old["first_seq"], 1) and not _is_over(old, after, kept_days):
        found.append(f"begins with {new['first_seq']}, and {old['first_seq']} had time left")
    return found


def _is_over(old: Mapping[str, Any], after: Mapping[str, Any], kept_days: int) -> bool:
    """Whether the first message that it had has been kept for as long as it is to be."""
    first, now = datetime.fromisoformat(old["first_ts"]), datetime.fromisoformat(after["ts"])
    return first + timedelta(days=kept_days) <= now + _SLACK
