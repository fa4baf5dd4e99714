"""A message of the contracts as the columns of a CSV file, and what may stand in a cell.

Columns follow the proto and not what there is: the fields in their order, nested messages dotted
(`amount.amountMinor`), and a list, a map or a message that holds itself as one cell of JSON. An empty cell is a field
that is not set.

A spreadsheet takes a cell that begins with `=`, `+`, `-`, `@`, a tab or a carriage return for a formula and runs it, so
a text that begins so goes out behind an apostrophe, which comes off again where the cell comes in. So that nothing is
lost, one that already begins with apostrophes before such a letter gets one more.
Source: OWASP, CSV injection.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from realco.type.v1 import visibility_pb2

from services.chassis.spelling import json_writer, scalars
from services.chassis.spelling.descriptors import is_map, is_message, is_required, message_of, option
from services.chassis.spelling.json_reader import parse

MEDIA_TYPE = "text/csv"
# What a spreadsheet begins a formula with; some take the full-width forms for the same.
_BEGINS_FORMULA = r"[=+\-@\t\r\uFF1D\uFF0B\uFF0D\uFF20]"
_IS_FORMULA = re.compile(rf"'*{_BEGINS_FORMULA}")
_WAS_FORMULA = re.compile(rf"'+{_BEGINS_FORMULA}")
_READ_TEXT: dict[int, Callable[[str], Any]] = {
    FieldDescriptor.TYPE_BOOL: scalars.text_to_bool,
    FieldDescriptor.TYPE_INT32: scalars.text_to_int32,
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Args:
        path: The names in JSON that lead to its value.
        is_required: Whether a row of a request must have a value there.
        is_text: Whether people write what stands there.
        is_json: Whether the cell holds JSON.
    """

    path: tuple[str, ...]
    field: FieldDescriptor
    is_required: bool
    is_text: bool
    is_json: bool

    @property
    def name(self) -> str:
        return ".".join(self.path)

    def write(self, document: dict[str, Any]) -> str:
        """The cell of a message, given as its JSON."""
        value: Any = document
        for name in self.path:
            value = value.get(name) if value is not None else None
        if value is None:
            return ""
        if self.is_json:
            return json_writer.dumps(value).decode()
        if self.is_text:
            return protect(value)
        return str(value).lower() if isinstance(value, bool) else str(value)

    def read(self, cell: str) -> Any:
        """What JSON has in place of a cell that is not empty. What is no such value stays as it is, for the reader of
        JSON to refuse.

        Raises:
            ValueError: it is not JSON, in words that complete "the cell …".
        """
        if self.is_json:
            return parse(cell.encode())
        if self.is_text:
            return unprotect(cell)
        read = _READ_TEXT.get(self.field.type, str)
        try:
            return read(cell)
        except ValueError:
            return cell


def protect(text: str) -> str:
    """The text so that no spreadsheet runs it."""
    return f"'{text}" if _IS_FORMULA.match(text) else text


def unprotect(cell: str) -> str:
    """What `protect` was given."""
    return cell[1:] if _WAS_FORMULA.match(cell) else cell


@cache
def columns_of(descriptor: Descriptor, *, listed: bool = False) -> tuple[Column, ...]:
    """
    Args:
        listed: It is an item of an answered list: without what is told of one resource alone.
    """
    return tuple(_list_columns(descriptor, (), (descriptor.full_name,), is_needed=True, listed=listed))


def _list_columns(
    descriptor: Descriptor, path: tuple[str, ...], holders: Collection[str], *, is_needed: bool, listed: bool
) -> Iterator[Column]:
    for field in descriptor.fields:
        if listed and option(field, visibility_pb2.not_in_lists):
            continue
        named, needed = (*path, field.json_name), is_needed and is_required(field)
        is_one = not (field.is_repeated or is_map(field))
        if is_one and is_message(field) and message_of(field).full_name not in scalars.WRITE_MESSAGE:
            held = message_of(field)
            if held.full_name not in holders:
                yield from _list_columns(held, named, (*holders, held.full_name), is_needed=needed, listed=listed)
                continue
            is_one = False
        is_text = is_one and field.type == FieldDescriptor.TYPE_STRING
        yield Column(named, field, needed, is_text, is_json=not is_one)
