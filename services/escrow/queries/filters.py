"""Filters that lists of the book share."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from realco.escrow.v1 import escrow_pb2 as pb

from services.chassis.values.errors import InvalidField
from services.escrow.domain.chart import Kind, line_of


def read_kind(request: Any) -> Kind | None:
    """The kind of ledger account that a request's `kind` filters by.

    Raises:
        InvalidField: it also names a party, and the kind is of none.
    """
    if not request.kind:
        return None
    kind = Kind(pb.LedgerAccount.Kind.Name(request.kind))
    if request.party_id and not line_of(kind).of_party:
        fault = {"party_id": "must not be given with this kind"}
        raise InvalidField("No party has a ledger account of this kind.", fields=fault)
    return kind


def match_account(
    request: Any, kind: sa.ColumnElement[str], party_id: sa.ColumnElement[str]
) -> list[sa.ColumnElement[bool]]:
    """The conditions of a request's `kind` and `party_id` on two columns, for `where(*match_account(…))`."""
    wanted = read_kind(request)
    conditions = [kind == wanted.value] if wanted is not None else []
    return [*conditions, party_id == request.party_id] if request.party_id else conditions
