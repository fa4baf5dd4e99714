"""The sign-in by which somebody asks for something, and whether it counts still. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple


class Session(NamedTuple):
    """In which session somebody asks for something.

    Args:
        signed_in_at: When the person had signed in for it, in seconds since 1970; None: a service asks, which has none.
        api_key_id: What signed in for the person, where a program asks.
    """

    signed_in_at: int | None = None
    api_key_id: str | None = None

    @classmethod
    def of_row(cls, row: Any) -> Session:
        """Of a row that keeps it in columns of these names."""
        return cls(row.signed_in_at, row.api_key_id)


# In which a service by itself asks.
NO_SESSION: Final = Session()


class Identity(NamedTuple):
    """Whose standing is asked about: a person, and the API key that signed in for that person, if one did."""

    person: str
    api_key_id: str | None = None


class Asker(NamedTuple):
    """Who asks for something, or for a part of it, and in which session."""

    person: str
    session: Session = NO_SESSION

    @property
    def identity(self) -> Identity:
        return Identity(self.person, self.session.api_key_id)


def join_askers(*asked: Asker) -> tuple[Asker, ...]:
    """Each identity once, by its first sign-in: whatever ends a later session has ended that one, too. Without those
    of services, which have no session."""
    first: dict[Identity, Asker] = {}
    for each in asked:
        at = each.session.signed_in_at
        known = first.get(each.identity)
        if at is not None and (known is None or at < (known.session.signed_in_at or 0)):
            first[each.identity] = each
    return tuple(first.values())


def was_ended(signed_in_at: int | None, ended_at: datetime | None) -> bool:
    """Whether the session of a sign-in was ended. Nothing was signed in, or nobody ended it: it was not.

    A token says the second of its sign-in and no more, so whoever signed in within the second of the end has to once
    more: else a token that was stolen within it would stay good.

    Args:
        signed_in_at: In seconds since 1970.
        ended_at: When the sessions of the person were last ended.
    """
    if signed_in_at is None or ended_at is None:
        return False
    return signed_in_at < find_next_sign_in(ended_at).timestamp()


def find_next_sign_in(ended_at: datetime) -> datetime:
    """From which second on a sign-in counts, where sessions were ended."""
    return ended_at.replace(microsecond=0) + timedelta(seconds=1)


class Standing(NamedTuple):
    """What speaks against a person at this moment, where that person asks for, decides or decided something.

    Args:
        parties: The parties the person acts for; where somebody decides, also those it acted for not long ago.
        sessions_ended_at: When the person's sessions were last ended; None: nobody ended them.
        api_key_revoked: Whether somebody revoked the API key that signed in for the person, if one did.
    """

    parties: frozenset[str] = frozenset()
    sessions_ended_at: datetime | None = None
    api_key_revoked: bool = False

    def has_ended(self, signed_in_at: int | None) -> bool:
        """Whether the session of that sign-in was ended since.

        Args:
            signed_in_at: In seconds since 1970; None: a service did it, which has no session.
        """
        return self.api_key_revoked or was_ended(signed_in_at, self.sessions_ended_at)


# What speaks against each, at this moment.
Standings = Mapping[Identity, Standing]


def list_ended(askers: Iterable[Asker], standings: Standings) -> list[Asker]:
    """Those of them who asked in a session that was ended since.

    Not of whom the standings say nothing: they asked after the standings were read, in a session that was good then.
    """
    asked = [(each, standings.get(each.identity)) for each in askers]
    return [each for each, standing in asked if standing and standing.has_ended(each.session.signed_in_at)]
