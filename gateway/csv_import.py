"""A batch as a CSV file: any RPC that repeats `items` takes one for its body, a row an item.

What stands beside the items in a JSON body comes in the query. Each fault names its row, of which the header is the
first, and its column: `/5/amount/amountMinor`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from starlette.datastructures import Headers

from gateway.binding import Binding, find_items, resolve
from gateway.csv_columns import Column, columns_of
from gateway.problems import Fault, Problem
from services.chassis.calls.sizes import most_of, tell_most
from services.chassis.spelling.descriptors import is_message, message_of
from services.chassis.spelling.json_reader import Found, reader_of
from services.chassis.values.faults import EnoughFaults
from services.chassis.values.invariant import require_present

_FIRST_ROW = 2  # below the header
_PLAIN_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_.$-]{0,63}")
_OTHER_SEPARATOR = re.compile(r"[;\t|]")
_ITEM = re.compile(r"\bitems\[([0-9]+)\]")
_POINTER = re.compile(r"/([0-9]+)(?:/(.+))?")
# What is left of a byte that is not UTF-8, by "surrogateescape".
_NO_UTF8 = re.compile("[\udc80-\udcff]")


def find_rows(method: MethodDescriptor) -> FieldDescriptor | None:
    """The items of a batch, if all that stands beside them can come in a query."""
    items = find_items(method)
    beside = [field for field in method.input_type.fields if field is not items]
    return None if any(is_message(field) for field in beside) else items


class CsvBinding(Binding):
    """The request of one RPC over REST, with a CSV body."""

    def __init__(self, method: MethodDescriptor, items: FieldDescriptor) -> None:
        super().__init__(method)
        item = message_of(items)
        self.query = {one.name: one for one in self.list_parameters(self.bound | {items.name})}
        # What the whole batch has, no row has.
        self.columns = [column for column in columns_of(item) if column.name not in self.query]
        self._at_items = (items.json_name,)
        self._by_name = {column.name: column for column in self.columns}
        self._required = [column.name for column in self.columns if column.is_required]
        self._read_item = reader_of(item)
        self._rows_max = require_present(most_of(items), "a batch says how many items it takes")
        self._too_many = tell_most(items, self._rows_max)
        self._read_body = self._read_csv

    def message(self, values: Sequence[str], query: bytes, headers: Headers, body: bytes) -> Message:
        try:
            return super().message(values, query, headers, body)
        except Problem as problem:
            raise self.tell(problem) from None

    def fault(self, path: str, detail: str) -> Fault:
        steps = resolve(self.method.input_type, path)
        spelled = tuple(part for step in steps for part in step.spelled)
        if spelled[:1] != self._at_items:
            return super().fault(path, detail) if steps else Fault("body", "", detail)
        return Fault("body", self._point(spelled[1:]), detail)

    def tell(self, problem: Problem) -> Problem:
        """The problem, whose faults say in words, too, where they are."""
        problem.faults = [_in_words(fault) for fault in problem.faults]
        return problem

    def _read_csv(self, message: Any, headers: Headers, body: bytes, faults: list[Fault]) -> None:
        rows = _parse(body, faults)
        names = next(rows, None)
        if not names:
            faults.append(Fault("body", "/1", "must name the columns"))
            return
        columns = self._read_header(names, faults)
        if faults:
            return
        for place, row in enumerate(_without_blank_end(rows)):
            if place == self._rows_max:
                faults.append(Fault("body", f"/{place + _FIRST_ROW}", self._too_many))
                return
            if len(row) != len(columns):
                detail = f"must have {len(columns)} cells, as the header has"
                faults.append(Fault("body", f"/{place + _FIRST_ROW}", detail))
                continue
            document = _read_row(columns, row, place, faults)
            found = Found()
            with suppress(EnoughFaults):
                self._read_item(message.items.add(), document, (place,), found)
            faults.extend(Fault("body", self._point(path), detail) for path, detail in found)

    def _read_header(self, names: Sequence[str], faults: list[Fault]) -> list[Column]:
        columns: list[Column] = []
        if len(names) == 1 and _OTHER_SEPARATOR.search(names[0]):
            faults.append(Fault("body", "/1", "must separate its columns by commas"))
            return columns
        for number, name in enumerate(names, 1):
            column = self._by_name.get(name)
            shown = name if _PLAIN_NAME.fullmatch(name) else f"column {number}"
            if name in self.query:
                faults.append(Fault("body", f"/1/{shown}", "is of the whole file: it stands in the query"))
            elif column is None:
                faults.append(Fault("body", f"/1/{shown}", "is not a column"))
            elif column in columns:
                faults.append(Fault("body", f"/1/{shown}", "is there twice"))
            else:
                columns.append(column)
        missing = [name for name in self._required if name not in names]
        faults.extend(Fault("body", f"/1/{name}", "is missing: the column is required") for name in missing)
        return columns

    def _point(self, path: Sequence[str | int]) -> str:
        """Where in the file something is: in which item, and where in it."""
        if not path:
            return ""
        place, *names = path
        while names and ".".join(map(str, names)) not in self._by_name and not self._is_within(names):
            names.pop()  # it is within the JSON of a cell
        return "/".join(("", str(int(place) + _FIRST_ROW), *map(str, names)))

    def _is_within(self, names: Sequence[str | int]) -> bool:
        """Whether the names lead to a message that has several columns."""
        begin = ".".join(map(str, names)) + "."
        return any(name.startswith(begin) for name in self._by_name)


def _parse(body: bytes, faults: list[Fault]) -> Iterator[list[str]]:
    """The rows. What cannot be read on ends them, with a fault."""
    text = body.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    is_doubtful = _NO_UTF8.search(text) is not None
    reader, number = csv.reader(io.StringIO(text, newline=""), strict=True), 0
    while True:
        number += 1
        try:
            row = next(reader, None)
        except csv.Error:
            detail = "is not CSV: a cell with a quote is enclosed in quotes, and a quote in it is doubled"
            faults.append(Fault("body", f"/{number}", detail))
            return
        if row is None:
            return
        if is_doubtful and any(map(_NO_UTF8.search, row)):
            wrong = (place for place, cell in enumerate(row, 1) if _NO_UTF8.search(cell))
            faults.extend(Fault("body", f"/{number}/column {place}", "is not in UTF-8") for place in wrong)
            return
        yield row


def _without_blank_end(rows: Iterable[list[str]]) -> Iterator[list[str]]:
    """Without the blank lines at the end: one between rows is a row without cells."""
    blank = 0
    for row in rows:
        if not row:
            blank += 1
            continue
        yield from ([] for _ in range(blank))
        blank = 0
        yield row


def _read_row(columns: Sequence[Column], row: Sequence[str], place: int, faults: list[Fault]) -> dict[str, Any]:
    """The item as JSON has it, of the cells that are not empty."""
    document: dict[str, Any] = {}
    for column, cell in zip(columns, row, strict=True):
        if not cell:
            continue
        try:
            value = column.read(cell)
        except ValueError as fault:
            faults.append(Fault("body", f"/{place + _FIRST_ROW}/{'/'.join(column.path)}", str(fault)))
            continue
        holder = document
        for name in column.path[:-1]:
            holder = holder.setdefault(name, {})
        holder[column.path[-1]] = value
    return document


def _in_words(fault: Fault) -> Fault:
    match = _POINTER.fullmatch(fault.pointer) if fault.place == "body" else None
    if match is None:
        return fault
    row, names = match.groups()
    column = "" if names is None else names.replace("/", ".")
    named = f", {column}" if column.startswith("column ") else f", column {column}" if column else ""
    said = _ITEM.sub(lambda item: f"row {int(item[1]) + _FIRST_ROW}", fault.detail)
    return replace(fault, detail=f"row {row}{named}: {said}")
