"""A batch as a file of CSV: what may stand in it, and how each fault is told by its row and column."""

from __future__ import annotations

import pytest
from google.protobuf.message_factory import GetMessageClass
from realco.escrow.v1 import journal_pb2
from realco.transactions.v1 import transactions_pb2 as pb
from starlette.datastructures import Headers

from gateway import contracts
from gateway.csv_columns import columns_of
from gateway.csv_export import find_listed, prefers_csv
from gateway.csv_import import CsvBinding, find_rows
from gateway.problems import Fault, Problem
from services.chassis.spelling.descriptors import message_of
from services.chassis.spelling.json_reader import IS_REQUIRED
from services.chassis.values.faults import FAULTS_MAX
from tests.support.gateway import ESCROW_ACCOUNT

COLUMNS = "idempotencyKey,type,paymentMethod,amount.currencyCode,amount.amountMinor,escrowAccountId"
GOOD = f"k1,DEPOSIT,WIRE,USD,100,{ESCROW_ACCOUNT}"


def bind(module, service: str, rpc: str) -> CsvBinding:
    method = module.DESCRIPTOR.services_by_name[service].methods_by_name[rpc]
    return CsvBinding(method, find_rows(method))


CREATE = bind(pb, "TransactionsService", "BatchCreateTransactions")
POST = bind(journal_pb2, "JournalService", "BatchPostJournalEntries")


def read(body: str | bytes, query: bytes = b"", bound: CsvBinding = CREATE, values=()):
    raw = body.encode() if isinstance(body, str) else body
    return bound.message(list(values), query, Headers({}), raw)


def faults(body: str | bytes, query: bytes = b"") -> list[Fault]:
    with pytest.raises(Problem) as refusal:
        read(body, query)
    assert (refusal.value.status, refusal.value.code) == (400, "INVALID_FIELD")
    return list(refusal.value.faults)


def test_a_row_is_an_item_and_an_empty_cell_is_not_set():
    header = f"{COLUMNS},partyId,description,metadata"
    body = f'{header}\r\n{GOOD},,"He said ""no"", twice","{{""a"": ""b""}}"\r\n{GOOD.replace("k1", "k2")},,,\r\n'
    message = read(body, b"validateOnly=true")
    first, second = message.items
    assert message.validate_only
    assert (first.idempotency_key, first.type, first.amount.amount_minor) == ("k1", pb.Transaction.DEPOSIT, 100)
    assert (first.description, dict(first.metadata)) == ('He said "no", twice', {"a": "b"})
    assert [first.HasField("party_id"), second.HasField("description")] == [False, False]


@pytest.mark.parametrize("body", [
    f"{COLUMNS}\n{GOOD}",
    f"\ufeff{COLUMNS}\r\n{GOOD}\r\n",  # as a spreadsheet writes it
    f"{COLUMNS}\r\n{GOOD}\r\n\r\n\n",
    "\r\n".join(",".join(f'"{cell}"' for cell in row.split(",")) for row in (COLUMNS, GOOD)),
    "\n".join(",".join(reversed(row.split(","))) for row in (COLUMNS, GOOD)),
])  # fmt: skip
def test_a_file_may_be_spelled_in_any_of_these_ways(body):
    assert read(body) == read(f"{COLUMNS}\r\n{GOOD}\r\n")


def test_lists_and_maps_are_json_in_a_cell_and_a_path_stays_a_path():
    body = (
        "idempotencyKey,journalEntry.type,journalEntry.description,journalEntry.legs\n"
        'k1,ADJUSTMENT,x,"[{""ledgerAccount"": {""kind"": ""CASH""}, ""direction"": ""DEBIT"",'
        ' ""amount"": {""currencyCode"": ""USD"", ""amountMinor"": ""5""}}]"\n'
    )
    message = read(body, bound=POST, values=[ESCROW_ACCOUNT])
    assert message.escrow_account_id == ESCROW_ACCOUNT
    assert message.items[0].journal_entry.legs[0].amount.amount_minor == 5
    with pytest.raises(Problem) as refusal:
        read(body.replace('""5""', '""x""'), bound=POST, values=[ESCROW_ACCOUNT])
    [fault] = refusal.value.faults
    assert fault.pointer == "/2/journalEntry/legs"
    assert fault.detail.startswith("row 2, column journalEntry.legs: must be a whole number")


def row(**changes: str) -> str:
    """A file of one row, with these cells."""
    cells = dict(zip(COLUMNS.split(","), GOOD.split(","), strict=True)) | {
        name.replace("_", "."): value for name, value in changes.items()
    }
    return ",".join(cells) + "\n" + ",".join(cells.values())


# (the file, where the fault is, the beginning of what is wrong)
BAD = [
    (b"", "/1", "row 1: must name the columns"),
    ("\n", "/1", "row 1: must name the columns"),
    (f"{COLUMNS},amount\n{GOOD},", "/1/amount", "row 1, column amount: is not a column"),
    (f"{COLUMNS},=cmd()\n{GOOD},", "/1/column 7", "row 1, column 7: is not a column"),
    (f"{COLUMNS},type\n{GOOD},DEPOSIT", "/1/type", "row 1, column type: is there twice"),
    ("type\nDEPOSIT", "/1/idempotencyKey", "row 1, column idempotencyKey: is missing"),
    (f"{COLUMNS}", "", "must contain at least 1 item"),
    (f"{COLUMNS}\n{GOOD},more", "/2", "row 2: must have 6 cells"),
    (f"{COLUMNS}\n{GOOD}\nk2,DEPOSIT", "/3", "row 3: must have 6 cells"),
    (f"{COLUMNS}\n{GOOD}\n\n{GOOD}", "/3", "row 3: must have 6 cells"),
    (f'{COLUMNS}\n{GOOD}\n"k2', "/3", "row 3: is not CSV"),
    (f'{COLUMNS}\n"k1"x,DEPOSIT', "/2", "row 2: is not CSV"),
    (f"{COLUMNS}\n{GOOD}".encode().replace(b"k1", b"k\xff"), "/2/column 1", "row 2, column 1: is not in UTF-8"),
    (row(amount_amountMinor="1.5"), "/2/amount/amountMinor", "row 2, column amount.amountMinor: must be a whole"),
    (row(amount_amountMinor="1e3"), "/2/amount/amountMinor", "row 2, column amount.amountMinor: must be a whole"),
    (row(amount_amountMinor=" 1"), "/2/amount/amountMinor", "row 2, column amount.amountMinor: must be a whole"),
    (row(amount_amountMinor="'1"), "/2/amount/amountMinor", "row 2, column amount.amountMinor: must be a whole"),
    (row(amount_amountMinor=str(2**63)), "/2/amount/amountMinor", "row 2, column amount.amountMinor: must be a whole"),
    (row(amount_amountMinor=""), "/2/amount/amountMinor", "row 2, column amount.amountMinor: is required"),
    (row(amount_amountMinor="0"), "/2/amount", "row 2, column amount: must be more than zero"),
    (row(amount_currencyCode="usd"), "/2/amount/currencyCode", "row 2, column amount.currencyCode: must be"),
    (row(type="deposit"), "/2/type", "row 2, column type: must be one of"),
    (row(type=""), "/2/type", "row 2, column type: is required"),
    (row(idempotencyKey=""), "/2/idempotencyKey", "row 2, column idempotencyKey: is required"),
    (row(escrowAccountId="txn_1"), "/2/escrowAccountId", "row 2, column escrowAccountId: must be an id"),
    (row(validateOnly="true"), "/1/validateOnly", "row 1, column validateOnly: is of the whole file"),
    (f"{COLUMNS}\n{GOOD}".replace(",", ";"), "/1", "row 1: must separate its columns by commas"),
    (row(metadata="{"), "/2/metadata", "row 2, column metadata: is not valid JSON"),
    (row(metadata="[]"), "/2/metadata", "row 2, column metadata: must be an object"),
    (row(metadata='"{""a"": 1}"'), "/2/metadata", "row 2, column metadata: must be a string"),
    (row(description="a\0b"), "/2/description", "row 2, column description: must"),
    (f"{COLUMNS}\n{GOOD}\n{GOOD}", "/3/idempotencyKey", "row 3, column idempotencyKey: is the key of row 2, too"),
]


@pytest.mark.parametrize(("body", "pointer", "detail"), BAD)
def test_a_bad_file_is_refused_where_the_fault_is(body, pointer, detail):
    found = faults(body)
    assert [fault.pointer for fault in found] == [pointer] or pointer in {fault.pointer for fault in found}
    assert [fault for fault in found if fault.pointer == pointer and fault.detail.startswith(detail)], found
    assert all(fault.place == "body" for fault in found)


def test_a_file_has_as_many_rows_as_a_batch_has_items_and_no_more():
    rows = [GOOD.replace("k1", f"k{number}") for number in range(1001)]
    assert len(read("\n".join([COLUMNS, *rows[:1000]])).items) == 1000
    [fault] = faults("\n".join([COLUMNS, *rows]))
    assert (fault.pointer, fault.detail) == ("/1002", "row 1002: must contain no more than 1000 item(s)")


def test_of_many_faults_as_many_are_told_as_an_answer_has():
    assert 100 <= len(faults("\n".join([COLUMNS, *(["x"] * 1000)]))) <= 101


def test_what_a_service_finds_wrong_with_an_item_is_told_by_its_row():
    fault = CREATE.fault("items[3].bank_account_id", "names no bank account")
    told = CREATE.tell(Problem(404, "BANK_ACCOUNT_NOT_FOUND", "There is none.", [fault]))
    assert [(each.pointer, each.detail) for each in told.faults] == [
        ("/5/bankAccountId", "row 5, column bankAccountId: names no bank account")
    ]


@pytest.mark.parametrize(("query", "pointer"), [
    (b"validateOnly=yes", "/validateOnly"),
    (b"items=1", "/items"),
    (b"other=1", "/other"),
])  # fmt: skip
def test_what_stands_beside_the_items_comes_in_the_query_alone(query, pointer):
    assert [(fault.place, fault.pointer) for fault in faults(f"{COLUMNS}\n{GOOD}", query)] == [("query", pointer)]


def test_every_list_and_every_batch_has_a_file():
    lists = {method.name for method in contracts.methods() if find_listed(method) is not None}
    assert lists == {method.name for method in contracts.methods() if method.name.startswith("List")}
    batches = {method.name for method in contracts.methods() if find_rows(method) is not None}
    assert batches == {
        method.name
        for method in contracts.methods()
        if method.name.startswith("Batch") and not method.name.startswith("BatchGet")
    }


@pytest.mark.parametrize("method", [m for m in contracts.methods() if find_listed(m)], ids=lambda m: m.name)
def test_no_two_columns_of_a_list_have_one_name(method):
    names = [column.name for column in columns_of(message_of(find_listed(method)), listed=True)]
    assert len(names) == len(set(names))


def test_the_columns_are_the_fields_in_their_order():
    names = [column.name for column in columns_of(pb.TransactionStatusChange.DESCRIPTOR)]
    assert names == ["aggregateVersion", "previousStatus", "status", "note", "actor", "occurTime"]
    names = [column.name for column in columns_of(pb.Transaction.DESCRIPTOR, listed=True)]
    assert [name for name in names if name.startswith("amount.")] == ["amount.currencyCode", "amount.amountMinor"]
    assert "allowedActions" not in names  # which no list tells


@pytest.mark.parametrize(("accept", "expected"), [
    (["text/csv"], True),
    (["TEXT/CSV; header=present"], True),
    (["text/csv, application/json;q=0.9"], True),
    (["text/csv", "*/*;q=0.1"], True),
    (["text/csv;q=0.5, application/json"], False),
    (["text/csv, application/json"], False),
    (["text/csv;q=0"], False),
    (["text/csv;q=x"], False),
    (["text/html,application/xhtml+xml,*/*;q=0.8"], False),
    (["*/*"], False),
    ([], False),
])  # fmt: skip
def test_who_rather_has_csv_says_so(accept, expected):
    assert prefers_csv(Headers(raw=[(b"accept", each.encode()) for each in accept])) is expected


def test_what_is_required_of_an_item_is_required_of_a_row():
    assert GetMessageClass(CREATE.method.input_type) is pb.BatchCreateTransactionsRequest
    required = [column.name for column in CREATE.columns if column.is_required]
    assert required == COLUMNS.split(",")
    assert IS_REQUIRED in {fault.detail.rpartition(": ")[2] for fault in faults(row(type=""))}


@pytest.mark.parametrize("body", [
    "," * 1_000_000,
    "a," * 500_000,
    f"{COLUMNS}\r\n" + "\r\n" * 5 + "x\r\n" * 100_000,
    f"{COLUMNS}\r\n" + ",,,,,\r\n" * 1000,
    b"\xff," * 300_000,
    f"{COLUMNS}\r\n".encode() + b"\xff," * 300_000,
])  # fmt: skip
def test_a_file_with_more_faults_than_an_answer_tells_is_read_no_further(body):
    assert len(faults(body)) == FAULTS_MAX
