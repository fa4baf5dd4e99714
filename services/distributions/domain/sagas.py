"""What goes on step by step, in this service and others, until it is done."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from services.chassis.values.session import NO_SESSION, Session


class SagaKind(Enum):
    CLOSING = "CLOSING"
    REFUND = "REFUND"
    EXECUTION = "EXECUTION"
    RESEND = "RESEND"


class Mandate(NamedTuple):
    """In whose name something goes on, when it was asked for, and whose yes it rests on.

    Args:
        actor: The person who asked for it, or the service that goes on by itself.
        session: In which that person asked for it.
        makers_and_checkers: Who else asked for it, or for what it goes on with, and who approved that: none of them
            says that a payout was sent.
    """

    actor: str
    session: Session = NO_SESSION
    makers_and_checkers: frozenset[str] = frozenset()

    @property
    def persons(self) -> frozenset[str]:
        """Whoever has a part in it."""
        return self.makers_and_checkers | {self.actor}

    def join(self, persons: Iterable[str]) -> Mandate:
        """The same, where these persons had a part in it, too."""
        return self._replace(makers_and_checkers=self.makers_and_checkers.union(persons))
