"""Tables of moves: which statuses may follow which. No status changes but by a move of its table."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TypeAlias, TypeVar

from services.chassis.values.refusals import IllegalStatusChange

S = TypeVar("S", bound=Enum)

Moves: TypeAlias = Mapping[S, frozenset[S]]


def check_move(moves: Moves[S], current: S, to: S) -> None:
    """Raises: IllegalStatusChange, also where the thing has that status already: that is no move."""
    if to not in moves[current]:
        raise IllegalStatusChange(current.name, to.name)
