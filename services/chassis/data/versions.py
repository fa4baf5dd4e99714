"""How many events of its aggregate a resource has in it that is answered: from there a reader goes on with events.

Read in the snapshot, or the transaction, in which the resource was. Were it newer than the resource, a reader would
leave out an event. And whether an aggregate is of before a restore, which the same rows say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from realco.type.v1 import event_pb2

from services.chassis.calls.auth import current_principal
from services.chassis.data.incarnation import BEGUN_AT
from services.chassis.data.reach import is_mine
from services.chassis.data.reads import Read, Source, fetch_row
from services.chassis.data.tables import aggregate_versions
from services.chassis.data.transaction import Tx

VERSION = "aggregate_version"

_DRAWN = "realco_versions_drawn"
_c = aggregate_versions.c
# Built once: to build a statement costs more than to run it.
_FIND = sa.select(_c.aggregate_id, _c.version).where(
    _c.org_id == sa.bindparam("org_id"), _c.aggregate_id == sa.func.any(sa.bindparam("ids", type_=sa.ARRAY(sa.Text)))
)
_RESTORED = Read(
    sa.select(BEGUN_AT.label("restored_at")).where(
        is_mine(aggregate_versions), _c.aggregate_id == sa.bindparam("aggregate_id"), _c.restored_version.is_not(None)
    )
)


def with_version(query: sa.Select[Any], aggregate_id: sa.Column[str]) -> sa.Select[Any]:
    """The query, and in each of its rows the version of this aggregate as `aggregate_version`: as of the same instant.

    Whoever answers with such a row needs no `add_versions`.
    """
    mine = (_c.org_id == aggregate_id.table.c.org_id, _c.aggregate_id == aggregate_id)
    version = sa.select(_c.version).where(*mine).correlate(aggregate_id.table).scalar_subquery()
    return query.add_columns(sa.func.coalesce(version, 0).label(VERSION))


def is_restored(aggregate_id: sa.Column[str]) -> sa.ColumnElement[bool]:
    """Whether this database was restored, and the aggregate is of before that: it may have gone on since the backup.

    For what a statement returns of rows of that column's table.
    """
    # By name: SQLAlchemy takes the table of a RETURNING clause for one that a query within it is to read.
    org_id: sa.ColumnElement[str] = sa.literal_column(f"{aggregate_id.table.name}.org_id")
    mine: sa.ColumnElement[str] = sa.literal_column(f"{aggregate_id.table.name}.{aggregate_id.name}")
    which = (_c.org_id == org_id, _c.aggregate_id == mine, _c.restored_version.is_not(None))
    return sa.exists(sa.select(sa.literal_column("1")).select_from(aggregate_versions).where(*which))


async def find_restored_at(source: Source, aggregate_id: str) -> datetime | None:
    """The same of one aggregate of the caller's organization: when, by the database's clock; None: it is not so."""
    found = await fetch_row(source, _RESTORED, aggregate_id=aggregate_id)
    return None if found is None else found.restored_at


def note_versions(tx: Tx, drawn: Mapping[str, int]) -> None:
    """These are the last numbers of their aggregates: nobody else draws one before this transaction ends."""
    tx.info.setdefault(_DRAWN, {}).update(drawn)


async def add_versions(tx: Tx, *answers: Message) -> None:
    """Fills in `aggregate_version` of each resource in the answers."""
    resources = [found for answer in answers for found in _find_resources(answer)]
    if not resources:
        return
    await tx.write_rest()
    versions: dict[str, int] = dict(tx.info.get(_DRAWN, ()))
    if ids := sorted({aggregate_id for _, aggregate_id in resources} - versions.keys()):
        found = await tx.execute(_FIND, {"org_id": current_principal().org_id, "ids": ids})
        versions |= {row.aggregate_id: row.version for row in found}
    for resource, aggregate_id in resources:
        resource.aggregate_version = versions.get(aggregate_id, 0)


def aggregate_field_of(resource: Descriptor) -> str:
    """The field that names the aggregate of which the resource tells its version; empty where it tells none."""
    field = resource.fields_by_name.get(VERSION)
    option: Any = event_pb2.version_of  # generated stubs do not say which message it extends
    return str(field.GetOptions().Extensions[option]) if field is not None else ""


def _find_resources(message: Message) -> Iterator[tuple[Any, str]]:
    """Each resource that says its version, with the id of its aggregate."""
    own, inner = _plan(message.DESCRIPTOR)
    if own:
        yield message, getattr(message, own)
    for field in inner:
        value: Any = getattr(message, field.name)
        if field.is_repeated:
            for item in value:
                yield from _find_resources(item)
        elif message.HasField(field.name):
            yield from _find_resources(value)


@cache
def _plan(descriptor: Descriptor) -> tuple[str, tuple[FieldDescriptor, ...]]:
    inner = tuple(field for field in descriptor.fields if _has_resources(field, set()))
    return aggregate_field_of(descriptor), inner


def _has_resources(field: FieldDescriptor, seen: set[str]) -> bool:
    inner = field.message_type
    if inner is None or inner.full_name in seen or inner.GetOptions().map_entry:
        return False
    seen.add(inner.full_name)
    return bool(aggregate_field_of(inner)) or any(_has_resources(each, seen) for each in inner.fields)
