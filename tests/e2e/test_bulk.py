"""A spreadsheet of contributions goes in, is looked at before, and comes out again: by every process there is."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import pytest

from demo.harness.polling import wait_for
from demo.harness.rest import Json, RestClient
from tests.e2e.organization import Organization

BATCH = "/transactions/batch"
COLUMNS = (
    *("idempotencyKey", "type", "paymentMethod", "amount.currencyCode", "amount.amountMinor", "escrowAccountId"),
    *("partyId", "investmentId", "description", "externalId", "metadata"),
)
# What people write, and a spreadsheet would run.
WORDS = ("=HYPERLINK(A1)", "+1", "-1", "@home", "'=quoted", 'a "word", another')


def write(rows: Sequence[Mapping[str, Any]]) -> bytes:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def send(client: RestClient, body: bytes, **query: str) -> list[Json]:
    answer = client.http.post(BATCH, params=query, content=body, headers={"Content-Type": "text/csv"})
    assert answer.status_code == 200, answer.text
    assert answer.headers.get("Validate-Only") == query.get("validateOnly")
    return list(answer.json()["results"])


def export(client: RestClient, **query: str) -> tuple[httpx.Response, list[dict[str, str]]]:
    answer = client.http.get("/transactions", params=query, headers={"Accept": "text/csv"})
    assert answer.status_code == 200, answer.text
    return answer, list(csv.DictReader(io.StringIO(answer.content.decode(), newline=""), strict=True))


def name_outcomes(results: Sequence[Json]) -> Counter[str]:
    return Counter(
        each["transaction"]["status"] if "transaction" in each else each["failure"]["code"] for each in results
    )


@pytest.fixture(scope="module")
def wires(org: Organization) -> list[dict[str, Any]]:
    """A thousand announced wires of one investor, each of a dollar, and two more than is committed."""
    investor, offering = org.add_cleared_party(), org.open_offering(10_000_00)
    investment = org.invest(offering, investor, 998_00)
    wire = {"type": "ESCROW_DEPOSIT", "paymentMethod": "WIRE", "amount.currencyCode": "USD", "amount.amountMinor": 100}
    wire |= {"escrowAccountId": offering["escrowAccountId"], "partyId": investor, "metadata": '{"row":"=1"}'}
    wire["investmentId"] = investment["investmentId"]
    return [
        wire
        | {
            "idempotencyKey": f"{investor}-{number}",
            "externalId": f"row-{number:04}",
            "description": f"'{text}" if (text := WORDS[number % len(WORDS)])[0] in "=+-@'" else text,
        }
        for number in range(1000)
    ]


def test_a_thousand_rows_are_previewed_and_imported_and_come_out_as_they_went_in(
    org: Organization, wires: list[dict[str, Any]]
) -> None:
    admin, body = org.admin, write(wires)
    escrow_account = {"escrowAccountId": wires[0]["escrowAccountId"]}
    preview = send(admin, body, validateOnly="true")
    assert name_outcomes(preview) == {"QUEUED": 998, "COMMITMENT_EXCEEDED": 2}
    assert export(admin, **escrow_account)[1] == []

    results = send(admin, body)
    assert [each["idempotencyKey"] for each in results] == [row["idempotencyKey"] for row in wires]
    assert name_outcomes(results)["COMMITMENT_EXCEEDED"] == 2
    assert results[-1]["failure"]["fields"].keys() == {"amount.amountMinor"}
    assert all(each["replayed"] for each in send(admin, body))

    answer, rows = export(admin, **escrow_account)
    assert answer.headers["Content-Disposition"] == 'attachment; filename="transactions.csv"'
    assert answer.headers["Row-Count"] == "998"
    same = [name for name in COLUMNS if name != "idempotencyKey"]
    came = {row["externalId"]: [row[name] for name in same] for row in rows}
    assert came == {row["externalId"]: [str(row[name]) for name in same] for row in wires[:998]}
    # And so they would go in again, were there anything left of the commitment.
    again = send(
        admin, write([row | {"idempotencyKey": f"again-{row['externalId']}"} for row in rows]), validateOnly="true"
    )
    assert name_outcomes(again) == {"COMMITMENT_EXCEEDED": 998}


def test_many_are_cancelled_by_a_file_of_what_was_exported(org: Organization, wires: list[dict[str, Any]]) -> None:
    escrow_account = {"escrowAccountId": wires[0]["escrowAccountId"], "status": "PENDING_SETTLEMENT"}
    rows = wait_for(
        "all wires to be expected", lambda: export(org.admin, **escrow_account)[1], lambda rows: len(rows) == 998, len
    )
    body = "transactionId,etag\r\n" + "".join(f"{row['transactionId']},{row['etag']}\r\n" for row in rows[:20])
    answer = org.admin.http.post("/transactions/cancel/batch", content=body, headers={"Content-Type": "text/csv"})
    assert name_outcomes(answer.json()["results"]) == {"CANCELLED": 20}


def test_an_investor_has_a_file_of_its_own_and_of_nobody_else(org: Organization, wires: list[dict[str, Any]]) -> None:
    investor = org.sign_in_investor(wires[0]["partyId"])
    _, rows = export(investor, pageSize="1000")
    assert {row["partyId"] for row in rows} == {wires[0]["partyId"]}
    assert {row["createdBy"] for row in rows} == {""}
    stranger = org.sign_in_investor(org.add_cleared_party())
    assert export(stranger)[1] == []
    results = send(stranger, write(wires[:2]), validateOnly="true")
    assert name_outcomes(results) == {"PARTY_NOT_FOUND": 2}


def test_a_ledger_is_a_file_too(org: Organization, wires: list[dict[str, Any]]) -> None:
    path = f"/escrow-accounts/{wires[0]['escrowAccountId']}/ledger"
    answer = org.admin.http.get(path, headers={"Accept": "text/csv"})
    assert answer.headers["Content-Disposition"] == 'attachment; filename="ledger-entries.csv"'
    assert answer.text.startswith("journalSequence,leg,ledgerAccount.kind,")
