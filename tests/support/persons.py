"""Who acts for whom, and whose sessions were ended, as a test says it."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from services.chassis.calls.auth import Principal
from services.chassis.values.errors import DomainError
from services.chassis.values.session import Identity, Standing


class Persons:
    """For whom persons act at this moment, by the names of persons."""

    def __init__(self) -> None:
        self.parties: dict[str, frozenset[str]] = {}
        self.ended: dict[str, datetime] = {}  # when the sessions of a person were ended
        self.revoked: set[str] = set()  # API keys
        self.refusal: DomainError | None = None  # what speaks against telling anything

    async def list_current(self, principal: Principal) -> frozenset[str]:
        return self.parties.get(principal.person, frozenset())

    list_heard = list_interests = list_current

    async def list_standings(self, persons: Collection[Identity]) -> dict[Identity, Standing]:
        if self.refusal is not None:
            raise self.refusal
        return {
            one: Standing(
                self.parties.get(one.person, frozenset()), self.ended.get(one.person), one.api_key_id in self.revoked
            )
            for one in persons
        }
