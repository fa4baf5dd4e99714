"""What of CSV the OpenAPI description says: which lists are files, which batches take one, and the columns of each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.descriptor import MethodDescriptor

from gateway.binding import Parameter
from gateway.csv_columns import MEDIA_TYPE, Column, columns_of
from gateway.csv_export import HEADERS, find_listed
from gateway.csv_import import CsvBinding, find_rows
from services.chassis.spelling.descriptors import message_of

Content = dict[str, Any]

# The components of the headers that a file has, by their names.
COMPONENTS = {name: name.replace("-", "") for name in HEADERS}


def describe_answer(method: MethodDescriptor) -> Content:
    """The content of a list beside its JSON; nothing of what is no list."""
    listed = find_listed(method)
    return {} if listed is None else _describe(columns_of(message_of(listed), listed=True))


def describe_body(method: MethodDescriptor) -> Content:
    """The content of a batch's body beside its JSON; nothing of what is no batch."""
    items = find_rows(method)
    return {} if items is None else _describe(CsvBinding(method, items).columns)


def list_parameters(method: MethodDescriptor) -> list[Parameter]:
    """What stands beside the items of a file, in the query."""
    items = find_rows(method)
    return [] if items is None else [*CsvBinding(method, items).query.values()]


def say_beside(described: dict[str, Any]) -> dict[str, Any]:
    """The description of such a parameter: a body of JSON has it itself."""
    about = f"Beside a body of `{MEDIA_TYPE}` alone: one of JSON has it itself. {described['description']}"
    return described | {"description": about.strip(), "required": False}


def _describe(columns: Iterable[Column]) -> Content:
    header = ",".join(column.name for column in columns)
    about = "RFC 4180 in UTF-8, with a header: docs/bulk.md. The example is the header, with every column there is."
    return {MEDIA_TYPE: {"schema": {"type": "string", "description": about, "examples": [header]}}}
