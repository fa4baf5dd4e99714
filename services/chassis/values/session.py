"""The sign-in by which somebody asks for something. No I/O."""

from __future__ import annotations

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
