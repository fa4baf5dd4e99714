"""A list as a CSV file: any RPC that answers pages, to whoever says `Accept: text/csv`.

The file is gathered before it is answered (ADR 33): a page that fails makes the answer a problem, and what is answered
as a file is all that it says. One that would be longer than an answer may be, or take longer, ends after a page; then
`Next-Page-Token` says where to go on, and its name ends in `.part.csv`.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from starlette.datastructures import Headers
from starlette.responses import Response

from gateway.csv_columns import MEDIA_TYPE, columns_of
from gateway.problems import Problem, overloaded, rate_limited
from gateway.wording import in_rest_words
from services.chassis.calls.deadline import remaining_seconds
from services.chassis.spelling import json_writer
from services.chassis.spelling.descriptors import is_map, is_message, message_of

ROWS_MAX = 10_000
CHARACTERS_MAX = 16 * 1024 * 1024
# So many files are gathered at a time, and so many of one caller: each is held whole.
EXPORTS_MAX = 8
EXPORTS_OF_ONE_MAX = 2
NEXT_PAGE_HEADER, ROWS_HEADER, ROWS_MAX_HEADER = "Next-Page-Token", "Row-Count", "Row-Count-Max"
# What a file has for headers, and what each says.
HEADERS = {
    NEXT_PAGE_HEADER: "There where the list goes on after the file: `pageToken` of the request for the next one.",
    ROWS_HEADER: "How many rows the file has below its header.",
    ROWS_MAX_HEADER: "How many a file has at most.",
    "Content-Disposition": "The name of the file. One that the list goes on after ends in `.part.csv`.",
}
_PAGE_SIZE = 1000  # which is the most that a list gives
_SIZE_FIELD, _TOKEN_FIELD, _NEXT_FIELD = "page_size", "page_token", "next_page_token"
_ROOM_SECONDS = 1.0
_CAPITAL = re.compile(r"(?<=[a-z0-9])([A-Z])")

Ask = Callable[[Message], Awaitable[Message]]


class ExportRoom:
    """The files that are being gathered in this process."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()

    @contextmanager
    def take(self, caller: str) -> Iterator[None]:
        """Room for one file of this caller. Raises: Problem: there is none now."""
        if self._taken[caller] >= EXPORTS_OF_ONE_MAX:
            raise rate_limited(_ROOM_SECONDS)  # so that nobody takes the room of all
        if self._taken.total() >= EXPORTS_MAX:
            raise overloaded()
        self._taken[caller] += 1
        try:
            yield
        finally:
            self._taken[caller] -= 1
            self._taken += Counter()  # without who has none


def find_listed(method: MethodDescriptor) -> FieldDescriptor | None:
    """The field of the answer that has the page, if the RPC answers pages: the first. What stands beside it, as the
    journal entries beside the lines of a ledger, is no part of the list.
    """
    asked, answered = method.input_type.fields_by_name, method.output_type.fields_by_name
    if _SIZE_FIELD not in asked or _TOKEN_FIELD not in asked or _NEXT_FIELD not in answered:
        return None
    first = method.output_type.fields[0]
    return first if first.is_repeated and is_message(first) and not is_map(first) else None


def prefers_csv(headers: Headers) -> bool:
    """Whether the caller would rather have CSV than JSON. Source: RFC 9110, section 12.5.1"""
    wanted: dict[str, float] = {}
    for part in ",".join(headers.getlist("accept")).split(","):
        media_type, *parameters = (each.strip().lower() for each in part.split(";"))
        weight = next((each[2:] for each in parameters if each.startswith("q=")), "1")
        if re.fullmatch(r"[01](\.[0-9]{0,3})?", weight):
            wanted[media_type] = float(weight)
    json = next((wanted[each] for each in ("application/json", "application/*", "*/*") if each in wanted), 0.0)
    return wanted.get(MEDIA_TYPE, 0.0) > json


class Export:
    """The CSV face of one list.

    Args:
        listed: The field of the answer that has the page.
        room: Taken by each file that is being gathered.
    """

    def __init__(self, listed: FieldDescriptor, room: ExportRoom) -> None:
        self._name, self._room = listed.name, room
        self._file_name = _CAPITAL.sub(r"-\1", listed.json_name).lower()
        self._columns = columns_of(message_of(listed), listed=True)
        self._spell = json_writer.writer_of(message_of(listed), in_rest_words, listed=True)

    async def answer(self, request: Any, caller: str, ask: Ask) -> Response:
        """The file.

        Args:
            caller: Whose room it takes.
            request: For the first page, which it is changed from for the others. Its page size is how many rows are
                asked of the service at a time.
            ask: Asks for a page. Raises Problem.
        """
        with self._room.take(caller):
            text, rows, token = await self._gather(request, ask)
        part = ".part" if token else ""
        headers = {
            "Content-Disposition": f'attachment; filename="{self._file_name}{part}.csv"',
            ROWS_HEADER: str(rows),
            ROWS_MAX_HEADER: str(ROWS_MAX),
        }
        if token:
            headers[NEXT_PAGE_HEADER] = token
        return Response(text.encode(), 200, headers, f"{MEDIA_TYPE}; charset=utf-8; header=present")

    async def _gather(self, request: Any, ask: Ask) -> tuple[str, int, str]:
        """The text, how many rows it has, and the token of the page after it; empty where that was all."""
        file, seconds = io.StringIO(newline=""), remaining_seconds()
        rows, writer = 0, csv.writer(file)  # whose lines end as RFC 4180 has it
        writer.writerow([column.name for column in self._columns])
        is_size_given = bool(request.page_size)
        size = min(request.page_size or _PAGE_SIZE, _PAGE_SIZE)
        while True:
            request.page_size = min(size, ROWS_MAX - rows)
            try:
                page: Any = await ask(request)
            except Problem as problem:
                if problem.code != "ANSWER_TOO_LARGE" or is_size_given or size == 1:
                    raise
                size //= 2
                continue
            documents = [self._spell(item) for item in getattr(page, self._name)]
            writer.writerows([column.write(document) for column in self._columns] for document in documents)
            rows, request.page_token = rows + len(documents), page.next_page_token
            if not request.page_token or rows >= ROWS_MAX or file.tell() >= CHARACTERS_MAX or _is_late(seconds):
                return file.getvalue(), rows, request.page_token


def _is_late(seconds: float | None) -> bool:
    """Whether the time of another page might be missing: a third of all is kept for the last one and the answer.

    Args:
        seconds: That there were in the beginning.
    """
    remaining = remaining_seconds()
    return seconds is not None and remaining is not None and remaining < seconds / 3
