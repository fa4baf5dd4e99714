"""Whose rows a statement is about: the caller's organization's, or of these its parties' only."""

from __future__ import annotations

from functools import cache

import sqlalchemy as sa

from services.chassis.calls.auth import current_principal


@cache
def is_mine(table: sa.FromClause) -> sa.ColumnElement[bool]:
    """The rows of the caller's organization.

    Row level security says the same; said here too, the keys serve, which the organization leads. Whose they are is
    asked when the statement runs, so what it says of a table is built once and kept: an alias is made once, too.
    """
    return table.c.org_id == caller()


def caller() -> sa.BindParameter[str]:
    """The caller's organization, asked when the statement runs."""
    return sa.bindparam(None, callable_=_name_organization, unique=True, type_=sa.Text)


def names_caller(element: object) -> bool:
    """Whether this part of a statement stands for the caller's organization."""
    return isinstance(element, sa.BindParameter) and element.callable is _name_organization


def _name_organization() -> str:
    return current_principal().org_id


def within_reach(party: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """The condition that keeps an investor to its parties' rows; `party` is the column that says whose a row is."""
    principal = current_principal()
    return party.in_(sorted(principal.parties)) if principal.confined else sa.true()
