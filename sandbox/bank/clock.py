"""The business time the bank lives by: the machine's, or the test clock's of a local instance."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """Aware, in UTC."""
        ...


class FileClock:
    """System time, moved by the whole seconds that the file says (`{"offset_seconds": 86400}`), if there is one."""

    def __init__(self, file: Path | None) -> None:
        self._file = file

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self._offset_seconds())

    def _offset_seconds(self) -> int:
        if self._file is None:
            return 0
        try:
            return int(json.loads(self._file.read_bytes())["offset_seconds"])
        except FileNotFoundError:
            return 0
