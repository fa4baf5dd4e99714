"""Who acts for whom, and whose sessions were ended, as a test says it."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from services.chassis.calls.auth import Principal
from services.chassis.values.approval import Standing


class Persons:
    """For whom persons act at this moment, by the names of persons."""

    def __init__(self) -> None:
        self.parties: dict[str, frozenset[str]] = {}
        self.ended: dict[str, datetime] = {}  # when the sessions of a person were ended

    async def list_current(self, principal: Principal) -> frozenset[str]:
        return self.parties.get(principal.person, frozenset())

    list_heard = list_interests = list_current

    async def list_standings(self, persons: Collection[str]) -> dict[str, Standing]:
        return {one: Standing(self.parties.get(one, frozenset()), self.ended.get(one)) for one in persons}
