"""Constraints that tables of several services have."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import sqlalchemy as sa
from google.protobuf.descriptor import EnumDescriptor

Known = type[Enum] | EnumDescriptor | Mapping[str, object]


def one_of(column: str, known: Known) -> sa.CheckConstraint:
    """The column has one of the values that the code knows.

    Args:
        known: The domain's enum, or what it knows by name. Where the domain has neither, the enum of the contract.
    """
    listed = ", ".join(f"'{value}'" for value in list_values(known))
    return sa.CheckConstraint(f"{column} IN ({listed})", name=f"{column}_known", info={"known": known})


def list_values(known: Known) -> list[str]:
    """The values as a row has them; the zero of a contract's enum is none."""
    if isinstance(known, EnumDescriptor):
        return [value.name for value in known.values if value.number]
    return [value.value for value in known] if isinstance(known, type) else list(known)
