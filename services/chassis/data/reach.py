"""Whose rows a list shows: everybody's of the organization, or those of the parties the caller acts for."""

from __future__ import annotations

import sqlalchemy as sa

from services.chassis.calls.auth import current_principal


def within_reach(party: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """The condition that keeps an investor to its parties' rows; `party` is the column that says whose a row is."""
    principal = current_principal()
    return party.in_(sorted(principal.parties)) if principal.confined else sa.true()
