"""Whom a service answers whose records were restored, as long as nobody has looked through what they lack.

Other services it does not: what they would do by its answer may have been forbidden, or done, since the backup
(ADR 44). Whoever asks waits, as where it is away. Persons are answered, also where a service passes on their own call:
what is to be done after a restore takes the service.
"""

from __future__ import annotations

from services.chassis.calls.auth import Principal
from services.chassis.values.restore import Restore, check_seen


class RestoreGate:
    """Of one process, and kept in memory: no call asks the database for it.

    Args:
        answers_for_persons: Services are answered where a person's own token came along. So does whoever is asked at
            each write of a person: nobody could freeze, revoke or say no anywhere.
    """

    def __init__(self, *, answers_for_persons: bool = False) -> None:
        self._answers_for_persons = answers_for_persons
        self._restore: Restore | None = None

    def note(self, restore: Restore | None) -> None:
        """This is how the database was found."""
        self._restore = restore

    def admit(self, principal: Principal) -> None:
        """Raises: RestoreNotSeen."""
        if principal.service and not (self._answers_for_persons and principal.token):
            check_seen(self._restore)
