"""What is wrong with a request: so many faults and no more, for the work must not grow with them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

# As many as an answer tells. Whoever reads a body reads no further.
FAULTS_MAX: Final = 100

F = TypeVar("F")


class EnoughFaults(Exception):
    """There are FAULTS_MAX."""


class Faults(list[F]):
    """Faults, up to FAULTS_MAX: whoever adds the last one raises EnoughFaults."""

    def append(self, fault: F) -> None:
        super().append(fault)
        if len(self) >= FAULTS_MAX:
            raise EnoughFaults

    def extend(self, faults: Iterable[F]) -> None:
        for fault in faults:
            self.append(fault)
