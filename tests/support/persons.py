"""Who acts for whom, and whose sessions were ended, as a test says it."""

from __future__ import annotations

from datetime import datetime

from services.chassis.calls.auth import Principal
from services.chassis.calls.parties import Standing


class Persons:
    """For whom persons act at this moment, by the names of persons."""

    def __init__(self) -> None:
        self.parties: dict[str, frozenset[str]] = {}
        self.ended: dict[str, datetime] = {}  # when the sessions of a person were ended

    async def list_current(self, principal: Principal) -> frozenset[str]:
        return self.parties.get(principal.person, frozenset())

    list_heard = list_interests = list_current

    async def get_standing(self, person: str) -> Standing:
        return Standing(self.parties.get(person, frozenset()), self.ended.get(person))
