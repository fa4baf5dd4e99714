"""For each required route, everything that can be wrong with a request to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from demo.harness.money import usd
from tests.e2e.bad_requests import (
    AMOUNTS,
    CURRENCIES,
    OMIT,
    UNKNOWN,
    BadRequest,
    Route,
    Targets,
    list_bad_bodies,
    list_bad_keys,
    list_bad_path_ids,
    list_bad_roles,
)


def _new_transaction(targets: Targets, route: Route) -> Iterator[BadRequest]:
    ids, foreign = targets.ids, targets.foreign_ids
    for name in ("type", "paymentMethod", "amount", "escrowAccountId", "partyId", "bankAccountId", "investmentId"):
        yield BadRequest(f"{name} is missing", at=f"body /{name}", change={name: OMIT})
    yield from _amounts()
    for name, values in {
        "type": ["SWORDFISH", "escrow_deposit", "TYPE_UNSPECIFIED", 7, True, ["DEPOSIT"], ""],
        "paymentMethod": ["SWORDFISH", "ach", "PAYMENT_METHOD_UNSPECIFIED", 1, {}],
        "escrowAccountId": ["swordfish", ids["escrow_account"].upper(), ids["transaction"], 42, ["esc"], "esc_\u0000"],
        "partyId": ["sword fish", "-swordfish", "s" * 65, "\u202eswordfish", 42, {"id": "swordfish"}],
        "bankAccountId": ["swordfish", ids["escrow_account"], 42],
        "investmentId": ["swordfish", ids["offering"], False],
        "description": ["d" * 201, "swordfish\u0000", 42, ["swordfish"]],
    }.items():
        for value in values:
            echo = value if isinstance(value, str) and len(value) > 8 and value.isprintable() else ""
            yield BadRequest(f"{name} is {value!r:.40}", at=f"body /{name}", change={name: value}, echo=echo)
    for title, escrow_account in {"unknown": f"esc_{UNKNOWN}", "foreign": foreign["escrow_account"]}.items():
        yield BadRequest(
            f"the escrow account is {title}",
            422,
            "ESCROW_ACCOUNT_MISMATCH",
            at="body /escrowAccountId",
            change={"escrowAccountId": escrow_account},
        )
    for title, investment in {"unknown": f"inv_{UNKNOWN}", "foreign": foreign["investment"]}.items():
        yield BadRequest(
            f"the investment is {title}",
            404,
            "INVESTMENT_NOT_FOUND",
            at="body /investmentId",
            change={"investmentId": investment},
        )
    for title, account in {
        "unknown": f"ba_{UNKNOWN}",
        "foreign": foreign["bank_account"],
        "another party's": ids["stranger_bank_account"],
    }.items():
        code = "BANK_ACCOUNT_NOT_FOUND"
        yield BadRequest(
            f"the bank account is {title}",
            404,
            code,
            at="body /bankAccountId",
            change={"bankAccountId": account},
            echo=account,
        )
    other_escrow = {"escrowAccountId": ids["other_escrow_account"]}
    yield BadRequest(
        "the escrow account is another offering's",
        422,
        "ESCROW_ACCOUNT_MISMATCH",
        at="body /escrowAccountId",
        change=other_escrow,
    )
    yield BadRequest("it is more than the commitment", 422, "COMMITMENT_EXCEEDED", change={"amount": usd(1_000_01)})
    euros = {"amount.currencyCode": "EUR"}
    at = "body /amount/currencyCode"
    yield BadRequest("the currency is not the account's", 422, "CURRENCY_MISMATCH", at=at, change=euros)
    yield BadRequest("the type is a payout", at="body /type", change={"type": "ESCROW_WITHDRAWAL"})
    yield BadRequest("the rail is not offered", at="body /paymentMethod", change={"paymentMethod": "INTERNAL_TRANSFER"})
    yield BadRequest("a wire names a bank account", at="body /bankAccountId", change={"paymentMethod": "WIRE"})
    yield BadRequest("a deposit names an investment", at="body /investmentId", change={"type": "DEPOSIT"})
    stranger = targets.org.sign_in_investor(ids["stranger"])
    yield BadRequest("an investor pays for another", 404, "PARTY_NOT_FOUND", at="body /partyId", person=stranger)
    yield BadRequest(
        "an investor brings cash to distribute",
        422,
        "TYPE_NOT_SUPPORTED",
        change={"type": "DEPOSIT", "investmentId": OMIT, "partyId": ids["stranger"]},
        person=stranger,
    )


def _amounts() -> Iterator[BadRequest]:
    for title, value in AMOUNTS.items():
        echo = value if isinstance(value, str) and len(value) > 12 else ""
        yield BadRequest(f"the amount is {title}", at="body /amount", change={"amount.amountMinor": value}, echo=echo)
    for title, value in CURRENCIES.items():
        yield BadRequest(
            f"the currency is {title}", at="body /amount/currencyCode", change={"amount.currencyCode": value}
        )
    yield BadRequest("the amount is a number", at="body /amount", change={"amount": 1050})
    yield BadRequest("the amount has a float beside it", at="body /amount/value", change={"amount.value": 10.5})
    yield BadRequest("the amount is empty", at="body /amount", change={"amount": {}})


def _new_escrow_account(targets: Targets, route: Route) -> Iterator[BadRequest]:
    for name in ("displayName", "currencyCode", "sponsorPartyId", "custodianName"):
        yield BadRequest(f"{name} is missing", at=f"body /{name}", change={name: OMIT})
        yield BadRequest(f"{name} is null", at=f"body /{name}", change={name: None})
    for title, value in CURRENCIES.items():
        yield BadRequest(f"the currency is {title}", at="body /currencyCode", change={"currencyCode": value})
    for title, party in {"unknown": f"pty_{UNKNOWN}", "foreign": targets.foreign_ids["investor"]}.items():
        yield BadRequest(
            f"the sponsor is {title}",
            404,
            "PARTY_NOT_FOUND",
            at="body /sponsorPartyId",
            change={"sponsorPartyId": party},
        )
    for name, values in {
        "displayName": ["", "n" * 201, 42, ["swordfish"], "sword\u0000fish", "sword\nfish", "sword\u001b[2Jfish"],
        "sponsorPartyId": ["", "sword fish", "-swordfish", 42, {"id": "swordfish"}],
        "custodianName": ["", "n" * 201, {"name": "swordfish"}],
        "custodianAccountLast4": ["123", "12345", "12-4", 1234],
        "status": ["ACTIVE"],
        "escrowAccountId": [targets.ids["escrow_account"]],
    }.items():
        for value in values:
            yield BadRequest(f"{name} is {value!r:.40}", at=f"body /{name}", change={name: value})


def _new_distribution(targets: Targets, route: Route) -> Iterator[BadRequest]:
    ids, foreign = targets.ids, targets.foreign_ids
    for name in ("offeringId", "type", "amount"):
        yield BadRequest(f"{name} is missing", at=f"body /{name}", change={name: OMIT})
    yield from _amounts()
    for name, values in {
        "offeringId": ["swordfish", ids["transaction"], ids["closed_offering"].upper(), 42],
        "type": ["SWORDFISH", "special", "TYPE_UNSPECIFIED", 4],
        "description": ["d" * 201, 42],
        "distributionDate": [
            "2025-02-30",
            "2025-13-01",
            "0000-01-01",
            "10000-01-01",
            "01/02/2025",
            "2025-1-2",
            "2025-01-02T00:00:00Z",
            "",
            20250102,
            {"year": 2025, "month": 1, "day": 2},
        ],
        "status": ["APPROVED"],
        "createdBy": ["admin-9"],
    }.items():
        for value in values:
            yield BadRequest(f"{name} is {value!r:.40}", at=f"body /{name}", change={name: value})
    for title, offering in {"unknown": f"off_{UNKNOWN}", "foreign": foreign["closed_offering"]}.items():
        yield BadRequest(
            f"the offering is {title}", 404, "OFFERING_NOT_FOUND", change={"offeringId": offering}, echo=offering
        )
    yield BadRequest("the offering is open", 422, "OFFERING_NOT_CLOSED", change={"offeringId": ids["offering"]})
    yield BadRequest(
        "the currency is not the offering's", 422, "CURRENCY_MISMATCH", change={"amount.currencyCode": "EUR"}
    )
    past = {"distributionDate": "2020-01-01"}
    yield BadRequest("the date is before the closing", 422, "DATE_OUT_OF_ORDER", change=past)


def _list_of_transactions(targets: Targets, route: Route) -> Iterator[BadRequest]:
    for name, value in {
        "pageSize": "-1",
        "pageSize  ": "999999999999",
        "pageSize   ": "1.5",
        "pageSize    ": "many",
        "status": "SWORDFISH",
        "status ": "settled",
        "status  ": "STATUS_UNSPECIFIED",
        "status   ": "7",
        "type": "SWORDFISH",
        "partyId": "sword%20fish",
        "escrowAccountId": "swordfish",
        "escrowAccountId ": targets.ids["transaction"],
        "distributionId": "swordfish",
        "zebra": "swordfish",
        "orderBy": "amount;DROP%20TABLE%20transactions",
        "page_size": "10",
    }.items():
        name = name.strip()
        echo = value if len(value) > 8 else ""
        yield BadRequest(f"{name} is {value}", at=f"query /{name}", query=f"?{name}={value}", echo=echo)
    yield BadRequest("pageSize is given twice", at="query /pageSize", query="?pageSize=1&pageSize=2")
    yield BadRequest("the query cannot be read", at="query", query="?partyId=%ff")
    page = targets.org.admin.get("/transactions", pageSize="1")["nextPageToken"]
    theirs = targets.foreign.admin.get("/transactions", pageSize="1")["nextPageToken"]
    for title, query in {
        "made up": "?pageToken=swordfish",
        "cut short": f"?pageToken={page[:-4]}",
        "of another query": f"?pageToken={page}&status=SETTLED",
        "of another organization": f"?pageToken={theirs}",
    }.items():
        yield BadRequest(f"the page token is {title}", 400, "PAGE_TOKEN_INVALID", at="query /pageToken", query=query)
    yield BadRequest("the page token is endless", at="query /pageToken", query="?pageToken=" + "A" * 1025)
    person = targets.org.sign_in_investor(targets.ids["stranger"])
    query = f"?partyId={targets.ids['investor']}"
    at = "query /partyId"
    yield BadRequest("an investor asks for another's", 404, "PARTY_NOT_FOUND", at=at, query=query, person=person)


def _one(targets: Targets, route: Route) -> Iterator[BadRequest]:
    yield BadRequest("there is a query", at="query /zebra", query="?zebra=swordfish", echo="swordfish")
    yield BadRequest("there is a body", at="body", raw=b'{"zebra": 1}')


def _transaction(targets: Targets, route: Route) -> Iterator[BadRequest]:
    person = targets.org.sign_in_investor(targets.ids["stranger"])
    yield BadRequest("it is another investor's", 404, "TRANSACTION_NOT_FOUND", person=person)


_TIMES = {
    "a date": "2025-01-02",
    "without a zone": "2025-01-02T03:04:05",
    "no day there is": "2025-02-30T00:00:00Z",
    "a leap second": "2016-12-31T23:59:60Z",
    "of the year 0": "0000-01-01T00:00:00Z",
    "of the year 10000": "10000-01-01T00:00:00Z",
    "of the year 9999": "9999-01-01T00:00:00Z",
    "of the year 1899": "1899-12-31T23:59:59Z",
    "finer than a microsecond": "2026-01-31T12:00:00.0000001Z",
    "a number": "1735787045",
    "a word": "swordfish",
}


def _balance(targets: Targets, route: Route) -> Iterator[BadRequest]:
    for title, value in _TIMES.items():
        yield BadRequest(f"asOf is {title}", at="query /asOf", query=f"?asOf={value}")
    yield BadRequest("asOf is to come", at="query /asOf", query="?asOf=2099-01-01T00:00:00Z")


def _ledger(targets: Targets, route: Route) -> Iterator[BadRequest]:
    for first, last in (("from", "to"), ("effectiveFrom", "effectiveTo")):
        for name in (first, last):
            for title, value in _TIMES.items():
                yield BadRequest(f"{name} is {title}", at=f"query /{name}", query=f"?{name}={value}")
        backwards = f"?{first}=2026-02-01T00:00:00Z&{last}=2026-01-01T00:00:00Z"
        yield BadRequest(f"{first} is after {last}", at=f"query /{first}", query=backwards)
    for value in ("-1", "many"):
        yield BadRequest(f"pageSize is {value}", at="query /pageSize", query=f"?pageSize={value}")
    yield BadRequest("kind is none of the chart", at="query /kind", query="?kind=PETTY_CASH")
    of_a_party = f"?kind=CASH&partyId={targets.ids['investor']}"
    yield BadRequest("a party has no cash", at="query /partyId", query=of_a_party)
    yield BadRequest("partyId is endless", at="query /partyId", query="?partyId=" + "a" * 101)
    yield BadRequest(
        "the page token is made up", 400, "PAGE_TOKEN_INVALID", at="query /pageToken", query="?pageToken=swordfish"
    )


def _retry(targets: Targets, route: Route) -> Iterator[BadRequest]:
    yield BadRequest("it has not failed", 422, "ILLEGAL_STATUS_CHANGE")
    yield BadRequest(
        "the id is in the body", at="body /transactionId", change={"transactionId": targets.ids["transaction"]}
    )


def _cancel(targets: Targets, route: Route) -> Iterator[BadRequest]:
    yield BadRequest("the money has gone", 422, "ILLEGAL_STATUS_CHANGE")
    yield BadRequest("the note is endless", at="body /note", change={"note": "r" * 1001}, echo="r" * 1001)
    yield BadRequest("the note is a number", at="body /note", change={"note": 42})
    person = targets.org.sign_in_investor(targets.ids["stranger"])
    yield BadRequest("it is another investor's", 404, "TRANSACTION_NOT_FOUND", person=person)


def _execute(targets: Targets, route: Route) -> Iterator[BadRequest]:
    yield BadRequest("nobody approved it", 422, "ILLEGAL_STATUS_CHANGE")


def _of_the_route_alone(targets: Targets, route: Route) -> Iterator[BadRequest]:
    table: dict[str, Callable[[Targets, Route], Iterator[BadRequest]]] = {
        "POST /transactions": _new_transaction,
        "GET /transactions": _list_of_transactions,
        "GET /transactions/{transaction}": _transaction,
        "POST /transactions/{transaction}/retry": _retry,
        "POST /transactions/{transaction}/cancel": _cancel,
        "POST /escrow-accounts": _new_escrow_account,
        "GET /escrow-accounts/{escrow_account}/balance": _balance,
        "GET /escrow-accounts/{escrow_account}/ledger": _ledger,
        "POST /distributions": _new_distribution,
        "POST /distributions/{distribution}/execute": _execute,
    }
    yield from table.get(route.name, lambda *_: iter(()))(targets, route)


def list_bad_requests(targets: Targets, route: Route) -> Iterator[BadRequest]:
    yield from _of_the_route_alone(targets, route)
    yield from list_bad_roles(targets, route)
    if route.key:
        yield from list_bad_keys(route)
    if route.resource:
        yield from list_bad_path_ids(targets, route)
    if route.body:
        yield from list_bad_bodies(route)
    elif route.resource:
        yield from _one(targets, route)
