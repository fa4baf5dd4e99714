"""Lists as files, and files as batches, over HTTP: whichever RPC it is, and whatever becomes of a page on the way."""

from __future__ import annotations

import asyncio
import csv
import io
from typing import Any

import pytest
from realco.escrow.v1 import journal_pb2
from realco.transactions.v1 import transactions_pb2 as pb

from gateway import csv_export
from services.chassis.data.paging import PageTokenInvalid
from services.chassis.values.errors import InvalidField, Unavailable
from tests.support.chassis import until
from tests.support.gateway import ESCROW_ACCOUNT, GatewayHarness, is_problem, run_gateway, token

pytestmark = pytest.mark.asyncio(loop_scope="module")

CSV = {"Accept": "text/csv"}
LIST = "/api/v1/transactions"
# Of a gateway of its own: what others asked for before is given back while a test runs.
RATE = {"rate_per_principal": "1000/hour"}


def make(number: int, **changes: Any) -> pb.Transaction:
    values = {"transaction_id": f"txn_{number}", "type": 7, "status": 4, "amount": {"currency_code": "USD"}}
    transaction = pb.Transaction(**values | changes)
    transaction.create_time.FromJsonString("2024-12-02T12:00:00.5Z")
    return transaction


class Pages:
    """Answers a list of so many, page by page."""

    def __init__(self, count: int, **changes: Any) -> None:
        self.count, self.changes = count, changes
        self.asked: list[tuple[int, str]] = []
        self.failing: dict[str, Exception] = {}

    def __call__(self, request: pb.ListTransactionsRequest) -> pb.ListTransactionsResponse:
        self.asked.append((request.page_size, request.page_token))
        if request.page_token in self.failing:
            raise self.failing[request.page_token]
        begin = int(request.page_token or 0)
        end = min(begin + request.page_size, self.count)
        page = [make(number, **self.changes) for number in range(begin, end)]
        return pb.ListTransactionsResponse(transactions=page, next_page_token=str(end) if end < self.count else "")


def read(response: Any) -> list[dict[str, str]]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    return list(csv.DictReader(io.StringIO(response.content.decode(), newline=""), strict=True))


@pytest.fixture
def pages(gateway: GatewayHarness) -> Pages:
    pages = Pages(2500)
    gateway.services.answers["ListTransactions"] = pages
    return pages


async def test_a_list_is_one_file_of_all_its_pages(gateway, pages):
    response = await gateway.request("GET", LIST, headers=CSV, params={"status": "QUEUED"})
    rows = read(response)
    assert [row["transactionId"] for row in rows] == [f"txn_{number}" for number in range(2500)]
    assert pages.asked == [(1000, ""), (1000, "1000"), (1000, "2000")]
    assert {tuple(call.request.status) for call in gateway.services.calls} == {(4,)}
    assert response.headers["content-disposition"] == 'attachment; filename="transactions.csv"'
    assert (response.headers["row-count"], response.headers["row-count-max"]) == ("2500", "10000")
    assert "next-page-token" not in response.headers
    assert rows[0] == rows[0] | {
        "type": "ESCROW_DEPOSIT",
        "status": "QUEUED",
        "amount.currencyCode": "USD",
        "amount.amountMinor": "0",
        "createTime": "2024-12-02T12:00:00.500Z",
        "failure.metadata": "",
        "partyId": "",
        "failure.code": "",
    }


async def test_an_empty_list_is_a_header_alone(gateway, pages):
    pages.count = 0
    response = await gateway.request("GET", LIST, headers=CSV)
    assert read(response) == []
    assert response.content.endswith(b"\r\n")
    assert response.content.count(b"\r\n") == 1


async def test_nobody_else_is_answered_otherwise_than_before(gateway, pages):
    for accept in ({}, {"Accept": "*/*"}, {"Accept": "text/csv;q=0.1, application/json"}):
        response = await gateway.request("GET", LIST, headers=accept)
        assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize(("page_size", "asked"), [
    (400, [400] * 7),
    (5000, [1000] * 3),
])  # fmt: skip
async def test_the_page_size_is_how_many_are_asked_for_at_a_time(gateway, pages, page_size, asked):
    rows = read(await gateway.request("GET", LIST, headers=CSV, params={"pageSize": page_size}))
    assert len(rows) == 2500
    assert [size for size, _ in pages.asked] == asked


async def test_a_list_that_is_too_long_for_a_file_goes_on_in_another(gateway, pages):
    pages.count = 12_345
    first = await gateway.request("GET", LIST, headers=CSV, params={"pageSize": 999})
    assert len(read(first)) == csv_export.ROWS_MAX == 10_000
    assert pages.asked[-1] == (10, "9990")
    assert first.headers["content-disposition"] == 'attachment; filename="transactions.part.csv"'
    token = first.headers["next-page-token"]
    second = await gateway.request("GET", LIST, headers=CSV, params={"pageToken": token})
    assert [row["transactionId"] for row in read(second)] == [f"txn_{number}" for number in range(10_000, 12_345)]
    assert "next-page-token" not in second.headers


async def test_a_file_ends_after_the_page_that_makes_it_too_large(gateway, pages):
    pages.count, pages.changes = 9000, {"description": "x" * 3500}
    response = await gateway.request("GET", LIST, headers=CSV)
    assert len(read(response)) == 5000
    assert response.headers["next-page-token"] == "5000"


@pytest.mark.parametrize(("error", "status", "code"), [
    (Unavailable("Away."), 503, "UNAVAILABLE"),
    (PageTokenInvalid("Forged."), 400, "PAGE_TOKEN_INVALID"),
    (RuntimeError("a bug"), 500, "INTERNAL"),
])  # fmt: skip
async def test_where_a_page_fails_there_is_no_file_but_a_problem(gateway, pages, error, status, code):
    pages.failing["2000"] = error
    response = await gateway.request("GET", LIST, headers=CSV)
    is_problem(response, status, code)
    assert "content-disposition" not in response.headers
    assert b"txn_" not in response.content


async def test_pages_that_are_too_large_to_be_sent_are_asked_for_in_smaller_ones(gateway, pages):
    pages.changes = {"description": "x" * 20_000}
    rows = read(await gateway.request("GET", LIST, headers=CSV))
    assert [size for size, _ in pages.asked] == [1000, 500, 500]
    assert len(rows) == 1000
    is_problem(await gateway.request("GET", LIST, headers=CSV, params={"pageSize": 900}), 422, "ANSWER_TOO_LARGE")


@pytest.mark.parametrize(("text", "cell"), [
    ("=1+1", "'=1+1"),
    ("+1", "'+1"),
    ("-1", "'-1"),
    ("@SUM(A1)", "'@SUM(A1)"),
    ("\tx", "'\tx"),
    ("\rx", "'\rx"),
    ("'=1", "''=1"),
    ("'tis so", "'tis so"),
    ("a=1", "a=1"),
    ('a,"b"\r\nc', 'a,"b"\r\nc'),
])  # fmt: skip
async def test_no_cell_is_a_formula(gateway, pages, text, cell):
    pages.count, pages.changes = 1, {"description": text, "metadata": {"=a": text}}
    [row] = read(await gateway.request("GET", LIST, headers=CSV))
    assert row["description"] == cell
    assert row["metadata"].startswith('{"=a":')


async def test_numbers_are_no_formulas(gateway):
    entry = journal_pb2.LedgerEntry(amount={"currency_code": "USD", "amount_minor": -5})
    page = journal_pb2.ListLedgerEntriesResponse(ledger_entries=[entry], journal_entries=[journal_pb2.JournalEntry()])
    gateway.services.answers["ListLedgerEntries"] = page
    response = await gateway.request("GET", f"/api/v1/escrow-accounts/{ESCROW_ACCOUNT}/ledger", headers=CSV)
    [row] = read(response)
    assert row["amount.amountMinor"] == "-5"
    assert response.headers["content-disposition"] == 'attachment; filename="ledger-entries.csv"'


async def test_each_page_counts_as_a_request(tmp_path):
    async with run_gateway(tmp_path, **RATE) as gateway:
        gateway.services.answers["ListTransactions"] = Pages(2500)
        response = await gateway.request("GET", LIST, headers=CSV)
    assert response.headers["ratelimit-remaining"] == "997"


async def test_a_file_that_takes_long_ends_while_there_is_time_to_answer(gateway, pages, tmp_path):
    async with run_gateway(tmp_path, request_seconds_max=1) as hurried:
        hurried.services.answers["ListTransactions"] = Pages(10_000)
        response = await hurried.request("GET", LIST, headers=CSV, params={"pageSize": 1})
        rows = read(response)
        assert 0 < len(rows) < 10_000
        assert response.headers["next-page-token"] == str(len(rows))


async def test_so_many_files_are_gathered_at_a_time_and_no_more(gateway, pages):
    gateway.services.open.clear()

    async def ask(number: int) -> Any:
        bearer = {"Authorization": f"Bearer {token(sub=f'admin-{number}')}"}
        return await gateway.request("GET", LIST, role=None, headers={**CSV, **bearer})

    most, of_one = csv_export.EXPORTS_MAX, csv_export.EXPORTS_OF_ONE_MAX
    asking = [asyncio.create_task(ask(number // of_one)) for number in range(most)]
    await until(lambda: len(gateway.services.calls) == most)
    problem, own = await ask(most), await ask(0)
    gateway.services.open.set()
    is_problem(problem, 503, "UNAVAILABLE")
    is_problem(own, 429, "RATE_LIMITED")  # whoever else there is, nobody takes the room of all
    assert (problem.headers["retry-after"], own.headers["retry-after"]) == ("1", "1")
    assert {response.status_code for response in await asyncio.gather(*asking)} == {200}


COLUMNS = "idempotencyKey,type,paymentMethod,amount.currencyCode,amount.amountMinor,escrowAccountId,description"
ROW = f"k1,DEPOSIT,WIRE,USD,100,{ESCROW_ACCOUNT},'=1"
BATCH = "/api/v1/transactions/batch"


async def test_a_file_is_a_batch_and_its_answer_is_json(gateway):
    gateway.services.answers["BatchCreateTransactions"] = lambda request: pb.BatchCreateTransactionsResponse(
        results=[{"idempotency_key": item.idempotency_key, "transaction": make(1)} for item in request.items]
    )
    for media_type in ("text/csv", "Text/CSV; charset=utf-8; header=present"):
        response = await gateway.request(
            "POST", f"{BATCH}?validateOnly=true", content=f"{COLUMNS}\r\n{ROW}", headers={"Content-Type": media_type}
        )
        assert response.status_code == 200, response.text
        assert response.headers["validate-only"] == "true"
        assert response.json()["results"][0]["idempotencyKey"] == "k1"
    request = gateway.services.calls[-1].request
    assert (request.validate_only, request.items[0].description) == (True, "=1")


async def test_a_bad_file_reaches_no_service(gateway):
    response = await gateway.request(
        "POST", BATCH, content=f"{COLUMNS}\r\n{ROW.replace('100', '1.5')}", headers={"Content-Type": "text/csv"}
    )
    problem = is_problem(response, 400, "INVALID_FIELD")
    assert problem["errors"] == [
        {
            "in": "body",
            "pointer": "/2/amount/amountMinor",
            "detail": "row 2, column amount.amountMinor: must be a whole number, as a string of decimal digits such as"
            ' "1050"',
        }
    ]
    assert gateway.services.calls == []


@pytest.mark.parametrize(("path", "media_type", "content", "status", "code"), [
    ("/api/v1/transactions", "text/csv", ROW, 415, "UNSUPPORTED_MEDIA_TYPE"),
    (BATCH, "text/csv; charset=latin-1", ROW, 415, "UNSUPPORTED_MEDIA_TYPE"),
    (BATCH, "text/csv; header=absent", ROW, 415, "UNSUPPORTED_MEDIA_TYPE"),
    (BATCH, "text/tab-separated-values", ROW, 415, "UNSUPPORTED_MEDIA_TYPE"),
    (BATCH, "text/csv", "x" * 1_100_000, 413, "PAYLOAD_TOO_LARGE"),
    (f"{BATCH}?validateOnly=true", "application/json", "{}", 400, "INVALID_FIELD"),
])  # fmt: skip
async def test_what_is_no_file_of_this_path_is_refused(gateway, path, media_type, content, status, code):
    headers = {"Content-Type": media_type, "Idempotency-Key": "k"} if path == LIST else {"Content-Type": media_type}
    response = await gateway.request("POST", path, content=content, headers=headers)
    is_problem(response, status, code)
    if status == 415:
        assert response.headers["accept"] == ("application/json" if path == LIST else "application/json, text/csv")
    assert gateway.services.calls == []


async def test_what_a_service_refuses_of_a_file_is_told_by_its_row(gateway):
    refusal = InvalidField("It is not valid.", fields={"items[0].description": "has no meaning"})
    gateway.services.answers["BatchCreateTransactions"] = refusal
    response = await gateway.request("POST", BATCH, content=f"{COLUMNS}\r\n{ROW}", headers={"Content-Type": "text/csv"})
    [error] = is_problem(response, 400, "INVALID_FIELD")["errors"]
    assert (error["pointer"], error["detail"]) == ("/2/description", "row 2, column description: has no meaning")


async def test_each_row_counts_as_a_request(tmp_path):
    body = "\r\n".join([COLUMNS, *(ROW.replace("k1", f"k{number}") for number in range(40))])
    async with run_gateway(tmp_path, **RATE) as gateway:
        response = await gateway.request("POST", BATCH, content=body, headers={"Content-Type": "text/csv"})
    assert response.headers["ratelimit-remaining"] == "960"
