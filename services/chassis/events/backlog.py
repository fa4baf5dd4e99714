"""For how long the oldest message that a consumer has not handled has waited."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

_ENDS_MAX = 200


class Backlog:
    """What one consumer has not handled. A stream says when its last message came, and of no other: so it is kept, of
    each look, where the stream ended, and when that came.
    """

    def __init__(self) -> None:
        self._ends: list[tuple[int, datetime]] = []

    def measure_seconds(self, info: Mapping[str, Any], handled: int) -> float:
        """For how long the oldest message that is not handled has waited, at least.

        Args:
            info: What the server says of the stream, word for word.
            handled: The last message that was handled.
        """
        last: int = info["state"]["last_seq"]
        self._ends = [end for end in self._ends if handled < end[0] <= last]
        if last > handled and (not self._ends or self._ends[-1][0] < last):
            self._ends.append((last, datetime.fromisoformat(info["state"]["last_ts"])))
        if len(self._ends) > _ENDS_MAX:
            self._ends = self._ends[::2]
        if not self._ends:
            return 0.0
        return max(0.0, (datetime.fromisoformat(info["ts"]) - self._ends[0][1]).total_seconds())
