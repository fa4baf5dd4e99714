"""Filters that lists of the book share."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from realco.escrow.v1 import journal_pb2 as pb

from services.chassis.values.errors import InvalidField
from services.escrow.domain.chart import LedgerAccountKind, line_of


def read_kinds(request: Any) -> set[LedgerAccountKind]:
    """The kinds of ledger account that a request's `kind` filters by; none where it does not.

    Raises:
        InvalidField: it also names a party, and one of the kinds is of none.
    """
    kinds = {LedgerAccountKind(pb.LedgerAccount.Kind.Name(kind)) for kind in request.kind}
    if request.party_id and not all(line_of(kind).of_party for kind in kinds):
        fault = {"party_id": "must not be given with this kind"}
        raise InvalidField(
            "No party has a ledger account of this kind: leave party_id out, or ask for other kinds.", fields=fault
        )
    return kinds


def match_account(
    request: Any, kind: sa.ColumnElement[str], party_id: sa.ColumnElement[str]
) -> list[sa.ColumnElement[bool]]:
    """The conditions of a request's `kind` and `party_id` on two columns, for `where(*match_account(…))`."""
    wanted = read_kinds(request)
    conditions: list[sa.ColumnElement[bool]] = []
    if wanted:
        conditions.append(kind.in_(sorted(wanted)))
    if request.party_id:
        conditions.append(party_id.in_(list(request.party_id)))
    return conditions
