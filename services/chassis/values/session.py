"""The sign-in by which somebody asks for something, and whether it counts still. No I/O."""

from __future__ import annotations

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

    def list_asked(self, person: str) -> dict[str, str | None]:
        """Who is to be asked about before a yes counts, as `list_standings` takes it: nobody, where a service asked."""
        return {} if self.signed_in_at is None else {person: self.api_key_id}


# In which a service by itself asks.
NO_SESSION: Final = Session()


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
